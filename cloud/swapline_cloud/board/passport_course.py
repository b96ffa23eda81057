"""What the board "Module passport" shows over time: how the module was treated, and its readings."""

from typing import Any

from swapline_cloud.query import Query, courses, history, select
from swapline_cloud.rollup import FOREVER, LAST, find
from swapline_cloud.text import Text

from . import word
from .field import Field
from .passport_query import HERE, MODULE, VALID, per_day
from .pen import Pen
from .shared import SOC_STEPS
from .unit import BLUE, GREEN, ORANGE, RED, YELLOW, alarm_limits, steps, unit_by_name, unit_of

_BANDS_C = ((None, 0, BLUE), (0, 10, YELLOW), (10, 25, GREEN), (25, 35, GREEN), (35, 45, ORANGE), (45, None, RED))
_BANDS_PCT = ((None, 10, RED), (10, 20, ORANGE), (20, 80, GREEN), (80, 90, GREEN), (90, None, YELLOW))
_THIRD: dict[str, Any] = {"width": 8}


def treatment(pen: Pen) -> list[Any]:
    """Return the panels of energy, cycles, temperatures and ageing."""
    return [
        pen.bars(
            Text("Energy per day", "每日电能"),
            Text(
                "In and out, of each day of UTC, from the books. Days without: it stood, or its holder's node was "
                "silent. Steadily more in than out: it loses charge; look at its early warnings.",
                "账册中每日（UTC）的充入与放出电能。空缺：闲置或节点无数据。充入持续多于放出：漏电，请查看预警。",
            ),
            [per_day("energy_in_kwh", "energy_in_kwh"), per_day("energy_out_kwh", "energy_out_kwh")],
            unit=unit_by_name("energy_in_kwh"),
            fields=[
                Field("energy_in_kwh", Text("in", "充入"), color=BLUE),
                Field("energy_out_kwh", Text("out", "放出"), color=ORANGE),
            ],
            minimum=0,
            **_THIRD,
        ),
        _cycles(pen),
        _spread(pen),
        _bands(
            pen,
            "temperature_max_c",
            _BANDS_C,
            Text("Hours at temperatures", "各温区小时数"),
            Text(
                "Hours of the range by the mean of the warmest sensor. Much above 45 degC (red): it ages fast; "
                "shade the station, let it cool before charging. Below 0 degC it must not be charged.",
                "按最高温度传感器的小时平均统计。45 度以上（红）过多：老化加快，请为换电站遮阳并先降温再充电。0 度"
                "以下不得充电。",
            ),
        ),
        _bands(
            pen,
            "soc_pct",
            _BANDS_PCT,
            Text("Hours at states of charge", "各电量区间小时数"),
            Text(
                "Hours of the range by the mean charge. Long above 90 %: charge it later. Long below 10 % (red): "
                "cells suffer; swap earlier.",
                "按小时平均电量统计。长期高于 90 %：推迟充电。长期低于 10 %（红）：损伤电芯，应尽早换电。",
            ),
        ),
        pen.timeseries(
            Text("Health, by its BMS", "健康度（BMS）"),
            Text(
                "State of health as the BMS says it; many only count cycles. Red below 80 %: compare with the "
                "capacity above, then retire it from vans.",
                "BMS 报告的健康度，许多 BMS 仅按循环数估算。低于 80 % 变红：与上方容量对照后退役。",
            ),
            history("module", "soh_pct", where=HERE, alias="$col"),
            unit=unit_of("module", "soh_pct"),
            thresholds=steps((80, YELLOW), (90, GREEN), base=RED),
            fields=[Field("soh_pct", Text("Health", "健康度"))],
            **_THIRD,
        ),
    ]


def _cycles(pen: Pen) -> Any:
    passed = ", ".join(f'cumulative_sum(mean("{name}")) AS "{name}"' for name in ("charge_in_ah", "charge_out_ah"))
    days = select(passed, "module_day", policy=FOREVER, where=[MODULE, VALID], by=["time(1d)"], tail="fill(none)")
    return pen.timeseries(
        Text("Charge, added up", "累计电量"),
        Text(
            "Charge in and out since the range's beginning. The slope is how hard it works; divided by twice its "
            "rated capacity it is full cycles. Lines that drift apart: charge is lost, or a counter jumped.",
            "自范围起点累计的充入与放出电量。斜率表示使用强度；除以两倍额定容量即满循环数。两线分离：漏电或计数器跳"
            "变。",
        ),
        [Query(days, "$col")],
        unit=unit_by_name("charge_in_ah"),
        fields=[
            Field("charge_in_ah", Text("in", "充入"), color=BLUE),
            Field("charge_out_ah", Text("out", "放出"), color=ORANGE),
        ],
        minimum=0,
        **_THIRD,
    )


def _spread(pen: Pen) -> Any:
    highest = 'max("spread_mv") AS "spread_mv"'
    by = ["time($__interval)"]
    hours = select(highest, "module_hour", policy=FOREVER, where=[MODULE, VALID], by=by, tail="fill(none)")
    return pen.timeseries(
        Text("Spread over time", "压差变化"),
        Text(
            "Spread of the cells by hours of the books. High near full or empty is ordinary; a floor that rises "
            "from week to week is not: a cell drifts away, see early warnings.",
            "账册按小时记录的单体压差。接近满电或放空时偏高属正常；底值逐周上升则不正常：某节电芯偏离，请查看预警。",
        ),
        [Query(hours, "$col")],
        unit=unit_by_name("spread_mv"),
        thresholds=steps((100, YELLOW), (300, RED)),
        fields=[Field("spread_mv", Text("Spread", "压差"))],
        interval="1h",
        minimum=0,
        **_THIRD,
    )


def _bands(pen: Pen, field: str, bands: Any, title: Text, description: Text) -> Any:
    unit = find("module", field).unit
    mean = f"{field}_mean"
    queries, fields = [], []
    for number, (low, high, color) in enumerate(bands):
        limits = [f'"{mean}" >= {low}' if low is not None else "", f'"{mean}" < {high}' if high is not None else ""]
        where = [*HERE, *(limit for limit in limits if limit)]
        name = f"band_{number}"
        count = select(f'count("{mean}") AS "{name}"', "module", policy=FOREVER, where=where)
        queries.append(Query(count, is_table=True))
        fields.append(Field(name, _band(low, high, unit), color=color))
    return pen.bargauge(title, description, queries, unit="h", fields=fields, minimum=0, **_THIRD)


def _band(low: int | None, high: int | None, unit: str) -> Text:
    if low is None:
        return Text(f"below {high} {unit}", f"低于 {high} {unit}")
    if high is None:
        return Text(f"above {low} {unit}", f"高于 {low} {unit}")
    return Text(f"{low} to {high} {unit}", f"{low} 至 {high} {unit}")


def readings(pen: Pen) -> list[Any]:
    """Return the panels of charge, current, voltage, power and switches."""
    power = {"power_kw": "{voltage_v} * {current_a} / 1000"}
    return [
        pen.timeseries(
            Text("State of charge", "电量"),
            Text(
                "As the BMS says it. A jump without current: the BMS corrected itself. Below 20 % it is low, below "
                "10 % (red) swap it.",
                "BMS 报告的电量。无电流却跳变：BMS 自行修正。低于 20 % 偏低，低于 10 %（红）应换电。",
            ),
            history("module", "soc_pct", where=HERE, alias="$col"),
            unit=unit_of("module", "soc_pct"),
            thresholds=SOC_STEPS,
            fields=[Field("soc_pct", Text("Charge", "电量"))],
            minimum=0,
            maximum=100,
            **_THIRD,
        ),
        pen.timeseries(
            Text("Current", "电流"),
            Text(
                "Positive into the module. Above its capacity in A.h for half a minute is an alarm (1.05 C): the "
                "van asks too much of it, or another module of the van is switched off.",
                "正值为充入。超过容量数值半分钟即报警（1.05 C）：车辆需求过大，或同车其他模块已断开。",
            ),
            [
                query
                for aggregate in ("mean", "min", "max")
                for query in history("module", "current_a", aggregate=aggregate, where=HERE, alias=aggregate)
            ],
            unit=unit_of("module", "current_a"),
            fields=[
                Field("mean", Text("mean", "平均")),
                Field("min", Text("lowest", "最低")),
                Field("max", Text("highest", "最高")),
            ],
            **_THIRD,
        ),
        pen.timeseries(
            Text("Voltage", "电压"),
            Text(
                "At its terminals. Limits are judged by the cell: look at the cells below when it dips. Flat for "
                "days while current flows: the BMS repeats an old answer.",
                "端子电压。限值按单体判定：下降时请看下方单体。有电流却数日不变：BMS 重复旧应答。",
            ),
            history("module", "voltage_v", where=HERE, alias="$col"),
            unit=unit_of("module", "voltage_v"),
            fields=[Field("voltage_v", Text("Voltage", "电压"))],
            **_THIRD,
        ),
        pen.timeseries(
            Text("Power", "功率"),
            Text(
                "Voltage times current, positive into the module. Zero while it is in a charging slot: charger or "
                "BMS has switched off; see protections beside.",
                "电压乘电流，正值为充入。在充电仓位中为零：充电机或 BMS 已断开，请查看旁边的保护状态。",
            ),
            courses("module", power, where=HERE, alias="$col"),
            unit=unit_by_name("power_kw"),
            fields=[Field("power_kw", Text("Power", "功率"))],
            **_THIRD,
        ),
        pen.timeline(
            Text("Protections of the BMS", "BMS 保护"),
            Text(
                "What its BMS protects it from, as a word of flags: none, one of its names, or the number of "
                "several. Short circuit, insulation or front end: take it out of service. Others pass when their "
                "cause does.",
                "BMS 的保护标志：无、单项名称或多项的数值。短路、绝缘或前端故障：停用。其他在原因消除后恢复。",
            ),
            history("module", "protections", aggregate=LAST, where=HERE, alias="$col"),
            states=word.single_bits("module", "protections"),
            series=Text("protections", "保护"),
            **_THIRD,
        ),
        pen.timeseries(
            Text("Insulation", "绝缘电阻"),
            Text(
                "Where a BMS measures it. Red, below 6 kohm, is an alarm of level 3: do not touch it, take it out "
                "with gloves. Few drivers tell it: empty is ordinary.",
                "仅部分 BMS 测量。低于 6 kohm 变红为 3 级报警：勿触碰，戴绝缘手套取出。多数驱动不提供：为空属正常。",
            ),
            history("module", "insulation_kohm", aggregate="min", where=HERE, alias="$col"),
            unit=unit_of("module", "insulation_kohm"),
            thresholds=alarm_limits("module", "insulation_kohm"),
            fields=[Field("insulation_kohm", Text("Insulation", "绝缘电阻"))],
            none_text=Text("not measured", "未测量"),
            **_THIRD,
        ),
    ]
