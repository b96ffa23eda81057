"""What several boards show alike: places to go to, alarms, limits that are the operators' own."""

from collections.abc import Sequence
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
_STANDS = '"level" > 0'
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
    """Return the statement of the alarms that stand, by the last word of the gateways' alarm book on each."""
    return of(_last_word(*where), '"level", "raised_utc_ms", "fleet", "node", "bay", "module", "code"', where=[_STANDS])


def standing_count(level: int, *where: str) -> Query:
    """Return the query of how many alarms of a level stand."""
    of_level = [f'"level" = {level}']
    return Query(of(_last_word(*where), f'count("level") AS "level_{level}"', where=of_level), is_table=True)


def _last_word(*where: str) -> str:
    what, by = 'last("level") AS "level", "raised_utc_ms"', ["fleet", "node", "bay", "module", "code"]
    return select(what, "standing", policy=FOREVER, where=where, by=by, within=STANDING)


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


def standing_table(pen: Pen, *where: str, fields: Sequence[Field], width: int, height: int = 8) -> Any:
    """Return the table of the alarms that stand, the worst level first."""
    return pen.table(
        Text("Alarms that stand", "未解除的报警"),
        Text(
            "What the gateways' alarm book says: raised, not cleared, and not ended by a restart of its node. Level 3: "
            "stop now. Level 2: act today. Empty: none stands as far as a gateway knew. The console says who has "
            "seen one.",
            "以网关报警簿为准：已触发、未解除，且未因节点重启而结束。3 级：立即停用；2 级：当天处理。"
            "为空：据网关所知没有未解除的报警。由谁确认见控制台。",
        ),
        [Query(standing(*where), is_table=True)],
        fields=[*fields, Field("raised_utc_ms", Text("Since", "起始"), "dateTimeFromNow", width=150)],
        sort="level",
        is_descending=True,
        none_text=Text("no alarm stands", "没有未解除的报警"),
        width=width,
        height=height,
    )


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
