"""Lives of simulated modules in a store, and what is true of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import exp

from swapline_bench.battery import CAPACITY_NOMINAL_AH, OHMIC_OHM, POLARISATION_OHM, POLARISATION_S
from swapline_bench.module import Module
from swapline_bench.module_life import Kept, ModuleLife, make_module
from swapline_gateway.battery.record import Place
from swapline_gateway.battery.resistance import PULSE_MS
from swapline_wire.catalogue import FORMATS, MODULE, Stream
from tests.gateway.battery.reading_store import Reading, ReadingStore

FLEET = "test"
# A BMS without counters, as most tell none or a coarse one.
WITHOUT_COUNTERS = frozenset(signal.name for signal in MODULE.signals) - {
    "charge_in_ah",
    "charge_out_ah",
    "energy_in_kwh",
    "energy_out_kwh",
}


@dataclass(frozen=True)
class Truth:
    """What is true of a module, from the books of its cells."""

    energy_in_kwh: float
    energy_out_kwh: float
    charge_in_ah: float
    charge_out_ah: float
    equivalent_full_cycles: float
    capacity_ah: float
    resistance_mohm: float  # at 25 degC and mid state of charge, 10 s after a step


def truth_of(module: Module) -> Truth:
    cells = module.cells
    pulse_ohm = OHMIC_OHM + POLARISATION_OHM * (1.0 - exp(-PULSE_MS / 1000 / POLARISATION_S))
    return Truth(
        cells.energy_gross_in_j / 3.6e6,
        cells.energy_gross_out_j / 3.6e6,
        cells.charge_in_ah,
        cells.charge_out_ah,
        (cells.charge_in_ah + cells.charge_out_ah) / 2 / CAPACITY_NOMINAL_AH,
        cells.capacity_min_ah,
        1000.0 * pulse_ohm * sum(cells.resistance_share) * cells.resistance_growth,
    )


def scaled(kept: Iterable[Kept], stream: Stream) -> Iterator[Reading]:
    """Yield readings as a store gives them: scaled values, None for the codes that say "no value"."""
    signals = [(s.name, 10**s.decimals, FORMATS[s.format][2]) for s in stream.signals]
    for one in kept:
        if one.stream.name == stream.name:
            values = {
                name: None if raw == none else raw / scale
                for (name, scale, none), raw in zip(signals, one.row, strict=True)
            }
            yield one.time_utc_ms, Place(FLEET, one.node, one.bay), values


def live(seed: int, days: float, signals: Iterable[str] | None = None) -> ModuleLife:
    """Pass a module through days of a van with one bay: it takes twice what each of two modules does."""
    life = ModuleLife(make_module(seed), seed=seed, power_factor=2.0, signals=signals)
    life.live(days, soc_low=(0.05, 0.35))
    return life


def store_of(life: ModuleLife, streams: Iterable[Stream]) -> ReadingStore:
    store = ReadingStore()
    for stream in streams:
        store.add(life.module.code, scaled(life.kept, stream), stream.name)
    return store
