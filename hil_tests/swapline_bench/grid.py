"""The station's grid connection: three phases, and the energy meter that measures them."""

from math import acos, sqrt, tan
from random import Random

NOMINAL_V = 230.0
NOMINAL_HZ = 50.0
IMPEDANCE_OHM = 0.045  # of the connection, each phase: what the voltage gives way under load
DRIFT_S = 300.0  # how fast voltage and frequency wander
VOLTAGE_SPREAD_V = 1.8
FREQUENCY_SPREAD_HZ = 0.025


def power_factor(power_w: float) -> float:
    """Return the power factor of active rectifiers: close to one under load, poor when little flows."""
    return 0.99 - 0.35 * 400.0 / (400.0 + max(power_w, 0.0))


class GridMeter:
    """A three-phase energy meter; attributes carry the names of the catalogue's meter stream."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._drift_v = [random.gauss(0.0, VOLTAGE_SPREAD_V) for _ in range(3)]
        self._drift_hz = 0.0
        self.voltage_l1_v = self.voltage_l2_v = self.voltage_l3_v = NOMINAL_V
        self.current_l1_a = self.current_l2_a = self.current_l3_a = 0.0
        self.power_kw = self.power_l1_kw = self.power_l2_kw = self.power_l3_kw = 0.0
        self.reactive_power_kvar = 0.0
        self.power_factor = 1.0
        self.frequency_hz = NOMINAL_HZ
        self.energy_import_kwh = random.uniform(20000.0, 90000.0)
        self.energy_export_kwh = 0.0

    def step(self, phase_w: tuple[float, float, float], dt_s: float) -> None:
        """Measure three loads for `dt_s`."""
        self._wander(dt_s)
        voltages, currents, reactive_kvar = [], [], 0.0
        for drift_v, power_w in zip(self._drift_v, phase_w, strict=True):
            factor = power_factor(power_w)
            voltage = NOMINAL_V + drift_v - IMPEDANCE_OHM * power_w / NOMINAL_V
            voltages.append(voltage)
            currents.append(power_w / factor / voltage)
            reactive_kvar += power_w * tan(acos(factor)) / 1000.0
        self.voltage_l1_v, self.voltage_l2_v, self.voltage_l3_v = voltages
        self.current_l1_a, self.current_l2_a, self.current_l3_a = currents
        self.power_l1_kw, self.power_l2_kw, self.power_l3_kw = (w / 1000.0 for w in phase_w)
        self.power_kw = sum(phase_w) / 1000.0
        self.reactive_power_kvar = reactive_kvar
        self.power_factor = self.power_kw / sqrt(self.power_kw**2 + reactive_kvar**2) if self.power_kw else 1.0
        self.energy_import_kwh += self.power_kw * dt_s / 3600.0

    def _wander(self, dt_s: float) -> None:
        """Let voltage and frequency follow a bounded random walk (Ornstein-Uhlenbeck, exact for any step)."""
        keep = max(0.0, 1.0 - dt_s / DRIFT_S)
        spread = sqrt(1.0 - keep * keep)
        gauss = self._random.gauss
        self._drift_v = [v * keep + gauss(0.0, VOLTAGE_SPREAD_V) * spread for v in self._drift_v]
        self._drift_hz = self._drift_hz * keep + gauss(0.0, FREQUENCY_SPREAD_HZ) * spread
        self.frequency_hz = NOMINAL_HZ + self._drift_hz
