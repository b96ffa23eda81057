"""What is kept for how long, and what a roll-up keeps of a stream: the one place that says so.

Rows as they came are kept for `RAW_DAYS` (policy `raw`), one point a minute for `MINUTE_DAYS` (`minute`), one point an
hour for ever (`forever`). What happens once (events, alarms) and what is derived (the battery's books) is kept for ever
as it is. In InfluxDB 1.x a policy is a retention policy of one database; in 2.x a bucket that a DBRP mapping gives the
same name; so a statement of InfluxQL is the same for both.

A roll-up of a stream is a measurement of the stream's name in another policy. Of a signal it keeps, by its kind:

- a measurement: mean, minimum, maximum, count, last (`voltage_v_mean`, `voltage_v_min`, ...);
- a total: minimum, maximum, count, last; never a mean, and growth is the difference of two lasts;
- a state: count and last.

The gateway's own `frames` has a roll-up as well: `FRAMES_ROLLUP`. All are made from raw rows: an hour is never a mean
of means. The database makes them again and again while rows may still come, up to `LATE_S` after their time; what comes
later is aggregated by `swapline cloud rollup`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from swapline_gateway.sinks.line_protocol import FRAMES, LASTING
from swapline_wire import catalogue
from swapline_wire.catalogue import KEY, MEASUREMENT, OF_BAY, OF_MODULE, STATE, TOTAL, Signal, Stream

DATABASE = "swapline"
RAW, MINUTE, FOREVER = "raw", "minute", "forever"
RAW_DAYS, MINUTE_DAYS = 30, 731

MEAN, MINIMUM, MAXIMUM, COUNT, LAST, SUM = "mean", "min", "max", "count", "last", "sum"
AGGREGATES = {
    MEASUREMENT: (MEAN, MINIMUM, MAXIMUM, COUNT, LAST),
    TOTAL: (MINIMUM, MAXIMUM, COUNT, LAST),
    STATE: (COUNT, LAST),
    KEY: (),
}
# How late a row may come so that the database itself still takes it into its roll-ups.
LATE_S = 7200


class Turn(NamedTuple):
    """When a database makes a level's newest points: each `every_s`, those of the last `span_s`."""

    every_s: int
    span_s: int


class Level(NamedTuple):
    """A roll-up: one point each `seconds`, kept in `policy`; made by the database in `turns`."""

    policy: str
    interval: str  # as InfluxQL and Flux write it
    seconds: int
    turns: tuple[Turn, ...]


# Minutes are five minutes old at most. Once an hour everything is made again that late rows may have changed. So a row
# is read five times for its minutes, three times for its hour.
LATE_TURN = Turn(3600, 3600 + LATE_S)
LEVELS = (Level(MINUTE, "1m", 60, (Turn(300, 600), LATE_TURN)), Level(FOREVER, "1h", 3600, (LATE_TURN,)))


class Column(NamedTuple):
    """A field of a roll-up: `aggregate` of the raw field `field`."""

    name: str
    aggregate: str
    field: str


class Rollup(NamedTuple):
    """What is kept of a measurement: `columns`, one point a level for each set of `tags`."""

    measurement: str
    tags: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def marker(self) -> str:
        """Return the raw field that every row has."""
        return "seq" if self.measurement == FRAMES else "time_quality"


# The gateway's point for each frame (docs/gateway.md). Frames missing of a journal are what `seq_max`, `seq_min` and
# `frames` of all its streams tell.
FRAMES_ROLLUP = Rollup(
    FRAMES,
    ("fleet", "node", "journal", "stream"),
    (
        Column("frames", COUNT, "seq"),
        Column("seq_min", MINIMUM, "seq"),
        Column("seq_max", MAXIMUM, "seq"),
        Column("row_count_sum", SUM, "row_count"),
        Column("value_count_sum", SUM, "value_count"),
        Column("rows_refused_sum", SUM, "rows_refused"),
        Column("delay_ms_mean", MEAN, "delay_ms"),
        Column("delay_ms_max", MAXIMUM, "delay_ms"),
    ),
)


def rollups() -> list[Rollup]:
    """Return the roll-ups of everything that has any: streams in the catalogue's order, then `frames`."""
    streams = [Rollup(stream.name, tags(stream), tuple(columns(stream))) for stream in rolled_streams()]
    return [*streams, FRAMES_ROLLUP]


def rolled_streams() -> list[Stream]:
    """Return the streams that have roll-ups."""
    return [stream for stream in catalogue.STREAMS if stream.name not in LASTING]


def tags(stream: Stream) -> tuple[str, ...]:
    """Return the tags of a stream's points that a roll-up keeps: all of them."""
    found = ["fleet", "node"]
    if stream.owner in (OF_BAY, OF_MODULE):
        found.append("bay")
    if stream.owner == OF_MODULE:
        found.append("module")
    return (*found, *(signal.name for signal in stream.signals if signal.kind == KEY))


def columns(stream: Stream) -> Iterator[Column]:
    """Yield the fields of a stream's roll-up, in the catalogue's order."""
    for signal in stream.signals:
        for aggregate in AGGREGATES[signal.kind]:
            yield Column(rolled(signal.name, aggregate), aggregate, signal.name)


def rolled(field: str, aggregate: str) -> str:
    """Return the name of a roll-up's field."""
    return f"{field}_{aggregate}"


def find(stream_name: str, field: str) -> Signal:
    """Return a signal of the catalogue. Raises `KeyError` if there is none of that name."""
    stream = catalogue.stream_by_name(stream_name)
    signals: tuple[Signal, ...] = stream.signals if stream else ()
    for signal in signals:
        if signal.name == field:
            return signal
    raise KeyError(f"the catalogue has no {stream_name}.{field}")
