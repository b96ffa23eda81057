"""Sixteen LFP cells in series: charge, voltage, polarisation, hysteresis, heat; every joule and coulomb is in a book.

A step holds the current constant and integrates what follows from it in closed form, so the books balance to
rounding at any step size:

    energy in at the terminals = change of chemical energy + change of polarisation and hysteresis energy + heat
    heat                       = change of thermal energy + heat given to the surroundings

Cells differ by seed: capacity, resistance, state of charge, self-discharge. All cells see the same current, so one
polarisation current and one hysteresis state serve the string, scaled by each cell's resistance.

Figures: a 518 Ah cell is scaled from the data sheet of the 202 Ah cell LP54173207 (Lishen, 2020-03-09: 3.95 kg, AC
resistance at most 0.2 mohm, 2.5..3.65 V, 1 C continuous). Taken as direct-current resistance over some minutes: about
three times the AC figure. Hysteresis: of the order that Roscher and Sauer, J. Power Sources 196 (2011) 331,
doi:10.1016/j.jpowsour.2010.06.098, report for LFP. Specific heat: 1000 J/(kg K), usual for large LFP cells.
"""

from collections.abc import Iterable
from math import exp
from random import Random

from . import lfp

CELLS = 16
SENSORS = 4
CELLS_PER_SENSOR = CELLS // SENSORS
CAPACITY_NOMINAL_AH = 518.0
OHMIC_OHM = 0.000110  # each cell, 25 degC, mid SoC
POLARISATION_OHM = 0.000150
POLARISATION_S = 60.0
HYSTERESIS_V = 0.012
HYSTERESIS_CAPACITY_SHARE = 0.04  # of the capacity, to turn from one branch to the other
CELL_KG = 10.13
SPECIFIC_HEAT_J_PER_KG_K = 1000.0
NODE_J_PER_K = CELLS_PER_SENSOR * CELL_KG * SPECIFIC_HEAT_J_PER_KG_K
NEIGHBOUR_W_PER_K = 12.0  # between two groups of four cells
SURFACE_W_PER_K = (3.2, 1.9, 1.9, 3.4)  # each group to the surroundings: the ends have more surface
BLEED_OHM = 33.0  # passive balancing resistor

_FIRST, _SCALE, _LAST = lfp.SOC_MIN, 1.0 / lfp.SOC_STEP, len(lfp.RISE_V) - 1


class CellString:
    """State and books of one string; `current_a` is positive into the string."""

    def __init__(self, random: Random, *, soc: float, health_pct: float = 100.0, temperature_c: float = 25.0) -> None:
        spread = [random.gauss(1.0, 0.006) for _ in range(CELLS)]
        scale = CAPACITY_NOMINAL_AH * health_pct / 100.0 / min(spread)  # the weakest cell is what the label promises
        self.capacity_ah = [scale * s for s in spread]
        self.resistance_share = [max(0.7, random.gauss(1.0, 0.04)) for _ in range(CELLS)]
        self.leak_a = [max(0.002, random.gauss(0.010, 0.003)) for _ in range(CELLS)]
        self.bleed_ohm = [0.0] * CELLS  # 0: the balancing switch of that cell is open
        self.charge_ah = [soc * c + random.gauss(0.0, 0.0015) * c for c in self.capacity_ah]
        self.node_temperature_c = [temperature_c] * SENSORS
        self.surroundings_c = temperature_c
        self.cooling = 1.0  # surface heat transfer relative to still air
        self.cleanness = 1.0  # of the cooling surfaces: below 1 less of the heat gets out, wherever the module sits
        self.current_a = 0.0
        self.lost_pct = 100.0 - health_pct
        self.resistance_growth = 1.0 + 1.5 * self.lost_pct / 100.0
        self._set_shares()
        self._reset_electrical_state()
        self._open_books()

    def _set_shares(self) -> None:
        share = self.resistance_share
        self._share_sum = sum(share)
        self._heat_share = [sum(share[n * 4 : n * 4 + 4]) / self._share_sum for n in range(SENSORS)]
        self._per_capacity = [1.0 / c for c in self.capacity_ah]
        self.capacity_min_ah = min(self.capacity_ah)

    def _reset_electrical_state(self) -> None:
        self._polarisation_a = 0.0
        self._hysteresis = 0.0  # -1 discharged branch .. 1 charged branch
        self._integral = [0.0] * CELLS
        self.open_circuit_v = [0.0] * CELLS
        self._locate_cells()
        self._factor = self._resistance_factor()

    def _open_books(self) -> None:
        self.energy_in_j = 0.0  # at the terminals, net
        self.energy_gross_in_j = 0.0  # at the terminals, while charging
        self.energy_gross_out_j = 0.0
        self.charge_in_ah = 0.0
        self.charge_out_ah = 0.0
        self.heat_j = 0.0
        self.heat_lost_j = 0.0
        self.balancing_j = 0.0  # burnt in the balancing resistors, outside the cells
        self.aged_j = 0.0  # chemical energy that ageing made unreachable
        self.bled_ah = [0.0] * CELLS  # through balancing and self-discharge

    def raise_resistance(self, factor: float, *, cells: Iterable[int] = range(CELLS)) -> None:
        """Make `cells` (from 0) worse by `factor`, as ageing and bad joints do."""
        for n in cells:
            self.resistance_share[n] *= factor
        self._set_shares()

    def shift_charge(self, charge_ah: float, *, cells: Iterable[int] = range(CELLS)) -> None:
        """Let `cells` (from 0) hold so much more or less than they do. The books begin anew."""
        for n in cells:
            self.charge_ah[n] += charge_ah
        self._locate_cells()
        self._open_books()

    def leak(self, current_a: float, *, cell: int) -> None:
        """Give `cell` (from 0) a soft short: it loses `current_a` at all times, as after lithium plating."""
        self.leak_a[cell] = current_a

    # What the string is worth now.

    @property
    def soc(self) -> float:
        """Return the true state of charge: that of the cell that will be empty first (0..1)."""
        return min([q * p for q, p in zip(self.charge_ah, self._per_capacity, strict=True)])

    @property
    def temperature_c(self) -> float:
        return sum(self.node_temperature_c) / SENSORS

    @property
    def chemical_j(self) -> float:
        """Return the integral of voltage over charge, from the table's lower end."""
        return 3600.0 * sum([c * g for c, g in zip(self.capacity_ah, self._integral, strict=True)])

    @property
    def transient_j(self) -> float:
        """Return what polarisation and hysteresis hold and will turn into heat."""
        polarisation = 0.5 * POLARISATION_S * self._polarisation_ohm * self._polarisation_a**2
        return polarisation + 0.5 * CELLS * HYSTERESIS_V * self._hysteresis_as * self._hysteresis**2

    @property
    def thermal_j(self) -> float:
        return NODE_J_PER_K * sum(self.node_temperature_c)

    @property
    def _ohmic_ohm(self) -> float:
        return OHMIC_OHM * self._share_sum * self._factor

    @property
    def _polarisation_ohm(self) -> float:
        return POLARISATION_OHM * self._share_sum * self._factor

    @property
    def _hysteresis_as(self) -> float:
        return HYSTERESIS_CAPACITY_SHARE * CAPACITY_NOMINAL_AH * 3600.0

    @property
    def source_v(self) -> float:
        """Return the terminal voltage that the string would have at once without current."""
        transient = self._polarisation_ohm * self._polarisation_a + CELLS * HYSTERESIS_V * self._hysteresis
        return sum(self.open_circuit_v) + transient

    def source_resistance_ohm(self, dt_s: float) -> float:
        """Return the mean voltage drop of a step per ampere: ohmic, and half of the polarisation that builds up."""
        return self._ohmic_ohm + 0.5 * self._polarisation_ohm * (1.0 - exp(-dt_s / POLARISATION_S))

    @property
    def voltage_v(self) -> float:
        return self.source_v + self._ohmic_ohm * self.current_a

    def cell_voltages_v(self) -> list[float]:
        """Return every cell's terminal voltage with the current of the last step."""
        drop = self._factor * (OHMIC_OHM * self.current_a + POLARISATION_OHM * self._polarisation_a)
        shift = HYSTERESIS_V * self._hysteresis
        return [v + drop * r + shift for v, r in zip(self.open_circuit_v, self.resistance_share, strict=True)]

    # What time does to it.

    def advance(self, current_a: float, dt_s: float) -> float:
        """Hold `current_a` for `dt_s`; return the energy that went in at the terminals (J)."""
        self.current_a = current_a
        heat = self._refactor()
        if current_a:
            charge_as = current_a * dt_s
            chemical = self._charge_cells(charge_as / 3600.0)
            ohmic = self._ohmic_ohm * current_a * charge_as
            hysteresis_in, hysteresis_heat = self._turn_hysteresis(charge_as)
            polarisation_in, polarisation_heat = self._polarise(current_a, dt_s)
            energy = chemical + ohmic + hysteresis_in + polarisation_in
            heat += ohmic + hysteresis_heat + polarisation_heat
            self._write_books(charge_as / 3600.0, energy)
        else:
            energy = 0.0
            heat += self._polarise(0.0, dt_s)[1]
        self._warm(heat, dt_s)
        return energy

    def _resistance_factor(self) -> float:
        soc = sum(self.charge_ah) / sum(self.capacity_ah)
        return self.resistance_growth * lfp.resistance_factor(soc, self.temperature_c)

    def _refactor(self) -> float:
        """Take resistance at today's temperature; return the polarisation energy that this turns into heat (J)."""
        before = self._polarisation_ohm
        self._factor = self._resistance_factor()
        return 0.5 * POLARISATION_S * (before - self._polarisation_ohm) * self._polarisation_a**2

    def _charge_cells(self, charge_ah: float) -> float:
        """Put `charge_ah` through all cells; return the chemical energy gained (J)."""
        self.charge_ah = [q + charge_ah for q in self.charge_ah]
        return self._locate_cells()

    def _locate_cells(self) -> float:
        """Find voltage and energy of all cells at their charge; return the chemical energy gained since then (J)."""
        voltage, rise, integral, step, last = lfp.VOLTAGE_V, lfp.RISE_V, lfp.INTEGRAL_V, lfp.SOC_STEP, _LAST
        open_circuit, energies = [], []
        gained = 0.0
        for charge, per_capacity, capacity, before in zip(
            self.charge_ah, self._per_capacity, self.capacity_ah, self._integral, strict=True
        ):
            x = (charge * per_capacity - _FIRST) * _SCALE
            k = int(x)
            if k > last:
                k = last
            elif k < 0:
                k = 0
            x -= k
            low, up = voltage[k], rise[k]
            energy = integral[k] + step * x * (low + 0.5 * x * up)
            gained += capacity * (energy - before)
            open_circuit.append(low + x * up)
            energies.append(energy)
        self.open_circuit_v, self._integral = open_circuit, energies
        return 3600.0 * gained

    def _polarise(self, current_a: float, dt_s: float) -> tuple[float, float]:
        """Let the RC pair follow the current: return the energy taken in and the part of it that became heat (J)."""
        before, decay = self._polarisation_a - current_a, exp(-dt_s / POLARISATION_S)
        resistance = self._polarisation_ohm
        linear = POLARISATION_S * before * (1.0 - decay)
        square = 0.5 * POLARISATION_S * before * before * (1.0 - decay * decay)
        self._polarisation_a = current_a + before * decay
        taken = resistance * current_a * (current_a * dt_s + linear)
        return taken, resistance * (current_a * current_a * dt_s + 2.0 * current_a * linear + square)

    def _turn_hysteresis(self, charge_as: float) -> tuple[float, float]:
        """Move towards the branch of this direction: the law of the RC pair, over charge instead of time (J, J)."""
        sign = 1.0 if charge_as > 0 else -1.0
        size, scale = abs(charge_as), self._hysteresis_as
        before, decay = self._hysteresis - sign, exp(-abs(charge_as) / scale)
        linear = scale * before * (1.0 - decay)
        square = 0.5 * scale * before * before * (1.0 - decay * decay)
        self._hysteresis = sign + before * decay
        taken = CELLS * HYSTERESIS_V * sign * (sign * size + linear)
        return taken, CELLS * HYSTERESIS_V * (size + 2.0 * sign * linear + square)

    def _write_books(self, charge_ah: float, energy_j: float) -> None:
        self.energy_in_j += energy_j
        if charge_ah > 0:
            self.charge_in_ah += charge_ah
            self.energy_gross_in_j += energy_j
        else:
            self.charge_out_ah -= charge_ah
            self.energy_gross_out_j -= energy_j

    def _warm(self, heat_j: float, dt_s: float) -> None:
        """Spread heat over the four groups, let them exchange it and give it away."""
        before = self.node_temperature_c
        gain = [heat_j * share for share in self._heat_share]
        for n in range(SENSORS - 1):
            flow = NEIGHBOUR_W_PER_K * (before[n] - before[n + 1]) * dt_s
            gain[n] -= flow
            gain[n + 1] += flow
        for n in range(SENSORS):
            lost = SURFACE_W_PER_K[n] * self.cooling * self.cleanness * (before[n] - self.surroundings_c) * dt_s
            gain[n] -= lost
            self.heat_lost_j += lost
        self.node_temperature_c = [t + g / NODE_J_PER_K for t, g in zip(before, gain, strict=True)]
        self.heat_j += heat_j

    def bleed(self, dt_s: float) -> None:
        """Let self-discharge (heat in the cell) and closed balancing switches (heat outside) take their charge."""
        leaked_j = balanced_j = 0.0
        for n in range(CELLS):
            voltage = self.open_circuit_v[n]
            through_a = voltage / self.bleed_ohm[n] if self.bleed_ohm[n] else 0.0
            taken_ah = (self.leak_a[n] + through_a) * dt_s / 3600.0
            before = self._integral[n]
            self.charge_ah[n] -= taken_ah
            self.bled_ah[n] += taken_ah
            energy_j = 3600.0 * self.capacity_ah[n] * (before - self._energy_at(n))
            outside_j = energy_j * through_a / (self.leak_a[n] + through_a) if through_a else 0.0
            balanced_j += outside_j
            leaked_j += energy_j - outside_j
        self._locate_cells()
        self.balancing_j += balanced_j
        self.heat_j += leaked_j
        self.node_temperature_c = [t + leaked_j / SENSORS / NODE_J_PER_K for t in self.node_temperature_c]

    def _energy_at(self, cell: int) -> float:
        x = (self.charge_ah[cell] * self._per_capacity[cell] - _FIRST) * _SCALE
        k = min(max(int(x), 0), _LAST)
        x -= k
        return lfp.INTEGRAL_V[k] + lfp.SOC_STEP * x * (lfp.VOLTAGE_V[k] + 0.5 * x * lfp.RISE_V[k])

    def age(self, throughput_ah: float) -> None:
        """Let a throughput cost capacity and raise resistance (1.5 % for each % of capacity, our assumption)."""
        before_j, before_pct = self.chemical_j, self.lost_pct
        self.lost_pct = lfp.continue_fade_pct(
            before_pct, throughput_ah, capacity_ah=CAPACITY_NOMINAL_AH, temperature_c=self.temperature_c
        )
        keep = (100.0 - self.lost_pct) / (100.0 - before_pct)
        self.capacity_ah = [c * keep for c in self.capacity_ah]
        self.resistance_growth = 1.0 + 1.5 * self.lost_pct / 100.0
        self._set_shares()
        self._locate_cells()
        self.aged_j += before_j - self.chemical_j
