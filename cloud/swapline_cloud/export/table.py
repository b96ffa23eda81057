"""Which files there are, and which columns they have."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]

from swapline_cloud.rollup import COUNT, FOREVER, MEAN, MINUTE, find, rollups
from swapline_wire import catalogue_text
from swapline_wire.catalogue import KEY, Stream

POLICIES = {"minute": MINUTE, "hour": FOREVER}  # of roll-ups
DAY_MS = 86_400_000
_TIME = pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False)
_CODED = pa.dictionary(pa.int32(), pa.string())
_TAGS = [
    pa.field("fleet", _CODED),
    pa.field("node", _CODED),
    pa.field("bay", pa.uint8(), metadata={"description": "Place in the van or station; null: none"}),
    pa.field("module", _CODED, metadata={"description": "Code of the battery module; null: none"}),
]
_QUALITY = pa.field("time_quality", pa.uint8(), metadata={"description": "How good the row's time is: docs/wire.md"})


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows: those of everybody where nothing is said; raw ones without a roll-up."""

    fleet: str | None = None
    node: str | None = None
    module: str | None = None
    rollup: str | None = None


class Day(NamedTuple):
    """A file to be written: a stream's day."""

    stream: Stream
    day: date

    @property
    def span_ms(self) -> tuple[int, int]:
        """Return [start, end)."""
        start = int(datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC).timestamp()) * 1000
        return start, start + DAY_MS

    def path(self, out: Path, rollup: str | None) -> Path:
        """Return where its file is."""
        root = out / f"rollup={rollup}" if rollup else out
        return root / f"stream={self.stream.name}" / f"day={self.day.isoformat()}.parquet"


def days(streams: Sequence[Stream], first: date, end: date) -> list[Day]:
    """Return the files of [first, end), day by day."""
    day_count = (end - first).days
    return [Day(stream, first + timedelta(number)) for number in range(day_count) for stream in streams]


def schema(stream: Stream, rollup: str | None) -> pa.Schema:
    """Return the columns of a stream's files."""
    identity = [pa.field(name, pa.uint8(), metadata=_meaning(stream, name)) for name in keys(stream)]
    return pa.schema([_TIME, *_TAGS, *identity, *(_raw(stream) if rollup is None else _rolled(stream))])


def _raw(stream: Stream) -> list[pa.Field]:
    found = [
        pa.field(one.name, pa.int64() if one.decimals == 0 else pa.float64(), metadata=_meaning(stream, one.name))
        for one in stream.signals
        if one.kind != KEY
    ]
    return [*found, _QUALITY]


def _rolled(stream: Stream) -> list[pa.Field]:
    columns = next(one.columns for one in rollups() if one.measurement == stream.name)
    return [
        pa.field(
            column.name,
            _rolled_type(stream, column.aggregate, column.field),
            metadata=_meaning(stream, column.field) | {"aggregate": column.aggregate},
        )
        for column in columns
    ]


def _meaning(stream: Stream, name: str) -> dict[str, str]:
    signal = find(stream.name, name)
    said = catalogue_text.SIGNALS[stream.name][name]
    return {"unit": signal.unit, "kind": signal.kind, "title": said.title, "description": said.description}


def _rolled_type(stream: Stream, aggregate: str, field: str) -> pa.DataType:
    is_whole = aggregate == COUNT or (aggregate != MEAN and find(stream.name, field).decimals == 0)
    return pa.int64() if is_whole else pa.float64()


def keys(stream: Stream) -> list[str]:
    """Return the signals that are a part of a row's identity."""
    return [signal.name for signal in stream.signals if signal.kind == KEY]


def order(stream: Stream) -> list[str]:
    """Return by which columns rows are sorted."""
    return ["fleet", "node", "time", "bay", "module", *keys(stream)]
