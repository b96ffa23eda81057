"""One exchangeable battery module: the cells of `battery.py` and the BMS that measures, counts and protects them."""


class Module:
    """A 16S LFP module of 518 Ah as its BMS reports it; plain attributes are what the serial faces read."""

    def __init__(self, code: str) -> None:
        self.code = code  # 24 characters, GB/T 34014 shape
        self.voltage_v = 52.8
        self.current_a = 0.0  # positive into the module
        self.soc_pct = 50.0
        self.soh_pct = 100.0
        self.capacity_full_ah = 518.0
        self.capacity_remaining_ah = 259.0
        self.cell_voltages_v = [3.3] * 16
        self.cell_temperatures_c = [25.0] * 4
        self.temperature_mosfet_c = 25.0
        self.temperature_ambient_c = 25.0
        self.insulation_kohm = 5000.0
        self.cycles = 0
        self.charge_in_ah = 0.0
        self.charge_out_ah = 0.0
        self.energy_in_kwh = 0.0
        self.energy_out_kwh = 0.0
        self.charge_switch = True
        self.discharge_switch = True
        self.precharge_switch = False
        self.heater_switch = False
        self.balancing_mask = 0  # bit n: cell n+1 is being balanced
        self.protections = 0  # bits as in the project's glossary
