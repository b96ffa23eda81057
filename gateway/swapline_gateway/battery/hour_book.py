"""The book of hours: what every module did in each hour, kept in the table `module_hour`.

An hour depends on the rows in it and on those up to `MARGIN_MS` beside it, of which it keeps check sums. So when rows
come late, in any order, in pieces, or through another gateway, the hours beside a refreshed one show whether they stood
on the same rows; if not, they are derived again too. An hour that stood on rows which are gone, all or some of them, is
left as it is stored: it is the database's business to forget old readings, and not a reason to forget what they said.
"""

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import groupby

from .hour import CELL_SIGNALS, HOUR_MS, MARGIN_MS, SIGNALS, ModuleHour, summarise
from .run import join_sightings
from .span import DAY_MS, Span, day_of
from .store import BatteryStore, ModuleRows
from .table import MODULE_DAY, MODULE_HOUR, Row

__all__ = ["HourBook", "join_sightings"]

ROWS_PER_READ = 20_000  # about: six hours of a busy module
HOURS_PER_READ_FIRST, HOURS_PER_READ_MAX = 6, 96
RUNNING_HOURS = 3  # that are computed where a keeper writes all others down
RECENT_MS = 200 * DAY_MS
_OTHER_VERSION = (ValueError, KeyError, TypeError)
_HEAD, _TAIL, _BEFORE, _AFTER = range(4)


class HourBook:
    """See the module's header."""

    def __init__(self, store: BatteryStore, *, is_kept: bool = False) -> None:
        """`is_kept`: a keeper derives what is not stored yet, so that only running hours are computed here."""
        self._store = store
        self._is_kept = is_kept

    def refresh(self, module: str, hours: Iterable[int]) -> bool:
        """Derive these hours (UTC in ms) again, those beside them that stood on other rows, and their days.

        Returns whether something changed. Hours and days are written together.
        """
        asked = sorted(set(hours))
        stored = self._stored_around(module, asked)
        derived = self._derive_anew(module, asked, stored)
        beside = sorted({time for hour in derived.values() for time in _disagreeing(hour, stored)} - set(asked))
        derived |= self._derive_anew(module, beside, stored)
        changed = [hour.as_row() for time, hour in sorted(derived.items()) if stored.get(time) != hour]
        known = list((stored | derived).values())
        changed += self._days_changed(module, {time // DAY_MS * DAY_MS for time in (*asked, *beside)}, known)
        self._store.put(changed)
        return bool(changed)

    def _derive_anew(
        self, module: str, hours: Iterable[int], stored: Mapping[int, ModuleHour]
    ) -> dict[int, ModuleHour]:
        """Return the hours that have rows, without those whose rows are there in part only."""
        derived = {hour.hour_utc_ms: hour for hour in self._derive(module, hours)}
        return {time: hour for time, hour in derived.items() if not _lacks_rows(hour, stored.get(time))}

    def _days_changed(self, module: str, days: set[int], known: list[ModuleHour]) -> Iterator[Row]:
        for first, last in _ranges(days, len(days), DAY_MS):
            stored = {day.start_utc_ms: day for day in self._stored_days(module, first, last + DAY_MS)}
            for time in range(first, last + DAY_MS, DAY_MS):
                day = day_of((hour for hour in known if time <= hour.hour_utc_ms < time + DAY_MS), time)
                if day is not None and stored.get(time) != day:
                    yield day.as_row(module)

    def days(self, module: str) -> list[Span]:
        """Return all of a module's days, ascending; the last one up to now.

        Rests, anchors and steps only of the last `RECENT_MS`: estimates are of a module as it is now.
        """
        days = self._stored_days(module, 0, None)
        first = days[-1].start_utc_ms if days else 0
        running = self.hours(module, first)
        days = [day for day in days if day.start_utc_ms < first]
        for time, hours in groupby(running, key=lambda hour: hour.hour_utc_ms // DAY_MS * DAY_MS):
            day = day_of(hours, time)
            if day is not None:
                days.append(day)
        return days

    def _stored_days(self, module: str, start_utc_ms: int, end_utc_ms: int | None) -> list[Span]:
        rows = self._store.read(MODULE_DAY, tags={"module": module}, start_utc_ms=start_utc_ms, end_utc_ms=end_utc_ms)
        rows.sort(key=lambda row: row.time_utc_ms)
        recent_utc_ms = rows[-1].time_utc_ms - RECENT_MS if rows else 0
        days = []
        for row in rows:
            with suppress(*_OTHER_VERSION):
                days.append(Span.from_row(row, has_moments=row.time_utc_ms >= recent_utc_ms))
        return days

    def hours(self, module: str, start_utc_ms: int = 0, end_utc_ms: int | None = None) -> list[ModuleHour]:
        """Return a module's hours that begin in [start, end), ascending.

        Hours behind the last stored one are computed: all of them where nobody keeps the book, else the last few.
        """
        stored = {hour.hour_utc_ms: hour for hour in self._stored(module, start_utc_ms, end_utc_ms)}
        computed = self._derive_anew(module, self._hours_behind(module, start_utc_ms, end_utc_ms), stored)
        return [hour for _, hour in sorted((stored | computed).items())]

    def _hours_behind(self, module: str, start_utc_ms: int, end_utc_ms: int | None) -> range:
        """Return the hours in [start, end) from the last stored one on."""
        span = self._store.span(module)
        if span is None:
            return range(0)
        newest = self._store.read(MODULE_HOUR, tags={"module": module}, limit=1, newest_first=True)
        first = max(
            newest[0].time_utc_ms if newest else span[0] // HOUR_MS * HOUR_MS, -(-start_utc_ms // HOUR_MS) * HOUR_MS
        )
        end = span[1] // HOUR_MS * HOUR_MS + HOUR_MS
        if self._is_kept:
            first = max(first, end - RUNNING_HOURS * HOUR_MS)
        return range(first, end if end_utc_ms is None else min(end_utc_ms, end), HOUR_MS)

    def rebuild(self, module: str, progress: Callable[[int, int], None] = lambda _done, _all: None) -> bool:
        """Derive all hours of a module again; `progress` gets days done and all. Returns whether something changed."""
        span = self._store.span(module)
        if span is None:
            return False
        days = range(span[0] // DAY_MS * DAY_MS, span[1] + 1, DAY_MS)
        is_changed = False
        for done, day in enumerate(days, start=1):
            is_changed |= self.refresh(module, range(day, day + DAY_MS, HOUR_MS))
            progress(done, len(days))
        return is_changed

    def _stored(self, module: str, start_utc_ms: int, end_utc_ms: int | None) -> list[ModuleHour]:
        """Return stored hours. One of another version is as good as none: it is derived again with everything else."""
        rows = self._store.read(MODULE_HOUR, tags={"module": module}, start_utc_ms=start_utc_ms, end_utc_ms=end_utc_ms)
        hours = []
        for row in rows:
            with suppress(*_OTHER_VERSION):
                hours.append(ModuleHour.from_row(row))
        return sorted(hours, key=lambda hour: hour.hour_utc_ms)

    def _stored_around(self, module: str, hours: list[int]) -> dict[int, ModuleHour]:
        """Return what is stored of these hours' days, and of the hours beside the days."""
        found: dict[int, ModuleHour] = {}
        days = {(hour + beside) // DAY_MS * DAY_MS for hour in hours for beside in (-HOUR_MS, 0, HOUR_MS)}
        for first, last in _ranges(days, len(days), DAY_MS):
            stored = self._stored(module, first, last + DAY_MS)
            found |= {hour.hour_utc_ms: hour for hour in stored}
        return found

    def _derive(self, module: str, hours: Iterable[int]) -> Iterator[ModuleHour]:
        """Yield the hours that have rows."""
        count = HOURS_PER_READ_FIRST
        for first, last in _ranges(hours, HOURS_PER_READ_MAX):
            start, end = first, last + HOUR_MS
            while start < end:
                part_end = min(end, start + count * HOUR_MS)
                row_count = yield from self._derive_part(module, start, part_end)
                wanted = count * ROWS_PER_READ // max(row_count, 1)
                count = max(1, min(wanted, 4 * count, HOURS_PER_READ_MAX))
                start = part_end

    def _derive_part(self, module: str, start: int, end: int) -> Generator[ModuleHour, None, int]:
        """Yield the hours in [start, end) that have rows, read at once. Returns how many rows that were."""
        readings = self._store.readings(module, SIGNALS, start_utc_ms=start - MARGIN_MS, end_utc_ms=end + MARGIN_MS)
        if not readings.time_utc_ms:
            return 0
        cells = self._store.readings(module, CELL_SIGNALS, stream="cells", start_utc_ms=start, end_utc_ms=end)
        for hour in range(start, end, HOUR_MS):
            part = _cut(readings, hour - MARGIN_MS, hour + HOUR_MS + MARGIN_MS)
            derived = summarise(module, part, hour, _cut(cells, hour, hour + HOUR_MS))
            if derived.row_count:
                yield derived
        return len(readings.time_utc_ms) + len(cells.time_utc_ms)


def _disagreeing(hour: ModuleHour, stored: dict[int, ModuleHour]) -> Iterator[int]:
    """Yield the hours beside this one that stood on other rows of it than it has."""
    before, after = stored.get(hour.hour_utc_ms - HOUR_MS), stored.get(hour.hour_utc_ms + HOUR_MS)
    if before is not None and before.marks[_AFTER] != hour.marks[_HEAD]:
        yield before.hour_utc_ms
    if after is not None and after.marks[_BEFORE] != hour.marks[_TAIL]:
        yield after.hour_utc_ms


def _lacks_rows(hour: ModuleHour, stored: ModuleHour | None) -> bool:
    """Say whether rows are gone that the stored hour stood on, in it or just beside it, and no others came."""
    if stored is None or hour.row_count > stored.row_count:
        return False
    beside = zip(stored.marks[_BEFORE:], hour.marks[_BEFORE:], strict=True)
    return hour.row_count < stored.row_count or any(was and not now for was, now in beside)


def _ranges(begins: Iterable[int], count_max: int, step_ms: int = HOUR_MS) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of hours that follow each other, `count_max` at most."""
    for _, group in groupby(enumerate(sorted(begins)), key=lambda one: one[1] - one[0] * step_ms):
        times = [time for _, time in group]
        for n in range(0, len(times), count_max):
            part = times[n : n + count_max]
            yield part[0], part[-1]


def _cut(readings: ModuleRows, start_utc_ms: int, end_utc_ms: int) -> ModuleRows:
    """Return the rows in [start, end)."""
    times = readings.time_utc_ms
    low, high = bisect_left(times, start_utc_ms), bisect_left(times, end_utc_ms)
    columns = {name: column[low:high] for name, column in readings.columns.items()}
    return ModuleRows(times[low:high], readings.places[low:high], columns)
