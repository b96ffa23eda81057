"""What the board "Pipeline health" shows of the data's way: frames, rows, spool, database, books."""

from typing import Any

from swapline_cloud.text import Text

from .field import words
from .pen import Pen
from .pipeline_query import INTERVAL, course, growth, rate
from .unit import ORANGE, RED, YELLOW, steps, unit_by_name

FRAMES = "suffix: frames/s"
_FRAMES = {
    "received": Text("received", "收到"),
    "taken": Text("taken", "存入缓存"),
    "stored": Text("stored", "写入数据库"),
}
_NOT_TAKEN = {
    "duplicates": Text("duplicates", "重复"),
    "refused": Text("refused", "拒收"),
    "quarantined": Text("quarantined", "隔离"),
    "lost": Text("lost", "丢失"),
}


def flow(pen: Pen) -> list[Any]:
    """Return the panels of what comes and goes."""
    return [
        pen.timeseries(
            Text("Frames", "帧"),
            Text(
                "Received from the broker, taken into the spool, stored in the database, each second. Stored below "
                "taken for long: the spool grows, look at the database. Nothing received: broker or network.",
                "每秒从代理收到、存入缓存、写入数据库的帧数。写入长期低于存入：缓存增长，请检查数据库。没有收到：检"
                "查代理或网络。",
            ),
            [
                rate("frames_received", "received", alias="$col $tag_gateway"),
                rate("frames_taken", "taken", alias="$col $tag_gateway"),
                rate("frames_stored", "stored", alias="$col $tag_gateway"),
            ],
            fields=words("gateway", _FRAMES),
            unit=FRAMES,
            interval=INTERVAL,
            minimum=0,
        ),
        pen.timeseries(
            Text("Rows stored", "写入的行"),
            Text(
                "Rows that the database took each second. A fall to zero while frames come: the database takes "
                "nothing; see its log. Slow growth over weeks is the fleet's: plan by docs/scale.md.",
                "数据库每秒接收的行数。有帧到达却降为零：数据库不接收数据，请查看其日志。数周内的缓慢增长来自车队规"
                "模：按 docs/scale.md 规划。",
            ),
            [rate("rows_stored", "rows", alias="$tag_gateway")],
            unit="suffix: rows/s",
            interval=INTERVAL,
            minimum=0,
        ),
        pen.bars(
            Text("Came again, or was not taken", "重复或未接收"),
            Text(
                "Duplicates are harmless: nodes send again what was not acknowledged in time. Refused: spool full, "
                "disk full or a node over its quota; the node holds it. Quarantined: `swapline quarantine list`. "
                "Lost: change the disk.",
                "重复帧无害：节点会重发未及时确认的数据。拒收：缓存或磁盘已满，或节点超出配额；数据保留在节点。隔离："
                "`swapline quarantine list`。丢失：更换磁盘。",
            ),
            [growth(name, name, alias="$col $tag_gateway") for name in _NOT_TAKEN],
            fields=words("gateway", _NOT_TAKEN),
            unit="short",
            interval=INTERVAL,
            minimum=0,
        ),
        pen.bars(
            Text("Failures", "失败次数"),
            Text(
                "Writes that the database refused or did not answer, and lost connections to the broker. Single "
                "ones are ordinary at restarts. A steady row of them: the log of the gateway says the other side's "
                "words.",
                "数据库拒绝或未应答的写入，以及与代理断开的连接。重启时偶发属正常。持续出现：网关日志给出对方的原话。",
            ),
            [
                growth("sink_failures", "database", alias="$col $tag_gateway"),
                growth("link_failures", "broker", alias="$col $tag_gateway"),
            ],
            fields=words("gateway", {"database": Text("database", "数据库"), "broker": Text("broker", "消息代理")}),
            unit="short",
            interval=INTERVAL,
            minimum=0,
        ),
    ]


def store(pen: Pen) -> list[Any]:
    """Return the panels of spool, database and books."""
    return [
        pen.timeseries(
            Text("Frames in the spool", "缓存中的帧"),
            Text(
                "Frames that are acknowledged and not yet in the database. Beyond the red line for five minutes an "
                "alert is sent. A saw tooth is ordinary; a slope is a database that is too slow.",
                "已确认但尚未写入数据库的帧。超过红线五分钟会告警。锯齿状属正常；持续上升说明数据库太慢。",
            ),
            [course('last("spool_frames")', "spool_frames", alias="$tag_gateway")],
            unit=unit_by_name("spool_frames"),
            thresholds=steps((50_000, RED)),
            interval=INTERVAL,
            minimum=0,
            width=8,
        ),
        pen.timeseries(
            Text("Oldest frame in the spool", "缓存中最早的帧"),
            Text(
                "How old the oldest waiting frame is: by so much boards are behind. Red from a quarter of an hour "
                "on: look at sink latency and failures.",
                "等待中最早一帧的时长，即面板的滞后程度。一刻钟以上变红：请查看写入延迟和失败次数。",
            ),
            [course('max("spool_oldest_s")', "spool_oldest_s", alias="$tag_gateway")],
            unit=unit_by_name("spool_oldest_s"),
            thresholds=steps((60, YELLOW), (900, RED)),
            interval=INTERVAL,
            minimum=0,
            width=8,
        ),
        pen.timeseries(
            Text("Share of the spool's limit", "缓存占用率"),
            Text(
                "At 100 % the gateway stops acknowledging, and nodes hold their data. Red: mend the database now, "
                "or give the spool more room (`spool.limit_bytes`).",
                "达到 100 % 时网关停止确认，由节点保存数据。变红：立即修复数据库，或增大缓存（`spool.limit_bytes`）。",
            ),
            [course('max("spool_bytes") / max("spool_limit_bytes")', "share", alias="$tag_gateway")],
            unit=unit_by_name("share"),
            thresholds=steps((0.5, YELLOW), (0.8, RED)),
            interval=INTERVAL,
            minimum=0,
            maximum=1,
            width=8,
        ),
        pen.timeseries(
            Text("Time to write a batch", "批量写入耗时"),
            Text(
                "How long the database takes for a batch, mean and longest. The gateway makes batches smaller when "
                "it is slow. Red, five seconds: disk or memory of the database; too many series.",
                "数据库写入一批数据的平均与最长耗时。变慢时网关会减小批量。五秒以上变红：检查数据库的磁盘、内存或序"
                "列数。",
            ),
            [
                course('mean("sink_write_ms_mean")', "mean", alias="$col $tag_gateway"),
                course('max("sink_write_ms_max")', "longest", alias="$col $tag_gateway"),
            ],
            fields=words("gateway", {"mean": Text("mean", "平均"), "longest": Text("longest", "最长")}),
            unit=unit_by_name("sink_write_ms"),
            thresholds=steps((1000, YELLOW), (5000, RED)),
            interval=INTERVAL,
            minimum=0,
            width=8,
        ),
        pen.timeseries(
            Text("Battery books due", "待更新的电池账册"),
            Text(
                "Hours of modules that have to be derived again. It rises with late data and falls within minutes. "
                "Red: passports and stays are behind; the gateway's log says which module's rows do not survive a "
                "formula.",
                "需要重新推导的模块小时数。补传数据时上升，数分钟内下降。变红：护照与停留记录滞后；网关日志会指出无"
                "法计算的模块。",
            ),
            [course('last("books_due")', "books_due", alias="$tag_gateway")],
            unit="short",
            thresholds=steps((5000, YELLOW), (100_000, RED)),
            interval=INTERVAL,
            minimum=0,
            width=8,
        ),
        pen.timeseries(
            Text("Books are behind", "账册滞后"),
            Text(
                "How long the oldest hour has been due. Red, an hour: the keeper has too little processor time "
                "(`battery.share`) or the database is slow to answer.",
                "最早一个待推导小时的等待时长。一小时以上变红：账册线程的处理器份额太小（`battery.share`），或数据"
                "库应答太慢。",
            ),
            [course('max("books_behind_s")', "books_behind_s", alias="$tag_gateway")],
            unit=unit_by_name("books_behind_s"),
            thresholds=steps((600, ORANGE), (3600, RED)),
            interval=INTERVAL,
            minimum=0,
            width=8,
        ),
    ]
