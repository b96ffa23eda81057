"""Weeks of a fleet's life in a few seconds: the bench's past, with faults, as hours of modules."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from swapline_bench.module import Module
from swapline_bench.past import Past, PastPlan
from swapline_bench.past_life import Fault, Kept, PastLife
from swapline_bench.randomness import make_random
from swapline_gateway.battery.hour import CELL_SIGNALS, HOUR_MS, MARGIN_MS, SIGNALS, ModuleHour, summarise
from swapline_gateway.battery.record import Place
from swapline_gateway.battery.store import ModuleRows
from swapline_wire.catalogue import CELLS, FORMATS, MODULE, Stream, find_signal

from .reading_store import Reading

BEGIN_UTC_MS = 1_790_000_000_000 // HOUR_MS * HOUR_MS
FAULT_AT = 0.3  # of the life


class Lived(NamedTuple):
    """One module's life: what its nodes kept."""

    code: str
    kept: list[Kept]
    fault_utc_ms: int


class Fleet:
    """The modules of a small fleet, each of which can be given a fault."""

    def __init__(self, *, seed: int, days: int) -> None:
        self._seed, self._days = seed, days
        self.numbers = sorted(self._past().places)

    def _past(self) -> Past:
        return Past(PastPlan("test", 1, 1, 4, self._seed, self._days, BEGIN_UTC_MS))

    def live(self, number: int, strike: Callable[[Module], None] | None = None) -> Lived:
        """Pass one module through its life; `strike` happens to it at `FAULT_AT`."""
        past = self._past()
        module, random = past.modules[past.places[number]], make_random(self._seed, "lived", number)
        module.time_factor_ageing = 0.0
        module.set_soc(random.uniform(0.88, 0.96))
        fault_s = FAULT_AT * past.schedule.end_s
        faults = [] if strike is None else [Fault(fault_s, strike)]
        life = PastLife(module, past.schedule.phases[number], random, faults)
        return Lived(module.code, list(life.rows()), BEGIN_UTC_MS + round(fault_s * 1000))


def rows_of(kept: Sequence[Kept], names: Sequence[str], stream: Stream) -> ModuleRows:
    """Return scaled columns, as a store answers."""
    columns: dict[str, Sequence[float | None]] = {}
    for name in names:
        place = find_signal(stream, name)
        signal = stream.signals[place]
        empty, divisor = FORMATS[signal.format][2:], 10**signal.decimals
        columns[name] = [None if one.row[place] in empty else one.row[place] / divisor for one in kept]
    times = [BEGIN_UTC_MS + one.time_ms for one in kept]
    return ModuleRows(times, [Place("test", one.bay.node, one.bay.bay) for one in kept], columns)


def hours_of(lived: Lived) -> list[ModuleHour]:
    """Return all hours of a life."""
    module = rows_of([one for one in lived.kept if one.stream is MODULE], SIGNALS, MODULE)
    cells = rows_of([one for one in lived.kept if one.stream is CELLS], CELL_SIGNALS, CELLS)
    first, last = (module.time_utc_ms[n] // HOUR_MS * HOUR_MS for n in (0, -1))
    found = []
    for hour in range(first, last + 1, HOUR_MS):
        part = _cut(module, hour - MARGIN_MS, hour + HOUR_MS + MARGIN_MS)
        found.append(summarise(lived.code, part, hour, _cut(cells, hour, hour + HOUR_MS)))
    return [hour for hour in found if hour.row_count]


def readings_of(kept: Iterable[Kept], stream: Stream) -> list[Reading]:
    """Return readings as `ReadingStore.add` takes them."""
    chosen = [one for one in kept if one.stream is stream]
    names = SIGNALS if stream is MODULE else CELL_SIGNALS
    rows = rows_of(chosen, names, stream)
    return [
        (time_ms, place, {name: rows.columns[name][n] for name in names})
        for n, (time_ms, place) in enumerate(zip(rows.time_utc_ms, rows.places, strict=True))
    ]


def _cut(rows: ModuleRows, start_utc_ms: int, end_utc_ms: int) -> ModuleRows:
    low, high = bisect_left(rows.time_utc_ms, start_utc_ms), bisect_left(rows.time_utc_ms, end_utc_ms)
    columns = {name: column[low:high] for name, column in rows.columns.items()}
    return ModuleRows(rows.time_utc_ms[low:high], rows.places[low:high], columns)
