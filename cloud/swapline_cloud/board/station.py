"""The board "Station": its slots, what is ready, what the grid gives, how many swaps, and who is coming."""

from typing import Any

from swapline_cloud.query import Query, ending, of, select, tag_is
from swapline_cloud.rollup import FOREVER
from swapline_cloud.text import Text

from . import node_health, station_power, variable, word
from .field import Field
from .pen import Pen
from .sdk import dashboard
from .shared import (
    FLEET,
    HERE,
    NOTHING,
    NOW,
    RANGE_STEPS,
    READY_STEPS,
    SOC_STEPS,
    TO_MODULE,
    TO_VAN,
    alarms_by_level,
    time_field,
)
from .unit import BLUE, GREEN, ORANGE, RED, YELLOW, alarm_limits, steps, unit_by_name, unit_of

NAME = "station"
TITLE = Text("Station", "换电站")
DESCRIPTION = Text(
    "One station: slots, ready modules, power, swaps, and who is coming.",
    "单站：仓位、可用模块、功率、换电与排队车辆。",
)


def draw(pen: Pen) -> dashboard.Dashboard:
    """Return the board."""
    board = pen.board(NAME, TITLE, DESCRIPTION, variables=[variable.fleet(pen), variable.station(pen)])
    rows = (
        (None, _figures(pen)),
        (Text("Slots", "仓位"), [_slots(pen), *station_power.slots(pen)]),
        (Text("Swaps and queue", "换电与排队"), [_queue(pen), _swaps(pen), _swap_table(pen), _ready_course(pen)]),
        (Text("Power and energy", "功率与能量"), station_power.grid(pen)),
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
    return [Query(select(what, "outlook_station", where=HERE, within=NOW), is_table=True)]


# Vans that are low and whose nearest station is this one.
def _queue_statement(what: str) -> str:
    newest = select(
        'last("soc_pct") AS "soc_pct", "range_km", "station", "station_distance_km", "is_low", "age_s"',
        "outlook",
        where=[FLEET],
        by=["fleet", "node"],
        within=NOW,
    )
    return of(newest, what, where=['"is_low" = 1', tag_is("station", "node")])


def _figures(pen: Pen) -> list[Any]:
    return [
        pen.stat(
            Text("Ready modules", "可用模块"),
            Text(
                "Modules with 90 % of charge and no alarm of level 2. Red: none to give out; send vans elsewhere, and "
                "see below whether slots charge.",
                "电量达到 90 % 且无 2 级及以上报警的模块。变红：无模块可换，请引导车辆到别处，"
                "并查看下方仓位是否在充电。",
            ),
            _newest('last("ready") AS "ready"'),
            unit="short",
            thresholds=READY_STEPS,
            width=4,
            height=4,
        ),
        pen.stat(
            Text("Slots in use", "仓位使用"),
            Text(
                "Occupied, charging, and how many there are. All occupied: nobody can leave a module here; take one"
                " out.",
                "占用、充电中与总数。全部占用：车辆无处归还模块，请取出一个。",
            ),
            _newest('last("occupied") AS "occupied", "charging", "slots"'),
            unit="short",
            fields=[
                Field("occupied", Text("occupied", "占用"), color=GREEN),
                Field("charging", Text("charging", "充电中"), color=YELLOW),
                Field("slots", Text("slots", "仓位"), color=BLUE),
            ],
            width=6,
            height=4,
        ),
        pen.stat(
            Text("Vans on their way", "排队车辆"),
            Text(
                "Vans that need a swap and are nearest to this station. Orange: more than one; red: four and more. "
                "More than ready modules: send some elsewhere.",
                "需要换电且最近换电站为本站的车辆。橙色：两辆及以上；红色：四辆及以上。多于可用模块时，请分流。",
            ),
            [Query(_queue_statement('count("soc_pct") AS "queue"'), is_table=True)],
            unit="short",
            thresholds=steps((2, ORANGE), (4, RED)),
            none_text=NOTHING,
            width=4,
            height=4,
        ),
        pen.stat(
            Text("Power now", "当前功率"),
            Text(
                "Drawn from the grid. Zero while modules are not full: see the grid's voltages and the chargers'"
                " states.",
                "从电网取用的功率。模块未满而为零：查看电网电压与充电机状态。",
            ),
            _newest('last("power_kw") AS "power_kw"'),
            unit=unit_by_name("power_kw"),
            fields=[Field("power_kw", Text("power", "功率"), color=BLUE)],
            decimals=1,
            width=4,
            height=4,
        ),
        alarms_by_level(
            pen,
            Text(
                "Of this station and the modules in it, as the gateways' alarm book says. Level 3: lock that slot now, "
                "keep people away. Level 2: act today. The table below says which.",
                "本站及站内模块未解除的报警（以网关报警簿为准）。3 级：立即锁定该仓位并远离；2 级：当天处理。"
                "具体见下方表格。",
            ),
            *HERE,
            width=6,
        ),
    ]


def _slots(pen: Pen) -> Any:
    charger = '"charger_state", "charger_power_kw", "charger_temperature_c", "locked", "faults"'
    slot = select(f'last("occupied") AS "occupied", {charger}', "slot", where=HERE, by=["bay"])
    sitting = '"module", "temperature_max_c", "cell_voltage_max_v"'
    # A module tells a reading a minute; one that has told nothing for three was taken out.
    module = select(f'last("soc_pct") AS "soc_pct", {sitting}', "module", where=HERE, by=["bay"], within=ending("3m"))
    return pen.table(
        Text("Slots now", "各仓位"),
        Text(
            "What each slot and the module in it said last. Charger state red: fault; see the alarms, restart the "
            "charger. Temperature red: alarm of level 3; lock the slot, keep away. Occupied without a module: its BMS "
            "is silent.",
            "各仓位与其中模块的最后读数。充电机状态红：故障，查看报警并重启充电机。温度红：3 级报警，锁定仓位并远离。"
            "占用但无模块号：模块 BMS 无应答。",
        ),
        [Query(slot, is_table=True), Query(module, is_table=True)],
        fields=[
            Field("bay", Text("Slot", "仓位"), width=60),
            _state("occupied", Text("Occupied", "占用")),
            _state("charger_state", Text("Charger", "充电机")),
            Field("module", Text("Module", "电池模块"), links=(TO_MODULE,), width=240),
            Field(
                "soc_pct",
                Text("Charge", "电量"),
                unit_of("module", "soc_pct"),
                steps((20, ORANGE), (50, YELLOW), (90, GREEN), base=RED),
                decimals=0,
                is_colored=True,
            ),
            Field("charger_power_kw", Text("Power", "功率"), unit_of("slot", "charger_power_kw"), decimals=1),
            Field(
                "temperature_max_c",
                Text("Warmest cell", "电芯最高温"),
                unit_of("module", "temperature_max_c"),
                alarm_limits("module", "temperature_max_c"),
                is_colored=True,
            ),
            Field(
                "cell_voltage_max_v",
                Text("Highest cell", "最高单体"),
                unit_of("module", "cell_voltage_max_v"),
                alarm_limits("module", "cell_voltage_max_v"),
                is_colored=True,
            ),
            Field(
                "charger_temperature_c",
                Text("Charger temperature", "充电机温度"),
                unit_of("slot", "charger_temperature_c"),
                station_power.CHARGER_STEPS,
                is_colored=True,
            ),
            _state("locked", Text("Locked", "锁定")),
            Field("faults", Text("Fault", "故障"), states=word.single_bits("slot", "faults"), is_colored=True),
        ],
        key="bay",
        sort="bay",
        width=24,
        height=9,
    )


def _state(field: str, title: Text) -> Field:
    return Field(field, title, states=word.states("slot", field), width=100, is_colored=True)


def _queue(pen: Pen) -> Any:
    return pen.table(
        Text("Queue", "排队"),
        Text(
            "Vans that are low and for which this station is the nearest, the emptiest first. Red range: it will "
            "hardly get here; send somebody. More vans than ready modules: send the fullest elsewhere.",
            "电量低且以本站为最近换电站的车辆，电量最低者在前。续航变红：恐难到站，请派人救援。车辆多于可用模块："
            "让电量较高者去别站。",
        ),
        [
            Query(
                _queue_statement('"soc_pct", "range_km", "station_distance_km", "age_s", "fleet", "node"'),
                is_table=True,
            )
        ],
        fields=[
            Field("node", Text("Van", "车辆"), links=(TO_VAN,)),
            Field(
                "soc_pct", Text("Charge", "电量"), unit_of("module", "soc_pct"), SOC_STEPS, decimals=0, is_colored=True
            ),
            Field(
                "range_km", Text("Range", "续航"), unit_by_name("range_km"), RANGE_STEPS, decimals=1, is_colored=True
            ),
            Field("station_distance_km", Text("Distance", "距离"), unit_by_name("station_distance_km"), decimals=1),
            Field("age_s", Text("Heard", "读数时长"), unit_by_name("age_s"), decimals=0),
            Field("fleet", Text("Fleet", "车队")),
        ],
        sort="soc_pct",
        none_text=Text("nobody is on the way", "没有车辆前来"),
        width=12,
    )


_SWAPPED = [FLEET, tag_is("station", "node"), '"is_void" = false']


def _swaps(pen: Pen) -> Any:
    rate = 'count("is_void") * 3600000 / $__interval_ms AS "swaps"'
    swaps = select(rate, "swap", policy=FOREVER, where=_SWAPPED, by=["time($__interval)"], tail="fill(0)")
    return pen.bars(
        Text("Swaps per hour", "每小时换电次数"),
        Text(
            "From the battery's books; the last hour fills up late. None while vans wait: the swap gear stands, or no"
            " module is ready.",
            "来自电池账册，最近一小时会滞后补齐。有车等待而为零：换电机构停机或没有可用模块。",
        ),
        [Query(swaps, "$col")],
        unit="short",
        fields=[Field("swaps", Text("swaps per hour", "每小时换电"), color=GREEN)],
        interval="1h",
        minimum=0,
        width=12,
    )


def _swap_table(pen: Pen) -> Any:
    what = (
        '"fleet", "van", "bay", "module_out", "soc_out_pct", "module_in", "soc_in_pct", "duration_s", "told_by_station"'
    )
    tail = "ORDER BY time DESC LIMIT 200"
    passport = TO_MODULE[1]
    return pen.table(
        Text("Latest swaps", "最近换电"),
        Text(
            "The newest 200 of the shown range: which module went out, which came in, and how long it took. Red from "
            "ten minutes on: look at what held it up. Told by the station 0: its node missed the swap.",
            "所选范围内最新 200 次：取出与装入的模块及耗时。超过十分钟变红：查明原因。站端上报为 0：站内节点漏报。",
        ),
        [Query(select(what, "swap", policy=FOREVER, where=_SWAPPED, tail=tail), is_table=True)],
        fields=[
            time_field(Text("Begun", "开始")),
            Field("van", Text("Van", "车辆"), links=((TO_VAN[0], TO_VAN[1].replace(".node}", ".van}")),), width=120),
            Field(
                "module_out", Text("Out", "取出"), links=((TO_MODULE[0], passport.replace(".module}", ".module_out}")),)
            ),
            Field("soc_out_pct", Text("Charge out", "取出电量"), unit_by_name("soc_out_pct"), width=90, decimals=0),
            Field(
                "module_in", Text("In", "装入"), links=((TO_MODULE[0], passport.replace(".module}", ".module_in}")),)
            ),
            Field("soc_in_pct", Text("Charge in", "装入电量"), unit_by_name("soc_in_pct"), width=90, decimals=0),
            Field(
                "duration_s",
                Text("Took", "耗时"),
                unit_by_name("duration_s"),
                steps((300, YELLOW), (600, RED)),
                width=90,
                is_colored=True,
            ),
            Field("told_by_station", Text("Told by station", "站端上报"), "short", width=90),
            Field("fleet", Text("Fleet", "车队"), width=80),
        ],
        none_text=Text("no swap in this time", "该时段没有换电"),
        width=14,
    )


def _ready_course(pen: Pen) -> Any:
    counts = 'min("ready") AS "ready", max("charging") AS "charging", max("occupied") AS "occupied"'
    course = select(counts, "outlook_station", where=HERE, by=["time($__interval)"], tail="fill(none)")
    return pen.timeseries(
        Text("Ready, charging, occupied", "可用、充电与占用"),
        Text(
            "Fewest ready, most charging and occupied in each point; kept for 30 days. Ready at 0 (red) at the same "
            "hour each day: this station needs another module then, or an earlier charge.",
            "每点的最少可用、最多充电与占用数；保留 30 天。每天同一时段可用为 0（红）："
            "该站届时需要增加模块或提前充电。",
        ),
        [Query(course, "$col")],
        unit="short",
        thresholds=READY_STEPS,
        fields=[
            Field("ready", Text("ready", "可用"), color=GREEN),
            Field("charging", Text("charging", "充电中"), color=YELLOW),
            Field("occupied", Text("occupied", "占用"), color=BLUE),
        ],
        interval="1m",
        minimum=0,
        decimals=0,
        width=10,
    )
