"""An unmanned delivery van: route, longitudinal dynamics, and the modules in its bays."""

from .module import Module


class Van:
    """A 24 m3 van; plain attributes are what the vehicle controller and the GNSS receiver report."""

    def __init__(self, name: str, bays: list[Module | None]) -> None:
        self.name = name
        self.bays = bays  # index n is bay n + 1; None while a swap has it empty
        self.is_powered = True  # False while no module feeds the van (a one-module van during its swap)
        self.speed_kmh = 0.0
        self.odometer_km = 0.0
        self.latitude_deg = 0.0
        self.longitude_deg = 0.0
        self.altitude_m = 0.0
        self.heading_deg = 0.0
        self.drive_mode = 1  # 0 off 1 ready 2 manual 3 autonomous 4 remote 5 swapping 6 fault 7 emergency stop
        self.gear = 0  # 0 park 1 reverse 2 neutral 3 drive
        self.doors = 0  # bits: 0 cargo left, 1 cargo right, 2 cargo rear, 3 service
        self.cargo_lock = 1  # 0 open 1 locked 2 jammed
        self.auxiliary_voltage_v = 13.8
        self.traction_voltage_v = 52.8
        self.traction_current_a = 0.0  # positive into the modules
        self.soc_pct = 50.0
        self.range_km = 200.0
        self.accelerator_pct = 0.0
        self.brake_pct = 0.0
        self.motor_torque_nm = 0.0
        self.motor_speed_rpm = 0.0
        self.motor_temperature_c = 25.0
        self.inverter_temperature_c = 25.0
        self.acceleration_mps2 = 0.0
        self.ambient_temperature_c = 20.0
        self.cabin_temperature_c = 20.0
        self.cargo_temperature_c = 20.0
        self.heating_power_kw = 0.0
        self.aircon_power_kw = 0.0
        self.insulation_kohm = 5000.0
        self.cargo_mass_kg = 500.0
        self.faults = 0
