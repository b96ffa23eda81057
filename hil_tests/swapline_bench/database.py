"""Read back what a sink stored, from each of the databases by its own means, as the same rows.

Nothing of the gateway is used here: a row is what the database itself answers.
"""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import duckdb

from swapline_bench.verdict import FrameRecord

TAGS = ("fleet", "node", "bay", "module")
_TIMEOUT_S = 30.0
_AHEAD_S = 3600  # of now: rows of clocks that run ahead are found as well


class Row(dict[str, Any]):
    """One row: `time_utc_ms`, the tags, and every signal that has a value; `row.get(name)` is None for one without."""


class Database(Protocol):
    """A database that can be asked for everything it holds of one stream of one node."""

    name: str

    def rows(self, stream: str, node: str) -> list[Row]:
        """Return the rows in the order of their time."""


class DuckDatabase:
    """The embedded database's file, after its gateway has ended."""

    name = "duckdb"

    def __init__(self, path: Path) -> None:
        self._path = path

    def query(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        names, found = self._fetch(statement, parameters)
        return [dict(zip(names, values, strict=True)) for values in found]

    def rows(self, stream: str, node: str) -> list[Row]:
        statement = f'SELECT epoch_ms(time) AS time_utc_ms, * EXCLUDE (time) FROM "{stream}" WHERE node = ?'  # noqa: S608
        names, found = self._fetch(f"{statement} ORDER BY time, journal, seq", (node,))
        return [
            Row({name: value for name, value in zip(names, values, strict=True) if value is not None})
            for values in found
        ]

    def _fetch(self, statement: str, parameters: Sequence[object]) -> tuple[list[str], list[tuple[Any, ...]]]:
        with duckdb.connect(str(self._path), read_only=True) as connection:
            found = connection.execute(statement, list(parameters))
            names = [column[0] for column in found.description or ()]
            return names, found.fetchall()

    def nodes(self, stream: str) -> list[str]:
        """Return the names of all nodes that have rows of a stream."""
        found = self.query(f'SELECT DISTINCT node FROM "{stream}" ORDER BY node')  # noqa: S608
        return [row["node"] for row in found]

    def frames(self, node: str) -> list[FrameRecord]:
        """Return the frames of a node in the order of journal and number."""
        statement = (
            "SELECT journal, seq, epoch_ms(first_time) AS first_utc_ms, epoch_ms(last_time) AS last_utc_ms "
            "FROM frames WHERE node = ? ORDER BY journal, seq"
        )
        return [FrameRecord(**row) for row in self.query(statement, node)]


class Influx1Database:
    """An InfluxDB 1.x, asked in InfluxQL."""

    name = "influxdb1"

    def __init__(self, url: str, database: str) -> None:
        self._url = url
        self._database = database

    def rows(self, stream: str, node: str) -> list[Row]:
        # An empty tag value is the same as no tag in InfluxDB, so `*` leaves out what is empty.
        return list(self._select(f"SELECT * FROM \"{stream}\" WHERE node = '{node}'"))  # noqa: S608

    def nodes(self, stream: str) -> list[str]:
        """Return the names of all nodes that have rows of a stream."""
        return sorted(row["value"] for row in self._ask(f'SHOW TAG VALUES FROM "{stream}" WITH KEY = "node"'))

    def frames(self, node: str) -> list[FrameRecord]:
        """Return the frames of a node in the order of journal and number."""
        rows = self._select(f"SELECT journal, seq, span_ms FROM frames WHERE node = '{node}'")  # noqa: S608
        frames = (
            FrameRecord(int(row["journal"]), row["seq"], row["time_utc_ms"], row["time_utc_ms"] + row["span_ms"])
            for row in rows
        )
        return sorted(frames)

    def _select(self, statement: str) -> Iterator[Row]:
        for row in self._ask(statement):
            row["time_utc_ms"] = row.pop("time")
            yield row

    def _ask(self, statement: str) -> Iterator[Row]:
        """Yield what a statement finds, read in chunks: a long run's rows are one line of a gigabyte otherwise."""
        query = urllib.parse.urlencode({"db": self._database, "epoch": "ms", "chunked": "true", "q": statement})
        with urllib.request.urlopen(f"{self._url}/query?{query}", timeout=_TIMEOUT_S) as response:  # noqa: S310
            for line in response:
                for series in json.loads(line)["results"][0].get("series", []):
                    columns = series["columns"]
                    for values in series["values"]:
                        yield Row({name: v for name, v in zip(columns, values, strict=True) if v is not None})


class VictoriaDatabase:
    """A VictoriaMetrics, asked for its raw samples; each field is a series of its own there."""

    name = "victoria-metrics"

    def __init__(self, url: str) -> None:
        self._url = url

    def rows(self, stream: str, node: str) -> list[Row]:
        _get(f"{self._url}/internal/force_flush")  # samples are searchable a second later otherwise
        match = f'{{__name__=~"{stream}_.+",node="{node}"}}'
        # Left to itself it ends at the beginning of the present second, and leaves out rows that are younger.
        end_s = int(time.time()) + _AHEAD_S
        query = urllib.parse.urlencode({"match[]": match, "start": 0, "end": end_s})
        rows: dict[tuple[Any, ...], Row] = {}
        for line in _get(f"{self._url}/api/v1/export?{query}").splitlines():
            series = json.loads(line)
            labels = series["metric"]
            field = labels.pop("__name__").removeprefix(f"{stream}_")
            for time_ms, value in zip(series["timestamps"], series["values"], strict=True):
                key = (time_ms, *sorted(labels.items()))
                rows.setdefault(key, Row(labels, time_utc_ms=time_ms))[field] = value
        return sorted(rows.values(), key=lambda row: row["time_utc_ms"])


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310 (our own loopback address)
        text: str = response.read().decode()
        return text
