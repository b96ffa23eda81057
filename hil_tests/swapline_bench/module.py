"""One exchangeable battery module: the cells of `battery.py` and the BMS that measures, counts and protects them.

What the BMS says is not the truth: its current sensor has a gain and an offset error, its SoC is a coulomb count that
is set right where the voltage says enough (full, empty), and every figure has the resolution of its registers. The
truth is in `cells` (a `CellString`) and is what an oracle compares with.
"""

from random import Random

from .battery import BLEED_OHM, CAPACITY_NOMINAL_AH, CELLS, CellString
from .protection import CHARGE_BLOCKING, DISCHARGE_BLOCKING, Measurement, Protection

CURRENT_FULL_A = 0.05 * CAPACITY_NOMINAL_AH  # below it at the charging voltage, the module is full (C/20)
VOLTAGE_FULL_V = 3.45  # mean cell, while charging
VOLTAGE_EMPTY_V = 2.80  # weakest cell, under load
BALANCE_FROM_V = 3.38
BALANCE_SPREAD_V = 0.015
BLEED_PERIOD_S = 30.0
AGE_PERIOD_S = 3600.0
DAY_S = 86400.0


def format_code(*, serial: int, day: int = 8, month: int = 3, year: int = 2026) -> str:
    """Return a module code of GB/T 34014-2017 shape: 24 characters.

    Maker (3), product `P` pack (1), chemistry `B` LFP (1), specification (2), traceability (7), production date (3:
    year, month, day, with letters after 9), serial number of that day (7). The maker's code is invented.
    """
    counting = "123456789ABCDEFGHJKLMNPRSTVWXY0"  # 0 is the 31st
    date = counting[year - 2011] + counting[month - 1] + counting[day - 1]
    return "0SLPB04" + "5180016" + date + f"{serial:07d}"


class Module:
    """A 16S LFP module of 518 Ah as its BMS reports it; plain attributes are what the serial faces read."""

    def __init__(self, code: str, random: Random, *, soc: float, health_pct: float = 97.0, cycles: int = 0) -> None:
        self.code = code  # 24 characters, GB/T 34014 shape
        self.cells = CellString(random, soc=soc, health_pct=health_pct)
        self._sensor_gain = random.gauss(1.0, 0.001)
        self._sensor_offset_a = random.gauss(0.0, 0.05)
        self._cell_offset_v = [random.gauss(0.0, 0.0007) for _ in range(CELLS)]
        self._protection = Protection()
        self._counted_ah = self.cells.soc * self.cells.capacity_min_ah
        self._bleed_due_s = self._age_due_s = self._aged_to_ah = 0.0
        self.time_factor_ageing = 1.0  # > 1: every ampere-hour ages the module as that many, 0: it does not age
        self._stuck_c: dict[int, float] = {}  # sensor -> what it has shown since it stopped moving
        self._worsening: dict[int, float] = {}  # cell -> growth of its resistance in a day, as a share
        self.is_connected = True  # what the holder asks of the switches
        self.current_a = 0.0  # positive into the module
        self.soh_pct = round(health_pct, 1)
        self.capacity_full_ah = round(self.cells.capacity_min_ah, 2)
        self.temperature_mosfet_c = self.temperature_ambient_c = 25.0
        self.insulation_kohm = round(random.uniform(3500.0, 9000.0))
        throughput_ah = cycles * CAPACITY_NOMINAL_AH
        self.charge_in_ah = throughput_ah * 1.002
        self.charge_out_ah = throughput_ah
        self.energy_in_kwh = self.charge_in_ah * 0.0539
        self.energy_out_kwh = self.charge_out_ah * 0.0521
        self.precharge_switch = False
        self.heater_switch = False
        self.charge_switch = self.discharge_switch = True
        self.balancing_mask = 0  # bit n: cell n+1 is being balanced
        self.protections = 0
        self.is_full = False
        self.update(0.0)

    @property
    def voltage_v(self) -> float:
        return round(sum(self.cell_voltages_v), 2)

    @property
    def cell_voltages_v(self) -> list[float]:
        return [round(v + e, 3) for v, e in zip(self.cells.cell_voltages_v(), self._cell_offset_v, strict=True)]

    @property
    def cell_temperatures_c(self) -> list[float]:
        measured = self.cells.node_temperature_c
        return [round(self._stuck_c.get(n, t), 1) for n, t in enumerate(measured)]

    @property
    def capacity_remaining_ah(self) -> float:
        return round(self._counted_ah, 2)

    @property
    def soc_pct(self) -> float:
        return round(min(100.0, 100.0 * self._counted_ah / self.capacity_full_ah), 1)

    @property
    def cycles(self) -> int:
        """Return equivalent full cycles as a BMS counts them: discharged charge by nominal capacity."""
        return int(self.charge_out_ah / CAPACITY_NOMINAL_AH)

    def set_soc(self, soc: float) -> None:
        """Let all cells, and the BMS's count, be as full as that: how a life in the bench begins."""
        shift_ah = (soc - self.cells.soc) * self.cells.capacity_min_ah
        self.cells.shift_charge(shift_ah)
        self._counted_ah = min(max(self._counted_ah + shift_ah, 0.0), self.capacity_full_ah)

    # Faults. A leaking cell is `cells.leak`, a hot module `cells.cleanness`.

    def stick_sensor(self, sensor: int) -> None:
        """Let a sensor (from 0) show for ever what it shows now, as one whose wire came off its cell does."""
        self._stuck_c[sensor] = self.cells.node_temperature_c[sensor]

    def worsen_cell(self, cell: int, *, share_per_day: float) -> None:
        """Let the resistance of a cell (from 0) grow from now on, as that of a joint that corrodes."""
        self._worsening[cell] = share_per_day

    def advance(self, current_a: float, dt_s: float) -> float:
        """Hold `current_a` for `dt_s`, count it; return the energy that went in at the terminals (J)."""
        energy_j = self.cells.advance(current_a, dt_s)
        measured_a = current_a * self._sensor_gain + self._sensor_offset_a if current_a else 0.0
        counted_ah = measured_a * dt_s / 3600.0
        self._counted_ah = min(max(self._counted_ah + counted_ah, 0.0), self.capacity_full_ah)
        energy_kwh = energy_j * self._sensor_gain / 3.6e6
        if counted_ah > 0:
            self.charge_in_ah += counted_ah
            self.energy_in_kwh += max(energy_kwh, 0.0)
        else:
            self.is_full = self.is_full and current_a == 0.0
            self.charge_out_ah -= counted_ah
            self.energy_out_kwh -= min(energy_kwh, 0.0)
        self.current_a = round(measured_a, 2)
        return energy_j

    def update(self, dt_s: float) -> None:
        """Let the BMS look at its cells and act, as between two polls: protect, balance, set the count right."""
        voltages = self.cell_voltages_v
        measurement = Measurement(voltages, self.cell_temperatures_c, self.cells.current_a)
        self.protections = self._protection.judge(measurement, dt_s)
        self.charge_switch = self.is_connected and not self.protections & CHARGE_BLOCKING
        self.discharge_switch = self.is_connected and not self.protections & DISCHARGE_BLOCKING
        self._set_count_right(voltages)
        self._warm_mosfet(dt_s)
        self._pass_slow_time(voltages, dt_s)

    def _set_count_right(self, voltages: list[float]) -> None:
        current_a = self.cells.current_a
        if current_a > 0 and current_a < CURRENT_FULL_A and sum(voltages) / CELLS > VOLTAGE_FULL_V:
            self._learn_capacity()
            self._counted_ah = self.capacity_full_ah
            self.is_full = True
        elif current_a < 0 and min(voltages) < VOLTAGE_EMPTY_V:
            self._counted_ah = min(self._counted_ah, 0.01 * self.capacity_full_ah)

    def _learn_capacity(self) -> None:
        """Take over the capacity that the weakest cell has now: what a learning cycle gives, to 0.1 % of health."""
        self.soh_pct = round(100.0 * self.cells.capacity_min_ah / CAPACITY_NOMINAL_AH, 1)
        self.capacity_full_ah = round(self.soh_pct * CAPACITY_NOMINAL_AH / 100.0, 2)

    def _warm_mosfet(self, dt_s: float) -> None:
        ambient_c = self.cells.surroundings_c
        steady_c = self.cells.temperature_c + 0.00012 * self.cells.current_a**2
        self.temperature_mosfet_c += (steady_c - self.temperature_mosfet_c) * min(1.0, dt_s / 240.0)
        self.temperature_ambient_c = round(ambient_c + 0.3 * (self.cells.temperature_c - ambient_c), 1)

    def _pass_slow_time(self, voltages: list[float], dt_s: float) -> None:
        self._bleed_due_s += dt_s
        self._age_due_s += dt_s
        if self._bleed_due_s >= BLEED_PERIOD_S:
            self._balance(voltages)
            self.cells.bleed(self._bleed_due_s)
            self._bleed_due_s = 0.0
        if self._age_due_s >= AGE_PERIOD_S:
            throughput_ah = self.cells.charge_in_ah + self.cells.charge_out_ah
            for cell, share in self._worsening.items():
                self.cells.raise_resistance((1.0 + share) ** (self._age_due_s / DAY_S), cells=[cell])
            if throughput_ah > self._aged_to_ah and self.time_factor_ageing:
                self.cells.age((throughput_ah - self._aged_to_ah) * self.time_factor_ageing)
            self._aged_to_ah = throughput_ah
            self._age_due_s = 0.0

    def _balance(self, voltages: list[float]) -> None:
        """Close the balancing switches of high cells near full, where voltage tells charge apart."""
        lowest, mask = min(voltages), 0
        if self.cells.current_a >= 0:
            for n, voltage in enumerate(voltages):
                if voltage > BALANCE_FROM_V and voltage > lowest + BALANCE_SPREAD_V:
                    mask |= 1 << n
        self.balancing_mask = mask
        self.cells.bleed_ohm = [BLEED_OHM if mask >> n & 1 else 0.0 for n in range(CELLS)]
