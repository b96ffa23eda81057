"""What the rules say to people: title, who and what in one line, and what to do.

`$labels` and `$values` are Grafana's: of the series, and of the questions' numbers B and E. The first lines may have
`{minutes}` and `{name}`, which the rules put in.
"""

from typing import NamedTuple

from swapline_cloud.text import Text


class Words(NamedTuple):
    """Texts of one rule."""

    title: Text
    summary: Text
    description: Text

    def fill(self, **words: Text) -> "Words":
        """Return the words with a text for each `{...}` in the summary, in each language."""
        english, chinese = self.summary
        for name, text in words.items():
            english = english.replace(f"{{{name}}}", text.en)
            chinese = chinese.replace(f"{{{name}}}", text.zh)
        return self._replace(summary=Text(english, chinese))


WORDS = {
    "node-silent": Words(
        Text("Node silent", "节点无数据"),
        Text(
            "{{ $labels.fleet }}/{{ $labels.node }} has told nothing for {minutes} minutes",
            "{{ $labels.fleet }}/{{ $labels.node }} 已有 {minutes} 分钟没有数据",
        ),
        Text(
            "Are others silent as well? Then look at broker and gateway first. Else: is the van in a garage or a "
            "tunnel, is its module out, is its SIM card blocked? Its rows are in its journal and come when it is "
            "back. A node that was taken out of service is no longer told of after a day.",
            "其他节点也没有数据吗？若是，请先检查消息代理和网关。否则：车辆是否在车库或隧道中、电池模块是否已取出、"
            "SIM 卡是否停用？数据保存在节点日志中，恢复后会补传。已停用的节点一天后不再告警。",
        ),
    ),
    "alarm-level-2": Words(
        Text("Alarm of level 2", "二级报警"),
        Text(
            "{name}, level 2: {{ $labels.node }}{{ if $labels.bay }}, bay {{ $labels.bay }}{{ end }}"
            "{{ if $labels.module }}, module {{ $labels.module }}{{ end }}",
            "{name}，二级报警：{{ $labels.node }}{{ if $labels.bay }}，{{ $labels.bay }} 号位{{ end }}"
            "{{ if $labels.module }}，电池模块 {{ $labels.module }}{{ end }}",
        ),
        Text(
            "Drive with restraint and bring the van to a station; do not give a module out of a slot that has "
            "one. The board shows the half minute before the alarm at full rate. It ends when the node says so.",
            "请限速行驶并将车辆开到换电站；仓位中有报警的电池模块不得换出。面板显示报警前半分钟的全速率数据。节点"
            "报告消除后结束。",
        ),
    ),
    "alarm-level-3": Words(
        Text("Alarm of level 3", "三级报警"),
        Text(
            "{name}, level 3: {{ $labels.node }}{{ if $labels.bay }}, bay {{ $labels.bay }}{{ end }}"
            "{{ if $labels.module }}, module {{ $labels.module }}{{ end }}",
            "{name}，三级报警：{{ $labels.node }}{{ if $labels.bay }}，{{ $labels.bay }} 号位{{ end }}"
            "{{ if $labels.module }}，电池模块 {{ $labels.module }}{{ end }}",
        ),
        Text(
            "Stop the van where it is safe, or switch the slot off, now. Smoke, fire or a suspected thermal "
            "runaway: nobody goes near, call the fire brigade. Then look at the board, and acknowledge the alarm "
            "in the console.",
            "立即将车辆停在安全处，或关闭该仓位。如有烟雾、火焰或疑似热失控：人员不得靠近，并呼叫消防。随后查看面"
            "板，并在控制台确认报警。",
        ),
    ),
    "module-lost": Words(
        Text("Module lost", "电池模块失联"),
        Text(
            "The module in bay {{ $labels.bay }} of {{ $labels.node }} does not answer any more",
            "{{ $labels.node }} 的 {{ $labels.bay }} 号位的电池模块不再应答",
        ),
        Text(
            "It cannot have left: the slot says occupied, or the van moves. Look at its plug and its BMS. A van: "
            "bring it to a station. A slot: do not give the module out.",
            "模块不可能已离开：仓位显示有模块，或车辆正在行驶。请检查其插头和 BMS。车辆：开到换电站。仓位：不要将"
            "该模块换出。",
        ),
    ),
    "module-near-empty": Words(
        Text("Module near empty, far from a station", "电池模块电量低且远离换电站"),
        Text(
            '{{ $labels.node }}: a module at {{ printf "%.0f" $values.B.Value }} %, the nearest station '
            '{{ printf "%.1f" $values.E.Value }} km away',
            '{{ $labels.node }}：有电池模块电量为 {{ printf "%.0f" $values.B.Value }} %，最近的换电站距离 '
            '{{ printf "%.1f" $values.E.Value }} km',
        ),
        Text(
            "Send the van to the nearest station now, slowly, without heating or air conditioning. If its range "
            "is less than the way: stop it where it can be fetched, and send a van with a module. A distance of "
            "20000 km says that no station is known.",
            "立即派车辆低速驶向最近的换电站，并关闭取暖和空调。如续航不足：将其停在便于救援处，并派车送去电池模块。"
            "距离显示为 20000 km 表示没有已知的换电站。",
        ),
    ),
    "station-not-ready": Words(
        Text("Station without a ready module", "换电站无可用电池模块"),
        Text(
            "{{ $labels.node }} has no module that is charged and free of alarms",
            "{{ $labels.node }} 没有已充好且无报警的电池模块",
        ),
        Text(
            "Send vans to another station. Are slots charging? Then wait for the first to reach 90 %. If not: "
            "look at chargers, grid and the modules' alarms on the station's board.",
            "请将车辆引导至其他换电站。仓位正在充电吗？若是，请等待首个模块达到 90 %。若否：请在换电站面板上检查"
            "充电机、电网和模块报警。",
        ),
    ),
    "data-gap": Words(
        Text("Data gap growing", "数据缺口扩大"),
        Text(
            '{{ $labels.node }}: {{ printf "%.0f" $values.B.Value }} frames have not come an hour and more after '
            "their time",
            '{{ $labels.node }}：有 {{ printf "%.0f" $values.B.Value }} 帧超过一小时仍未到达',
        ),
        Text(
            "Is the node's backlog falling? Then they are on their way: wait. Else `swapline missing --node` "
            "says which and why, and `swapline quarantine list` what could not be read. It ends when they have "
            "come, or when for three hours no more are missing.",
            "节点的积压在减少吗？若是，数据正在补传，请等待。否则用 `swapline missing --node` 查看缺失的帧及原因，"
            "用 `swapline quarantine list` 查看无法读取的帧。数据补齐或三小时内不再有新的缺失后结束。",
        ),
    ),
    "data-lost": Words(
        Text("Data lost", "数据丢失"),
        Text(
            '{{ $labels.node }} has given up data {{ printf "%.0f" $values.B.Value }} times within a day',
            '{{ $labels.node }} 一天内 {{ printf "%.0f" $values.B.Value }} 次放弃数据',
        ),
        Text(
            "What a node declares as lost does not come any more. Journal full: the link was away for too long, "
            "or carries too little. Journal damaged or formatted: change its flash. No memory: tell the "
            "developers. What power cuts cost, some seconds at every swap, is not counted here.",
            "节点声明丢失的数据不会再来。日志已满：链路中断太久或带宽不足。日志损坏或被格式化：请更换其闪存。内存"
            "不足：请告知开发者。断电造成的丢失（每次换电几秒）不计入。",
        ),
    ),
    "gateway-backlog": Words(
        Text("Gateway has a backlog", "网关积压"),
        Text(
            '{{ $labels.gateway }}: {{ printf "%.0f" $values.B.Value }} frames wait for the database, the oldest '
            'for {{ printf "%.0f" $values.E.Value }} s',
            '{{ $labels.gateway }}：{{ printf "%.0f" $values.B.Value }} 帧等待写入数据库，最早的已等待 '
            '{{ printf "%.0f" $values.E.Value }} 秒',
        ),
        Text(
            "Nothing is lost: at its limit the gateway stops acknowledging, and the nodes hold. After an outage "
            "it falls by itself. If it does not: is the database slow (sink latency), is its disk full, or do "
            "the vans send more than one gateway can take? Then add one.",
            "数据不会丢失：达到上限后网关停止确认，由节点保存。故障恢复后会自行下降。若不下降：数据库是否变慢（写"
            "入延迟）、磁盘是否已满、车辆数据是否超出单个网关的能力？若是最后一种，请增加网关。",
        ),
    ),
    "database-takes-nothing": Words(
        Text("Database takes nothing", "数据库不接收数据"),
        Text(
            "{{ $labels.gateway }} cannot store what it has in the database",
            "{{ $labels.gateway }} 无法将数据写入数据库",
        ),
        Text(
            "The gateway's log and `/healthz` say the database's own words. Token revoked, disk full, bucket "
            "dropped? Frames wait in the spool, and then in the nodes. A database that is wholly away is told by "
            'the rule "Gateway silent".',
            "网关日志和 `/healthz` 给出数据库的原话。令牌失效、磁盘已满、存储桶被删除？数据先存于缓存，再存于节点。"
            "数据库完全不可用时由“网关无数据”告警。",
        ),
    ),
    "gateway-silent": Words(
        Text("Gateway silent", "网关无数据"),
        Text(
            "Nothing of gateway {{ $labels.gateway }} is stored any more, or the database cannot be asked",
            "网关 {{ $labels.gateway }} 不再写入任何数据，或数据库无法查询",
        ),
        Text(
            "Does the database answer? If not, start it: this rule tells that as well. Then the gateway: "
            "`systemctl status swapline-gateway`, its log, `/healthz`. Nodes keep their data meanwhile. A "
            "gateway that was taken away for good is no longer told of after a day.",
            "数据库有应答吗？若无，请启动它：本规则同样告警。然后检查网关：`systemctl status swapline-gateway`、"
            "其日志和 `/healthz`。期间数据保存在节点中。永久停用的网关一天后不再告警。",
        ),
    ),
    "disk-full": Words(
        Text("Disk nearly full", "磁盘空间不足"),
        Text(
            "{{ $labels.gateway }}: {{ humanizePercentage $values.B.Value }} of {{ $labels.path }} is free",
            "{{ $labels.gateway }}：{{ $labels.path }} 剩余 {{ humanizePercentage $values.B.Value }}",
        ),
        Text(
            "The spool's disk: below 48 MiB the gateway stops acknowledging. The database's disk: it takes "
            "nothing when it is full. Make room (logs, files named `.damaged-`), add space, or keep raw rows for "
            "fewer days.",
            "缓存所在磁盘：低于 48 MiB 时网关停止确认。数据库所在磁盘：写满后不再接收数据。请清理（日志、名为 "
            "`.damaged-` 的文件）、扩容，或缩短原始数据的保留天数。",
        ),
    ),
    "certificate-expires": Words(
        Text("Certificate about to expire", "证书即将到期"),
        Text(
            "{{ $labels.name }}, as {{ $labels.gateway }} sees it, is valid for "
            '{{ printf "%.0f" $values.B.Value }} more days',
            '{{ $labels.gateway }} 所见的 {{ $labels.name }} 还有 {{ printf "%.0f" $values.B.Value }} 天到期',
        ),
        Text(
            "Renew it before its day: afterwards neither nodes nor gateways connect. The CA's own certificate: "
            "nodes need the new one on their flash before that day, so begin now.",
            "请在到期前更新：到期后节点和网关都无法连接。CA 证书：节点须在到期前将新证书写入闪存，请立即开始。",
        ),
    ),
    "broker-away": Words(
        Text("Broker away", "消息代理不可用"),
        Text("{{ $labels.gateway }} is not connected to the broker", "{{ $labels.gateway }} 未连接到消息代理"),
        Text(
            "Does the broker run (`systemctl status mosquitto`, its log)? Has its certificate expired, or was a "
            "password changed? Nodes keep their data, and send it when it is back.",
            "消息代理在运行吗（`systemctl status mosquitto` 及其日志）？证书是否过期、密码是否更改？节点会保存数"
            "据，并在恢复后补传。",
        ),
    ),
}
