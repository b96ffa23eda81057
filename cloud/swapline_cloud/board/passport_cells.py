"""What the board "Module passport" shows of cells and temperature sensors."""

from collections.abc import Iterable
from typing import Any

from swapline_cloud.query import Query, courses, history
from swapline_cloud.text import Text
from swapline_wire.catalogue import CELLS_PER_SEGMENT, SENSORS_PER_SEGMENT

from .field import Field, words
from .passport_query import HERE
from .pen import Pen
from .unit import alarm_limits, unit_of

_CELLS = {
    f"cell_{number:02d}_v": Text(f"cell {number}, segment", f"单体 {number}，段")
    for number in range(1, CELLS_PER_SEGMENT + 1)
}
_SENSORS = {
    f"temperature_{number}_c": Text(f"sensor {number}, segment", f"传感器 {number}，段")
    for number in range(1, SENSORS_PER_SEGMENT + 1)
}
_HALF: dict[str, Any] = {"width": 12, "height": 9}
_THIRD: dict[str, Any] = {"width": 8}


def draw(pen: Pen) -> list[Any]:
    """Return the panels."""
    return [*_cells(pen), *_temperatures(pen)]


def _each(names: Iterable[str]) -> list[Query]:
    return courses(
        "cells", {name: f"{{{name}}}" for name in names}, where=HERE, by=["segment"], alias="$col /$tag_segment"
    )


def _cells(pen: Pen) -> list[Any]:
    volts = unit_of("module", "cell_voltage_max_v")
    spread = {"spread_v": "{cell_voltage_max_v} - {cell_voltage_min_v}"}
    return [
        pen.timeseries(
            Text("Every cell", "所有单体"),
            Text(
                "Each cell's voltage; segment 0 is cells 1 to 16, segment 1 the next 16. One that leaves the "
                "others near full or empty is weak; one that leaves them at rest loses charge: early warnings name "
                "it.",
                "各单体电压；0 段为 1 至 16 节，1 段为其后 16 节。接近满电或放空时偏离：电芯弱；静置时偏离：自放电，"
                "预警会指出。",
            ),
            _each(_CELLS),
            fields=words("segment", _CELLS),
            unit=volts,
            decimals=3,
            **_HALF,
        ),
        pen.timeseries(
            Text("Every temperature sensor", "所有温度传感器"),
            Text(
                "Each sensor between the cells. One that stays still while the others move is broken; one that "
                "runs ahead of the others is near a hot spot: take the module out and look.",
                "各单体间温度传感器。其他变化而某个不变：传感器损坏；某个明显领先：附近过热，请取出检查。",
            ),
            _each(_SENSORS),
            fields=words("segment", _SENSORS),
            unit=unit_of("cells", "temperature_1_c"),
            decimals=1,
            **_HALF,
        ),
        pen.timeseries(
            Text("Lowest and highest cell", "最低与最高单体"),
            Text(
                "Extremes of each point. Red lines are alarms of level 3 of LFP cells: at the upper one stop "
                "charging, at the lower one stop and take the module out.",
                "各时间点的极值。红线为磷酸铁锂 3 级报警：触及上限停止充电，触及下限停车并取出模块。",
            ),
            [
                *history("module", "cell_voltage_min_v", aggregate="min", where=HERE, alias="$col"),
                *history("module", "cell_voltage_mean_v", where=HERE, alias="$col"),
                *history("module", "cell_voltage_max_v", aggregate="max", where=HERE, alias="$col"),
            ],
            unit=volts,
            thresholds=alarm_limits("module", "cell_voltage_max_v"),
            fields=[
                Field("cell_voltage_min_v", Text("lowest", "最低")),
                Field("cell_voltage_mean_v", Text("mean", "平均")),
                Field("cell_voltage_max_v", Text("highest", "最高")),
            ],
            decimals=3,
            **_THIRD,
        ),
        pen.timeseries(
            Text("Cell spread", "单体压差"),
            Text(
                "Highest less lowest cell, under load as well. Yellow, orange and red are the alarm's levels. At "
                "level 2 BMSs refuse a module; let it balance at full, or take it out.",
                "最高减最低单体电压（含负载时）。黄、橙、红为报警各级。达到 2 级 BMS 会拒绝该模块：满电均衡或取出。",
            ),
            courses("module", spread, where=HERE, alias="$col"),
            unit=volts,
            thresholds=alarm_limits("module", "cell_voltage_max_v", "cell_voltage_min_v"),
            fields=[Field("spread_v", Text("Spread", "压差"))],
            decimals=3,
            minimum=0,
            **_THIRD,
        ),
    ]


def _temperatures(pen: Pen) -> list[Any]:
    names = {
        "temperature_max_c": ("max", Text("warmest", "最高")),
        "temperature_min_c": ("min", Text("coldest", "最低")),
        "temperature_mosfet_c": ("max", Text("switches", "开关管")),
        "temperature_ambient_c": ("mean", Text("air inside", "内部空气")),
    }
    return [
        pen.timeseries(
            Text("Temperatures", "温度"),
            Text(
                "Warmest and coldest cell sensor, the switches, the air inside. Lines are the alarm's levels for "
                "cells: at 65 degC (red) stop, leave it and keep away. Charging below 0 degC harms it.",
                "最高与最低电芯温度、开关管与内部空气。线为电芯报警各级：65 度（红）停用并远离。0 度以下充电会损伤"
                "电芯。",
            ),
            [
                query
                for name, (aggregate, _) in names.items()
                for query in history("module", name, aggregate=aggregate, where=HERE, alias="$col")
            ],
            unit=unit_of("module", "temperature_max_c"),
            thresholds=alarm_limits("module", "temperature_max_c"),
            fields=[Field(name, title) for name, (_, title) in names.items()],
            decimals=1,
            **_THIRD,
        ),
    ]
