"""Temperatures of a van: weather, the box of its computers, cargo, motor, inverter, and the power that keeps them."""

from math import pi, sin

DAY_S = 86400.0
CABIN_J_PER_K, CABIN_W_PER_K, CABIN_WASTE_W = 60000.0, 45.0, 180.0
CABIN_HEAT_BELOW_C, CABIN_COOL_ABOVE_C = 12.0, 30.0
HEATER_W_PER_K, HEATER_W_MAX = 250.0, 3000.0
AIRCON_W_PER_K, AIRCON_W_MAX, AIRCON_GAIN = 120.0, 1500.0, 2.4
CARGO_RELAX_S = 5400.0
MOTOR_J_PER_K, MOTOR_W_PER_K = 24000.0, 40.0
INVERTER_J_PER_K, INVERTER_W_PER_K = 6000.0, 35.0
MOTOR_WASTE, INVERTER_WASTE = 0.06, 0.03  # of the power that passes


class Weather:
    """The outside temperature over the day."""

    def __init__(self, *, mean_c: float = 19.0, swing_c: float = 5.0) -> None:
        self.mean_c = mean_c
        self.swing_c = swing_c

    def temperature_c(self, time_s: float) -> float:
        """Return the temperature at `time_s` after 8 in the morning: coldest at 4, warmest at 16 o'clock."""
        return self.mean_c + self.swing_c * sin(2.0 * pi * (time_s / DAY_S - 2.0 / 24.0))


class Climate:
    """One van's temperatures."""

    def __init__(self) -> None:
        self.ambient_c = self.cabin_c = self.cargo_c = self.motor_c = self.inverter_c = 20.0
        self.heating_w = self.aircon_w = 0.0

    def step(self, traction_j: float, dt_s: float) -> float:
        """Let `dt_s` pass while `traction_j` went through motor and inverter; return heating and cooling power (W)."""
        self.heating_w = min(HEATER_W_MAX, max(0.0, (CABIN_HEAT_BELOW_C - self.cabin_c) * HEATER_W_PER_K))
        self.aircon_w = min(AIRCON_W_MAX, max(0.0, (self.cabin_c - CABIN_COOL_ABOVE_C) * AIRCON_W_PER_K))
        gain_w = CABIN_WASTE_W + self.heating_w - AIRCON_GAIN * self.aircon_w
        gain_w += CABIN_W_PER_K * (self.ambient_c - self.cabin_c)
        self.cabin_c += gain_w * dt_s / CABIN_J_PER_K
        self.cargo_c += (self.ambient_c - self.cargo_c) * min(1.0, dt_s / CARGO_RELAX_S)
        self.motor_c += self._warm(self.motor_c, MOTOR_WASTE * traction_j, dt_s, MOTOR_W_PER_K) / MOTOR_J_PER_K
        inverter_j = self._warm(self.inverter_c, INVERTER_WASTE * traction_j, dt_s, INVERTER_W_PER_K)
        self.inverter_c += inverter_j / INVERTER_J_PER_K
        return self.heating_w + self.aircon_w

    def _warm(self, temperature_c: float, heat_j: float, dt_s: float, loss_w_per_k: float) -> float:
        return heat_j - loss_w_per_k * (temperature_c - self.ambient_c) * dt_s
