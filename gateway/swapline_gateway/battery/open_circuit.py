"""Open-circuit voltage of LFP cells over state of charge, how steep it is, and how far it can be trusted.

The curve: difference of the half-cell fits of Safari and Delacourt, J. Electrochem. Soc. 158 (2011) A562,
doi:10.1149/1.3567007, between the lithiation limits of Schimpe et al., J. Electrochem. Soc. 165 (2018) A181,
doi:10.1149/2.1181714jes, at 25 degC. Cells of other makers lie beside it: a measured Sony US26650 is 10 to 23 mV lower
between 12 and 70 % (TUM, in SimSES), hence `CURVE_SIGMA_V`. On the plateau that is ten per cent of charge and more;
below the knee at 10 % it is less than one. So only deep rests tell a state of charge.

Hysteresis: after a discharge a cell stays below the middle of both branches, by half of a gap of 5 to 25 mV.
"""

from bisect import bisect_right
from typing import NamedTuple

# Volts at 0, 1, 2, ... of `_SOC_PCT`.
_SOC_PCT = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 20, 25, 30, 35, 40, 50, 60, 70, 80, 90, 95, 98, 100)
_VOLTS = (
    2.7081,
    2.8409,
    2.9253,
    2.9923,
    3.0463,
    3.0893,
    3.1231,
    3.1496,
    3.1702,
    3.1862,
    3.1987,
    3.2086,
    3.2165,
    3.2285,
    3.2374,
    3.2449,
    3.2518,
    3.2684,
    3.2835,
    3.2948,
    3.3022,
    3.3090,
    3.3134,
    3.3239,
    3.3381,
    3.3448,
    3.3520,
    3.3744,
    3.4219,
)
CURVE_SIGMA_V = 0.015
HYSTERESIS_V, HYSTERESIS_SIGMA_V = 0.008, 0.004
SETTLING_SIGMA_V = 0.004  # left after half an hour
MEASURED_SIGMA_V = 0.002
LFP_CELL_V_MAX = 3.8  # no LFP cell is ever charged beyond: a higher one is of another chemistry


class Charge(NamedTuple):
    """A state of charge told by a voltage, with its standard uncertainty; shares of 1."""

    soc: float
    sigma: float


def volts_at(soc: float) -> float:
    """Return the open-circuit voltage at a state of charge (0 to 1)."""
    n = min(max(bisect_right(_SOC_PCT, 100 * soc), 1), len(_SOC_PCT) - 1)
    share = (100 * soc - _SOC_PCT[n - 1]) / (_SOC_PCT[n] - _SOC_PCT[n - 1])
    return _VOLTS[n - 1] + share * (_VOLTS[n] - _VOLTS[n - 1])


def soc_at(volts: float) -> float:
    """Return the state of charge (0 to 1; beyond, as the curve's ends go on) with this open-circuit voltage."""
    n = min(max(bisect_right(_VOLTS, volts), 1), len(_VOLTS) - 1)
    share = (volts - _VOLTS[n - 1]) / (_VOLTS[n] - _VOLTS[n - 1])
    return (_SOC_PCT[n - 1] + share * (_SOC_PCT[n] - _SOC_PCT[n - 1])) / 100


def charge_after_discharge(volts: float, sigma_v: float) -> Charge:
    """Return what a voltage after a discharge says; `sigma_v` is what measuring and settling leave open.

    Half of the difference at one sigma to both sides, so that a knee within reach counts.
    """
    middle_v = volts + HYSTERESIS_V
    sigma_v = (sigma_v**2 + CURVE_SIGMA_V**2 + HYSTERESIS_SIGMA_V**2) ** 0.5
    spread = (soc_at(middle_v + sigma_v) - soc_at(middle_v - sigma_v)) / 2
    return Charge(soc_at(middle_v), spread)
