"""One LFP cell on paper: open-circuit voltage, resistance and ageing, from published figures.

Open-circuit voltage: the closed-form half-cell potentials of Safari and Delacourt, J. Electrochem. Soc. 158 (2011)
A562, doi:10.1149/1.3567007 (graphite and LiFePO4, fitted to a commercial 2.3 Ah cell), between the lithiation limits
that Schimpe et al., J. Electrochem. Soc. 165 (2018) A181, doi:10.1149/2.1181714jes, give for a 3 Ah LFP cell.
Resistance over temperature: Arrhenius with 20 kJ/mol, our choice between ohmic (weaker) and charge transfer (stronger).
Capacity fade: Wang et al., J. Power Sources 196 (2011) 3942, doi:10.1016/j.jpowsour.2010.11.134, their law for C/2.
"""

from math import exp, tanh

GAS_CONSTANT_J_PER_MOL_K = 8.314
KELVIN_AT_0_C = 273.15

# Lithiation of both electrodes at 0 % and 100 % state of charge (Schimpe 2018).
_GRAPHITE_EMPTY, _GRAPHITE_FULL = 0.0085, 0.78
_LFP_EMPTY, _LFP_FULL = 0.916, 0.045

# The table reaches past both ends, because a weak cell of a string does too; out there the voltage runs away linearly.
SOC_MIN, SOC_MAX = -0.05, 1.05
SOC_STEP = 0.001
_SLOPE_BELOW_V, _SLOPE_ABOVE_V = 20.0, 8.0  # volts per unit of SoC beyond 0 and 1

RESISTANCE_ACTIVATION_J_PER_MOL = 20000.0
REFERENCE_K = 298.15

# Wang 2011: loss in % = B exp(-Ea / RT) Ah^z, Ah through a cell of 2 Ah nominal.
_FADE_B, _FADE_EA_J_PER_MOL, _FADE_Z = 31630.0, 31700.0 - 370.3 * 0.5, 0.55
_FADE_CELL_AH = 2.0


def graphite_potential_v(lithiation: float) -> float:
    """Return the graphite electrode's potential against lithium (Safari and Delacourt 2011)."""
    x = lithiation
    return (
        0.6379
        + 0.5416 * exp(-305.5309 * x)
        + 0.044 * tanh(-(x - 0.1958) / 0.1088)
        - 0.1978 * tanh((x - 1.0571) / 0.0854)
        - 0.6875 * tanh((x + 0.0117) / 0.0529)
        - 0.0175 * tanh((x - 0.5692) / 0.0875)
    )


def lfp_potential_v(lithiation: float) -> float:
    """Return the LiFePO4 electrode's potential against lithium (Safari and Delacourt 2011)."""
    z = 1.0 - lithiation
    return (
        3.4323
        - 0.8428 * exp(-80.2493 * z**1.3198)
        - 3.2474e-6 * exp(20.2645 * z**3.8003)
        + 3.2482e-6 * exp(20.2646 * z**3.7995)
    )


def open_circuit_voltage_v(soc: float) -> float:
    """Return the rest voltage of a cell at `soc` (0..1; beyond, a steep line)."""
    inside = min(max(soc, 0.0), 1.0)
    graphite = graphite_potential_v(_GRAPHITE_EMPTY + inside * (_GRAPHITE_FULL - _GRAPHITE_EMPTY))
    lfp = lfp_potential_v(_LFP_EMPTY + inside * (_LFP_FULL - _LFP_EMPTY))
    beyond = _SLOPE_BELOW_V * min(soc, 0.0) + _SLOPE_ABOVE_V * max(soc - 1.0, 0.0)
    return lfp - graphite + beyond


def _build_tables() -> tuple[list[float], list[float], list[float]]:
    """Tabulate voltage, its rise per step, and its integral over SoC: exact, as the table is linear between points."""
    count = round((SOC_MAX - SOC_MIN) / SOC_STEP)
    voltage = [open_circuit_voltage_v(SOC_MIN + k * SOC_STEP) for k in range(count + 1)]
    rise = [voltage[k + 1] - voltage[k] for k in range(count)]
    integral = [0.0]
    for k in range(count):
        integral.append(integral[-1] + SOC_STEP * (voltage[k] + voltage[k + 1]) / 2)
    return voltage, rise, integral


VOLTAGE_V, RISE_V, INTEGRAL_V = _build_tables()


def resistance_factor(soc: float, temperature_c: float) -> float:
    """Return resistance relative to 25 degC and mid SoC: Arrhenius, and a rise towards empty (and a little to full)."""
    kelvin = temperature_c + KELVIN_AT_0_C
    arrhenius = exp(RESISTANCE_ACTIVATION_J_PER_MOL / GAS_CONSTANT_J_PER_MOL_K * (1.0 / kelvin - 1.0 / REFERENCE_K))
    soc = min(max(soc, 0.0), 1.0)
    return arrhenius * (1.0 + 0.8 * exp(-soc / 0.07) + 0.15 * exp((soc - 1.0) / 0.05))


def fade_pct(throughput_ah: float, capacity_ah: float, temperature_c: float) -> float:
    """Return the capacity lost (%) after a throughput at one temperature (Wang 2011, C/2)."""
    through_cell_ah = throughput_ah * _FADE_CELL_AH / capacity_ah
    rate = _FADE_B * exp(-_FADE_EA_J_PER_MOL / (GAS_CONSTANT_J_PER_MOL_K * (temperature_c + KELVIN_AT_0_C)))
    return float(rate * through_cell_ah**_FADE_Z)


def continue_fade_pct(lost_pct: float, throughput_ah: float, *, capacity_ah: float, temperature_c: float) -> float:
    """Return the capacity lost (%) after a further throughput, starting from what is lost already.

    The law is a power of the whole throughput, so the past is first turned into the throughput that would have cost as
    much at today's temperature.
    """
    unit_pct = fade_pct(capacity_ah, capacity_ah, temperature_c)  # after one capacity's worth of throughput
    equivalent_ah = capacity_ah * (lost_pct / unit_pct) ** (1.0 / _FADE_Z)
    return fade_pct(equivalent_ah + throughput_ah, capacity_ah, temperature_c)
