"""The gateway's own figures: what came, what became of it, and what waits. Counted since the process began.

Everything that is not stored is counted here with its reason: `refused` (not acknowledged, the node still has it),
`quarantined` (kept aside), `duplicates` (a repeat of something already taken).
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from swapline_wire import catalogue

from .fleet_record import key_places, scale_row
from .ingest import Item, Sender
from .sinks.base import Written
from .spool import Backlog, SpooledFrame

NODES_MAX = 20_000  # beyond it, the node that was silent for longest is forgotten

LOSS_NAMES = {
    value: name.removeprefix("LOSS_").lower() for name, value in vars(catalogue).items() if name.startswith("LOSS_")
}


@dataclass(slots=True)
class NodeFigures:
    """One node's share."""

    frames_received: int = 0
    frames_stored: int = 0
    duplicates: int = 0
    refused: int = 0
    quarantined: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    received_utc_ms: int | None = None
    delay_ms: int | None = None  # of the newest row of the last frame, from its time to its reception


class Durations:
    """How long something took: in all, and since somebody last looked."""

    def __init__(self) -> None:
        self.count = 0
        self.sum_s = 0.0
        self._seen_count = 0
        self._seen_s = 0.0
        self._max_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count one."""
        self.count += 1
        self.sum_s += duration_s
        self._max_s = max(self._max_s, duration_s)

    def look(self) -> tuple[float | None, float | None]:
        """Return mean and maximum since the last look; None where there was none."""
        count, sum_s, max_s = self.count - self._seen_count, self.sum_s - self._seen_s, self._max_s
        self._seen_count, self._seen_s, self._max_s = self.count, self.sum_s, 0.0
        return (sum_s / count, max_s) if count else (None, None)


class PipelineFigures:
    """See the module's header. Used by the event loop's thread only."""

    def __init__(self, *, spool_limit_bytes: int, sink_name: str, nodes_max: int = NODES_MAX) -> None:
        self.started_monotonic_s = time.monotonic()
        self._link_errors: dict[str, str] = {}  # of each connection to the broker, empty while it is up
        self._spool_errors: dict[str, str] = {}  # by who met it: each clears its own
        self.spool_limit_bytes = spool_limit_bytes
        self.is_spool_full = False
        self.backlog = Backlog(0, 0, None, 0)
        self.sink_name = sink_name
        self.sink_error = ""
        self.sink_failures = 0
        self.sink_write = Durations()  # of batches that it took
        self.messages_received = 0
        self.bytes_received = 0
        self.frames_received = 0
        self.frames_taken = 0
        self.frames_stored = 0
        self.rows_stored = 0
        self.values_stored = 0
        self.duplicates = 0
        self.duplicates_in_sink = 0
        self.acks_sent = 0
        self.time_offers = 0
        self.state_messages = 0
        self.link_failures = 0
        self.refused: Counter[str] = Counter()
        self.quarantined_by_reason: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.nodes: OrderedDict[tuple[str, str], NodeFigures] = OrderedDict()
        self._nodes_max = nodes_max

    @property
    def is_connected(self) -> bool:
        """Say whether all connections to the broker are up."""
        return bool(self._link_errors) and not any(self._link_errors.values())

    @property
    def broker_error(self) -> str:
        """Return why a connection is not up, or nothing."""
        return next(filter(None, self._link_errors.values()), "" if self._link_errors else "not connected yet")

    def link_fails(self, name: str, error: str) -> None:
        """Note that this connection to the broker is down, and why."""
        self._link_errors[name] = error

    def link_works(self, name: str) -> None:
        """Note that this connection is up."""
        self._link_errors[name] = ""

    @property
    def spool_error(self) -> str:
        """Return what is wrong with the spool's file at this moment, or nothing."""
        return next(iter(self._spool_errors.values()), "")

    def spool_fails(self, user: str, error: str) -> None:
        """Note that a part of the gateway could not use the spool."""
        self._spool_errors[user] = error

    def spool_works(self, user: str) -> None:
        """Note that this part could use it again."""
        self._spool_errors.pop(user, None)

    def node(self, fleet: str, node: str) -> NodeFigures:
        """Return a node's figures, beginning them at its first sign."""
        key = (fleet, node)
        found = self.nodes.get(key)
        if found is None:
            found = self.nodes[key] = NodeFigures()
            if len(self.nodes) > self._nodes_max:
                self.nodes.popitem(last=False)
        self.nodes.move_to_end(key)
        return found

    def received(self, sender: Sender, size_bytes: int, frame_count: int, received_utc_ms: int) -> None:
        """Count one message."""
        self.messages_received += 1
        self.bytes_received += size_bytes
        self.frames_received += frame_count
        node = self.node(sender.fleet, sender.node)
        node.frames_received += frame_count
        node.received_utc_ms = received_utc_ms

    def taken(self, items: Iterable[Item], received_utc_ms: int) -> None:
        """Count frames that the spool took, and the losses that they declare."""
        for item in items:
            self.frames_taken += 1
            node = self.node(item.sender.fleet, item.sender.node)
            node.delay_ms = received_utc_ms - item.anchor_utc_ms - item.decoded.rows[-1][0]
            if item.decoded.stream is catalogue.EVENT_STREAM:
                self._count_losses(node, item)

    def _count_losses(self, node: NodeFigures, item: Item) -> None:
        signals = item.decoded.signals
        for row in item.decoded.rows:
            keys = {name: row[1 + index] for index, name in key_places(signals)}
            if keys["code"] == catalogue.FRAMES_DROPPED:
                event, _ = scale_row(signals, row[1:])
                reason = LOSS_NAMES.get(int(event.get("reason") or 0), "unknown")
                count = int(event.get("count") or 0)
                node.lost[reason] += count
                self.lost[reason] += count

    def repeated(self, senders: Iterable[Sender]) -> None:
        """Count frames that were taken before, one sender a frame."""
        for sender in senders:
            self.duplicates += 1
            self.node(sender.fleet, sender.node).duplicates += 1

    def refuse(self, fleet: str, node: str, reason: str, count: int) -> None:
        """Count frames that are not acknowledged: the node still has them."""
        self.refused[reason] += count
        self.node(fleet, node).refused += count

    def refused_by_inbox(self, messages_dropped: int) -> None:
        """Take over the inbox's own count of messages for which there was no memory."""
        if messages_dropped:
            self.refused["inbox_full"] = messages_dropped

    def quarantined(self, fleet: str, node: str, reason: str) -> None:
        """Count what was set aside."""
        self.quarantined_by_reason[reason] += 1
        self.node(fleet, node).quarantined += 1

    def sink_took(self, written: Written, frames: Sequence[SpooledFrame]) -> None:
        """Count a batch that the sink has taken."""
        self.sink_error = ""
        self.frames_stored += written.frame_count
        self.rows_stored += written.row_count
        self.values_stored += written.value_count
        self.duplicates_in_sink += written.duplicates
        for frame in frames:
            self.node(frame.fleet, frame.node).frames_stored += 1

    def sink_failed(self, error: str) -> None:
        """Count a batch that the sink did not take."""
        self.sink_error = error
        self.sink_failures += 1

    def problems(self) -> list[str]:
        """Return what is not as it should be, a sentence each; empty when all is well."""
        found = []
        if not self.is_connected:
            found.append(f"no connection to the broker: {self.broker_error}")
        if self.sink_error:
            found.append(f"{self.sink_name} does not take anything: {self.sink_error}")
        if self.spool_error:
            found.append(self.spool_error)
        if self.backlog.is_disk_full:
            found.append("the spool's disk is full: nothing is acknowledged, the nodes hold their frames; make room")
        elif self.is_spool_full:
            found.append("the spool is at its limit: nothing is acknowledged, the nodes hold their frames")
        return found

    def as_json(self, now_utc_ms: int) -> dict[str, Any]:
        """Return everything, for `/api/pipeline`."""
        backlog = self.backlog
        age_ms = 0 if backlog.oldest_utc_ms is None else max(0, now_utc_ms - backlog.oldest_utc_ms)
        return {
            "time_utc_ms": now_utc_ms,
            "uptime_s": round(time.monotonic() - self.started_monotonic_s, 3),
            "problems": self.problems(),
            "broker": {"connected": self.is_connected, "failures": self.link_failures},
            "messages_received": self.messages_received,
            "bytes_received": self.bytes_received,
            "frames_received": self.frames_received,
            "frames_taken": self.frames_taken,
            "frames_stored": self.frames_stored,
            "rows_stored": self.rows_stored,
            "values_stored": self.values_stored,
            "duplicates": self.duplicates,
            "duplicates_in_sink": self.duplicates_in_sink,
            "refused": dict(self.refused),
            "quarantined": dict(self.quarantined_by_reason),
            "lost": dict(self.lost),
            "acks_sent": self.acks_sent,
            "time_offers": self.time_offers,
            "spool": {
                "frames": backlog.frame_count,
                "bytes": backlog.size_bytes,
                "limit_bytes": self.spool_limit_bytes,
                "oldest_age_ms": age_ms,
                "full": self.is_spool_full,
                "quarantine": backlog.quarantine_count,
                "error": self.spool_error or None,
            },
            "sink": {"name": self.sink_name, "error": self.sink_error or None, "failures": self.sink_failures},
            "nodes": [
                {
                    "fleet": fleet,
                    "node": name,
                    "frames_received": node.frames_received,
                    "frames_stored": node.frames_stored,
                    "duplicates": node.duplicates,
                    "refused": node.refused,
                    "quarantined": node.quarantined,
                    "lost": dict(node.lost),
                    "received_utc_ms": node.received_utc_ms,
                    "delay_ms": node.delay_ms,
                }
                for (fleet, name), node in self.nodes.items()
            ],
        }
