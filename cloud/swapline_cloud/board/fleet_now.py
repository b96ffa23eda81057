"""The board "Fleet now": who is where, who needs a swap, what is wrong. What "now" is, the end of the range says."""

from typing import Any

from swapline_cloud.query import Query, of, select
from swapline_cloud.text import Text

from . import fleet_trend, layer, variable
from .field import Field
from .pen import Pen, link
from .sdk import dashboard
from .shared import (
    ANY_IS_RED,
    FLEET,
    NOTHING,
    NOW,
    RANGE_NAMES,
    RANGE_STEPS,
    READY_STEPS,
    SOC_STEPS,
    TO_STATION,
    TO_VAN,
    alarm_fields,
    alarms_by_level,
    standing_table,
)
from .unit import GREEN, ORANGE, RED, YELLOW, steps, unit_by_name, unit_of

NAME = "fleet-now"
TITLE = Text("Fleet now", "车队概览")
DESCRIPTION = Text(
    "Where vans and stations are, who needs a swap, what is wrong. Move the range's end back to see what was then.",
    "车辆与换电站的位置、需要换电的车辆以及异常。把时间范围的终点往回移，即可查看当时的情况。",
)
# A node's newest reading is a minute old at most while it is heard; the frame around it takes some seconds more.
ONLINE_S_MAX = 120
_VAN = ["fleet", "node"]


def draw(pen: Pen) -> dashboard.Dashboard:
    """Return the board."""
    board = pen.board(NAME, TITLE, DESCRIPTION, variables=[variable.fleet(pen)], refresh="10s")
    for panel in (*_figures(pen), _map(pen), _who_needs_a_swap(pen)):
        board = board.with_panel(panel)
    board = board.with_row(pen.row(Text("Alarms and stations", "报警与换电站")))
    for panel in (_alarms(pen), _stations(pen)):
        board = board.with_panel(panel)
    board = board.with_row(pen.row(Text("Range, swaps, energy", "续航、换电与能量")))
    for panel in fleet_trend.draw(pen):
        board = board.with_panel(panel)
    return board


def _newest(measurement: str, what: str) -> str:
    return select(what, measurement, where=[FLEET], by=_VAN, within=NOW)


def _figures(pen: Pen) -> list[Any]:
    age = _newest("outlook", 'last("age_s") AS "age_s"')
    low = _newest("outlook", 'last("is_low") AS "is_low"')
    ready = _newest("outlook_station", 'last("ready") AS "ready"')
    kilometres = _newest("outlook", 'last("range_km") AS "range_km"')
    return [
        pen.stat(
            Text("Vans online", "在线车辆"),
            Text(
                f"Vans whose newest reading is less than {ONLINE_S_MAX} s old. Falls for all at once: look at the"
                " gateway and the broker (board Pipeline health), not at the vans.",
                f"最新读数不超过 {ONLINE_S_MAX} 秒的车辆数。若全部同时下降，请先检查网关与消息代理（数据链路健康"
                "面板），而不是车辆。",
            ),
            [Query(of(age, 'count("age_s") AS "online"', where=[f'"age_s" < {ONLINE_S_MAX}']), is_table=True)],
            unit="short",
            thresholds=steps((1, GREEN), base=RED),
            width=3,
            height=4,
        ),
        pen.stat(
            Text("Vans silent", "静默车辆"),
            Text(
                "Vans that the gateway knows and has heard nothing of for two minutes. Red: open Data completeness and"
                " see whether the node, its link or its power is gone. A van of one module is silent during a swap.",
                "网关认识、但已两分钟没有消息的车辆数。变红时：打开“数据完整性”，判断是节点、链路还是供电中断。"
                "单模块车辆在换电期间也会静默。",
            ),
            [Query(of(age, 'count("age_s") AS "silent"', where=[f'"age_s" >= {ONLINE_S_MAX}']), is_table=True)],
            unit="short",
            thresholds=steps((1, YELLOW), (3, RED)),
            none_text=NOTHING,
            width=3,
            height=4,
        ),
        pen.stat(
            Text("Vans that need a swap", "需要换电的车辆"),
            Text(
                "Vans below 20 % of charge, or whose range is less than 1.3 times the way to the nearest station. Red:"
                " send them, beginning with the top of the table below.",
                "电量低于 20 %，或续航不足到最近换电站距离 1.3 倍的车辆数。变红时：按下方表格从上到下安排换电。",
            ),
            [Query(of(low, 'sum("is_low") AS "low"'), is_table=True)],
            unit="short",
            thresholds=steps((1, ORANGE), (3, RED)),
            width=3,
            height=4,
        ),
        pen.stat(
            Text("Stations without a ready module", "无可用模块的换电站"),
            Text(
                "Stations where no module has 90 % of charge and no alarm. Red: send vans elsewhere, and open the"
                " station: are chargers running, is the grid there?",
                "没有任何模块达到 90 % 电量且无报警的换电站数。变红时：把车辆引导到别处，并打开该站："
                "充电机是否在运行，电网是否正常？",
            ),
            [Query(of(ready, 'count("ready") AS "empty"', where=['"ready" = 0']), is_table=True)],
            unit="short",
            thresholds=ANY_IS_RED,
            none_text=NOTHING,
            width=4,
            height=4,
        ),
        alarms_by_level(
            pen,
            Text(
                "That stand, by level, as the gateways' alarm book says. Level 3: stop that van or slot now. Level 2: "
                "act today. Level 1: watch. The table below says where.",
                "按级别统计未解除的报警（以网关报警簿为准）。3 级：立即停用该车辆或仓位；2 级：当天处理；1 级：观察。"
                "位置见下方表格。",
            ),
            FLEET,
            width=5,
        ),
        pen.stat(
            Text("Range left", "剩余续航"),
            Text(
                "Of all vans: the median and the lowest, at each van's own consumption of the last day. Lowest red: "
                "that van stands soon; it is the first in the table below.",
                "所有车辆续航的中位数与最低值，按各车最近一天的实际能耗计算。最低值变红：该车即将停驶，"
                "见下方表格首行。",
            ),
            [
                Query(
                    of(kilometres, 'median("range_km") AS "median", min("range_km") AS "lowest"'),
                    is_table=True,
                )
            ],
            unit=unit_by_name("range_km"),
            thresholds=RANGE_STEPS,
            fields=[Field(name, title) for name, title in RANGE_NAMES.items()],
            decimals=0,
            width=6,
            height=4,
        ),
    ]


def _map(pen: Pen) -> Any:
    vans = _newest(
        "outlook", 'last("latitude_deg") AS "latitude_deg", "longitude_deg", "soc_pct", "range_km", "is_low", "station"'
    )
    stations = _newest(
        "outlook_station", 'last("latitude_deg") AS "latitude_deg", "longitude_deg", "ready", "occupied", "slots"'
    )
    station_name = "换电站" if pen.language == "zh" else "stations"
    van_name = "车辆" if pen.language == "zh" else "vans"
    return pen.geomap(
        Text("Where they are", "位置"),
        Text(
            "Circles are vans, in the colour of their charge; squares are stations, in the colour of their ready "
            "modules. A red circle far from a green square needs help on the road. Click for the van or the station.",
            "圆点为车辆，颜色表示电量；方块为换电站，颜色表示可用模块数。远离绿色方块的红点需要道路救援。"
            "点击可打开车辆或换电站。",
        ),
        [Query(vans, is_table=True), Query(stations, is_table=True)],
        [
            layer.points(van_name, "A", color_by="soc_pct", label="node", symbol="circle", size=7),
            layer.points(station_name, "B", color_by="ready", label="node", symbol="square", size=9),
        ],
        unit=unit_of("module", "soc_pct"),
        thresholds=SOC_STEPS,
        fields=[
            Field("node", Text("Van or station", "车辆或换电站")),
            Field(
                "soc_pct",
                Text("State of charge", "电量"),
                unit_of("module", "soc_pct"),
                SOC_STEPS,
                links=(TO_VAN,),
                decimals=0,
            ),
            Field("range_km", Text("Range left", "剩余续航"), unit_by_name("range_km"), RANGE_STEPS, decimals=0),
            Field("ready", Text("Ready modules", "可用模块"), "short", READY_STEPS, links=(TO_STATION,)),
            Field("occupied", Text("Occupied slots", "已占仓位"), "short"),
            Field("slots", Text("Slots", "仓位"), "short"),
            Field("is_low", Text("Needs a swap", "需要换电"), "short"),
            Field("latitude_deg", Text("Latitude", "纬度"), unit_of("position", "latitude_deg"), decimals=5),
            Field("longitude_deg", Text("Longitude", "经度"), unit_of("position", "longitude_deg"), decimals=5),
        ],
        width=14,
        height=14,
    )


def _who_needs_a_swap(pen: Pen) -> Any:
    fields = '"soc_pct", "range_km", "energy_left_kwh", "station", "station_distance_km", "age_s", "is_low"'
    newest = _newest("outlook", f'last("soc_pct") AS {fields}')
    wanted = '"soc_pct", "range_km", "station", "station_distance_km", "age_s", "fleet", "node"'
    to_station = link("station", fleet="${__data.fields.fleet}", node="${__data.fields.station}")
    return pen.table(
        Text("Who needs a swap", "谁需要换电"),
        Text(
            "The emptiest first, with the nearest station. Red: it will not reach that station with a reserve; send it "
            "now, or send somebody. An old reading means that the van may be emptier than it says.",
            "电量最低者在前，并给出最近的换电站。变红：该车到站已无余量，应立即出发或派人救援。读数较旧时，"
            "实际电量可能更低。",
        ),
        [Query(of(newest, wanted, where=['"is_low" = 1']), is_table=True)],
        fields=[
            Field("node", Text("Van", "车辆"), links=(TO_VAN,)),
            Field(
                "soc_pct",
                Text("Charge", "电量"),
                unit_of("module", "soc_pct"),
                SOC_STEPS,
                width=80,
                decimals=0,
                is_colored=True,
            ),
            Field(
                "range_km",
                Text("Range", "续航"),
                unit_by_name("range_km"),
                RANGE_STEPS,
                width=80,
                decimals=1,
                is_colored=True,
            ),
            Field(
                "station",
                Text("Nearest station", "最近换电站"),
                links=((Text("Open the station", "打开换电站"), to_station),),
            ),
            Field(
                "station_distance_km",
                Text("Distance", "距离"),
                unit_by_name("station_distance_km"),
                width=90,
                decimals=1,
            ),
            Field("age_s", Text("Heard", "读数时长"), unit_by_name("age_s"), width=90, decimals=0),
            Field("fleet", Text("Fleet", "车队"), width=100),
        ],
        sort="soc_pct",
        none_text=Text("nobody needs a swap", "没有车辆需要换电"),
        width=10,
        height=14,
    )


def _alarms(pen: Pen) -> Any:
    fields = [*alarm_fields(has_node=True), Field("fleet", Text("Fleet", "车队"), width=100)]
    return standing_table(pen, FLEET, fields=fields, width=14, height=9)


def _stations(pen: Pen) -> Any:
    newest = _newest(
        "outlook_station", 'last("ready") AS "ready", "charging", "occupied", "slots", "power_kw", "swaps_hour"'
    )
    return pen.table(
        Text("Stations", "换电站"),
        Text(
            "Ready means 90 % of charge and no alarm of level 2. Red: no module to give out; open the station and look"
            " whether it charges. Occupied equals slots: nobody can leave a module there.",
            "“可用”指电量达到 90 % 且无 2 级及以上报警。变红：没有模块可换，请打开该站查看是否在充电。"
            "占用等于仓位数时，车辆无处归还模块。",
        ),
        [Query(newest, is_table=True)],
        fields=[
            Field("node", Text("Station", "换电站"), links=(TO_STATION,)),
            Field("ready", Text("Ready", "可用"), "short", READY_STEPS, width=80, is_colored=True),
            Field("charging", Text("Charging", "充电中"), "short", width=90),
            Field("occupied", Text("Occupied", "占用"), "short", width=90),
            Field("slots", Text("Slots", "仓位"), "short", width=80),
            Field("power_kw", Text("Power", "功率"), unit_by_name("power_kw"), width=90, decimals=1),
            Field("swaps_hour", Text("Swaps/h", "换电/小时"), "short", width=100),
            Field("fleet", Text("Fleet", "车队"), width=100),
        ],
        sort="ready",
        width=10,
        height=9,
    )
