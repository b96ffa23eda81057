"""The board "Van": one van's trip, its modules, where it was, and what is wrong with it."""

from typing import Any

from swapline_cloud.query import Query, grown, select
from swapline_cloud.text import Text

from . import node_health, van_module, van_trip, variable
from .field import Field
from .pen import Pen, link
from .sdk import dashboard
from .shared import (
    HERE,
    NOW,
    RANGE_STEPS,
    SOC_STEPS,
    TO_STATION,
    alarms_by_level,
)
from .unit import BLUE, RED, YELLOW, steps, unit_by_name, unit_of

NAME = "van"
TITLE = Text("Van", "车辆")
DESCRIPTION = Text("One van: its trip, its modules, where it was, what is wrong.", "单车：行程、电池模块、轨迹与异常。")


def draw(pen: Pen) -> dashboard.Dashboard:
    """Return the board."""
    board = pen.board(NAME, TITLE, DESCRIPTION, variables=[variable.fleet(pen), variable.van(pen)])
    rows = (
        (None, _figures(pen)),
        (Text("Trip", "行程"), van_trip.trip(pen)),
        (Text("Modules", "电池模块"), van_module.draw(pen)),
        (Text("Position", "定位"), van_trip.position(pen)),
        (Text("Body and drive", "车身与驱动"), van_trip.body(pen)),
        (Text("Alarms and events", "报警与事件"), node_health.alarms(pen)),
        (Text("Node", "节点"), node_health.node(pen)),
    )
    for title, panels in rows:
        if title is not None:
            board = board.with_row(pen.row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return board


def _newest(what: str) -> list[Query]:
    return [Query(select(what, "outlook", where=HERE, within=NOW), is_table=True)]


def _figures(pen: Pen) -> list[Any]:
    nearest = 'last("station_distance_km") AS "station_distance_km", "station"'
    to_nearest = link("station", fleet="${__data.fields.fleet}", node="${__data.fields.station}")
    return [
        pen.stat(
            Text("Charge", "电量"),
            Text(
                "Of all modules, weighted by their energy. Below 20 % (yellow) the van is due for a swap; below 10 % "
                "(red) send it to the nearest station at once, or send somebody.",
                "按能量加权的全部模块电量。低于 20 %（黄）应换电；低于 10 %（红）请立即驶向最近的换电站或派人救援。",
            ),
            _newest('last("soc_pct") AS "soc_pct"'),
            unit=unit_of("module", "soc_pct"),
            thresholds=SOC_STEPS,
            decimals=0,
            width=4,
            height=4,
        ),
        pen.stat(
            Text("Range left", "剩余续航"),
            Text(
                "At this van's own consumption of the last day. Red: it stands within a few kilometres; compare with "
                "the way to the nearest station beside it.",
                "按该车最近一天的实际能耗计算。变红：几公里内即将停驶；请与旁边到最近换电站的距离比较。",
            ),
            _newest('last("range_km") AS "range_km"'),
            unit=unit_by_name("range_km"),
            thresholds=RANGE_STEPS,
            decimals=1,
            width=4,
            height=4,
        ),
        pen.table(
            Text("Nearest station", "最近换电站"),
            Text(
                "By the outlook's detour factor on the straight way. Red: farther than most vans can go with a fifth of"
                " their charge; swap earlier than usual. Click for the station: has it a ready module?",
                "按直线距离乘以绕行系数估算。变红：超出多数车辆两成电量可达的距离；请比平时更早换电。"
                "点击可查看该站是否有可用模块。",
            ),
            [Query(select(nearest, "outlook", where=HERE, by=["fleet"], within=NOW), is_table=True)],
            fields=[
                Field("station", Text("Station", "换电站"), links=((TO_STATION[0], to_nearest),)),
                Field(
                    "station_distance_km",
                    Text("Distance", "距离"),
                    unit_by_name("station_distance_km"),
                    steps((10, YELLOW), (20, RED)),
                    decimals=1,
                    is_colored=True,
                ),
                Field("fleet", Text("Fleet", "车队")),
            ],
            width=5,
            height=4,
        ),
        pen.stat(
            Text("Driven", "行驶里程"),
            Text(
                "Growth of the odometer in the shown range. Nothing on a working day: see drive mode and faults below.",
                "所选时间范围内里程表的增长。工作日为零时，请查看下方的驾驶模式与故障。",
            ),
            grown("vehicle", "odometer_km", "driven_km", where=HERE),
            unit=unit_of("vehicle", "odometer_km"),
            fields=[Field("driven_km", Text("driven", "行驶"), color=BLUE)],
            decimals=1,
            width=3,
            height=4,
        ),
        alarms_by_level(
            pen,
            Text(
                "Of this van and its modules, as the gateways' alarm book says. Level 3: stop now. Level 2: act today. "
                "The table further down says which.",
                "该车及其模块未解除的报警（以网关报警簿为准）。3 级：立即停车；2 级：当天处理。具体见下方表格。",
            ),
            *HERE,
            width=5,
        ),
        pen.stat(
            Text("Last heard", "最近消息"),
            Text(
                "Age of the newest reading. Red from two minutes on: the node, its link or its power is gone; the "
                "panels of the node at the bottom say what went first.",
                "最新读数的时长。超过两分钟变红：节点、链路或供电中断；底部的节点面板显示最先出现的问题。",
            ),
            _newest('last("age_s") AS "age_s"'),
            unit=unit_by_name("age_s"),
            thresholds=steps((60, YELLOW), (120, RED)),
            decimals=0,
            width=3,
            height=4,
        ),
    ]
