"""One module's life in virtual time, followed as closely as its node would: seconds while it works, a minute at rest.

What it does is what the bench's vans and chargers do: the power that a van's wheels and computers asked for, second by
second, and a slot's charger from empty to full. Rows are kept by exception, with the catalogue's deadbands and
silences. The truth is in `module.cells`. (`past_life.py` passes fleets through weeks in seconds, in coarser steps.)
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from typing import NamedTuple

from swapline_bench.climate import Weather
from swapline_bench.frame_source import FrameSource
from swapline_bench.module import Module, format_code
from swapline_bench.module_reading import Reporter, cells_row, module_row
from swapline_bench.randomness import make_random
from swapline_bench.route import City
from swapline_bench.station import CHARGE_V, CHARGING, FULL, SLOT_COOLING, Slot
from swapline_bench.van import BUS_STEP_S, Van
from swapline_gateway.reading import FrameRows, read_rows
from swapline_gateway.spool import SpooledFrame
from swapline_wire.catalogue import CELLS, MODULE, TIME_NTP, Stream, not_available

POLL_S = 1.0
CELLS_POLL_S = 10.0
REST_STEP_S = 60.0
CHARGE_STEP_S = 10.0
FINE_FROM_V = 55.6  # the charger is about to hold its voltage
FINE_S = 60.0  # after a current came or went, every second is followed
DUTY_S = 6 * 3600
ROWS_PER_FRAME = 8  # as a node seals them
BEGIN_UTC_MS = 1_790_000_000_000 // 3_600_000 * 3_600_000
_SWAP_S = 240.0


class Kept(NamedTuple):
    """A reading that became a row."""

    time_utc_ms: int
    node: str
    bay: int
    stream: Stream
    row: list[int]


@cache
def van_duty_w(seed: int) -> tuple[float, ...]:
    """Return what a van of two modules asks of one of them while it delivers (W, negative: drawn), every three seconds.

    Recorded from a van that drives for six hours; a life repeats it.
    """
    random = make_random(seed, "duty")
    modules: list[Module | None] = [Module(format_code(serial=n), random, soc=0.97) for n in range(2)]
    city = City(seed)
    van = Van("duty", modules, city, random, start=random.choice(city.middle_crossings()))
    duty = []
    for _ in range(int(DUTY_S / BUS_STEP_S)):
        before_j = van.driven_j + van.auxiliary_j
        van.step(BUS_STEP_S)
        duty.append((before_j - van.driven_j - van.auxiliary_j) / BUS_STEP_S / len(modules))
    return tuple(duty)


class ModuleLife:
    """Passes one module through what it is told to do, and keeps the rows.

    `signals` are those that its BMS tells (None: all that the catalogue has).
    """

    def __init__(
        self,
        module: Module,
        *,
        seed: int = 1,
        power_factor: float = 1.0,
        signals: Iterable[str] | None = None,
        begin_utc_ms: int = BEGIN_UTC_MS,
    ) -> None:
        self.module = module
        self.time_s = 0.0
        self.kept: list[Kept] = []
        self.charges = 0  # how often it was charged until full
        self._duty_w = [power * power_factor for power in van_duty_w(seed % 3)]
        self._random = make_random(seed, "life")
        self._duty_at = self._random.randrange(len(self._duty_w))
        self._begin_utc_ms = begin_utc_ms
        self._told = None if signals is None else frozenset(signals)
        self._weather = Weather()
        self._reporters = {stream.name: Reporter(stream) for stream in (MODULE, CELLS)}
        self._cells_due_s = 0.0
        self._place = ("van-001", 1)
        self._slot = Slot()

    @property
    def now_utc_ms(self) -> int:
        """Return the time that the life has come to."""
        return self._begin_utc_ms + round(self.time_s * 1000)

    def live(self, days: float, *, soc_low: tuple[float, float] = (0.06, 0.45), rest_share: float = 0.6) -> None:
        """Drive down to some state of charge, perhaps stand for hours, be swapped, charged, stored; again and again."""
        end_s, random = self.time_s + days * 86400.0, self._random
        while self.time_s < end_s:
            self.drive(random.uniform(*soc_low))
            if random.random() < rest_share:
                self.rest(random.uniform(0.7, 9.0) * 3600.0)
            self.move("station-001", random.randrange(1, 6))
            self.charge()
            self.rest(random.uniform(0.3, 7.0) * 3600.0)
            self.move("van-001", 1)

    def drive(self, soc_end: float, time_s_max: float = 12 * 3600.0) -> None:
        """Do what the van asks for until the BMS says that so much is left."""
        until_s = self.time_s + time_s_max
        while self.time_s < until_s and self.module.soc_pct > 100.0 * soc_end and self.module.discharge_switch:
            power_w = self._duty_w[self._duty_at]
            self._duty_at = (self._duty_at + 1) % len(self._duty_w)
            cells = self.module.cells
            source_v, ohm = cells.source_v, cells.source_resistance_ohm(BUS_STEP_S)
            root = source_v * source_v + 4.0 * ohm * power_w
            current_a = (root**0.5 - source_v) / (2.0 * ohm) if root > 0 else -source_v / (2.0 * ohm)
            if current_a > 0 and not self.module.charge_switch:
                current_a = 0.0
            self.hold(current_a, BUS_STEP_S)

    def charge(self) -> None:
        """Sit in a slot until it is full."""
        slot = self._slot
        slot.put(self.module)
        fine_until_s, state = self.time_s + FINE_S, -1
        while slot.charger_state != FULL:
            if slot.charger_state != state:
                state, fine_until_s = slot.charger_state, self.time_s + FINE_S
            is_fine = self.time_s < fine_until_s or state != CHARGING or slot.charger_voltage_v > FINE_FROM_V
            step_s = POLL_S if is_fine and slot.charger_voltage_v < CHARGE_V else CHARGE_STEP_S
            slot.step(self._weather.temperature_c(self.time_s), step_s)
            self._poll(step_s)
        slot.take()
        self.module.cells.cooling = SLOT_COOLING
        self.charges += 1
        self._hold_fine()

    def rest(self, time_s: float) -> None:
        """Stand without a current."""
        self._hold_fine()
        until_s = self.time_s + time_s - FINE_S
        while self.time_s < until_s:
            self.hold(0.0, min(REST_STEP_S, until_s - self.time_s))

    def move(self, node: str, bay: int, time_s: float = _SWAP_S) -> None:
        """Be carried to another place, which takes a while that nobody reads."""
        self._place = (node, bay)
        self.be_unread(time_s)
        self.module.cells.cooling = SLOT_COOLING if node.startswith("station") else 1.0

    def be_unread(self, time_s: float, current_a: float = 0.0) -> None:
        """Let time pass in which nobody reads the module."""
        for reporter in self._reporters.values():
            reporter.forget()
        for _ in range(round(time_s / CHARGE_STEP_S)):
            self._advance(current_a, CHARGE_STEP_S)
            self.time_s += CHARGE_STEP_S

    def hold(self, current_a: float, dt_s: float) -> None:
        """Hold a current, read the module one poll later."""
        self._advance(current_a, dt_s)
        self._poll(dt_s)

    def _hold_fine(self) -> None:
        for _ in range(round(FINE_S / POLL_S)):
            self.hold(0.0, POLL_S)

    def _advance(self, current_a: float, dt_s: float) -> None:
        self.module.cells.surroundings_c = self._weather.temperature_c(self.time_s)
        self.module.advance(current_a, dt_s)
        self.module.update(dt_s)

    def _poll(self, dt_s: float) -> None:
        """Read what came of the step at the first poll in it: from then on nothing changes until the next step."""
        seen_s = self.time_s + min(POLL_S, dt_s)
        time_utc_ms = self._begin_utc_ms + round(seen_s * 1000)
        self.time_s += dt_s
        self._keep(time_utc_ms, MODULE, self._tell(module_row(self.module)))
        if seen_s >= self._cells_due_s:
            self._cells_due_s = seen_s + CELLS_POLL_S
            self._keep(time_utc_ms, CELLS, cells_row(self.module))

    def _keep(self, time_utc_ms: int, stream: Stream, row: list[int]) -> None:
        if self._reporters[stream.name].keeps(time_utc_ms, row):
            self.kept.append(Kept(time_utc_ms, *self._place, stream, row))

    def _tell(self, row: list[int]) -> list[int]:
        if self._told is None:
            return row
        silent = not_available(MODULE.signals)
        return [
            value if signal.name in self._told else silent[n]
            for n, (signal, value) in enumerate(zip(MODULE.signals, row, strict=True))
        ]


def make_module(seed: int, *, soc: float = 0.97, health_pct: float | None = None) -> Module:
    """Return a module whose cells and sensor errors follow from `seed`."""
    random = make_random(seed, "module")
    health = random.uniform(90.0, 99.5) if health_pct is None else health_pct
    return Module(format_code(serial=seed), random, soc=soc, health_pct=health, cycles=int((100.0 - health) * 110.0))


def frame_rows(kept: Iterable[Kept], code: str, *, fleet: str = "test", journal: int = 1) -> Iterator[FrameRows]:
    """Yield rows as sinks take them: frames of one stream and place, numbered in each node's `journal`."""
    sources: dict[str, FrameSource] = {}
    ordered = sorted(kept, key=lambda one: (one.stream.id, one.time_utc_ms))
    for (stream, node, bay), group in groupby(ordered, key=lambda one: (one.stream, one.node, one.bay)):
        rows = list(group)
        source = sources.setdefault(node, FrameSource(fleet, node, journal=journal))
        for n in range(0, len(rows), ROWS_PER_FRAME):
            part = rows[n : n + ROWS_PER_FRAME]
            source.anchor_utc_ms = part[0].time_utc_ms - 1000
            timed = [(one.time_utc_ms - source.anchor_utc_ms, one.row) for one in part]
            data = source.frame(timed, stream=stream, bay=bay, owner=code)
            yield read_rows(SpooledFrame(0, fleet, node, source.anchor_utc_ms, TIME_NTP, 0, data))
