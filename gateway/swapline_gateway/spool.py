"""The spool: where frames are durable between the acknowledgement and the database. SQLite, WAL, full sync.

This header is its specification.

1. `store` takes what one group of messages held in one transaction. When it returns, everything that its outcome names
   for acknowledgement is on the disk; when it raises, nothing is, and nothing may be acknowledged.
2. A frame is known by (fleet, node, journal, seq). `taken` remembers the numbers ever taken as ranges, so a repeat is
   recognised also after the frame went on to the database: it is acknowledged again and counted, never stored twice.
   A node that sends with gaps (several gateways on a shared subscription) makes many ranges, a hostile one a journal a
   message: beyond `ranges_max` of a node the lowest are forgotten. That is safe: a repeat of a frame that is still here
   is dropped here, of one that went on by the database. The same holds for what the command line replayed from
   quarantine.
3. `batch` gives frames to the sink: alarms and events first; then the newest and the oldest by halves, so that after an
   outage of the database the present does not wait for the past. `remove` deletes what the sink took. A kill between
   the two means that the sink is given the frames again, and it drops what it has.
4. At `limit_bytes` new frames are refused (a reserve is kept for events and alarms): not stored, not acknowledged,
   counted by the caller. The nodes hold them. The same when the disk has no more than `disk_reserve_bytes` free: on a
   disk that is really full SQLite could not even delete, so the spool would not drain when the database is back.
5. `quarantine` keeps what could not be read or was rejected, with reason, topic, bytes and time. Same bytes again only
   raise a count. What was acknowledged is never pushed out; a node over its quarantine quota is no longer acknowledged
   (what the sink refuses of it counts too; its events and alarms are held from twice the quota on).
6. `due` names the hours of modules that the battery's books have to derive again (`due.py`). It is written with
   `remove` and `set_aside`, in their transaction.
7. A file that is damaged, at the start or later, is replaced by what can be read of it (`spool_file.py`). Nothing is
   acknowledged meanwhile.

One object belongs to one thread. A lock file keeps a second gateway away; the command line may look in and replay.
"""

import hashlib
import json
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from swapline_wire import topic
from swapline_wire.catalogue import ROUTINE

from .due import Due, DueState, DueTable, Finish, Touch
from .error import StorageError
from .ingest import Item, Sender, Spoiled
from .lock import Lock
from .log import get
from .ranges import as_ranges, covers, merge
from .spool_file import SQLITE_ERRORS, connect, is_damage, mend, now_utc_ms, open_file

__all__ = ["ENTRY_BYTES", "Backlog", "Outcome", "Spool", "SpooledFrame", "connect", "now_utc_ms"]

RANGES_MAX = 4096  # of one node; one that a single gateway serves has one to three
TRIM_INTERVAL = 5000  # stores; a scan of the ranges of 100,000 nodes takes a tenth of a second
DISK_RESERVE_BYTES = 48 << 20  # the write-ahead log grows to 16 MB, one group to 5 MB; the rest is for neighbours
RESERVE_SHARE = 0.02  # of the limit, for events and alarms only
ENTRY_BYTES = 1024  # what an entry of quarantine costs beside its bytes: a million tiny ones would fill a disk unseen
_ROWS_PER_INSERT = 100  # one statement's step releases the interpreter lock once, so few large ones suffer least

_FRAME_COLUMNS = "node_id, journal, seq, priority, anchor_utc_ms, time_quality, received_utc_ms, data"
_SELECT = (
    "SELECT frame.id, fleet, node, anchor_utc_ms, time_quality, received_utc_ms, data"
    " FROM frame JOIN node ON node.id = node_id"
)

# The last frame of the last batch: a database that lacks it has lost what it took (see `books.py`).
_DELIVERED = "INSERT OR REPLACE INTO delivered SELECT 1, node_id, journal, seq FROM frame WHERE id = ?"
_TRIM = """
DELETE FROM taken WHERE (node_id, journal, first) IN (
    SELECT node_id, journal, first FROM (
        SELECT node_id, journal, first, ROW_NUMBER() OVER (PARTITION BY node_id ORDER BY first DESC) AS place
        FROM taken
    ) WHERE place > ?
)
"""


class SpooledFrame(NamedTuple):
    """A frame on its way to the sink."""

    id: int
    fleet: str
    node: str
    anchor_utc_ms: int
    time_quality: int
    received_utc_ms: int
    data: bytes


@dataclass(slots=True)
class Outcome:
    """What became of one group. Only `acknowledge` may be told to the nodes."""

    stored: list[Item] = field(default_factory=list)
    duplicates: list[Sender] = field(default_factory=list)  # one entry a frame
    refused: list[tuple[Sender, str, int]] = field(default_factory=list)  # sender, reason, frames
    quarantined: list[Spoiled] = field(default_factory=list)
    acknowledge: dict[tuple[Sender, int], set[int]] = field(default_factory=lambda: defaultdict(set))


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the spool."""

    frame_count: int
    size_bytes: int
    oldest_utc_ms: int | None
    quarantine_count: int
    is_disk_full: bool = False


class Spool:
    """See the module's header."""

    def __init__(
        self,
        path: Path,
        *,
        limit_bytes: int,
        quarantine_bytes_max: int = 256 << 20,
        quarantine_node_bytes_max: int = 16 << 20,
        ranges_max: int = RANGES_MAX,
        trim_interval: int = TRIM_INTERVAL,
        disk_reserve_bytes: int = DISK_RESERVE_BYTES,
    ) -> None:
        self.path = path
        self.limit_bytes = limit_bytes
        self.frame_count = 0
        self.size_bytes = 0
        self._quarantine_bytes_max = quarantine_bytes_max
        self._quarantine_node_bytes_max = quarantine_node_bytes_max
        self._ranges_max = ranges_max
        self._trim_interval = trim_interval
        self._disk_reserve_bytes = disk_reserve_bytes
        self._stores = 0
        self._node_ids: dict[Sender, int] = {}
        self._quarantine_bytes: dict[int, int] = {}
        self._quarantine_bytes_total = 0
        self._quarantine_count = 0
        self._due = DueTable()
        self._log = get("spool")
        self._lock = Lock(path.with_name(path.name + ".lock"))
        try:
            self._connection = open_file(path)
            self._is_open = True
            self._page_bytes = int(self._connection.execute("PRAGMA page_size").fetchone()[0])
            self._count()
        except (*SQLITE_ERRORS, OSError) as error:
            self._lock.close()
            raise StorageError(f"The spool {path} cannot be opened: {error}.") from error

    def _count(self) -> None:
        count, size = self._connection.execute("SELECT COUNT(*), SUM(LENGTH(data)) FROM frame").fetchone()
        self.frame_count, self.size_bytes = count, size or 0
        self._count_quarantine()
        self._due.begin(self._connection)

    def _count_quarantine(self) -> None:
        sql = "SELECT node_id, SUM(LENGTH(data) + ?), COUNT(*) FROM quarantine GROUP BY node_id"
        rows = self._connection.execute(sql, (ENTRY_BYTES,)).fetchall()
        self._quarantine_bytes = {node_id: size for node_id, size, _ in rows}
        self._quarantine_bytes_total = sum(self._quarantine_bytes.values())
        self._quarantine_count = sum(count for _, _, count in rows)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what the block did, durably, or none of it. Raises `StorageError` when the disk does not take it."""
        try:
            self._ensure_open()
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            self._node_ids.clear()  # some may have been rolled back
            with suppress(*SQLITE_ERRORS):  # a disk that does not answer is said below, by its first error
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                self._count()
            if isinstance(error, (*SQLITE_ERRORS, OSError)):
                self._mend_if_damaged(error)
                raise StorageError(f"The spool {self.path} cannot be written: {error}.") from error
            raise

    def _mend_if_damaged(self, error: Exception) -> None:
        """Replace a file in which damage was found. The caller raises all the same: what it began was not done."""
        if is_damage(error):
            with suppress(*SQLITE_ERRORS):
                self._connection.close()
            try:
                mend(self.path, error)
            except (*SQLITE_ERRORS, OSError) as problem:
                self._log.error("damaged spool cannot be mended yet", error=str(problem))
            self._is_open = False

    def _ensure_open(self) -> None:
        """Open the file again after a repair. Raises one of `SQLITE_ERRORS`, or `OSError`."""
        if not self._is_open:
            self._connection = open_file(self.path)
            self._node_ids.clear()
            self._count()
            self._is_open = True

    def store(self, items: Sequence[Item], spoiled: Sequence[Spoiled], received_utc_ms: int) -> Outcome:
        """Make a group of frames durable. Raises `StorageError`; then nothing was stored."""
        outcome = Outcome()
        groups: dict[tuple[Sender, int], dict[int, Item]] = defaultdict(dict)
        for item in items:
            journal, seq = item.key
            if groups[item.sender, journal].setdefault(seq, item) is not item:
                outcome.duplicates.append(item.sender)
        self._stores += 1
        with self._transaction():
            room = self._room()
            if self._stores % self._trim_interval == 0:
                self._connection.execute(_TRIM, (self._ranges_max,))
            for (sender, journal), by_seq in groups.items():
                room = self._store_group(outcome, sender, journal, by_seq, room)
            self._insert(outcome, received_utc_ms)
            for bad in spoiled:
                self._keep_spoiled(outcome, bad, received_utc_ms)
        self.frame_count += len(outcome.stored)
        self.size_bytes += sum(len(item.data) for item in outcome.stored)
        return outcome

    def _room(self) -> tuple[int, int]:
        """Return the bytes left for routine frames, and those left for all."""
        left = min(self.limit_bytes - self.size_bytes, self._disk_room_bytes())
        return left - int(self.limit_bytes * RESERVE_SHARE), left

    def _disk_room_bytes(self) -> int:
        """Return what the disk still takes: its free bytes but the reserve, and the free pages within the file."""
        (free_pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        free_bytes: int = shutil.disk_usage(self.path.parent).free
        return free_bytes - self._disk_reserve_bytes + int(free_pages) * self._page_bytes

    def _store_group(
        self, outcome: Outcome, sender: Sender, journal: int, by_seq: dict[int, Item], room: tuple[int, int]
    ) -> tuple[int, int]:
        """Sort the frames of one journal into new ones, repeats and refused ones. Returns the room that is left."""
        node_id = self._node_id(sender)
        known = self._taken_near(node_id, journal, min(by_seq), max(by_seq))
        fresh: list[int] = []
        refused = held = 0
        routine, urgent = room
        quarantined = self._quarantine_bytes.get(node_id, 0) / self._quarantine_node_bytes_max
        for seq in sorted(by_seq):
            item = by_seq[seq]
            if covers(known, seq):
                outcome.duplicates.append(sender)
                outcome.acknowledge[sender, journal].add(seq)
                continue
            size = len(item.data)
            is_routine = item.decoded.header.priority == ROUTINE
            if quarantined > (1 if is_routine else 2):
                held += 1
                continue
            if size > (routine if is_routine else urgent):
                refused += 1
                continue
            routine, urgent = routine - size, urgent - size
            fresh.append(seq)
            outcome.stored.append(item)
        if fresh:
            self._take(node_id, journal, known, fresh)
            outcome.acknowledge[sender, journal].update(fresh)
        if refused:
            outcome.refused.append((sender, "spool_full", refused))
        if held:
            outcome.refused.append((sender, "quarantine_full", held))
        return routine, urgent

    def _node_id(self, sender: Sender) -> int:
        node_id = self._node_ids.get(sender)
        if node_id is None:
            key = (sender.fleet, sender.node)
            self._connection.execute("INSERT INTO node (fleet, node) VALUES (?, ?) ON CONFLICT DO NOTHING", key)
            (found,) = self._connection.execute("SELECT id FROM node WHERE fleet = ? AND node = ?", key).fetchone()
            node_id = self._node_ids[sender] = int(found)
        return node_id

    def _taken_near(self, node_id: int, journal: int, low: int, high: int) -> list[tuple[int, int]]:
        """Return the taken ranges that overlap or touch low..high, ascending."""
        near: list[tuple[int, int]] = []
        cursor = self._connection.execute(
            "SELECT first, last FROM taken WHERE node_id = ? AND journal = ? AND first <= ? ORDER BY first DESC",
            (node_id, journal, high + 1),
        )
        for first, last in cursor:
            if last < low - 1:
                break  # ranges are disjoint, so all further ones end even lower
            near.append((first, last))
        cursor.close()
        return near[::-1]

    def _take(self, node_id: int, journal: int, known: list[tuple[int, int]], fresh: list[int]) -> None:
        """Write `fresh` into the ranges of which `known` are those nearby."""
        merged = merge(known, as_ranges(fresh))
        gone = set(known) - set(merged)
        self._connection.executemany(
            "DELETE FROM taken WHERE node_id = ? AND journal = ? AND first = ?",
            [(node_id, journal, first) for first, _ in gone],
        )
        self._connection.executemany(
            "INSERT INTO taken VALUES (?, ?, ?, ?)",
            [(node_id, journal, first, last) for first, last in merged if (first, last) not in known],
        )

    def _insert(self, outcome: Outcome, received_utc_ms: int) -> None:
        """Insert what is to be stored. A frame that is here already, though no range says so, is a repeat."""
        stored: list[Item] = []
        for start in range(0, len(outcome.stored), _ROWS_PER_INSERT):
            part = outcome.stored[start : start + _ROWS_PER_INSERT]
            try:
                self._insert_rows(part, received_utc_ms)
                stored += part
            except sqlite3.IntegrityError:  # undoes the statement, not the transaction
                stored += self._insert_each(outcome, part, received_utc_ms)
        outcome.stored = stored

    def _insert_each(self, outcome: Outcome, items: Sequence[Item], received_utc_ms: int) -> Iterator[Item]:
        for item in items:
            try:
                self._insert_rows([item], received_utc_ms)
                yield item
            except sqlite3.IntegrityError:
                outcome.duplicates.append(item.sender)

    def _insert_rows(self, items: Sequence[Item], received_utc_ms: int) -> None:
        values: list[object] = []
        for item in items:
            header = item.decoded.header
            values += (self._node_id(item.sender), header.journal, header.seq, header.priority)
            values += (item.anchor_utc_ms, item.time_quality, received_utc_ms, item.data)
        marks = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * len(items))
        self._connection.execute(f"INSERT INTO frame ({_FRAME_COLUMNS}) VALUES {marks}", values)  # noqa: S608

    def _keep_spoiled(self, outcome: Outcome, bad: Spoiled, received_utc_ms: int) -> None:
        node_id = self._node_id(bad.sender)
        if bad.key is not None:
            journal, seq = bad.key
            known = self._taken_near(node_id, journal, seq, seq)
            if covers(known, seq):
                outcome.acknowledge[bad.sender, journal].add(seq)
                outcome.duplicates.append(bad.sender)
                return
        if not self._has_quarantine_room(node_id, ENTRY_BYTES + len(bad.data)):
            outcome.refused.append((bad.sender, "quarantine_full", 1))
            return
        self._quarantine(node_id, bad, received_utc_ms)
        outcome.quarantined.append(bad)
        if bad.key is not None:
            self._take(node_id, journal, known, [seq])
            outcome.acknowledge[bad.sender, journal].add(seq)

    def _has_quarantine_room(self, node_id: int, size: int) -> bool:
        used = self._quarantine_bytes
        return (
            used.get(node_id, 0) + size <= self._quarantine_node_bytes_max
            and self._quarantine_bytes_total + size <= self._quarantine_bytes_max
        )

    def _quarantine(self, node_id: int, bad: Spoiled, received_utc_ms: int) -> None:
        journal, seq = bad.key or (None, None)
        up = topic.format_topic(bad.sender.fleet, bad.sender.node, topic.UP)
        digest = hashlib.blake2b(bad.data, digest_size=16).digest()
        is_known = self._connection.execute(
            "UPDATE quarantine SET times = times + 1, last_utc_ms = ?, reason = ?, detail = ?"
            " WHERE node_id = ? AND digest = ?",
            (received_utc_ms, bad.reason, bad.detail[:500], node_id, digest),
        ).rowcount
        if is_known:
            return
        tail = (received_utc_ms, received_utc_ms, digest, bad.data)
        self._connection.execute(
            "INSERT INTO quarantine (node_id, topic, reason, detail, journal, seq, anchor_utc_ms, time_quality,"
            " first_utc_ms, last_utc_ms, digest, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (node_id, up, bad.reason, bad.detail[:500], journal, seq, bad.anchor_utc_ms, bad.time_quality, *tail),
        )
        size = ENTRY_BYTES + len(bad.data)
        self._quarantine_bytes[node_id] = self._quarantine_bytes.get(node_id, 0) + size
        self._quarantine_bytes_total += size
        self._quarantine_count += 1

    def batch(self, *, frames_max: int, bytes_max: int) -> list[SpooledFrame]:
        """Return frames for the sink, the urgent ones first; nothing is removed. Raises `StorageError`."""
        try:
            self._ensure_open()
            rows = self._connection.execute(
                f"{_SELECT} WHERE priority > 0 ORDER BY priority DESC, frame.id LIMIT ?", (frames_max,)
            ).fetchall()
            if len(rows) < frames_max:
                rows += self._routine(frames_max - len(rows))
        except (*SQLITE_ERRORS, OSError) as error:
            self._mend_if_damaged(error)
            raise StorageError(f"The spool {self.path} cannot be read: {error}.") from error
        frames: list[SpooledFrame] = []
        size = 0
        for row in rows:
            size += len(row[6])
            if frames and size > bytes_max:
                break
            frames.append(SpooledFrame(*row))
        if not frames:
            self.frame_count = self.size_bytes = 0  # replays from the command line come behind our back
        return frames

    def _routine(self, count: int) -> list[tuple[object, ...]]:
        """Return the newest and the oldest routine frames by halves, each once, in the order in which they came."""
        sql = _SELECT + " WHERE priority = 0 ORDER BY frame.id {} LIMIT ?"
        oldest = self._connection.execute(sql.format("ASC"), (count,)).fetchall()
        if len(oldest) < count:
            return oldest
        newest = self._connection.execute(sql.format("DESC"), (count // 2,)).fetchall()
        by_id = {row[0]: row for row in newest[::-1] + oldest[: count - len(newest)]}
        return list(by_id.values())

    def remove(self, frames: Sequence[SpooledFrame], touches: Sequence[Touch] = ()) -> None:
        """Delete what the sink took, and note what is to be derived from it.

        Raises `StorageError`; then the sink will be given it again, and drop it.
        """
        with self._transaction() as connection:
            self._due.touch(connection, touches, now_utc_ms())
            if frames:
                connection.execute(_DELIVERED, (frames[-1].id,))
            deleted = connection.execute(
                "DELETE FROM frame WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps([frame.id for frame in frames]),),
            ).rowcount
        self.frame_count = max(0, self.frame_count - deleted)
        self.size_bytes = max(0, self.size_bytes - sum(len(frame.data) for frame in frames))

    def set_aside(self, refusals: Sequence[tuple[SpooledFrame, str, str]], touches: Sequence[Touch] = ()) -> None:
        """Move frames that the sink will never take, each with reason and detail, to quarantine: all or none.

        They were acknowledged, so no quota counts. Some of their rows may be stored: `touches`. Raises `StorageError`.
        """
        with self._transaction() as connection:
            self._due.touch(connection, touches, now_utc_ms())
            for frame, reason, detail in refusals:
                sender = Sender(frame.fleet, frame.node)
                found = connection.execute("SELECT journal, seq FROM frame WHERE id = ?", (frame.id,)).fetchone()
                bad = Spoiled(sender, reason, detail, frame.data, found, frame.anchor_utc_ms, frame.time_quality)
                self._quarantine(self._node_id(sender), bad, frame.received_utc_ms)
                connection.execute("DELETE FROM frame WHERE id = ?", (frame.id,))
        self.frame_count = max(0, self.frame_count - len(refusals))
        self.size_bytes = max(0, self.size_bytes - sum(len(frame.data) for frame, _, _ in refusals))

    def take_due(self, priority: int, count: int) -> list[Due]:
        """Return hours to derive, those that wait for longest first. Raises `StorageError`."""
        with self._transaction() as connection:
            return self._due.take(connection, priority, count, now_utc_ms())

    def release_due(self) -> None:
        """Have what was taken and not finished ready again. Raises `StorageError`."""
        with self._transaction() as connection:
            self._due.release(connection)

    def finish_due(self, finishes: Sequence[Finish], touches: Sequence[Touch] = ()) -> None:
        """Note what was derived, and what is to be derived from that. Raises `StorageError`."""
        with self._transaction() as connection:
            self._due.finish(connection, finishes)
            self._due.touch(connection, touches, now_utc_ms())

    def replace_due(self, *keys: tuple[str, int]) -> None:
        """Forget what was due and make only this due. Raises `StorageError`."""
        with self._transaction() as connection:
            self._due.replace_all(connection, keys)

    def due_state(self) -> DueState:
        """Return how much is due. Raises `StorageError`."""
        with self._transaction() as connection:
            return self._due.state(connection, now_utc_ms())

    def backlog(self) -> Backlog:
        """Return what waits. Raises `StorageError`."""
        try:
            self._ensure_open()
            oldest = self._connection.execute("SELECT received_utc_ms FROM frame ORDER BY id LIMIT 1").fetchone()
            (quarantined,) = self._connection.execute("SELECT COUNT(*) FROM quarantine").fetchone()
            if quarantined != self._quarantine_count:  # the command line has replayed some
                self._count_quarantine()
            is_disk_full = self._disk_room_bytes() <= 0
        except OSError as error:
            raise StorageError(f"The disk of the spool {self.path} does not answer: {error.strerror}.") from error
        except SQLITE_ERRORS as error:
            self._mend_if_damaged(error)
            raise StorageError(f"The spool {self.path} cannot be read: {error}.") from error
        return Backlog(self.frame_count, self.size_bytes, oldest[0] if oldest else None, quarantined, is_disk_full)

    def close(self) -> None:
        """Close the file; everything in it stays."""
        self._connection.close()
        self._lock.close()
