"""A point of a measurement that the gateway writes itself, and its line of line protocol."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from swapline_gateway.battery.table import NUMBER, WHOLE, Table
from swapline_gateway.config import Influxdb1Config, Influxdb2Config
from swapline_gateway.sinks.line_protocol import escape_tag

_NS_PER_MS = 1_000_000


class Point(NamedTuple):
    """A point. Its fields are those that have a value."""

    table: Table
    time_utc_ms: int
    tags: tuple[str, ...]  # as the table names them; "" where there is none
    fields: dict[str, Any]


class LineSink(Protocol):
    """Where lines go."""

    def send(self, body: bytes) -> None:
        """Send one body of line protocol, times in nanoseconds. Raises `SinkError`."""

    def close(self) -> None:
        """Close the connections."""


def make_line_sink(config: Influxdb1Config | Influxdb2Config) -> LineSink:
    """Return a connection of one's own to the sink's database. Its libraries are only loaded here."""
    if isinstance(config, Influxdb1Config):
        from swapline_gateway.sinks.influxdb1 import Influxdb1Sink  # noqa: PLC0415

        return Influxdb1Sink(config)
    from swapline_gateway.sinks.influxdb2 import Influxdb2Sink  # noqa: PLC0415

    return Influxdb2Sink(config)


def make_point(table: Table, time_utc_ms: int, *tags: str, **fields: Any) -> Point:
    """Return a point without the fields that are None or no number."""
    assert len(tags) == len(table.tags), (table.name, tags)
    assert not set(fields) - set(table.fields), (table.name, fields)
    return Point(table, time_utc_ms, tags, {name: value for name, value in fields.items() if _is_value(value)})


def _is_value(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def format_points(points: Sequence[Point]) -> bytes:
    """Return line protocol. Points without any field are left out, for it cannot say them."""
    return "\n".join(_format(point) for point in points if point.fields).encode()


def _format(point: Point) -> str:
    table = point.table
    tags = "".join(f",{tag}={escape_tag(value)}" for tag, value in zip(table.tags, point.tags, strict=True) if value)
    fields = ",".join(f"{name}={_field(table.fields[name], value)}" for name, value in point.fields.items())
    return f"{table.name}{tags} {fields} {point.time_utc_ms * _NS_PER_MS}"


def _field(kind: str, value: Any) -> str:
    if kind == WHOLE:
        return f"{int(value)}i"
    if kind == NUMBER:
        return repr(float(value))
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
