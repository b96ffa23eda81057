"""Capacity from charge between two moments at which the voltage says how full a module is.

`C = Q / (s_full - s_low)`: Q is what was read out of (or into) the module between a full moment and a low one. Full is
the end of charging; low is a rest of half an hour, or a light discharge, below the knee of the weakest cell's
open-circuit voltage. It is the weakest cell's capacity: that one is empty first, and balancing fills it as well.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import stdev
from typing import NamedTuple

from .open_circuit import LFP_CELL_V_MAX, MEASURED_SIGMA_V, SETTLING_SIGMA_V, charge_after_discharge
from .record import Estimate
from .rest import FULL, Anchor, Rest
from .span import SETTLED_MS, Span

FULL_SOC, FULL_SIGMA = 1.0, 0.007  # at 3.45 V and more with less than C/15: cells differ in how full that is
CURRENT_SIGMA = 0.005  # gain of the BMS's current sensor, common to all samples: 0.5 % is usual for a shunt
SIGMA_MAX = 0.02  # of the capacity: what is known less well is not known yet
CHARGE_SHARE_MIN = 0.5  # of a capacity: shorter ways to full tell too little
APART_MS_MAX = 3 * 86_400_000  # self-discharge is not read
UNKNOWN_S_MAX = 1200.0  # between the two, without a reading: a swap takes some minutes
UNKNOWN_C_SIGMA = 0.1  # of the current in that time
GOOD = 1.5  # times the best sample's uncertainty: worse ones would add theirs, and say nothing new
SAMPLES_MAX = 12  # the latest: a capacity changes over months
CELL_DROP_V = 0.15  # drop of a cell in volts at 1 C, ohmic and polarisation, taken where no better is known
DROP_SIGMA = 0.5  # of that drop
LOW_SOC_MAX = 0.2
LFP, UNKNOWN = "lithium iron phosphate", "unknown"  # see `code.ModuleCode.chemistry`
_WAY = "charge between full and a rest or light load below the knee of the open-circuit voltage (LFP)"


class Moment(NamedTuple):
    """When how full."""

    time_utc_ms: int
    net_ah: float
    known_s: float
    soc: float
    sigma: float
    is_full: bool


class Sample(NamedTuple):
    """One capacity found, with its standard uncertainty."""

    time_utc_ms: int
    capacity_ah: float
    sigma_ah: float


def estimate_capacity(life: Span, chemistry: str = LFP) -> Estimate:
    """Return the capacity as of the last samples, or what is missing. `chemistry` is what the module's code says."""
    if chemistry not in (LFP, UNKNOWN) or any((rest.cell_max_v or 0.0) > LFP_CELL_V_MAX for rest in life.rests):
        return _unknown("its cells are not LFP, whose open-circuit voltage is the only one known here")
    full_ah = life.rated_ah
    if not full_ah:
        return _unknown("the BMS tells no capacity or state of health, which say what a full charge is")
    moments = sorted(_moments(life, full_ah), key=lambda moment: (moment.time_utc_ms, moment.is_full))
    samples = list(_samples(moments, full_ah))[-SAMPLES_MAX:]
    if not samples:
        return _unknown(_missing(moments))
    return _combine(samples)


def _combine(samples: Sequence[Sample]) -> Estimate:
    """Weigh the good samples; as most of their uncertainty is common to them, more of them do not make it smaller."""
    best = min(sample.sigma_ah for sample in samples)
    samples = [sample for sample in samples if sample.sigma_ah <= GOOD * best]
    weights = [(sample.capacity_ah / sample.sigma_ah) ** 2 for sample in samples]
    total = sum(weights)
    capacity_ah = sum(w * s.capacity_ah for w, s in zip(weights, samples, strict=True)) / total
    common_ah = sum(w * s.sigma_ah for w, s in zip(weights, samples, strict=True)) / total
    scatter_ah = stdev(s.capacity_ah for s in samples) / len(samples) ** 0.5 if len(samples) > 1 else 0.0
    sigma_ah = (max(common_ah, scatter_ah) ** 2 + (CURRENT_SIGMA * capacity_ah) ** 2) ** 0.5
    if sigma_ah > SIGMA_MAX * capacity_ah:
        share = 100 * sigma_ah / capacity_ah
        return _unknown(f"known to {share:.1f} % only; a rest of half an hour below 10 % of charge tells more", samples)
    return Estimate(round(capacity_ah, 2), round(sigma_ah, 2), "A.h", _WAY, len(samples))


def _unknown(reason: str, samples: Sequence[Sample] = ()) -> Estimate:
    return Estimate(None, None, "A.h", _WAY, len(samples), reason)


def _missing(moments: Sequence[Moment]) -> str:
    has_full, has_low = any(m.is_full for m in moments), any(not m.is_full for m in moments)
    if not has_full and not has_low:
        return "it was neither charged until full nor seen resting below 20 % of charge"
    if not has_low:
        return "it was not seen resting, or lightly loaded, below 20 % of charge"
    if not has_full:
        return "it was not seen being charged until full"
    return "readings are missing between full and low, or they lie more than three days apart"


def _moments(life: Span, full_ah: float) -> Iterator[Moment]:
    for anchor in life.anchors:
        if anchor.kind == FULL:
            yield Moment(anchor.time_utc_ms, anchor.net_ah, anchor.known_s, FULL_SOC, FULL_SIGMA, is_full=True)
        else:
            yield from _low(anchor, anchor.time_utc_ms, anchor.cell_min_v, anchor.current_a / full_ah, 0.0)
    for rest in life.rests:
        if rest.end_utc_ms - rest.start_utc_ms >= SETTLED_MS and rest.cell_min_v is not None:
            load_c = rest.current_a / full_ah
            yield from _low(rest, rest.end_utc_ms, rest.cell_min_v, load_c, SETTLING_SIGMA_V)


def _low(of: Rest | Anchor, time_utc_ms: int, cell_v: float, load_c: float, settling_v: float) -> Iterator[Moment]:
    drop_v = -CELL_DROP_V * load_c
    sigma_v = (MEASURED_SIGMA_V**2 + settling_v**2 + (DROP_SIGMA * drop_v) ** 2) ** 0.5
    charge = charge_after_discharge(cell_v + drop_v, sigma_v)
    if charge.soc <= LOW_SOC_MAX:
        yield Moment(time_utc_ms, of.net_ah, of.known_s, charge.soc, charge.sigma, is_full=False)


def _samples(moments: Sequence[Moment], full_ah: float) -> Iterator[Sample]:
    """Yield a capacity for each way between a full moment and the best low one before the next full one."""
    for before, after in _ways(moments):
        charge_ah = abs(after.net_ah - before.net_ah)
        apart_ms = after.time_utc_ms - before.time_utc_ms
        unknown_s = apart_ms / 1000 - (after.known_s - before.known_s)
        if apart_ms > APART_MS_MAX or unknown_s > UNKNOWN_S_MAX:
            continue
        depth = abs(after.soc - before.soc)
        if depth < CHARGE_SHARE_MIN or charge_ah < CHARGE_SHARE_MIN * full_ah / 2:
            continue
        unknown = UNKNOWN_C_SIGMA * max(unknown_s, 0.0) / 3600
        sigma = (before.sigma**2 + after.sigma**2 + unknown**2) ** 0.5 / depth
        yield Sample(after.time_utc_ms, charge_ah / depth, sigma * charge_ah / depth)


def _ways(moments: Sequence[Moment]) -> Iterator[tuple[Moment, Moment]]:
    for first, last in pairwise(_best(moments)):
        if first.is_full != last.is_full:
            yield first, last


def _best(moments: Iterable[Moment]) -> Iterator[Moment]:
    """Yield the last of full moments that follow each other, and the one of low moments that says most."""
    best: Moment | None = None
    for moment in moments:
        if best is not None and best.is_full != moment.is_full:
            yield best
            best = None
        if best is None or moment.is_full or moment.sigma < best.sigma:
            best = moment
    if best is not None:
        yield best
