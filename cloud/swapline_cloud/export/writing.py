"""Days into files. What was written before its day was over for `SETTLE_MS` is written again, the rest stays."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from swapline_cloud.backup.progress import Progress
from swapline_cloud.rollup import LATE_S
from swapline_gateway.durable import sync
from swapline_gateway.error import StorageError

from .source import Source
from .table import Day, Selection, schema

SETTLE_MS = LATE_S * 1000  # rows of nodes without a link come later still: --again
METADATA = b"swapline.export"
GROUP_ROWS = 100_000
COMPRESSION = "zstd"


class Written(NamedTuple):
    """What became of a day. `rows` is None where its file was left as it is."""

    path: Path
    rows: int | None
    size_bytes: int = 0


class Export:
    """Writes days below `out`. `is_again`: those as well whose files are there."""

    def __init__(
        self, source: Source, out: Path, selection: Selection, progress: Progress, *, is_again: bool = False
    ) -> None:
        self._source = source
        self._out = out
        self._selection = selection
        self._progress = progress
        self._is_again = is_again

    def run(self, days: Sequence[Day]) -> Iterator[Written]:
        """Write day after day. Raises `GatewayError`; what was written until then is complete."""
        for number, day in enumerate(days):
            path = day.path(self._out, self._selection.rollup)
            try:
                if self._is_there(path, day):
                    yield Written(path, None)
                else:
                    yield self._write(path, day, number / len(days), 1 / len(days))
            except OSError as error:
                raise StorageError(
                    f"{error.filename or path}: cannot be written: {error.strerror or error}."
                ) from error

    def _is_there(self, path: Path, day: Day) -> bool:
        """Say whether the day's file needs nothing. Raises `StorageError` if it has other rows than are asked for."""
        if self._is_again or not path.exists():
            return False
        try:
            said = json.loads((pq.read_schema(path).metadata or {})[METADATA])
            selection, exported_utc_ms = said["selection"], int(said["exported_utc_ms"])
        except (KeyError, ValueError, TypeError, pa.ArrowInvalid) as error:
            raise StorageError(f"{path} is no file of an export: take another --out, or --again.") from error
        if selection != asdict(self._selection):
            raise StorageError(f"{path} has other rows than these ({_said(selection)}): another --out, or --again.")
        return exported_utc_ms >= day.span_ms[1] + SETTLE_MS

    def _write(self, path: Path, day: Day, done: float, share: float) -> Written:
        path.parent.mkdir(parents=True, exist_ok=True)
        writing = path.with_name(f".{path.name}.writing")
        said = {"exported_utc_ms": time.time_ns() // 1_000_000, "selection": asdict(self._selection)}
        columns = schema(day.stream, self._selection.rollup)
        columns = columns.with_metadata({METADATA: json.dumps(said).encode()})
        row_count = 0
        try:
            with pq.ParquetWriter(writing, columns, compression=COMPRESSION) as writer:
                for of_day, table in _joined(self._source.tables(day, self._selection), GROUP_ROWS):
                    writer.write_table(table.cast(columns))
                    row_count += table.num_rows
                    self._progress.share = done + of_day * share
                    self._progress.add(f"{day.stream.name} {day.day}", rows=table.num_rows)
            size_bytes = writing.stat().st_size
            if row_count:
                sync(writing)
                writing.rename(path)
                self._progress.add("", size_bytes=size_bytes)
        finally:
            writing.unlink(missing_ok=True)
        self._progress.share = done + share
        return Written(path, row_count, size_bytes if row_count else 0)


def _joined(tables: Iterator[tuple[float, pa.Table]], rows_min: int) -> Iterator[tuple[float, pa.Table]]:
    """Yield larger tables: nodes with few rows make small ones, and a file of many small groups reads slowly."""
    waiting: list[pa.Table] = []
    count, share = 0, 0.0
    for share, table in tables:
        waiting.append(table)
        count += table.num_rows
        if count >= rows_min:
            yield share, pa.concat_tables(waiting)
            waiting, count = [], 0
    if count:
        yield share, pa.concat_tables(waiting)


def _said(selection: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in selection.items() if value) or "those of everybody"
