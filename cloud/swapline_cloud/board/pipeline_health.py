"""The board "Pipeline health": gateways, their way to the database and the broker, disks, certificates."""

from typing import Any

from swapline_cloud.query import Query, of
from swapline_cloud.text import Text

from . import pipeline_flow, pipeline_place
from .field import Field, States
from .pen import Pen
from .pipeline_query import latest, silent
from .sdk import dashboard
from .shared import ANY_IS_RED
from .unit import GREEN, GREY, ORANGE, RED, YELLOW, steps, unit_by_name

NAME = "pipeline-health"
TITLE = Text("Pipeline health", "数据链路健康")
DESCRIPTION = Text(
    "From the broker through the gateways into the database: what flows, what waits, what is refused, and how long "
    "disks and certificates last.",
    "从消息代理经网关到数据库：数据流量、等待与被拒的数据，以及磁盘和证书的余量。",
)
WORKS: States = {0: (Text("no", "否"), RED), 1: (Text("yes", "是"), GREEN)}
BACKLOG_STEPS = steps((10_000, YELLOW), (50_000, RED))
AGE_STEPS = steps((60, YELLOW), (900, RED))
DISK_STEPS = steps((0.1, ORANGE), (0.2, YELLOW), (0.3, GREEN), base=RED)


def draw(pen: Pen) -> dashboard.Dashboard:
    """Return the board."""
    gateways = pen.variable(
        "gateway",
        Text("Gateway", "网关"),
        'SHOW TAG VALUES FROM "gateway" WITH KEY = "gateway"',
        is_multi=True,
        has_all=True,
    )
    board = pen.board(NAME, TITLE, DESCRIPTION, variables=[gateways])
    for panel in _figures(pen):
        board = board.with_panel(panel)
    for title, panels in (
        (Text("What flows", "数据流"), pipeline_flow.flow(pen)),
        (Text("Spool and database", "缓存与数据库"), pipeline_flow.store(pen)),
        (Text("Broker", "消息代理"), pipeline_place.broker(pen)),
        (Text("Process, disks, certificates", "进程、磁盘与证书"), pipeline_place.place(pen)),
    ):
        board = board.with_row(pen.row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return board


def _figures(pen: Pen) -> list[Any]:
    return [
        _gateways(pen),
        _state(
            pen,
            "sink_working",
            Text("Database takes data", "数据库接收数据"),
            Text(
                "No: the last batch of at least one gateway could not be stored. Its log and `/healthz` have the "
                "database's words: token, disk, bucket. Frames wait in the spool, then in the nodes.",
                "“否”：至少一个网关的上一批数据未能写入。网关日志和 `/healthz` 给出数据库原话：令牌、磁盘或存储桶。"
                "数据先存于缓存，再存于节点。",
            ),
        ),
        _state(
            pen,
            "broker_connected",
            Text("Broker connected", "已连接消息代理"),
            Text(
                "No: at least one gateway has no connection to the broker. Does the broker run, is its certificate "
                "valid, was a password changed? Nodes keep their data and send it later.",
                "“否”：至少一个网关未连接消息代理。请检查代理是否运行、证书是否有效、密码是否更改。节点保存数据，稍"
                "后补传。",
            ),
        ),
        _worst(
            pen,
            "spool_frames",
            "sum",
            Text("Frames that wait", "等待写入的帧"),
            Text(
                "In the spools of all gateways. Red: the database is slower than the fleet. After an outage it "
                "falls by itself; if it does not, look at the sink's latency below, or add a gateway.",
                "所有网关缓存中的帧数。变红：数据库慢于车队。故障后会自行下降；若不下降，请查看下方写入延迟，或增加"
                "网关。",
            ),
            thresholds=BACKLOG_STEPS,
        ),
        _worst(
            pen,
            "spool_oldest_s",
            "max",
            Text("Oldest waits for", "最早一帧已等待"),
            Text(
                "How long the oldest frame has waited for the database. Red, a quarter of an hour: boards show the "
                "past. Look at the database first.",
                "最早一帧等待写入数据库的时长。变红（一刻钟以上）：面板显示的是过去的数据。请先检查数据库。",
            ),
            thresholds=AGE_STEPS,
        ),
        _worst(
            pen,
            "quarantined",
            "sum",
            Text("In quarantine", "隔离的帧"),
            Text(
                "Frames that could not be read or stored, since the gateways' start. Not zero: `swapline "
                "quarantine list` says why, `replay` takes them up again once the cause is mended.",
                "网关启动以来无法读取或写入的帧数。不为零：用 `swapline quarantine list` 查看原因，修复后用 "
                "`replay` 重新处理。",
            ),
            thresholds=steps((1, YELLOW), (1000, RED)),
        ),
        _worst(
            pen,
            "lost",
            "sum",
            Text("Lost by gateways", "网关丢失"),
            Text(
                "Acknowledged frames that a damaged spool or database cost, since the gateways' start. Red: "
                "`swapline missing` names them; change the disk.",
                "网关启动以来因缓存或数据库损坏而丢失的已确认帧。变红：用 `swapline missing` 查看，并更换磁盘。",
            ),
            thresholds=steps((1, RED)),
        ),
        _worst(
            pen,
            "free_share",
            "min",
            Text("Least free disk", "最小磁盘余量"),
            Text(
                "The fullest disk of all gateways. Red: below 48 MiB the gateway acknowledges nothing more, and a "
                "database on a full disk takes nothing. Make room or add space.",
                "所有网关中最满的磁盘。变红：低于 48 MiB 时网关不再确认，磁盘写满的数据库不再接收数据。请清理或扩容。",
            ),
            thresholds=DISK_STEPS,
            measurement="disk",
            by=("gateway", "path"),
        ),
    ]


def _gateways(pen: Pen) -> Any:
    writing = of(latest("ended", span="2m"), 'count("ended") AS "writing"', where=['"ended" = 0'])
    ended = of(latest("ended", span="1d"), 'count("ended") AS "ended"', where=['"ended" = 1'])
    return pen.stat(
        Text("Gateways", "网关"),
        Text(
            "Writing: their own figures came in the range's last two minutes. Silent (red): heard within a day, and "
            "said no goodbye; does the database answer, does the gateway run (`systemctl status swapline-gateway`)? "
            "Ended: stopped on purpose within a day. Nodes keep their data meanwhile.",
            "写入中：时间范围最后两分钟内有自身指标。静默（红）：一天内有数据且未正常退出；请检查数据库是否应答、网关是否运行"
            "（`systemctl status swapline-gateway`）。已停止：一天内正常停止。期间数据保存在节点中。",
        ),
        [Query(statement, is_table=True) for statement in (writing, silent(), ended)],
        unit="short",
        thresholds=steps((1, GREEN), base=RED),
        fields=[
            Field("writing", Text("Writing", "写入中")),
            Field("silent", Text("Silent", "静默"), thresholds=ANY_IS_RED),
            Field("ended", Text("Ended", "已停止"), thresholds=steps((0, GREY), base=GREY)),
        ],
        none_text=Text("none writes", "没有网关写入"),
        width=3,
        height=4,
    )


def _state(pen: Pen, field: str, title: Text, description: Text) -> Any:
    return pen.stat(
        title,
        description,
        [Query(of(latest(field), f'min("{field}") AS "{field}"'), is_table=True)],
        states=WORKS,
        width=3,
        height=4,
    )


def _worst(
    pen: Pen,
    field: str,
    how: str,
    title: Text,
    description: Text,
    *,
    measurement: str = "gateway",
    by: tuple[str, ...] = ("gateway",),
    **more: Any,
) -> Any:
    newest = latest(field, measurement=measurement, by=by)
    return pen.stat(
        title,
        description,
        [Query(of(newest, f'{how}("{field}") AS "{field}"'), is_table=True)],
        unit=unit_by_name(field),
        width=3,
        height=4,
        **more,
    )
