"""What the board "Data completeness" shows of frames: holes, losses with their reasons, delay, back-fill."""

from typing import Any

from swapline_cloud.query import Query, select
from swapline_cloud.rollup import FOREVER
from swapline_cloud.text import Text
from swapline_wire.catalogue_text import LOSSES

from .completeness_query import (
    COUNT,
    DECLARED,
    HERE,
    IN_TIME,
    LATE,
    course,
    holes_over_time,
    late_share,
    losses,
    missing_by_journal,
)
from .field import Field, States, words
from .pen import Pen
from .shared import NOTHING, TO_STATION, TO_VAN, time_field
from .unit import GREY, ORANGE, RED, YELLOW, steps, unit_by_name, unit_of
from .word import states

_CHINESE = {1: "日志已满", 2: "日志损坏", 3: "断电", 4: "内存不足", 5: "日志被格式化"}
_COLORS = {3: GREY}  # what happens at every swap; the others are reasons to act
LOSS_STATES: States = {
    reason: (Text(name, _CHINESE[reason]), _COLORS.get(reason, RED)) for reason, name in LOSSES.items()
}
_NODE = Field("node", Text("Node", "节点"), links=(TO_VAN, TO_STATION), width=150)
_FLEET = Field("fleet", Text("Fleet", "车队"), width=100)


def missing(pen: Pen) -> list[Any]:
    """Return the panels of what is not there."""
    return [_by_journal(pen), _declared(pen), _over_time(pen), _by_reason(pen)]


def _by_journal(pen: Pen) -> Any:
    return pen.table(
        Text("Missing, by node and journal", "各节点与日志的缺失"),
        Text(
            "Journals of which numbers of the range are not there. Certain: no frame just outside of the range has "
            "them; with ends: at most. A new journal id: the node's store was formatted. `swapline missing --node` "
            "names numbers and reasons.",
            "范围内缺少编号的日志。确定：范围外相邻的帧也没有这些编号；含两端：上限。出现新的日志编号：节点存储被格式化。"
            "用 `swapline missing --node` 查看编号与原因。",
        ),
        missing_by_journal(),
        fields=[
            _NODE,
            Field(
                "missing",
                Text("Certain", "确定"),
                "short",
                steps((1, YELLOW), (1000, RED)),
                width=100,
                is_colored=True,
            ),
            Field("with_ends", Text("With ends", "含两端"), "short", width=100),
            Field("journal", Text("Journal", "日志")),
            _FLEET,
        ],
        none_text=Text("nothing is missing", "没有缺失"),
        sort="missing",
        is_descending=True,
        width=10,
        height=9,
    )


def _declared(pen: Pen) -> Any:
    what = '"code", "reason", "count", "first_seq", "last_seq", "duration_s", "node", "fleet"'
    return pen.table(
        Text("Losses that nodes declared", "节点声明的丢失"),
        Text(
            "Each with its reason; it does not come any more. Journal full: link away for too long. Journal "
            "damaged or formatted: change the flash. No memory: tell the developers. Power cut: ordinary at swaps.",
            "每条丢失及其原因，数据不会再来。日志已满：链路中断太久。日志损坏或被格式化：更换闪存。内存不足：告知开"
            "发者。断电：换电时属正常。",
        ),
        [
            Query(
                select(what, "event", policy=FOREVER, where=[*HERE, DECLARED], tail="ORDER BY time DESC LIMIT 500"),
                is_table=True,
            )
        ],
        fields=[
            time_field(Text("When", "时间")),
            _NODE,
            Field("code", Text("What", "类型"), states=states("event", "code"), width=120),
            Field("reason", Text("Why", "原因"), states=LOSS_STATES, width=120, is_colored=True),
            Field("count", Text("How many", "数量"), "short", width=90),
            Field("first_seq", Text("From number", "起始编号"), "none", width=100),
            Field("last_seq", Text("To number", "结束编号"), "none", width=100),
            Field("duration_s", Text("At most", "最长"), unit_of("event", "duration_s"), width=80),
            _FLEET,
        ],
        none_text=Text("nothing was given up", "没有放弃任何数据"),
        width=14,
        height=9,
    )


def _over_time(pen: Pen) -> Any:
    return pen.bars(
        Text("Missing numbers over time", "缺失编号的时间分布"),
        Text(
            "Numbers that each point lacks between its first and last. Single ones are frames that lie in the "
            "point beside it. A block: an outage whose backlog has not come, or has been given up.",
            "各时间点首末编号之间缺少的编号。零星缺失是相邻时间点的帧。成块缺失：故障后尚未补传或已放弃的数据。",
        ),
        holes_over_time(),
        unit="short",
        interval="1h",
        minimum=0,
        width=16,
    )


def _by_reason(pen: Pen) -> Any:
    fields = [
        Field(f"reason_{reason}", text, color=ORANGE if color == RED else color)
        for reason, (text, color) in LOSS_STATES.items()
    ]
    return pen.bargauge(
        Text("Declarations by reason", "按原因统计的声明"),
        Text(
            "How often nodes declared a loss, by its reason. Power cuts are as many as swaps. Any other reason: "
            "the table above says which node.",
            "节点声明丢失的次数（按原因）。断电次数与换电次数相当。出现其他原因：上方表格列出节点。",
        ),
        [losses(f'count("reason") AS "reason_{reason}"', DECLARED, f'"reason" = {reason}') for reason in LOSSES],
        unit="short",
        fields=fields,
        none_text=NOTHING,
        minimum=0,
        width=8,
    )


def delay(pen: Pen) -> list[Any]:
    """Return the panels of when frames came."""
    delay_unit = unit_by_name("delay_ms")
    return [
        pen.timeseries(
            Text("Delay, mean", "平均延迟"),
            Text(
                "From a frame's last row until it was stored, by the time of the rows. Some seconds are ordinary: "
                "rows wait to be sealed. Red, a minute and more, was a backlog: a link that was away, or a "
                "database.",
                "从帧的末行到写入数据库的时间，按数据时间显示。几秒属正常（等待封帧）。一分钟以上变红：来自积压，链"
                "路或数据库曾中断。",
            ),
            course(('mean("delay_ms")', 'mean("delay_ms_mean")'), "delay_ms", alias="$tag_node"),
            unit=delay_unit,
            thresholds=steps((10_000, YELLOW), (60_000, RED)),
            minimum=0,
        ),
        pen.timeseries(
            Text("Delay, longest", "最长延迟"),
            Text(
                "The latest frame of each point. One node alone: its link. All at one time: gateway or database "
                "were away; the height says for how long.",
                "各时间点最晚到达的帧。仅一个节点：其链路。全部同时：网关或数据库曾中断，高度即中断时长。",
            ),
            course(('max("delay_ms")', 'max("delay_ms_max")'), "delay_ms", alias="$tag_node"),
            unit=delay_unit,
            thresholds=steps((60_000, YELLOW), (3_600_000, RED)),
            minimum=0,
        ),
        pen.bars(
            Text("Frames in time and late", "按时与迟到的帧"),
            Text(
                "By the time of their rows; late is more than a minute (in roll-ups, on average). Only late "
                "frames: the node had no link then. Neither: it was off, or its data are missing; see above.",
                "按数据时间统计；迟到指超过一分钟（汇总数据按平均值）。只有迟到帧：当时节点没有链路。两者都没有：节"
                "点关机或数据缺失，见上方。",
            ),
            [
                *course(COUNT, "in_time", alias="in_time $tag_node", where=IN_TIME),
                *course(COUNT, "late", alias="late $tag_node", where=LATE),
            ],
            fields=words("node", {"in_time": Text("in time", "按时"), "late": Text("late", "迟到")}),
            unit="short",
            interval="1m",
            minimum=0,
            width=8,
        ),
        pen.timeseries(
            Text("Share that came late", "迟到比例变化"),
            Text(
                "Late frames of all, by node. Steadily above 30 % (red): the node's link is too weak or too slow; "
                "look at its signal strength and round trip below.",
                "各节点迟到帧的比例。持续高于 30 %（变红）：链路太弱或太慢，请查看下方信号强度和往返时间。",
            ),
            late_share(over_time=True),
            unit=unit_by_name("late_share"),
            thresholds=steps((0.05, YELLOW), (0.3, RED)),
            interval="1m",
            minimum=0,
            maximum=1,
            width=8,
        ),
        pen.bars(
            Text("Rows per hour", "每小时行数"),
            Text(
                "Rows that are stored of each hour, by node. A standing van tells little, a charging station much. "
                "A gap that stays: nothing was read, or nothing came; compare with missing numbers.",
                "各节点每小时已存储的行数。停驶车辆较少，充电中的换电站较多。持续的空缺：没有读取或没有到达，请对照"
                "缺失编号。",
            ),
            course(
                (
                    'sum("row_count") * 3600000 / $__interval_ms',
                    'sum("row_count_sum") * 3600000 / $__interval_ms',
                ),
                "rows",
                alias="$tag_node",
            ),
            unit="suffix: rows/h",
            interval="1h",
            minimum=0,
            width=8,
        ),
    ]
