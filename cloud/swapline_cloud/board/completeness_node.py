"""What the board "Data completeness" shows of nodes: who is silent, backlogs, clocks, buses, links."""

from typing import Any

from swapline_cloud.query import Query, courses, ending, growth, history, select
from swapline_cloud.rollup import LAST
from swapline_cloud.text import Text

from .completeness_query import HERE
from .field import Field, words
from .pen import Pen
from .shared import TO_STATION, TO_VAN, time_field
from .unit import GREEN, ORANGE, RED, YELLOW, steps, unit_of
from .word import states

_BY: dict[str, Any] = {"where": HERE, "by": ["node"]}
_ONE: dict[str, Any] = {**_BY, "alias": "$tag_node"}


def draw(pen: Pen) -> list[Any]:
    """Return the panels."""
    return [_table(pen), *_backlog(pen), *_bus(pen), *_link(pen)]


def _table(pen: Pen) -> Any:
    names = {
        "backlog_frames": Text("Backlog", "积压"),
        "frames_dropped": Text("Dropped", "丢弃"),
        "clock_quality": Text("Clock", "时钟"),
        "safe_mode": Text("Safe mode", "安全模式"),
        "journal_used_bytes": Text("Journal", "日志占用"),
        "journal_limit_bytes": Text("of", "上限"),
        "rssi_dbm": Text("Signal", "信号"),
        "uptime_s": Text("Up", "运行时长"),
    }
    others = ", ".join(f'"{name}"' for name in names if name != "uptime_s")
    newest = select(
        f'last("uptime_s") AS "uptime_s", {others}', "node", where=HERE, by=["fleet", "node"], within=ending("1d")
    )
    fields = [
        Field("node", Text("Node", "节点"), links=(TO_VAN, TO_STATION)),
        time_field(Text("Last heard", "最后数据"), is_age=True),
    ]
    for name, title in names.items():
        named = name in ("clock_quality", "safe_mode")
        fields.append(
            Field(
                name,
                title,
                unit_of("node", name),
                steps((1000, YELLOW), (10_000, RED)) if name == "backlog_frames" else (),
                states("node", name) if named else None,
                is_colored=named or name == "backlog_frames",
            )
        )
    return pen.table(
        Text("Nodes, the most silent first", "节点（最久无数据者在前）"),
        Text(
            "The newest row of each node within a day of the range's end. Not heard for ten minutes: garage, "
            "tunnel, no power or no SIM card. Safe mode: its configuration is bad; it stays reachable. Clock "
            '"none": its rows wait for a time.',
            "各节点在时间范围结束前一天内的最新数据。十分钟无数据：车库、隧道、断电或 SIM 卡问题。安全模式：配置有"
            "误但仍可连接。时钟“无”：其数据在等待校时。",
        ),
        [Query(newest, is_table=True)],
        fields=[*fields, Field("fleet", Text("Fleet", "车队"), width=100)],
        sort="Time",
        width=24,
        height=8,
    )


def _backlog(pen: Pen) -> list[Any]:
    return [
        pen.timeseries(
            Text("Backlog of nodes", "各节点积压"),
            Text(
                "Frames that each node keeps until they are acknowledged. It rises while there is no link and "
                "falls afterwards. Rising with a link: the gateway does not acknowledge, or the link carries too "
                "little.",
                "各节点等待确认的帧数。无链路时上升，恢复后下降。有链路仍上升：网关未确认或带宽不足。",
            ),
            history("node", "backlog_frames", **_ONE),
            unit=unit_of("node", "backlog_frames"),
            thresholds=steps((10_000, RED)),
            minimum=0,
            width=8,
        ),
        pen.bars(
            Text("Frames that nodes dropped", "节点丢弃的帧"),
            Text(
                "A full journal drops the oldest routine frames first, never alarms before them. Any at all: the "
                "link was away for longer than the journal lasts; enlarge it, or mend the link.",
                "日志写满时先丢弃最旧的常规帧，报警最后。一旦出现：链路中断超过日志容量，请增大日志或修复链路。",
            ),
            growth("node", "frames_dropped", **_ONE),
            unit=unit_of("node", "frames_dropped"),
            thresholds=steps((1, RED)),
            minimum=0,
            width=8,
        ),
        pen.timeline(
            Text("Where nodes have their time from", "节点时间来源"),
            Text(
                "GNSS and NTP are exact, gateway is good to some seconds, estimated is a clock that ran on without "
                "a source. Red, none: the node's rows wait until it knows a time; look at its antenna or its link.",
                "GNSS 与 NTP 精确；网关时间误差数秒；估计为无来源自走时钟。变红（无）：数据等待校时，请检查天线或链"
                "路。",
            ),
            history("node", "clock_quality", aggregate=LAST, **_ONE),
            states=states("node", "clock_quality"),
            width=8,
        ),
    ]


def _bus(pen: Pen) -> list[Any]:
    errors = {
        "timeouts": "non_negative_difference({bus_timeouts})",
        "checksum": "non_negative_difference({bus_checksum_errors})",
        "protocol": "non_negative_difference({bus_protocol_errors})",
    }
    names = {
        "timeouts": Text("timeouts", "超时"),
        "checksum": Text("checksum", "校验错误"),
        "protocol": Text("protocol", "协议错误"),
    }
    return [
        pen.bars(
            Text("Bus errors of nodes", "节点总线错误"),
            Text(
                "Serial devices that did not answer, or whose answer was damaged or nonsense. Timeouts of one bay: "
                "it is empty. Many checksum errors: plug, screen, termination; see docs/bus-faults.md.",
                "串口设备无应答、应答损坏或无意义。单个电池位超时：该位为空。校验错误多：检查插头、屏蔽与终端电阻，"
                "见 docs/bus-faults.md。",
            ),
            courses("node", errors, aggregate=LAST, alias="$col $tag_node", **_BY),
            fields=words("node", names),
            unit=unit_of("node", "bus_timeouts"),
            minimum=0,
            width=8,
        ),
        pen.bars(
            Text("Values that cannot be true", "异常值"),
            Text(
                'Readings that a device gave beyond what is possible; they are stored as "no value". A steady row '
                "of them from one node: a sensor is broken, or the wrong driver is configured.",
                "设备给出的不可能的读数，按“无值”存储。某节点持续出现：传感器损坏或驱动配置错误。",
            ),
            growth("node", "values_abnormal", **_ONE),
            unit=unit_of("node", "values_abnormal"),
            minimum=0,
            width=8,
        ),
        pen.bars(
            Text("Frames that nodes sent again", "节点重发的帧"),
            Text(
                "Not acknowledged in time, so sent again; nothing is stored twice. Much of it costs traffic: the "
                "link is poor, or the gateway is slow to acknowledge (its disk).",
                "未及时确认而重发，不会重复存储，但会增加流量：链路差，或网关确认慢（磁盘）。",
            ),
            growth("node", "frames_sent_again", **_ONE),
            unit=unit_of("node", "frames_sent_again"),
            minimum=0,
            width=8,
        ),
    ]


def _link(pen: Pen) -> list[Any]:
    return [
        pen.timeseries(
            Text("Round trip to the gateway", "到网关的往返时间"),
            Text(
                "From a frame's sending until its acknowledgement. All nodes alike and high: the gateway's disk. "
                "One node: its link. Red, five seconds: alarms are late by as much.",
                "从发送到确认的时间。所有节点都高：网关磁盘。单个节点：其链路。五秒以上变红：报警也会同样延迟。",
            ),
            history("node", "link_rtt_ms", **_ONE),
            unit=unit_of("node", "link_rtt_ms"),
            thresholds=steps((1000, YELLOW), (5000, RED)),
            minimum=0,
            width=8,
        ),
        pen.timeseries(
            Text("Signal strength", "信号强度"),
            Text(
                "As the radio says it. Below -100 dBm there is hardly a link: look at the antenna and its cable, "
                "if the place is not known for it.",
                "无线模块报告的强度。低于 -100 dBm 几乎无法通信：若非信号盲区，请检查天线及馈线。",
            ),
            history("node", "rssi_dbm", **_ONE),
            unit=unit_of("node", "rssi_dbm"),
            thresholds=steps((-100, ORANGE), (-90, YELLOW), (-80, GREEN), base=RED),
            width=8,
        ),
        pen.bars(
            Text("Failed connections", "连接失败次数"),
            Text(
                "Attempts of nodes to reach the broker that failed. Of many at once: broker or mobile network. Of "
                "one, again and again: certificate, password or SIM card.",
                "节点连接代理失败的次数。多个节点同时：代理或移动网络。单个节点反复：证书、密码或 SIM 卡。",
            ),
            growth("node", "link_failures", **_ONE),
            unit=unit_of("node", "link_failures"),
            minimum=0,
            width=8,
        ),
    ]
