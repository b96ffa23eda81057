"""Copies a policy's rows to where they belong, a day at a time: the package's header says how."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa  # type: ignore[import-untyped]

from swapline_cloud.backup import reading
from swapline_cloud.backup.measurement import Measurement, find_of
from swapline_cloud.backup.progress import Progress
from swapline_cloud.backup.writer import TRIES_MAX, Writer, batch_rows
from swapline_cloud.config import DatabaseConfig
from swapline_cloud.database.rows import asking
from swapline_cloud.late import HOUR_MS, Done, LateRows, oldest_utc_ms
from swapline_cloud.place import BOOKS
from swapline_cloud.rollup import FOREVER, MINUTE, RAW, RAW_DAYS, rollups
from swapline_gateway.error import ConfigurationError, SinkBusyError
from swapline_gateway.influxql import InfluxqlClient
from swapline_gateway.retry import Backoff

from . import holding as holdings
from .holding import DAY_MS, Holding
from .mark import MARK, Mark, question

STRANGER = "not swapline's"
STAYS = "there already"
NEWER = "forever has its own"
OLD_ROLLED = f"older than {RAW_DAYS} days: as roll-ups only"
OLD = f"older than {RAW_DAYS} days"
REFUSED = "refused as too old"
_NS_PER_MS = 1_000_000
_ROLLUPS = {rollup.measurement: rollup for rollup in rollups()}
Keys = set[tuple[Any, ...]]
Found = TypeVar("Found")


@dataclass(slots=True)
class Tally:
    """What became of a measurement's rows. `left`: left out, by reason."""

    read: int = 0
    written: int = 0
    left: Counter[str] = field(default_factory=Counter)


class Copier:
    """Its methods raise `GatewayError`."""

    def __init__(
        self,
        config: DatabaseConfig,
        source: str,
        *,
        now_utc_ms: Callable[[], int] = lambda: time.time_ns() // _NS_PER_MS,
    ) -> None:
        self.tallies: dict[str, Tally] = {}
        self.done = Done()
        self._source = source
        # The continuous queries of a 1.x came with its policy `raw`; tasks of a 2.x come to a bucket that was there.
        self._is_rolling = not (source == RAW and config.version == 1)
        self._now_utc_ms = now_utc_ms
        self._client = InfluxqlClient(asking(config))
        self._writer = Writer(config)
        self._late = LateRows(config, now_utc_ms=now_utc_ms)

    def find(self) -> list[Holding]:
        """Return what the source holds."""
        return holdings.find(self._client, self._source)

    def check_targets(self) -> None:
        """Raise `ConfigurationError` if `apply` has not made the policies yet."""
        for policy in (RAW, MINUTE, FOREVER):
            try:
                find_of(self._client, policy)
            except SinkBusyError as error:
                if "not found" not in str(error):
                    raise reading.sort_error(error) from error
                raise ConfigurationError(
                    f"The database has no policy {policy} yet: run `swapline cloud apply` first."
                ) from error

    def mark(self) -> Mark:
        """Return how far the source has been copied."""
        try:
            found = self._client.query(question(self._client.named(MARK, FOREVER), self._source))
        except SinkBusyError as error:
            raise reading.sort_error(error) from error
        return Mark(*found[0]["values"][0][1:]) if found else Mark()

    def oldest_utc_ms(self) -> int:
        """Return from when on rows are copied to `raw`: an hour later than it takes them, for the day to be done."""
        return oldest_utc_ms(RAW, self._now_utc_ms()) + HOUR_MS

    def old_rows(self, holding: Holding) -> int:
        """Return how many rows of a holding are too old for their place."""
        if holding.place != RAW:
            return 0
        edge_ms = self.oldest_utc_ms()
        day_ms = edge_ms // DAY_MS * DAY_MS
        before = sum(rows for day, rows in holding.days.items() if day < day_ms)
        return before + holdings.rows_between(self._client, holding, day_ms, edge_ms)

    def run(self, found: Sequence[Holding], mark: Mark, progress: Progress) -> Iterator[int]:
        """Copy what the mark says is left to do; yield each day when it is done."""
        for holding in found:
            tally = self.tallies[holding.name] = Tally()
            if holding.place is None:
                tally.left[STRANGER] = holding.rows
        ours = [holding for holding in found if holding.place is not None]
        for day_ms in days_of(found, mark):
            lasting_rows = mark.lasting_rows
            for holding in ours:
                if day_ms in holding.days:
                    lasting_rows += self._copy_day(holding, day_ms, progress)
            mark = mark._replace(until_utc_ms=day_ms + DAY_MS, lasting_rows=lasting_rows)
            self._note(mark)
            yield day_ms
        self._note(Mark(whole_rows=mark.lasting_rows))

    def _note(self, mark: Mark) -> None:
        self._writer.send(FOREVER, [mark.line(self._source)])

    def _copy_day(self, holding: Holding, day_ms: int, progress: Progress) -> int:
        """Copy a day of a measurement and make its roll-ups; return how many rows of it are kept for ever."""
        end_ms = day_ms + DAY_MS
        if holding.place == FOREVER:
            return self._copy(holding, day_ms, end_ms, progress)
        edge_ms = min(max(day_ms, self.oldest_utc_ms()), end_ms)
        self._leave(holding, day_ms, edge_ms, OLD_ROLLED if holding.name in _ROLLUPS else OLD, progress)
        if self._source == RAW:
            self._leave(holding, edge_ms, end_ms, STAYS, progress)
        else:
            self._copy(holding, edge_ms, end_ms, progress)
        if self._is_rolling and holding.name in _ROLLUPS:
            self._roll(holding.name, self._source, day_ms, edge_ms, only_missing=True)
            self._roll(holding.name, RAW, edge_ms, end_ms)
            progress.add(f"roll-ups of {holding.name}")
        return 0

    def _copy(self, holding: Holding, start_ms: int, end_ms: int, progress: Progress) -> int:
        if start_ms >= end_ms:
            return 0
        assert holding.place is not None
        measurement, tally = holding.measurement, self.tallies[holding.name]
        target = measurement._replace(policy=holding.place)
        span = (start_ms * _NS_PER_MS, end_ms * _NS_PER_MS)
        there = self._keys_there(target, span) if holding.name in BOOKS else set()
        rows = 0
        for table in reading.rows(self._client, measurement, span):
            rows += table.num_rows
            wanted = _without(table, target, there)
            tally.read += table.num_rows
            tally.left[NEWER] += table.num_rows - wanted.num_rows
            for batch in wanted.combine_chunks().to_batches(max_chunksize=batch_rows(wanted.schema)):
                refused = self._writer.write(target, batch)
                tally.left[REFUSED] += refused
                tally.written += batch.num_rows - refused
            progress.add(measurement.label, rows=table.num_rows, size_bytes=table.nbytes)
        return rows

    def _keys_there(self, target: Measurement, span: reading.Span) -> Keys:
        known = target._replace(fields=(("is_void", "boolean"),))
        return {key for table in reading.rows(self._client, known, span) for key in _keys(table, known)}

    def _leave(self, holding: Holding, start_ms: int, end_ms: int, why: str, progress: Progress) -> None:
        """Count rows that are not copied."""
        rows = holdings.rows_between(self._client, holding, start_ms, end_ms)
        tally = self.tallies[holding.name]
        tally.read += rows
        tally.left[why] += rows
        progress.add(holding.measurement.label, rows=rows)

    def _roll(self, name: str, policy: str, start_ms: int, end_ms: int, *, only_missing: bool = False) -> None:
        """Make roll-ups of rows in a policy."""
        if start_ms >= end_ms:
            return
        for piece in _patiently(partial(self._late.find_rows, policy, _ROLLUPS[name], start_ms, end_ms)):
            _patiently(partial(self._late.roll, piece, self.done, only_missing=only_missing))

    def close(self) -> None:
        """Close the connections."""
        self._late.close()
        self._writer.close()
        self._client.close()


def days_of(found: Sequence[Holding], mark: Mark) -> list[int]:
    """Return the days that are left to do."""
    return sorted({day for one in found if one.place for day in one.days if day >= mark.until_utc_ms})


def _keys(table: pa.Table, measurement: Measurement) -> Iterator[tuple[Any, ...]]:
    """Yield what each row is known by: its time and its tags."""
    columns = table.columns[: 1 + len(measurement.tags)]
    return zip(columns[0].cast(pa.int64()).to_pylist(), *(one.to_pylist() for one in columns[1:]), strict=True)


def _without(table: pa.Table, measurement: Measurement, there: Keys) -> pa.Table:
    """Return the rows whose place has none yet."""
    if not there:
        return table
    return table.filter(pa.array([key not in there for key in _keys(table, measurement)], pa.bool_()))


def _patiently(call: Callable[[], Found]) -> Found:
    """Call again while the database is busy. Raises `GatewayError`."""
    backoff = Backoff()
    for _ in range(TRIES_MAX - 1):
        try:
            return call()
        except SinkBusyError as error:
            if "answers 40" in str(error):
                raise reading.sort_error(error) from error
            time.sleep(backoff.fail())
    try:
        return call()
    except SinkBusyError as error:
        raise reading.sort_error(error) from error
