"""A swap station: slots with chargers, a grid meter and one swap robot."""

from .grid import GridMeter
from .module import Module


class Slot:
    """One place for a module, with its charger."""

    def __init__(self, module: Module | None) -> None:
        self.module = module
        self.occupied = module is not None
        self.locked = module is not None
        self.charger_state = 0  # 0 idle 1 connected 2 charging 3 full 4 fault 5 reserved
        self.charger_voltage_v = 0.0
        self.charger_current_a = 0.0
        self.charger_power_kw = 0.0
        self.current_limit_a = 260.0
        self.energy_kwh = 0.0
        self.charger_temperature_c = 25.0
        self.faults = 0
        self.session_duration_s = 0


class Station:
    """Slots, grid meter and robot of one station."""

    def __init__(self, name: str, slots: list[Slot]) -> None:
        self.name = name
        self.slots = slots  # slot n is bay n + 1
        self.meter = GridMeter()
