"""Quarantine seen from outside: list it, look at an entry, put entries back on their way, or give them up.

Works on the spool's file beside a running gateway (SQLite allows it); the gateway finds replayed frames by itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swapline_wire.catalogue import TIME_NONE
from swapline_wire.message import Anchor

from .error import StorageError
from .ingest import Item, Sender, Spoiled, examine_frame, examine_message
from .spool import connect, now_utc_ms
from .spool_file import SQLITE_ERRORS

MESSAGE_MAGIC = b"SM"
_COLUMNS = (
    "quarantine.id, fleet, node, topic, reason, detail, journal, seq, anchor_utc_ms, time_quality, first_utc_ms,"
    " last_utc_ms, times, data"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing set aside."""

    id: int
    fleet: str
    node: str
    topic: str
    reason: str
    detail: str
    journal: int | None
    seq: int | None
    anchor_utc_ms: int
    time_quality: int
    first_utc_ms: int
    last_utc_ms: int
    times: int
    data: bytes

    def as_json(self, *, with_data: bool) -> dict[str, Any]:
        """Return the entry as JSON-ready data; bytes as hexadecimal."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name != "data"}
        shown["size_bytes"] = len(self.data)
        return {**shown, "data": self.data.hex()} if with_data else shown


class Quarantine:
    """The entries of one spool."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise StorageError(f"There is no spool at {path}: check spool.path of the configuration.")
        self._path = path
        try:
            self._connection = connect(path)
        except SQLITE_ERRORS as error:
            raise StorageError(f"The spool {path} cannot be opened: {error}.") from error

    def __enter__(self) -> "Quarantine":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def entries(self, *, limit: int, reason: str | None = None, ids: tuple[int, ...] = ()) -> list[Entry]:
        """Return entries, the newest first. Raises `StorageError`."""
        where, parameters = _where(reason, ids)
        sql = (
            f"SELECT {_COLUMNS} FROM quarantine JOIN node ON node.id = node_id WHERE {where}"  # noqa: S608
            " ORDER BY quarantine.id DESC LIMIT ?"
        )
        try:
            return [Entry(*row) for row in self._connection.execute(sql, [*parameters, limit])]
        except SQLITE_ERRORS as error:
            raise StorageError(f"The spool {self._path} cannot be read: {error}.") from error

    def replay(self, entry: Entry) -> str:
        """Put an entry's frames into the spool; return why not, or nothing.

        Frames that were stored since (the node sent them again) are dropped by the database as repeats.
        """
        items, spoiled = _examine_again(entry)
        if spoiled or not items:
            return f"still {spoiled[0].reason}: {spoiled[0].detail}" if spoiled else "holds no frame"
        with self._transaction():
            for item in items:
                self._put_back(item)
            self._connection.execute("DELETE FROM quarantine WHERE id = ?", (entry.id,))
        return ""

    def delete(self, *, reason: str | None = None, ids: tuple[int, ...] = ()) -> int:
        """Delete entries; return how many. Raises `StorageError`."""
        where, parameters = _where(reason, ids)
        with self._transaction():
            return self._connection.execute(f"DELETE FROM quarantine WHERE {where}", parameters).rowcount  # noqa: S608

    def _put_back(self, item: Item) -> None:
        header = item.decoded.header
        owner = (item.sender.fleet, item.sender.node)
        self._connection.execute(
            "INSERT INTO frame (node_id, journal, seq, priority, anchor_utc_ms, time_quality, received_utc_ms, data)"
            " SELECT id, ?, ?, ?, ?, ?, ?, ? FROM node WHERE fleet = ? AND node = ? ON CONFLICT DO NOTHING",
            (*item.key, header.priority, item.anchor_utc_ms, item.time_quality, now_utc_ms(), item.data, *owner),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except SQLITE_ERRORS as error:
            raise StorageError(f"The spool {self._path} cannot be written: {error}.") from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def _where(reason: str | None, ids: tuple[int, ...]) -> tuple[str, list[object]]:
    conditions, parameters = ["1"], list[object]()
    if reason is not None:
        conditions.append("reason = ?")
        parameters.append(reason)
    if ids:
        conditions.append(f"quarantine.id IN ({', '.join('?' * len(ids))})")
        parameters += ids
    return " AND ".join(conditions), parameters


def _examine_again(entry: Entry) -> tuple[list[Item], list[Spoiled]]:
    """Read an entry's bytes with what this version knows."""
    sender = Sender(entry.fleet, entry.node)
    if entry.data[:2] == MESSAGE_MAGIC:
        found = examine_message(sender, entry.data)
        return found.items, found.spoiled
    anchors: dict[int, Anchor] = _AnyBoot(entry) if entry.time_quality != TIME_NONE else {}
    result = examine_frame(sender, entry.data, anchors, entry.journal or 0)
    return ([result], []) if isinstance(result, Item) else ([], [result])


class _AnyBoot(dict[int, Anchor]):
    """The anchor that was known when the frame was set aside: it belongs to the frame's boot, whichever that is."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self._anchor = (entry.anchor_utc_ms, entry.time_quality)

    def get(self, boot: int, default: Any = None) -> Any:  # noqa: ARG002
        return Anchor(boot, *self._anchor)
