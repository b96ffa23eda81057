"""The station's grid connection: three phases, and the energy meter that measures them."""


class GridMeter:
    """A three-phase energy meter; attributes carry the names of the catalogue's meter stream."""

    def __init__(self) -> None:
        self.voltage_l1_v = 230.0
        self.voltage_l2_v = 230.0
        self.voltage_l3_v = 230.0
        self.current_l1_a = 0.0
        self.current_l2_a = 0.0
        self.current_l3_a = 0.0
        self.power_kw = 0.0
        self.power_l1_kw = 0.0
        self.power_l2_kw = 0.0
        self.power_l3_kw = 0.0
        self.reactive_power_kvar = 0.0
        self.power_factor = 1.0
        self.frequency_hz = 50.0
        self.energy_import_kwh = 0.0
        self.energy_export_kwh = 0.0
