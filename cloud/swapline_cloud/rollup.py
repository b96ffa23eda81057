"""What is kept for how long, and what a roll-up keeps of a stream: the one place that says so.

Rows as they came are kept for `RAW_DAYS` (policy `raw`), one point a minute for `MINUTE_DAYS` (`minute`), one point an
hour for ever (`forever`). What happens once (events, alarms) and what is derived (the battery's books) is kept for ever
as it is. In InfluxDB 1.x a policy is a retention policy of one database; in 2.x a bucket that a DBRP mapping gives the
same name; so a statement of InfluxQL is the same for both.

A roll-up of a stream is a measurement of the stream's name in another policy. Of a signal it keeps, by its kind:

- a measurement: mean, minimum, maximum, count, last (`voltage_v_mean`, `voltage_v_min`, ...);
- a total: minimum, maximum, count, last; never a mean, and growth is the difference of two lasts;
- a state: count and last.

Both are made from raw rows: an hour is never a mean of means.
"""

from collections.abc import Iterator
from typing import NamedTuple

from swapline_wire import catalogue
from swapline_wire.catalogue import KEY, MEASUREMENT, OF_BAY, OF_MODULE, STATE, TOTAL, Signal, Stream

DATABASE = "swapline"
RAW, MINUTE, FOREVER = "raw", "minute", "forever"
RAW_DAYS, MINUTE_DAYS = 30, 731

MEAN, MINIMUM, MAXIMUM, COUNT, LAST = "mean", "min", "max", "count", "last"
AGGREGATES = {
    MEASUREMENT: (MEAN, MINIMUM, MAXIMUM, COUNT, LAST),
    TOTAL: (MINIMUM, MAXIMUM, COUNT, LAST),
    STATE: (COUNT, LAST),
    KEY: (),
}
# Streams whose rows are kept for ever as they came: things that happen once.
LASTING = ("event", "alarm")


class Level(NamedTuple):
    """A roll-up: one point each `seconds`, kept in `policy`."""

    policy: str
    interval: str  # as InfluxQL and Flux write it
    seconds: int


LEVELS = (Level(MINUTE, "1m", 60), Level(FOREVER, "1h", 3600))


class Column(NamedTuple):
    """A field of a roll-up: `aggregate` of the raw field `field`."""

    name: str
    aggregate: str
    field: str


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
