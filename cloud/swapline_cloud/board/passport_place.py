"""What the board "Module passport" shows of places: stays, swaps; and of what may be wrong there and then."""

from typing import Any

from swapline_cloud.query import Query, of, select
from swapline_cloud.rollup import FOREVER
from swapline_cloud.text import Text
from swapline_gateway.battery.table import FOREVER_UTC_MS

from .field import Field, States
from .passport_query import HERE, VALID, book
from .pen import Pen, link
from .shared import STAY_IN_RANGE, TO_STATION, TO_VAN, alarm_fields, standing_table, time_field
from .unit import GREEN, ORANGE, RED, YELLOW, steps, unit_by_name

_STILL: States = {FOREVER_UTC_MS: (Text("still", "仍在"), GREEN)}
# A swap's row is tagged with the drained module; the charged one is a field.
_OF_SWAP = '("module_out" =~ /^${module:regex}$/ OR "module_in" =~ /^${module:regex}$/)'
_TO_VAN = (Text("Open the van", "打开车辆"), link("van", node="${__value.raw}"))
_TO_STATION = (Text("Open the station", "打开换电站"), link("station", node="${__value.raw}"))
_TO_OTHER = link("module-passport", module="${__value.raw}")
_FLEET = Field("fleet", Text("Fleet", "车队"), width=90)  # what a holder's link needs, too


def stays(pen: Pen) -> list[Any]:
    """Return the panels of where it was."""
    told = select('"until_utc_ms", "node"', "stay", policy=FOREVER, where=[*HERE, VALID], within=STAY_IN_RANGE)
    return [
        pen.timeline(
            Text("Holders", "持有者"),
            Text(
                "Who held it. A strip goes on until the next one has it, also over times when nobody did; the "
                "table below has the ends. Many short strips: a lock or plug that does not hold.",
                "历任持有者。色带延续到下一任为止，包括无人持有的时段；结束时间见下表。多段短色带：锁止或插接不良。",
            ),
            [Query(of(told, '"node"'), "$col")],
            series=Text("holder", "持有者"),
            width=24,
            height=4,
        ),
        _stays(pen),
        _swaps(pen),
    ]


def _stays(pen: Pen) -> Any:
    what = '"node", "bay", "until_utc_ms", "from_evidence", "until_evidence", "fleet"'
    return pen.table(
        Text("Stays", "停留记录"),
        Text(
            "From when until when, in which bay, on whose word. An end by `displaced` or `elsewhere` was told by "
            "nobody: look whether that bay's line is sound. Click a holder for its board.",
            "起止时间、电池位与依据。以 `displaced` 或 `elsewhere` 结束表示无人上报：请检查该电池位线路。点击持有者"
            "打开其面板。",
        ),
        [book(what, "stay", within=STAY_IN_RANGE, tail="ORDER BY time DESC LIMIT 1000")],
        fields=[
            time_field(Text("From", "起始")),
            Field("until_utc_ms", Text("Until", "结束"), "dateTimeAsIso", states=_STILL, width=150),
            Field("node", Text("Holder", "持有者"), links=(TO_VAN, TO_STATION)),
            Field("bay", Text("Bay", "电池位"), width=70),
            Field("from_evidence", Text("Came, by", "装入依据"), width=110),
            Field("until_evidence", Text("Left, by", "取出依据"), width=110),
            _FLEET,
        ],
        width=12,
        height=9,
    )


def _swaps(pen: Pen) -> Any:
    fields = ("van", "station", "duration_s", "soc_out_pct", "soc_in_pct", "module_out", "module_in")
    what = ", ".join(f'"{name}"' for name in fields)
    statement = select(what, "swap", policy=FOREVER, where=[VALID, _OF_SWAP], tail="ORDER BY time DESC LIMIT 500")
    other = ((Text("Open that module", "打开该模块"), _TO_OTHER),)
    return pen.table(
        Text("Swaps of it", "换电记录"),
        Text(
            "Swaps in which it was taken out or put in. Red, charge in below 80 %: the station gave it out too "
            "early. A long duration: look at the lock and at the robot.",
            "取出或装入该模块的换电。装入电量低于 80 % 变红：换电站过早换出。时长过长：检查锁止机构与机械手。",
        ),
        [Query(statement, is_table=True)],
        fields=[
            time_field(Text("When", "时间")),
            Field("van", Text("Van", "车辆"), links=(_TO_VAN,)),
            Field("station", Text("Station", "换电站"), links=(_TO_STATION,)),
            Field("duration_s", Text("Took", "时长"), unit_by_name("duration_s"), width=80),
            Field("soc_out_pct", Text("Charge out", "取出电量"), unit_by_name("soc_out_pct"), width=90, decimals=0),
            Field(
                "soc_in_pct",
                Text("Charge in", "装入电量"),
                unit_by_name("soc_in_pct"),
                steps((80, YELLOW), (90, GREEN), base=RED),
                width=90,
                decimals=0,
                is_colored=True,
            ),
            Field("module_out", Text("Out", "取出"), links=other, width=210),
            Field("module_in", Text("In", "装入"), links=other, width=210),
        ],
        none_text=Text("no swap in this range", "此范围内没有换电"),
        width=12,
        height=9,
    )


def findings(pen: Pen) -> list[Any]:
    """Return the panels of warnings, contradictions and alarms."""
    return [_warnings(pen), _contradictions(pen), _standing(pen), _alarms(pen)]


def _warnings(pen: Pen) -> Any:
    return pen.table(
        Text("Early warnings", "预警"),
        Text(
            "Slow signs that it may fail, of all its time, the highest score first; never an alarm. Above 0.5 "
            "(orange) look at it at its next stay in a station; above 0.75 (red) take it out of service for a "
            "check.",
            "可能失效的缓慢迹象（全部时间，分数高者在前），不是报警。高于 0.5（橙）：下次在换电站时检查；高于 0.75"
            "（红）：停用检测。",
        ),
        [book('"score", "kind", "text"', "warning", within="time > 0")],
        fields=[
            Field(
                "score",
                Text("Score", "分数"),
                "short",
                steps((0.5, ORANGE), (0.75, RED), base=YELLOW),
                width=80,
                decimals=2,
                is_colored=True,
            ),
            Field("kind", Text("Sign", "迹象"), width=170),
            Field("text", Text("What is seen", "说明")),
            Field("Time", Text("Since", "起始"), "dateTimeFromNow", width=120),
        ],
        sort="score",
        is_descending=True,
        none_text=Text("no sign of failure", "没有失效迹象"),
        width=12,
        height=7,
    )


def _contradictions(pen: Pen) -> Any:
    what = '"kind", "fleet", "node", "until_utc_ms", "text"'
    newest = "ORDER BY time DESC LIMIT 200"
    return pen.table(
        Text("Contradictions", "矛盾"),
        Text(
            "What nodes told of it cannot all be true, or a part is missing; of all its time. `two_places`: two "
            "modules have one code, look at both labels. docs/modules.md says what to do about each kind.",
            "节点对该模块的说法相互矛盾或不完整（全部时间）。`two_places`：两个模块编码相同，请核对标签。各类处理方"
            "法见 docs/modules.md。",
        ),
        [book(what, "contradiction", within="time > 0", tail=newest)],
        fields=[
            time_field(Text("Since", "起始")),
            Field("until_utc_ms", Text("Until", "结束"), "dateTimeAsIso", states=_STILL, width=150),
            Field("kind", Text("Kind", "类型"), width=180),
            Field("text", Text("What was seen", "说明")),
            Field("node", Text("Holder", "持有者"), links=(TO_VAN, TO_STATION), width=120),
            _FLEET,
        ],
        none_text=Text("no contradiction", "没有矛盾"),
        width=12,
        height=7,
    )


def _standing(pen: Pen) -> Any:
    fields = [*(field for field in alarm_fields(has_node=True) if field.name != "module"), _FLEET]
    return standing_table(pen, *HERE, fields=fields, width=9, height=7)


def _alarms(pen: Pen) -> Any:
    what = '"level", "code", "node", "bay", "position", "value", "threshold", "fleet"'
    statement = select(what, "alarm", policy=FOREVER, where=HERE, tail="ORDER BY time DESC LIMIT 500")
    return pen.table(
        Text("Alarms of it", "报警记录"),
        Text(
            "Each change that a node told in the range: raised, escalated, cleared. Level 3: stop and take it out. "
            "The same alarm in several holders is the module's; in one holder only, the holder's.",
            "时间范围内节点上报的每次变化：触发、升级、解除。3 级：停用并取出。多个持有者中出现同一报警：模块问题；"
            "仅在一个持有者中：持有者问题。",
        ),
        [Query(statement, is_table=True)],
        fields=[
            time_field(Text("When", "时间")),
            *(field for field in alarm_fields(has_node=True) if field.name != "module"),
            _FLEET,
            Field("position", Text("Cell or sensor", "单体或传感器"), "none", width=110),
            Field("value", Text("Value, raw", "原始值"), "none", width=100),
            Field("threshold", Text("Limit, raw", "原始限值"), "none", width=100),
        ],
        none_text=Text("no alarm in this range", "此范围内没有报警"),
        width=15,
        height=7,
    )
