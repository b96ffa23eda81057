"""An unmanned delivery van: what it does, where it is, and what its vehicle controller and GNSS receiver report.

Tasks: `delivering` (driving to the next address), `parked` (unloading there), `to_station`, `queueing`, `swapping`. A
van that runs out of energy reports a fault, waits for help and is towed to the station without using energy.
"""

from math import ceil
from random import Random

from .climate import Climate
from .drivetrain import GRAVITY_MPS2, Build, drive, motor_speed_rpm
from .module import Module
from .route import ACCELERATION_MPS2, City, Driver, Leg
from .traction_bus import TractionBus

DRIVE_STEP_S = 1.0  # longest step of the driver
FILTER_S = 1.0  # of the controller's acceleration: the driver's last walking pace at a stop ends within one step
BUS_STEP_S = 3.0  # longest step of the parallel modules while driving
PARKED_STEP_S = 15.0
PARKED_S = (30.0, 130.0)  # unloading at an address
DOOR_S = 10.0  # before the doors open and after they close
TOW_AFTER_S = 900.0
MODULE_POWER_W_MAX = 25000.0  # 1 C, out of a module or into it
DOOR_REAR, DOOR_SERVICE = 1 << 2, 1 << 3
MODE_READY, MODE_MANUAL, MODE_AUTONOMOUS, MODE_SWAPPING, MODE_FAULT = 1, 2, 3, 5, 6
FAULT_NO_TRACTION_ENERGY = 1 << 0


class Van:
    """A 24 m3 van; plain attributes are what the vehicle controller and the GNSS receiver report."""

    def __init__(self, name: str, bays: list[Module | None], city: City, random: Random, *, start: int = 0) -> None:
        self.name = name
        self.bays = bays  # index n is bay n + 1; None while a swap has it empty
        self.build = Build()
        self.bus = TractionBus()
        self.climate = Climate()
        self.task = "parked"
        self.driven_j = 0.0  # asked of the bus for driving, recuperation deducted
        self.auxiliary_j = 0.0  # asked of the bus for everything else
        self.braked_j = 0.0  # lost in the brake discs
        self._random = random
        self._city = city
        self.crossing = start  # where the van is, or was last
        self._driver: Driver | None = None
        self._parked_s = self._parked_for_s = random.uniform(5.0, 40.0)
        self.is_kept_waiting = False  # parked until somebody lets it go
        self._stranded_s = 0.0
        self._consumption_kwh_per_km = 0.2
        self.bus.voltage_v = max([m.cells.source_v for m in self.modules], default=0.0)
        self._set_reported()
        self._report_energy()

    def _set_reported(self) -> None:
        random = self._random
        self.speed_kmh = 0.0
        self.odometer_km = random.uniform(3000.0, 60000.0)
        point = self._city.crossings[self.crossing]
        self.latitude_deg, self.longitude_deg = self._city.coordinates_deg(point)
        self.altitude_m = self._city.altitude_m(point)
        self.heading_deg = 0.0
        self.drive_mode = MODE_READY
        self.gear = 0  # 0 park 1 reverse 2 neutral 3 drive
        self.doors = 0  # bits: 0 cargo left, 1 cargo right, 2 cargo rear, 3 service
        self.cargo_lock = 1  # 0 open 1 locked 2 jammed
        self.auxiliary_voltage_v = 13.8
        self.traction_voltage_v = 0.0
        self.traction_current_a = 0.0  # positive into the modules
        self.soc_pct = 0.0
        self.range_km = 0.0
        self.accelerator_pct = self.brake_pct = 0.0
        self.motor_torque_nm = self.motor_speed_rpm = 0.0
        self.acceleration_mps2 = 0.0
        self.insulation_kohm = round(random.uniform(2500.0, 6000.0))
        self.cargo_mass_kg = round(random.uniform(300.0, 900.0))
        self.faults = 0
        self.request_id = 0  # of the exchange that the van takes part in; the station tells it

    # Figures that its parts keep.

    @property
    def modules(self) -> list[Module]:
        return [m for m in self.bays if m is not None]

    @property
    def is_powered(self) -> bool:
        """Say whether a module feeds the van; False for a van of one module during its swap."""
        return self.bus.voltage_v > 0.0 and any(m is not None for m in self.bays)

    @property
    def mass_kg(self) -> float:
        return self.build.empty_kg + self.build.module_kg * len(self.modules) + self.cargo_mass_kg

    @property
    def _modules_w_max(self) -> float:
        return MODULE_POWER_W_MAX * len(self.modules)

    @property
    def motor_temperature_c(self) -> float:
        return self.climate.motor_c

    @property
    def inverter_temperature_c(self) -> float:
        return self.climate.inverter_c

    @property
    def ambient_temperature_c(self) -> float:
        return self.climate.ambient_c

    @property
    def cabin_temperature_c(self) -> float:
        return self.climate.cabin_c

    @property
    def cargo_temperature_c(self) -> float:
        return self.climate.cargo_c

    @property
    def heating_power_kw(self) -> float:
        return self.climate.heating_w / 1000.0

    @property
    def aircon_power_kw(self) -> float:
        return self.climate.aircon_w / 1000.0

    # What others tell it to do.

    def head_for(self, crossing: int) -> None:
        """Drive to the station at `crossing`, from where the van is now."""
        self.task = "to_station"
        self._close_doors()
        if self._driver is None or self._driver.is_there:
            self._begin_leg(self._city.find_path(self.crossing, crossing))
            return
        leg, at_m = self._driver.leg, self._driver.at_m
        next_index = leg.crossing_after(at_m)
        street = leg.path[next_index - 1 : next_index + 1]
        old = self._driver
        self._begin_leg([street[0], *self._city.find_path(street[1], crossing)])
        self._driver.at_m, self._driver.speed_mps = at_m - leg.start_m(next_index - 1), old.speed_mps

    def begin_swap(self) -> None:
        self.task, self.drive_mode, self.gear = "swapping", MODE_SWAPPING, 0
        self.doors = DOOR_SERVICE

    def end_swap(self) -> None:
        self.task, self.drive_mode, self.faults, self._stranded_s = "parked", MODE_READY, 0, 0.0
        self._parked_s = self._parked_for_s = 20.0
        self._close_doors()

    # What time does.

    def step(self, dt_s: float) -> None:
        """Let `dt_s` pass, in steps of its own that are short enough."""
        left_s = dt_s
        while left_s > 1e-9:
            is_moving = self.task in {"delivering", "to_station"}
            part_s = min(left_s, BUS_STEP_S if is_moving else PARKED_STEP_S)
            energy_j = self._drive(part_s) if is_moving else self._stand(part_s)
            self._feed(energy_j, part_s)
            for module in self.modules:
                module.update(part_s)  # its BMS is not to take the last part's current for that of the whole step
            left_s -= part_s
        self._report_energy()

    def _feed(self, driven_j: float, dt_s: float) -> None:
        """Take the energy of a part step from the modules."""
        auxiliary_j = (self.build.standby_w + self.climate.step(abs(driven_j), dt_s)) * dt_s
        modules = self.modules
        feeding = modules
        if self.task == "swapping":  # one module feeds the computers, the others' switches are open
            feeding = sorted(modules, key=lambda m: m.cells.source_v)[-1:]
        for module in modules:
            module.cells.surroundings_c = self.climate.ambient_c
            if module not in feeding:
                module.advance(0.0, dt_s)
        self.driven_j += driven_j
        self.auxiliary_j += auxiliary_j
        undelivered_j = self.bus.undelivered_j
        self.bus.exchange(feeding, -(driven_j + auxiliary_j), dt_s)
        undelivered_j = self.bus.undelivered_j - undelivered_j
        if undelivered_j > 0.3 * (driven_j + auxiliary_j) > 0.0 and self.task != "swapping":
            self.faults |= FAULT_NO_TRACTION_ENERGY

    def _stand(self, dt_s: float) -> float:
        self.speed_kmh = self.acceleration_mps2 = self.motor_torque_nm = self.motor_speed_rpm = 0.0
        self.accelerator_pct, self.brake_pct = 0.0, 0.0
        if self.task == "parked" and not self.is_kept_waiting:
            self._parked_s -= dt_s
            if self._parked_s <= 0.0:
                self._leave()
            elif DOOR_S < self._parked_s < self._parked_for_s - DOOR_S:
                self.doors, self.cargo_lock = DOOR_REAR, 0
            else:
                self._close_doors()
        return 0.0

    def _close_doors(self) -> None:
        self.doors, self.cargo_lock = 0, 1

    def _leave(self) -> None:
        self._close_doors()
        self.task = "delivering"
        there = self.crossing
        while there == self.crossing or self._city.distance_m(self.crossing, there) < 900.0:
            there = self._random.randrange(len(self._city.crossings))
        self._begin_leg(self._city.find_path(self.crossing, there))

    def _begin_leg(self, path: list[int]) -> None:
        self._driver = Driver(Leg(self._city, path, self._random), self._random)
        self.drive_mode, self.gear = MODE_AUTONOMOUS, 3

    def _arrive(self) -> None:
        assert self._driver is not None
        self.crossing = self._driver.leg.path[-1]
        self._driver = None
        self.gear, self.drive_mode = 0, MODE_READY
        if self.task == "to_station":
            self.task = "queueing"
            return
        self.task = "parked"
        self._parked_s = self._parked_for_s = self._random.uniform(*PARKED_S)
        unloaded_kg = self._random.uniform(30.0, 160.0)
        self.cargo_mass_kg = round(self.cargo_mass_kg - unloaded_kg)
        if self.cargo_mass_kg < 80:
            self.cargo_mass_kg = round(self._random.uniform(500.0, 900.0))

    def _drive(self, dt_s: float) -> float:
        """Drive for `dt_s`; return the energy that this asks of the bus (J, negative: recuperated)."""
        count = ceil(dt_s / DRIVE_STEP_S)
        energy_j = 0.0
        for _ in range(count):
            if self._driver is not None and not self._is_stuck(dt_s / count):
                energy_j += self._drive_step(self._driver, dt_s / count)
        if self._driver is not None:
            self._report_motion(self._driver)
            if self._driver.is_there:
                self._arrive()
        return energy_j if not self._stranded_s else 0.0

    def _is_stuck(self, dt_s: float) -> bool:
        """Without energy: stand until the tow truck is there, then be drawn."""
        if not self.faults & FAULT_NO_TRACTION_ENERGY:
            return False
        assert self._driver is not None
        self._stranded_s += dt_s
        is_towed = self._stranded_s > TOW_AFTER_S
        self.drive_mode = MODE_MANUAL if is_towed else MODE_FAULT
        if not is_towed:
            self._driver.speed_mps = 0.0
        return not is_towed

    def _drive_step(self, driver: Driver, dt_s: float) -> float:
        before_mps = driver.speed_mps
        covered_m = driver.step(dt_s, acceleration_mps2_max=self._acceleration_mps2_max(before_mps))
        point, self.heading_deg = driver.leg.place(driver.at_m)
        altitude_m = self._city.altitude_m(point)
        climb_m = altitude_m - self.altitude_m if covered_m else 0.0
        motion = (before_mps, driver.speed_mps, covered_m, climb_m)
        effort = drive(self.build, self.mass_kg, motion, dt_s, charge_w_max=self._modules_w_max)
        self._point, self.altitude_m = point, altitude_m
        self.odometer_km += covered_m / 1000.0
        change_mps2 = (driver.speed_mps - before_mps) / dt_s - self.acceleration_mps2
        self.acceleration_mps2 += change_mps2 * min(1.0, dt_s / FILTER_S)
        self.motor_torque_nm = effort.torque_nm
        self.accelerator_pct = min(100.0, max(0.0, effort.bus_j / dt_s / self.build.power_w_max * 100.0))
        self.brake_pct = min(100.0, max(0.0, -self.acceleration_mps2 / 4.0 * 100.0))
        self.braked_j += effort.braked_j
        self._learn_consumption(effort.bus_j + self.build.standby_w * dt_s, covered_m)
        return effort.bus_j

    def _acceleration_mps2_max(self, speed_mps: float) -> float:
        """Return what the motor and the modules allow at this speed; modules near empty allow less."""
        available_w = min(self.build.power_w_max, self._modules_w_max)
        available_w *= min(1.0, max(0.15, self.soc_pct / 8.0))
        force_n = available_w * self.build.efficiency / max(speed_mps, 1.0)
        force_n -= self.mass_kg * GRAVITY_MPS2 * (self.build.rolling + 0.02)
        return min(ACCELERATION_MPS2, max(0.1, force_n / self.mass_kg))

    def _learn_consumption(self, energy_j: float, covered_m: float) -> None:
        """Follow the consumption of the last ten kilometres or so."""
        share = min(1.0, covered_m / 10000.0)
        self._consumption_kwh_per_km += energy_j / 3.6e6 / 10.0 - share * self._consumption_kwh_per_km
        self._consumption_kwh_per_km = max(self._consumption_kwh_per_km, 0.08)

    def _report_motion(self, driver: Driver) -> None:
        self.speed_kmh = driver.speed_mps * 3.6
        self.motor_speed_rpm = motor_speed_rpm(self.build, driver.speed_mps)
        point, self.heading_deg = driver.leg.place(driver.at_m)
        self.latitude_deg, self.longitude_deg = self._city.coordinates_deg(point)

    def _report_energy(self) -> None:
        modules = self.modules
        self.traction_voltage_v = self.bus.voltage_v
        self.traction_current_a = self.bus.current_a
        self.auxiliary_voltage_v = 13.8 if self.is_powered else 12.5
        full_ah = sum([m.capacity_full_ah for m in modules])
        remaining_ah = sum([m.capacity_remaining_ah for m in modules])
        self.soc_pct = 100.0 * remaining_ah / full_ah if full_ah else 0.0
        self.range_km = remaining_ah * 51.8 / 1000.0 / self._consumption_kwh_per_km
