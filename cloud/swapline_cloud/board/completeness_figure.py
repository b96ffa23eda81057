"""The figures on top of the board "Data completeness"."""

from typing import Any

from swapline_cloud.query import Query, ending, grown, of, select
from swapline_cloud.text import Text
from swapline_wire.catalogue import FRAMES_DROPPED, ROWS_DROPPED

from .completeness_query import HERE, figure, late_share, losses, missing, silent
from .field import Field
from .pen import Pen
from .shared import NOTHING
from .unit import GREY, ORANGE, RED, YELLOW, steps, unit_by_name

_SMALL: dict[str, Any] = {"width": 3, "height": 4}


def draw(pen: Pen) -> list[Any]:
    """Return the panels."""
    newest = select('last("backlog_frames") AS "n"', "node", where=HERE, by=["fleet", "node"], within=ending("1d"))
    return [
        pen.stat(
            Text("Frames missing", "缺失的帧"),
            Text(
                "Numbers that are not there, of all journals. Certain: no frame outside of the range has them; zero if "
                "nothing is lost. With ends: at most, with those that may lie outside. Red: wait while backlogs fall, "
                "then `swapline missing`.",
                "各日志中缺少的编号。确定：范围外相邻的帧也没有这些编号，无丢失时为零。含两端：上限，包括可能位于范围外的"
                "帧。变红：等待积压下降，然后用 `swapline missing` 查看。",
            ),
            missing(),
            unit="short",
            fields=[
                Field("missing", Text("certain", "确定"), thresholds=steps((1, YELLOW), (1000, RED))),
                Field("with_ends", Text("with ends", "含两端"), color=GREY),
            ],
            none_text=NOTHING,
            **_SMALL,
        ),
        pen.stat(
            Text("Frames given up", "放弃的帧"),
            Text(
                "Frames that nodes declared as lost in the range. They do not come any more. Red: the table below "
                "says who and why; a full journal means a link that was away for too long.",
                "时间范围内节点声明丢失的帧，不会再来。变红：下方表格列出节点与原因；日志已满说明链路中断太久。",
            ),
            [losses('sum("count") AS "frames_lost"', f"\"code\" = '{FRAMES_DROPPED}'")],
            unit="short",
            thresholds=steps((1, RED)),
            none_text=NOTHING,
            **_SMALL,
        ),
        pen.stat(
            Text("Rows given up", "放弃的行"),
            Text(
                "Rows that were lost before they were in a frame, where their number is known. A power cut costs "
                "some seconds of them at each swap of a van with one module: ordinary. Without swaps: look at the "
                "node's supply.",
                "入帧之前丢失的行（数量已知者）。单模块车辆每次换电断电会丢失几秒数据，属正常。没有换电却出现：检查"
                "节点供电。",
            ),
            [losses('sum("count") AS "rows_lost"', f"\"code\" = '{ROWS_DROPPED}'")],
            unit="short",
            thresholds=steps((1000, YELLOW)),
            none_text=NOTHING,
            **_SMALL,
        ),
        pen.stat(
            Text("Rows refused", "被拒的行"),
            Text(
                "Rows that the database never takes: older than its retention, or of another type. Red: `swapline "
                "quarantine list` has the database's words; the frames are kept there.",
                "数据库永不接收的行：早于保留期或类型不符。变红：`swapline quarantine list` 给出数据库原话，帧保存"
                "在隔离区。",
            ),
            figure(('sum("rows_refused")', 'sum("rows_refused_sum")'), "rows_refused"),
            unit="short",
            thresholds=steps((1, RED)),
            none_text=NOTHING,
            **_SMALL,
        ),
        pen.stat(
            Text("Came late", "迟到比例"),
            Text(
                "Share of frames that were stored more than a minute after their last row: back-fill. High after "
                "tunnels and outages. Red and lasting: the links are too weak for what is read.",
                "写入时间比末行晚一分钟以上的帧（补传）所占比例。隧道或故障后偏高属正常。持续变红：链路带宽不足。",
            ),
            late_share(over_time=False),
            unit=unit_by_name("late_share"),
            thresholds=steps((0.05, YELLOW), (0.3, RED)),
            none_text=NOTHING,
            decimals=1,
            **_SMALL,
        ),
        pen.stat(
            Text("Nodes silent", "静默节点"),
            Text(
                "Nodes that were heard within a day and told nothing in the last ten minutes of the range. Red: "
                "the table below sorts them by their last word. All at once: broker or gateway.",
                "一天内有数据、但时间范围最后十分钟内没有数据的节点数。变红：下方表格按最后数据时间排序。若全部静默："
                "检查代理或网关。",
            ),
            [silent()],
            unit="short",
            thresholds=steps((1, YELLOW), (3, RED)),
            none_text=NOTHING,
            **_SMALL,
        ),
        pen.stat(
            Text("Backlog on nodes", "节点积压"),
            Text(
                "Frames that nodes keep and that are not acknowledged yet, as last told. It falls after an outage. "
                "Red and rising: the gateway does not acknowledge; look at Pipeline health.",
                "节点上尚未确认的帧数（最近一次上报）。故障后应下降。变红且上升：网关没有确认，请查看“数据链路健康”。",
            ),
            [Query(of(newest, 'sum("n") AS "backlog_frames"'), is_table=True)],
            unit="short",
            thresholds=steps((5000, YELLOW), (50_000, RED)),
            **_SMALL,
        ),
        pen.stat(
            Text("Dropped by count", "节点自计丢弃"),
            Text(
                "Growth of the nodes' counters of dropped frames in the range. It should be what is declared as "
                "given up; more: a declaration is still on its way, or was lost with its journal.",
                "时间范围内节点丢弃计数的增长，应与声明放弃的帧数一致。更多：声明仍在途中，或随日志一起丢失。",
            ),
            [
                Query(of(query.statement, 'sum("dropped") AS "dropped"'), is_table=True)
                for query in grown("node", "frames_dropped", "dropped", where=HERE, by=["node"])
            ],
            unit="short",
            thresholds=steps((1, ORANGE)),
            none_text=NOTHING,
            **_SMALL,
        ),
    ]
