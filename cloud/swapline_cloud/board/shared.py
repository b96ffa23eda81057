"""What several boards show alike: places to go to, alarms, limits that are the operators' own."""

from typing import Any

from swapline_cloud.query import Query, ending, of, select, tag_is
from swapline_cloud.rollup import FOREVER
from swapline_cloud.text import Text
from swapline_gateway.battery.table import FOREVER_UTC_MS

from . import word
from .field import Field, Link
from .pen import Pen, link
from .unit import GREEN, ORANGE, RED, YELLOW, steps

FLEET = tag_is("fleet", "fleet")
NODE = tag_is("node", "node")
HERE = [FLEET, NODE]
# How old the newest figure of the gateway's outlook may be: it says one a minute.
NOW = ending("10m")
# How far back an alarm that stands is looked for: as far as the gateway's alarm book reads.
STANDING = ending("30d")
# The outlook calls a van low below 20 %; half of that is the last call. A third is what an ordinary trip takes.
SOC_STEPS = steps((10, ORANGE), (20, YELLOW), (35, GREEN), base=RED)
READY_STEPS = steps((1, YELLOW), (2, GREEN), base=RED)
# Of half an hour's range at usual speed in a city, and of a few minutes'.
RANGE_STEPS = steps((8, ORANGE), (15, YELLOW), (30, GREEN), base=RED)
RANGE_NAMES = {"median": Text("Median range left", "续航中位数"), "lowest": Text("Lowest range left", "最低续航")}
# A stay reaches into the range; one that goes on ends in the year 9999.
STAY_IN_RANGE = 'time <= ${__to}ms AND "until_utc_ms" >= ${__from}'
ANY_IS_RED = steps((1, RED))
ANY_IS_ORANGE = steps((1, ORANGE))
NOTHING = Text("none", "无")
BAY = Text("bay ${__field.labels.bay}", "${__field.labels.bay} 号位")

TO_VAN: Link = (
    Text("Open the van", "打开车辆"),
    link("van", fleet="${__data.fields.fleet}", node="${__data.fields.node}"),
)
TO_STATION: Link = (
    Text("Open the station", "打开换电站"),
    link("station", fleet="${__data.fields.fleet}", node="${__data.fields.node}"),
)
TO_MODULE: Link = (
    Text("Open the module's passport", "打开电池护照"),
    link("module-passport", module="${__data.fields.module}"),
)


def time_field(title: Text, *, is_age: bool = False) -> Field:
    """Return the column of a row's time, or of how long ago that is."""
    return Field("Time", title, "dateTimeFromNow" if is_age else "dateTimeAsIso", width=150)


def standing(*where: str) -> str:
    """Return the statement of the last row of each alarm, if it is not "cleared"."""
    last = select(
        'last("level") AS "level", "value"',
        "alarm",
        policy=FOREVER,
        where=where,
        by=["fleet", "node", "bay", "module", "code"],
        within=STANDING,
    )
    return of(last, '"level", "fleet", "node", "bay", "module", "code"', where=['"level" > 0'])


def standing_count(level: int, *where: str) -> Query:
    """Return the query of how many alarms of a level stand."""
    last = select(
        'last("level") AS "level"',
        "alarm",
        policy=FOREVER,
        where=where,
        by=["fleet", "node", "bay", "module", "code"],
        within=STANDING,
    )
    return Query(of(last, f'count("level") AS "level_{level}"', where=[f'"level" = {level}']), is_table=True)


def alarms_by_level(pen: Pen, description: Text, *where: str, width: int) -> Any:
    """Return the figures of how many alarms stand, the worst level first."""
    return pen.stat(
        Text("Alarms by level", "各级报警数"),
        description,
        [standing_count(level, *where) for level in (3, 2, 1)],
        unit="short",
        thresholds=ANY_IS_ORANGE,
        fields=[
            Field("level_3", Text("Level 3", "3 级"), thresholds=ANY_IS_RED),
            Field("level_2", Text("Level 2", "2 级"), thresholds=ANY_IS_ORANGE),
            Field("level_1", Text("Level 1", "1 级"), thresholds=steps((1, YELLOW))),
        ],
        none_text=NOTHING,
        width=width,
        height=4,
    )


def alarm_fields(*, has_node: bool, node_links: tuple[Link, ...] = (TO_VAN, TO_STATION)) -> list[Field]:
    """Return the columns of a table of alarms."""
    node = [Field("node", Text("Van or station", "车辆或换电站"), links=node_links, width=150)]
    return [
        Field("level", Text("Level", "级别"), states=word.states("alarm", "level"), width=90, is_colored=True),
        Field("code", Text("Alarm", "报警"), states=word.states("alarm", "code")),
        *(node if has_node else []),
        Field("bay", Text("Bay", "电池位"), width=80),
        Field("module", Text("Module", "电池模块"), links=(TO_MODULE,), width=240),
    ]


def stays(*where: str) -> str:
    """Return the statement of which module came into each bay, for a strip of time a bay."""
    told = select(
        '"until_utc_ms", "module"', "stay", policy=FOREVER, where=[*where, '"is_void" = false'], within=STAY_IN_RANGE
    )
    return of(told, '"module"', by=["bay"])


def stay_fields() -> list[Field]:
    """Return the columns of a table of stays."""
    still = {FOREVER_UTC_MS: (Text("still there", "仍在位"), GREEN)}
    return [
        Field("until_utc_ms", Text("Until", "取出"), "dateTimeAsIso", states=still, width=150),
        Field("bay", Text("Bay", "电池位"), width=70),
        Field("module", Text("Module", "电池模块"), links=(TO_MODULE,), width=240),
        Field("from_evidence", Text("Came, by", "装入依据"), width=100),
        Field("until_evidence", Text("Left, by", "取出依据"), width=100),
    ]
