"""What boards of one node show of its alarms, its events, and the telemetry unit itself."""

from typing import Any

from swapline_cloud.query import Query, growth, history, select
from swapline_cloud.rollup import FOREVER, LAST, MAXIMUM, MINIMUM
from swapline_cloud.text import Text

from . import word
from .field import Field
from .pen import Pen
from .shared import HERE, TO_MODULE, alarm_fields, standing_table, time_field
from .unit import BLUE, GREEN, ORANGE, RED, YELLOW, steps, unit_of


def alarms(pen: Pen) -> list[Any]:
    """Return the panels of alarms and events."""
    return [
        standing_table(pen, *HERE, fields=alarm_fields(has_node=False), width=12),
        _alarm_rows(pen),
        _events(pen),
        _acknowledgements(pen),
    ]


def _alarm_rows(pen: Pen) -> Any:
    rows = select(
        '"level", "code", "bay", "module"', "alarm", policy=FOREVER, where=HERE, tail="ORDER BY time DESC LIMIT 500"
    )
    return pen.table(
        Text("Alarms told", "报警记录"),
        Text(
            "Every row of the shown range: raised, escalated (a higher level), cleared; the newest 500. The same one "
            "again and again: its cause was not mended; look at what was done after the first.",
            "所选范围内的全部记录（触发、升级、解除），最新 500 条。同一报警反复出现：原因未排除，"
            "请查看首次之后做了什么。",
        ),
        [Query(rows, is_table=True)],
        fields=[time_field(Text("Time", "时间")), *alarm_fields(has_node=False)],
        none_text=Text("no alarm in this time", "该时段没有报警"),
        width=12,
    )


def _events(pen: Pen) -> Any:
    what = '"code", "bay", "module", "soc_pct", "soh_pct", "count", "duration_s", "request_id", "reason"'
    rows = select(what, "event", policy=FOREVER, where=HERE, tail="ORDER BY time DESC LIMIT 500")
    return pen.table(
        Text("Events", "事件"),
        Text(
            "Boots, modules put in and taken out, losses, clock steps; the newest 500. Boots again and again: see the "
            "reset cause below. Frames dropped: data of that time is gone; Data completeness says how much.",
            "启动、模块装入取出、数据丢失、时钟跳变，最新 500 条。反复启动：查看下方复位原因。帧被丢弃："
            "该时段数据已丢失，见“数据完整性”。",
        ),
        [Query(rows, is_table=True)],
        fields=[
            time_field(Text("Time", "时间")),
            Field("code", Text("Event", "事件"), states=word.states("event", "code"), width=130),
            Field("bay", Text("Bay", "电池位"), width=70),
            Field("module", Text("Module", "电池模块"), links=(TO_MODULE,), width=240),
            Field("soc_pct", Text("Charge", "电量"), unit_of("event", "soc_pct"), width=80, decimals=0),
            Field("count", Text("Count", "数量"), "short", width=80),
            Field("duration_s", Text("Duration", "时长"), unit_of("event", "duration_s"), width=110),
            Field("request_id", Text("Swap request", "换电请求"), "none", width=110),
        ],
        none_text=Text("no event in this time", "该时段没有事件"),
        width=12,
    )


def _acknowledgements(pen: Pen) -> Any:
    rows = select(
        '"code", "bay", "said_by", "note", "module"',
        "acknowledgement",
        policy=FOREVER,
        where=[*HERE, '"is_void" = false'],
    )
    return pen.table(
        Text("Acknowledged alarms", "已确认的报警"),
        Text(
            "Who has seen an alarm that was raised in the shown range, and what they noted. An alarm of level 3 that "
            "stands and is not here: nobody has taken care of it yet; acknowledge in the console.",
            "所选范围内触发的报警由谁确认、备注为何。未解除的 3 级报警若不在此列：尚无人处理，请在控制台确认。",
        ),
        [Query(rows, is_table=True)],
        fields=[
            time_field(Text("Raised", "触发时间")),
            Field("code", Text("Alarm", "报警"), states=word.states("alarm", "code")),
            Field("bay", Text("Bay", "电池位"), width=70),
            Field("said_by", Text("Seen by", "确认人"), width=140),
            Field("note", Text("Note", "备注")),
        ],
        none_text=Text("none acknowledged in this time", "该时段没有确认记录"),
        width=12,
    )


def node(pen: Pen) -> list[Any]:
    """Return the panels of the telemetry unit."""
    return [
        _line(
            pen,
            Text("Backlog", "积压"),
            Text(
                "Sealed frames that the gateway has not acknowledged. Rises while the link is away and falls after it. "
                "Red from 20,000 on: the journal may fill up; bring the node to a good network.",
                "尚未被网关确认的帧。断网时上升、恢复后下降。超过 20000 变红：日志可能写满，请将节点移到信号良好处。",
            ),
            "backlog_frames",
            MAXIMUM,
            thresholds=steps((2000, YELLOW), (20_000, RED)),
        ),
        _line(
            pen,
            Text("Link round trip", "链路往返时延"),
            Text(
                "From a publish to the broker's answer. Red from 2 s on: alarms come late; look at the radio signal"
                " beside.",
                "从发布到消息代理应答的时间。超过 2 秒变红：报警会延迟，请查看旁边的信号强度。",
            ),
            "link_rtt_ms",
            MAXIMUM,
            thresholds=steps((500, YELLOW), (2000, RED)),
        ),
        _line(
            pen,
            Text("Radio signal", "无线信号"),
            Text(
                "Of boards with a radio. Below -85 dBm (red) the link becomes slow: antenna, or a place without"
                " coverage.",
                "带无线的节点。低于 -85 dBm（红）链路变慢：检查天线或该地点覆盖。",
            ),
            "rssi_dbm",
            MINIMUM,
            thresholds=steps((-85, YELLOW), (-75, GREEN), base=RED),
            none_text=Text("this node has no radio of its own", "该节点自身没有无线"),
        ),
        _line(
            pen,
            Text("Longest pause", "最长停顿"),
            Text(
                "Longest time that the node's tasks waited for each other. Red from 1 s on again and again: it has too "
                "much to do; fewer devices or slower polls.",
                "节点任务互相等待的最长时间。经常超过 1 秒（红）：负荷过高，请减少设备或降低轮询频率。",
            ),
            "loop_lag_ms_max",
            MAXIMUM,
            thresholds=steps((250, YELLOW), (1000, RED)),
        ),
        _line(
            pen,
            Text("Free heap", "剩余堆内存"),
            Text(
                "Left after a collection. Red below 16 KiB: a reset for lack of memory is near. Falling from day to "
                "day: a leak; report it with this chart.",
                "回收后的剩余内存。低于 16 KiB 变红：即将因内存不足复位。逐日下降：内存泄漏，请附图上报。",
            ),
            "heap_free_bytes",
            MINIMUM,
            thresholds=steps((16_384, YELLOW), (32_768, GREEN), base=RED),
        ),
        _growth(pen),
        _strip(
            pen,
            Text("Clock quality", "时钟质量"),
            Text(
                "Where the node's time comes from. None or estimated (red, orange) for long: no sky and no network "
                "since the start; its readings' times may be off.",
                "节点时间来源。长时间为无或估计（红、橙）：启动后既无卫星也无网络，读数时间可能有偏差。",
            ),
            "clock_quality",
        ),
        _strip(
            pen,
            Text("Last reset cause", "最近复位原因"),
            Text(
                "Why the node started last. Watchdog, brown-out or no memory again and again (red, orange): change its "
                "supply, or report it.",
                "节点最近一次启动原因。反复出现看门狗、欠压或内存不足（红、橙）：检查供电或上报。",
            ),
            "reset_cause",
        ),
        _strip(
            pen,
            Text("Safe mode", "安全模式"),
            Text(
                "Yes (red): its configuration was refused, it reads no device; send a good one.",
                "是（红）：配置被拒绝，不读取任何设备；请下发正确配置。",
            ),
            "safe_mode",
        ),
    ]


def _growth(pen: Pen) -> Any:
    wanted = {
        "bus_timeouts": (Text("bus timeouts", "总线超时"), ORANGE),
        "bus_checksum_errors": (Text("bus checksum errors", "总线校验错误"), YELLOW),
        "link_failures": (Text("link failures", "链路失败"), BLUE),
        "frames_dropped": (Text("frames dropped", "丢弃的帧"), RED),
        "task_restarts": (Text("task restarts", "任务重启"), GREEN),
    }
    return pen.bars(
        Text("What went wrong", "异常计数"),
        Text(
            "Growth of the node's counters in each bar's time. Bus errors: a wire, shielding, termination. Dropped "
            "frames or task restarts: never ordinary; report them with this chart.",
            "每根柱对应时间内节点计数器的增长。总线错误：接线、屏蔽或终端电阻。丢帧或任务重启：均不正常，请附图上报。",
        ),
        [query for name in wanted for query in growth("node", name, where=HERE, alias=name)],
        unit="short",
        fields=[Field(name, title, color=color) for name, (title, color) in wanted.items()],
        interval="5m",
        minimum=0,
        width=8,
        height=7,
    )


def _line(
    pen: Pen, title: Text, description: Text, field: str, aggregate: str, *, thresholds: list[Any], **more: Any
) -> Any:
    return pen.timeseries(
        title,
        description,
        history("node", field, aggregate=aggregate, where=HERE, alias=field),
        unit=unit_of("node", field),
        thresholds=thresholds,
        fields=[Field(field, title, color=BLUE)],
        width=8,
        height=7,
        **more,
    )


def _strip(pen: Pen, title: Text, description: Text, field: str) -> Any:
    queries = history("node", field, aggregate=LAST, where=HERE, alias=field)
    states = word.states("node", field)
    return pen.timeline(title, description, queries, states=states, fields=[Field(field, title)], width=8, height=4)
