"""What the board "Pipeline health" shows of what the gateway stands on: broker, process, disks, certificates."""

from typing import Any

from swapline_cloud.query import Query, ending, select
from swapline_cloud.text import Text

from .field import Field, words
from .pen import Pen
from .pipeline_query import GATEWAY, INTERVAL, course, growth, rate
from .shared import time_field
from .unit import GREEN, ORANGE, RED, YELLOW, steps, unit_by_name

_BROKER: dict[str, Any] = {"measurement": "broker", "by": ("gateway", "broker")}
_WAYS = {"in": Text("in", "接收"), "out": Text("out", "发送")}
_FREE_STEPS = steps((0.1, ORANGE), (0.2, YELLOW), (0.3, GREEN), base=RED)
_DAYS_STEPS = steps((7, ORANGE), (21, YELLOW), (45, GREEN), base=RED)


def broker(pen: Pen) -> list[Any]:
    """Return the panels of what the broker tells of itself."""
    return [
        pen.timeseries(
            Text("Clients of the broker", "代理的客户端数"),
            Text(
                "Nodes, gateways and others that are connected. A sudden fall of many: the broker's network, its "
                "limit of connections or its certificate. One less is a van in a tunnel.",
                "已连接的节点、网关及其他客户端。突然大量下降：检查代理的网络、连接数上限或证书。少一个只是车辆进了"
                "隧道。",
            ),
            [course('last("clients_connected")', "clients", alias="$tag_broker $tag_gateway", **_BROKER)],
            unit="short",
            interval=INTERVAL,
            minimum=0,
            width=8,
        ),
        pen.timeseries(
            Text("Messages through the broker", "代理的消息量"),
            Text(
                "In and out, each second. Out far above in: somebody subscribes to everything. In without out: no "
                "gateway is subscribed; look at broker connected above.",
                "每秒收发的消息数。发送远多于接收：有客户端订阅了全部主题。只收不发：没有网关订阅，请查看上方“已连"
                "接消息代理”。",
            ),
            [
                rate("messages_received", "in", alias="$col $tag_broker", **_BROKER),
                rate("messages_sent", "out", alias="$col $tag_broker", **_BROKER),
            ],
            fields=words("broker", _WAYS),
            unit="suffix: msg/s",
            interval=INTERVAL,
            minimum=0,
            width=8,
        ),
        pen.timeseries(
            Text("Bytes through the broker", "代理的流量"),
            Text(
                "In and out, each second: what the mobile contracts carry. Much more than the fleet's usual: "
                "backlog of many nodes after an outage, or a node that sends again and again.",
                "每秒收发的字节数，即移动网络流量。明显高于平时：故障后多个节点补传，或某节点反复重发。",
            ),
            [
                rate("bytes_received", "in", alias="$col $tag_broker", **_BROKER),
                rate("bytes_sent", "out", alias="$col $tag_broker", **_BROKER),
            ],
            fields=words("broker", _WAYS),
            unit="Bps",
            interval=INTERVAL,
            minimum=0,
            width=8,
        ),
        pen.bars(
            Text("Messages that the broker dropped", "代理丢弃的消息"),
            Text(
                "Nothing is lost by it: nodes send again what was not acknowledged. But each one costs traffic. "
                "Any: the gateway is too slow for its queue; raise `max_queued_messages`, or add a gateway.",
                "不会丢失数据：未确认的消息会由节点重发，但会增加流量。一旦出现：网关消费太慢，请调大 "
                "`max_queued_messages` 或增加网关。",
            ),
            [growth("messages_dropped", "dropped", alias="$tag_broker", **_BROKER)],
            unit="short",
            thresholds=steps((1, RED)),
            interval=INTERVAL,
            minimum=0,
        ),
        pen.timeseries(
            Text("Memory of the broker", "代理的内存"),
            Text(
                "Its heap. Growing without end: messages wait for a client that does not come back, with a session "
                "that never expires; look at stored messages and remove the session.",
                "代理的堆内存。持续增长：有消息在等待不再上线且会话不过期的客户端；请查看存储的消息并清除该会话。",
            ),
            [course('last("heap_bytes")', "heap_bytes", alias="$tag_broker", **_BROKER)],
            unit=unit_by_name("heap_bytes"),
            interval=INTERVAL,
            minimum=0,
            width=6,
        ),
        pen.timeseries(
            Text("Messages that the broker keeps", "代理保存的消息"),
            Text(
                "Retained states and what waits for clients. It follows the size of the fleet. A steady rise with "
                "the same fleet: a client with a lasting session is away.",
                "保留消息与等待客户端的消息数，与车队规模相当。车队不变却持续上升：有持久会话的客户端离线。",
            ),
            [course('last("messages_stored")', "messages_stored", alias="$tag_broker", **_BROKER)],
            unit="short",
            interval=INTERVAL,
            minimum=0,
            width=6,
        ),
    ]


def place(pen: Pen) -> list[Any]:
    """Return the panels of process, disks and certificates."""
    return [
        pen.timeseries(
            Text("Memory of the gateway", "网关内存"),
            Text(
                "Resident memory. It follows the number of nodes. A rise over days without more nodes: restart the "
                "gateway (nothing is lost) and tell the developers.",
                "常驻内存，随节点数变化。节点数不变却连日上升：重启网关（不会丢失数据）并告知开发者。",
            ),
            [course('last("memory_bytes")', "memory_bytes", alias="$tag_gateway")],
            unit=unit_by_name("memory_bytes"),
            interval=INTERVAL,
            minimum=0,
            width=8,
        ),
        pen.timeseries(
            Text("Processor of the gateway", "网关处理器"),
            Text(
                "Cores in use: 1 is one whole core. Steadily above 0.8: one gateway is nearly all that it can be; "
                "add another with the same `share_group`.",
                "占用的处理器核数：1 为一个整核。持续高于 0.8：单个网关接近极限，请用相同的 `share_group` 增加网关。",
            ),
            [rate("cpu_s", "cores", alias="$tag_gateway")],
            unit="suffix: cores",
            thresholds=steps((0.8, YELLOW), (1.5, RED)),
            interval=INTERVAL,
            minimum=0,
            width=8,
        ),
        pen.timeseries(
            Text("Runs since", "运行时长"),
            Text(
                "A fall to zero is a restart. Many in a row: it is killed for memory or ends with an error; "
                "`journalctl -u swapline-gateway` says which, exit codes are in docs/gateway.md.",
                "降为零表示重启。连续多次：因内存被终止或出错退出；`journalctl -u swapline-gateway` 给出原因，退出"
                "码见 docs/gateway.md。",
            ),
            [course('last("uptime_s")', "uptime_s", alias="$tag_gateway")],
            unit=unit_by_name("uptime_s"),
            interval=INTERVAL,
            minimum=0,
            width=8,
        ),
        _disks(pen),
        pen.timeseries(
            Text("Free share of disks", "磁盘余量变化"),
            Text(
                "A line that falls: extend it to zero by eye, that is the day when the disk is full. Red below 10 "
                "%: make room or add space.",
                "下降的曲线延长到零即为写满的日期。低于 10 % 变红：请清理或扩容。",
            ),
            [
                course(
                    'min("free_share")',
                    "free_share",
                    measurement="disk",
                    by=("gateway", "path"),
                    alias="$tag_path $tag_gateway",
                )
            ],
            unit=unit_by_name("free_share"),
            thresholds=_FREE_STEPS,
            interval="2m",
            minimum=0,
            maximum=1,
            width=8,
        ),
        _certificates(pen),
    ]


def _disks(pen: Pen) -> Any:
    what = 'last("free_share") AS "free_share", "free_bytes", "total_bytes"'
    return pen.table(
        Text("Disks", "磁盘"),
        Text(
            "The spool's folder and those named in `[vitals] disks`, as of the last minutes. Red, below 10 %: "
            "logs, files named `.damaged-`, or a larger disk. Below 48 MiB nothing more is acknowledged.",
            "缓存目录及 `[vitals] disks` 中所列目录的最新状态。低于 10 % 变红：清理日志、名为 `.damaged-` 的文件，"
            "或更换更大的磁盘。低于 48 MiB 时不再确认。",
        ),
        [Query(select(what, "disk", where=[GATEWAY], by=["gateway", "path"], within=ending("10m")), is_table=True)],
        fields=[
            Field("gateway", Text("Gateway", "网关"), width=140),
            Field("path", Text("Folder", "目录")),
            Field(
                "free_share", Text("Free", "剩余"), unit_by_name("free_share"), _FREE_STEPS, width=80, is_colored=True
            ),
            Field("free_bytes", Text("Free space", "剩余空间"), unit_by_name("free_bytes"), width=100),
            Field("total_bytes", Text("Size", "容量"), unit_by_name("total_bytes"), width=100),
        ],
        sort="free_share",
        width=8,
    )


def _certificates(pen: Pen) -> Any:
    what = 'last("days_left") AS "days_left"'
    return pen.table(
        Text("Certificates", "证书"),
        Text(
            "Days until each expires: the broker's as its connection shows it, the gateway's own (client), the "
            "CA's. Red: renew it now, afterwards nobody connects. The CA's: nodes need the new one before.",
            "各证书的剩余天数：代理的（连接中所示）、网关自身的（client）、CA 的。变红：立即更新，到期后无法连接。"
            "CA 证书：节点须事先写入新证书。",
        ),
        [
            Query(
                select(what, "certificate", where=[GATEWAY], by=["gateway", "name"], within=ending("3h")), is_table=True
            )
        ],
        fields=[
            Field("gateway", Text("Gateway", "网关"), width=140),
            Field("name", Text("Certificate", "证书")),
            Field(
                "days_left",
                Text("Days left", "剩余天数"),
                "suffix: d",
                _DAYS_STEPS,
                width=100,
                decimals=0,
                is_colored=True,
            ),
            time_field(Text("Looked at", "检查时间"), is_age=True),
        ],
        sort="days_left",
        none_text=Text("no TLS", "未使用 TLS"),
        width=8,
    )
