"""Which alarms stand now, as rows of the database: boards and alert rules cannot join alarms with what became of them.

The alarm book (`book.py`) is derived of the nodes' rows; what it says in the end is told here, in a measurement of its
own that the book never reads: a row when an alarm begins to stand or changes its level, one of level 0 when it stands
no more, whoever says so. The newest row of a key is what is known of it.

Every replica does it, each after looking at what is told already: two that look at the same moment write one row
twice, which changes nothing. A replica that does not know everything (no broker, the past not read yet) tells nothing.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from swapline_gateway.battery.store import BatteryStore
from swapline_gateway.battery.table import TRUTH, WHOLE, Row, Table
from swapline_gateway.error import SinkError
from swapline_gateway.log import Novelty, get
from swapline_gateway.retry import Backoff
from swapline_gateway.sinks.line_protocol import tag_value
from swapline_gateway.spool import now_utc_ms
from swapline_gateway.worker import Worker

from .book import Alarm, AlarmKey
from .shelf import KEPT_MS

STANDING = Table(
    "standing", ("fleet", "node", "bay", "module", "code"), {"is_void": TRUTH, "level": WHOLE, "raised_utc_ms": WHOLE}
)
INTERVAL_S = 60.0  # between two looks at what others told, where nothing changes here
LOOK_S = 0.5  # how soon a change is noticed
# An alarm that stands for long is told again each day, so that boards need not look farther back than the book.
REPEAT_MS = 86_400_000
CLOCKS_MS = 600_000  # by how much the clocks of two replicas may differ

Tags = tuple[str, ...]  # as the table names them


class Told(NamedTuple):
    """The newest row of a key. `level` 0: it stands no more."""

    time_utc_ms: int
    level: int
    raised_utc_ms: int


class Book(Protocol):
    """The alarm book (`watch.py`)."""

    revision: int

    def is_whole(self) -> bool:
        """Say whether everything is known that can be known: connected, the past read, all of it derived."""

    def standing(self) -> list[Alarm]:
        """Return the alarms that stand."""

    def since_utc_ms(self) -> int:
        """Return since when the book has all rows; of alarms that were raised earlier it may know nothing."""


def tags_of(key: AlarmKey) -> Tags:
    """Return a key as tags, as a database gives them back."""
    return (key.fleet, key.node, str(key.bay) if key.bay else "", tag_value(key.module), str(key.code))


def changes(
    told: Mapping[Tags, Told], standing: Iterable[Alarm], *, since_utc_ms: int, now_utc_ms: int
) -> dict[Tags, Told]:
    """Return what has to be told, so that the newest rows are as the book is.

    A row is always later than the one that it corrects, whatever the clock of who wrote that one.
    """
    stands = {tags_of(alarm.key): alarm for alarm in standing}
    found: dict[Tags, Told] = {}
    for tags, alarm in stands.items():
        last = told.get(tags, Told(0, 0, 0))
        is_same = (last.level, last.raised_utc_ms) == (alarm.level, alarm.raised_utc_ms)
        if not is_same or now_utc_ms - last.time_utc_ms >= REPEAT_MS:
            found[tags] = Told(max(now_utc_ms, last.time_utc_ms + 1), alarm.level, alarm.raised_utc_ms)
    for tags, last in told.items():
        if last.level and tags not in stands and last.raised_utc_ms >= since_utc_ms:
            found[tags] = Told(max(now_utc_ms, last.time_utc_ms + 1), 0, last.raised_utc_ms)
    return found


def row_of(tags: Tags, told: Told) -> Row:
    """Return the row that tells it."""
    named = dict(zip(STANDING.tags, tags, strict=True))
    return STANDING.row(told.time_utc_ms, named, level=told.level, raised_utc_ms=told.raised_utc_ms)


class StandingRows:
    """See the module's header."""

    def __init__(self, book: Book, store: BatteryStore) -> None:
        self.written = 0
        self._book = book
        self._store = store
        self._told: dict[Tags, Told] = {}
        self._read_ms: int | None = None  # up to when the rows of all replicas were read
        self._revision = -1  # of the book, when it was last told
        self._worker = Worker("standing alarms")
        self._backoff = Backoff(delay_s_max=INTERVAL_S)
        self._novelty = Novelty()
        self._log = get("alarms")

    async def run(self) -> None:
        """Tell what stands whenever it changes, and look at what others told in each interval, until cancelled."""
        looked_s = -INTERVAL_S
        while True:
            is_due = self._revision != self._book.revision or time.monotonic() - looked_s >= INTERVAL_S
            if not is_due or not self._book.is_whole():
                await asyncio.sleep(LOOK_S)
            elif await self.do_round(now_utc_ms()):
                looked_s = time.monotonic()
            else:
                await asyncio.sleep(self._backoff.fail())

    async def do_round(self, now_ms: int) -> bool:
        """Look at what is told, and tell what is different; say whether the database took part."""
        revision = self._book.revision
        try:
            await self._worker.run(self._read, now_ms)
            new = changes(self._told, self._book.standing(), since_utc_ms=self._book.since_utc_ms(), now_utc_ms=now_ms)
            await self._worker.run(self._store.put, [row_of(tags, told) for tags, told in new.items()])
        except SinkError as error:
            if self._novelty.take("busy"):
                self._log.warning("boards cannot be told which alarms stand", error=str(error))
            return False
        self._backoff.succeed()
        self._told |= new
        self.written += len(new)
        self._revision = revision
        return True

    def _read(self, now_ms: int) -> None:
        since = now_ms - KEPT_MS if self._read_ms is None else self._read_ms - CLOCKS_MS
        for row in self._store.read(STANDING, start_utc_ms=max(0, since)):
            tags = tuple(row.tags[tag] for tag in STANDING.tags)
            told = Told(row.time_utc_ms, row.fields.get("level", 0), row.fields.get("raised_utc_ms", 0))
            self._told[tags] = max(told, self._told.get(tags, told))
        self._read_ms = now_ms
        oldest = now_ms - KEPT_MS
        self._told = {tags: told for tags, told in self._told.items() if told.time_utc_ms >= oldest}

    def close(self) -> None:
        """End the thread."""
        self._worker.close()
