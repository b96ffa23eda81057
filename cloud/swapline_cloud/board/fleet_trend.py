"""What the board "Fleet now" shows over time: range left, swaps, power and energy of all vans and stations."""

from typing import Any

from swapline_cloud.query import IN_RANGE, Query, courses, daily, growth, history, of, select
from swapline_cloud.rollup import FOREVER
from swapline_cloud.text import Text

from .field import Field
from .pen import Pen
from .shared import FLEET, NOW, RANGE_NAMES, RANGE_STEPS
from .unit import BLUE, GREEN, ORANGE, unit_by_name, unit_of

_VAN = ["fleet", "node"]


def draw(pen: Pen) -> list[Any]:
    """Return the panels."""
    return [_distribution(pen), _range_course(pen), _swaps(pen), _power(pen), _energy(pen), _driven(pen)]


def _distribution(pen: Pen) -> Any:
    kilometres = select('last("range_km") AS "range_km"', "outlook", where=[FLEET], by=_VAN, within=NOW)
    return pen.histogram(
        Text("Range left, by van", "剩余续航分布"),
        Text(
            "How many vans have how much range left, in steps of 10 km. A hump at the left that wanders in from the "
            "right is a wave of swaps to come: have modules charged before it arrives.",
            "各续航区间（每 10 公里）的车辆数。峰值向左移动意味着换电高峰将至：请提前充好模块。",
        ),
        [Query(kilometres, is_table=True)],
        bucket=10,
        unit=unit_by_name("range_km"),
        fields=[Field("range_km", Text("Range left", "剩余续航"), color=BLUE)],
        width=8,
    )


def _range_course(pen: Pen) -> Any:
    each = select(
        'last("range_km") AS "range_km"', "outlook", where=[FLEET], by=["time($__interval)", *_VAN], tail="fill(none)"
    )
    figures = 'median("range_km") AS "median", min("range_km") AS "lowest"'
    return pen.timeseries(
        Text("Range left over time", "续航变化"),
        Text(
            "Median and lowest of all vans. Lowest red for long: swaps come too late; look at the queue of the "
            "stations. Kept for 30 days.",
            "所有车辆的中位数与最低值。最低值长时间为红：换电过晚，请查看换电站排队情况。数据保留 30 天。",
        ),
        [Query(of(each, figures, where=[IN_RANGE], by=["time($__interval)"], tail="fill(none)"), "$col")],
        unit=unit_by_name("range_km"),
        thresholds=RANGE_STEPS,
        fields=[Field(name, title) for name, title in RANGE_NAMES.items()],
        interval="1m",
        minimum=0,
        width=8,
    )


def _swaps(pen: Pen) -> Any:
    swaps = select(
        'count("is_void") * 3600000 / $__interval_ms AS "swaps"',
        "swap",
        policy=FOREVER,
        where=[FLEET, '"is_void" = false'],
        by=["time($__interval)"],
        tail="fill(0)",
    )
    return pen.bars(
        Text("Swaps per hour", "每小时换电次数"),
        Text(
            "From the battery's books: a module out of a van and another one in, whatever part of it was told. None in"
            " working hours: stations are not reached, or have nothing to give out. The last hour fills up late.",
            "来自电池账册：一个模块取出、另一个装入，即使只上报了其中一部分。工作时间内为零：车辆到不了换电站，"
            "或站内无模块可换。最近一小时会滞后补齐。",
        ),
        [Query(swaps, "$col")],
        unit="short",
        fields=[Field("swaps", Text("swaps per hour", "每小时换电"), color=GREEN)],
        interval="1h",
        minimum=0,
        width=8,
    )


def _power(pen: Pen) -> Any:
    where = [FLEET]
    each = ["fleet", "node"]
    driven = {"driven": "{traction_voltage_v} * {traction_current_a} / -1000"}
    return pen.timeseries(
        Text("Power of the fleet", "车队功率"),
        Text(
            "What stations draw from the grid, what chargers put into modules, what vans drive with (voltage times"
            " current). Grid far above the chargers: losses, or something else on that connection. Grid at zero while"
            " modules are empty: look at the stations.",
            "换电站从电网取用的功率、充电机注入模块的功率、车辆行驶功率（电压乘电流）。电网远高于充电机："
            "存在损耗或其他负载。"
            "模块未满而电网为零：请检查换电站。",
        ),
        [
            *history("meter", "power_kw", where=where, each=each, alias="grid"),
            *history("slot", "charger_power_kw", where=where, each=[*each, "bay"], alias="chargers"),
            *courses("vehicle", driven, where=where, each=each, alias="driven"),
        ],
        unit=unit_of("meter", "power_kw"),
        fields=[
            Field("grid", Text("from the grid", "来自电网"), color=BLUE),
            Field("chargers", Text("into modules", "充入模块"), color=GREEN),
            Field("driven", Text("driven by vans", "车辆行驶"), color=ORANGE),
        ],
        interval="2m",
        width=12,
    )


def _energy(pen: Pen) -> Any:
    return pen.days(
        Text("Energy per day", "每日能量"),
        Text(
            "By counters, for the last 14 days of UTC up to the range's end: drawn from the grid, put into modules. A "
            "day whose two bars drift apart: losses of a charger, or a meter that counts something else.",
            "按计数器统计，截至范围终点的最近 14 天（UTC）：电网取电与充入模块的能量。两者差距变大："
            "充电机损耗或电表计入了其他负载。",
        ),
        [
            daily("meter", "energy_import_kwh", "grid_kwh", where=[FLEET], each=_VAN),
            daily("slot", "energy_kwh", "charged_kwh", where=[FLEET], each=[*_VAN, "bay"]),
        ],
        unit=unit_of("meter", "energy_import_kwh"),
        fields=[
            Field("grid_kwh", Text("from the grid", "来自电网"), color=BLUE),
            Field("charged_kwh", Text("into modules", "充入模块"), color=GREEN),
        ],
        width=6,
    )


def _driven(pen: Pen) -> Any:
    return pen.bars(
        Text("Distance driven", "行驶里程"),
        Text(
            "Of all vans, by their odometers, in each bar's time. Falls while orders do not: vans stand; see who is "
            "silent and who needs a swap.",
            "所有车辆按里程表统计的行驶里程（每根柱对应的时间）。订单未减而里程下降：有车停驶，"
            "请查看静默与需换电的车辆。",
        ),
        growth("vehicle", "odometer_km", where=[FLEET], each=_VAN, alias="driven"),
        unit=unit_of("vehicle", "odometer_km"),
        fields=[Field("driven", Text("driven", "行驶"), color=ORANGE)],
        interval="1h",
        minimum=0,
        width=6,
    )
