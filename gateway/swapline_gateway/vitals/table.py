"""Measurements that the gateway writes about itself, each with its tags and fields. Totals count since the start."""

from swapline_gateway.battery.table import NUMBER, WHOLE, Table

GATEWAY = Table(
    "gateway",
    ("gateway",),
    {"frames_received": WHOLE, "frames_taken": WHOLE, "frames_stored": WHOLE, "rows_stored": WHOLE}
    | {"duplicates": WHOLE, "refused": WHOLE, "quarantined": WHOLE, "lost": WHOLE}
    | {"spool_frames": WHOLE, "spool_bytes": WHOLE, "spool_limit_bytes": WHOLE, "spool_oldest_s": NUMBER}
    | {"sink_write_ms_mean": NUMBER, "sink_write_ms_max": NUMBER}  # of batches since the point before
    | {"sink_failures": WHOLE, "link_failures": WHOLE, "broker_connected": WHOLE, "sink_working": WHOLE}
    | {"books_due": WHOLE, "books_behind_s": NUMBER, "memory_bytes": WHOLE, "cpu_s": NUMBER, "uptime_s": NUMBER}
    | {"ended": WHOLE},  # 1 in the last row of one that ended because it was asked to; that row has nothing else
)
DISK = Table("disk", ("gateway", "path"), {"free_bytes": WHOLE, "total_bytes": WHOLE, "free_share": NUMBER})
# `name` is `broker` (the server's, as its connection shows it), `client` (our own) or `ca`.
CERTIFICATE = Table("certificate", ("gateway", "name"), {"days_left": NUMBER})
# Only what the broker tells; `messages_...` and `bytes_...` are totals since its start.
BROKER = Table(
    "broker",
    ("gateway", "broker"),
    {"clients_connected": WHOLE, "messages_received": WHOLE, "messages_sent": WHOLE, "messages_dropped": WHOLE}
    | {"bytes_received": WHOLE, "bytes_sent": WHOLE, "messages_stored": WHOLE, "heap_bytes": WHOLE},
)
VITALS = (GATEWAY, DISK, CERTIFICATE, BROKER)
