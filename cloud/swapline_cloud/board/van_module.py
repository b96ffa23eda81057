"""What the board "Van" shows of the modules in its bays."""

from typing import Any

from swapline_cloud.query import Query, courses, history, select
from swapline_cloud.rollup import FOREVER
from swapline_cloud.text import Text

from .field import Field
from .pen import Pen
from .shared import BAY, HERE, SOC_STEPS, STAY_IN_RANGE, TO_MODULE, stay_fields, stays, time_field
from .unit import alarm_limits, unit_of

_BY_BAY: dict[str, Any] = {"where": HERE, "by": ["bay"]}


def draw(pen: Pen) -> list[Any]:
    """Return the panels."""
    return [
        _module_table(pen),
        _stay_timeline(pen),
        _stay_table(pen),
        *_energy(pen),
        *_cells(pen),
    ]


def _module_table(pen: Pen) -> Any:
    columns = (
        "soh_pct",
        "voltage_v",
        "current_a",
        "temperature_max_c",
        "temperature_min_c",
        "cell_voltage_min_v",
        "cell_voltage_max_v",
        "insulation_kohm",
    )
    names = {
        "soh_pct": Text("Health", "健康度"),
        "voltage_v": Text("Voltage", "电压"),
        "current_a": Text("Current", "电流"),
        "temperature_max_c": Text("Warmest", "最高温"),
        "temperature_min_c": Text("Coldest", "最低温"),
        "cell_voltage_min_v": Text("Lowest cell", "最低单体"),
        "cell_voltage_max_v": Text("Highest cell", "最高单体"),
        "insulation_kohm": Text("Insulation", "绝缘"),
    }
    others = ", ".join(f'"{name}"' for name in ("module", *columns))
    newest = select(f'last("soc_pct") AS "soc_pct", {others}', "module", where=HERE, by=["bay"])
    fields = [
        Field("bay", Text("Bay", "电池位"), width=70),
        Field("module", Text("Module", "电池模块"), links=(TO_MODULE,), width=240),
        Field("soc_pct", Text("Charge", "电量"), unit_of("module", "soc_pct"), SOC_STEPS, decimals=0, is_colored=True),
    ]
    for name in columns:
        limits = [] if name in ("soh_pct", "voltage_v", "current_a") else alarm_limits("module", name)
        fields.append(Field(name, names[name], unit_of("module", name), limits, is_colored=bool(limits)))
    return pen.table(
        Text("Modules in their bays", "各电池位的模块"),
        Text(
            "The last reading of each bay in the shown range. A red cell or temperature is an alarm of level 3: stop "
            "the van. An old reading: the bay is empty, or its line is broken.",
            "所选范围内各电池位的最后读数。单体电压或温度变红即 3 级报警：停车。读数很旧：电池位为空或线路断开。",
        ),
        [Query(newest, is_table=True)],
        fields=[*fields, time_field(Text("Heard", "读数时间"), is_age=True)],
        sort="bay",
        width=24,
        height=6,
    )


def _stay_timeline(pen: Pen) -> Any:
    return pen.timeline(
        Text("Which module sat in which bay", "电池位内的模块"),
        Text(
            "From the battery's books. A strip goes on until the next module came; the table beside says when one "
            "left. Two modules that change within minutes: a swap that was done twice; ask at the station.",
            "来自电池账册。色带延续到下一个模块装入为止；取出时间见右侧表格。几分钟内更换两次：重复换电，"
            "请询问换电站。",
        ),
        [Query(stays(*HERE), "$tag_bay")],
        series=BAY,
        width=12,
        height=7,
    )


def _stay_table(pen: Pen) -> Any:
    what = '"bay", "module", "from_evidence", "until_utc_ms", "until_evidence"'
    return pen.table(
        Text("Stays of modules", "模块停留记录"),
        Text(
            "Who was in which bay from when until when, and on whose word. An end without an event (displaced, "
            "elsewhere): the departure was not told; look whether that bay's line is sound.",
            "各模块在电池位的起止时间与依据。没有取出事件的结束（displaced、elsewhere）：未上报取出，"
            "请检查该电池位线路。",
        ),
        [
            Query(
                select(what, "stay", policy=FOREVER, where=[*HERE, '"is_void" = false'], within=STAY_IN_RANGE),
                is_table=True,
            )
        ],
        fields=[time_field(Text("From", "装入")), *stay_fields()],
        sort="Time",
        is_descending=True,
        width=12,
        height=7,
    )


def _energy(pen: Pen) -> list[Any]:
    power = {"power_kw": "{voltage_v} * {current_a} / 1000"}
    return [
        pen.timeseries(
            Text("Charge by bay", "各电池位电量"),
            Text(
                "Modules of one van discharge alike. One far below the others: it is weak, or was put in half full; "
                "open its passport. Below 20 % is low, below 10 % red: swap.",
                "同车各模块应同步放电。某个明显偏低：模块老化或装入时未充满，请打开其护照。低于 20 % 偏低，低于 10 %"
                " 变红：换电。",
            ),
            history("module", "soc_pct", alias="$tag_bay", **_BY_BAY),
            unit=unit_of("module", "soc_pct"),
            thresholds=SOC_STEPS,
            series=BAY,
            minimum=0,
            maximum=100,
            width=8,
        ),
        pen.timeseries(
            Text("Current by bay", "各电池位电流"),
            Text(
                "Positive into the module. Bays that share a load unevenly: a contactor is open or a module has far "
                "more resistance. The alarm is a C-rate, so it is no line here.",
                "正值为充入模块。各位分流不均：接触器断开或模块内阻明显偏大。过流报警按倍率判定，因此此处没有限值线。",
            ),
            history("module", "current_a", alias="$tag_bay", **_BY_BAY),
            unit=unit_of("module", "current_a"),
            series=BAY,
            width=8,
        ),
        pen.timeseries(
            Text("Power by bay", "各电池位功率"),
            Text(
                "Voltage times current, positive into the module. One at zero while the others work: its BMS has "
                "switched it off; see its alarms.",
                "电压乘电流，正值为充入。其他模块工作而某个为零：其 BMS 已断开，请查看报警。",
            ),
            courses("module", power, alias="$tag_bay", **_BY_BAY),
            unit=unit_of("vehicle", "heating_power_kw"),
            series=BAY,
            width=8,
        ),
        pen.timeseries(
            Text("Voltage by bay", "各电池位电压"),
            Text(
                "At the modules' terminals. Limits are judged by the cell, so look at cells when one leaves the"
                " others.",
                "模块端子电压。限值按单体判定，若某个偏离其他模块，请查看单体电压。",
            ),
            history("module", "voltage_v", alias="$tag_bay", **_BY_BAY),
            unit=unit_of("module", "voltage_v"),
            series=BAY,
            width=8,
        ),
    ]


def _cells(pen: Pen) -> list[Any]:
    spread = {"spread_v": "{cell_voltage_max_v} - {cell_voltage_min_v}"}
    warmth = {"spread_c": "{temperature_max_c} - {temperature_min_c}"}
    return [
        _limit(
            pen,
            "cell_voltage_min_v",
            "min",
            Text("Lowest cell by bay", "各电池位最低单体电压"),
            Text(
                "Red is an alarm of level 3 (LFP cells): stop and take the module out. Orange, level 2: swap today. A "
                "dip under load that comes back is ordinary.",
                "变红为 3 级报警（磷酸铁锂）：停车并取出模块。橙色为 2 级：当天换下。负载下短暂下降属正常。",
            ),
        ),
        _limit(
            pen,
            "cell_voltage_max_v",
            "max",
            Text("Highest cell by bay", "各电池位最高单体电压"),
            Text(
                "Red is an alarm of level 3 (LFP cells): stop charging, also recuperation. One module far above the "
                "others: its cells are not balanced.",
                "变红为 3 级报警（磷酸铁锂）：停止充电及能量回收。某个明显高于其他：单体不均衡。",
            ),
        ),
        pen.timeseries(
            Text("Cell spread by bay", "各电池位单体压差"),
            Text(
                "Highest less lowest cell. Yellow, orange and red are the alarm's levels 1 to 3. Growing from week to "
                "week: a cell ages faster; the module's passport says which.",
                "最高减最低单体电压。黄、橙、红为 1 至 3 级报警。逐周增大：某节电芯老化更快，见模块护照。",
            ),
            courses("module", spread, alias="$tag_bay", **_BY_BAY),
            unit=unit_of("module", "cell_voltage_max_v"),
            thresholds=alarm_limits("module", "cell_voltage_max_v", "cell_voltage_min_v"),
            series=BAY,
            width=8,
        ),
        _limit(
            pen,
            "temperature_max_c",
            "max",
            Text("Warmest by bay", "各电池位最高温度"),
            Text(
                "Warmest sensor in the cells. Red is an alarm of level 3: stop, leave the van, keep away. Above 45 "
                "degC no alarm yet, but the module ages: let it cool before the next fast charge.",
                "电芯最高温度。变红为 3 级报警：停车、离开并远离车辆。高于 45 度虽未报警但会加速老化：快充前先降温。",
            ),
        ),
        _limit(
            pen,
            "temperature_min_c",
            "min",
            Text("Coldest by bay", "各电池位最低温度"),
            Text(
                "Coldest sensor. Below 0 degC LFP must not be charged, nor recuperated into; red is an alarm of level "
                "3: warm the module up before it is used.",
                "最低温度。低于 0 度时磷酸铁锂不得充电或回收能量；变红为 3 级报警：使用前先加热模块。",
            ),
        ),
        pen.timeseries(
            Text("Temperature spread by bay", "各电池位温差"),
            Text(
                "Warmest less coldest sensor. Red is an alarm of level 3: one spot heats by itself; stop and take the "
                "module out, outdoors.",
                "最高减最低温度。变红为 3 级报警：局部自发热；停车并在室外取出模块。",
            ),
            courses("module", warmth, alias="$tag_bay", **_BY_BAY),
            unit=unit_of("module", "temperature_max_c"),
            thresholds=alarm_limits("module", "temperature_max_c", "temperature_min_c"),
            series=BAY,
            width=8,
        ),
        _limit(
            pen,
            "insulation_kohm",
            "min",
            Text("Insulation by bay", "各电池位绝缘"),
            Text(
                "Terminals against the housing; few BMSs measure it. Red is an alarm of level 3: do not touch, call the"
                " workshop.",
                "端子对外壳绝缘，仅部分 BMS 测量。变红为 3 级报警：请勿触碰并联系维修。",
            ),
            width=16,
            none_text=Text("no BMS here measures it", "此车的 BMS 不测量绝缘"),
        ),
    ]


def _limit(pen: Pen, field: str, aggregate: str, title: Text, description: Text, **more: Any) -> Any:
    return pen.timeseries(
        title,
        description,
        history("module", field, aggregate=aggregate, alias="$tag_bay", **_BY_BAY),
        unit=unit_of("module", field),
        thresholds=alarm_limits("module", field),
        series=BAY,
        **{"width": 8} | more,
    )
