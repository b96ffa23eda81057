"""What driving costs: longitudinal dynamics of a 24 m3 van from road to traction bus, with recuperation.

    F_wheel = m g (c_r + slope) + rho c_d A v**2 / 2,    E_wheel = F_wheel * distance + m_e (v2**2 - v1**2) / 2

Efficiencies, mass and drag are those of the class (a driverless box of 24 m3, about 2 m wide and 2.6 m high); drag and
rolling are set so that three modules last 400 km in the city of `route.py` (a test drives them empty).
"""

from math import pi
from typing import NamedTuple

GRAVITY_MPS2 = 9.81
AIR_KG_PER_M3 = 1.2


class Build(NamedTuple):
    """The figures of a type of van."""

    empty_kg: float = 1500.0  # with three bays, without modules
    module_kg: float = 195.0
    rotating_kg: float = 90.0  # wheels and rotor, as if they moved along
    drag_area_m2: float = 2.40  # c_d 0.46, 5.2 m2
    rolling: float = 0.0089
    wheel_m: float = 0.335
    gear_ratio: float = 9.3
    efficiency: float = 0.90  # bus to wheel, motor, inverter and gear
    regeneration_efficiency: float = 0.80  # wheel to bus
    regeneration_share: float = 0.85  # of braking; the rest and all below 5 km/h is the discs'
    power_w_max: float = 46000.0
    regeneration_w_max: float = 30000.0
    standby_w: float = 480.0  # computers, sensors, pumps, lights


class Effort(NamedTuple):
    """What one step of driving asked of the motor and the brakes."""

    bus_j: float  # positive: drawn from the traction bus
    torque_nm: float  # of the motor
    braked_j: float  # lost in the brake discs


def drive(
    build: Build, mass_kg: float, motion: tuple[float, float, float, float], dt_s: float, *, charge_w_max: float
) -> Effort:
    """Return the effort of a step: `motion` is speed before and after (m/s), distance covered and height climbed (m).

    `charge_w_max` is what the modules take; what braking gives beyond it, the discs have to turn into heat.
    """
    before_mps, after_mps, distance_m, climb_m = motion
    resistance_n = mass_kg * GRAVITY_MPS2 * build.rolling * (distance_m > 0.0)
    resistance_n += 0.5 * AIR_KG_PER_M3 * build.drag_area_m2 * after_mps * after_mps
    kinetic_j = 0.5 * (mass_kg + build.rotating_kg) * (after_mps * after_mps - before_mps * before_mps)
    wheel_j = resistance_n * distance_m + mass_kg * GRAVITY_MPS2 * climb_m + kinetic_j
    mean_mps = max(distance_m / dt_s, 0.3)
    torque_nm = wheel_j / dt_s / mean_mps * build.wheel_m / build.gear_ratio
    if wheel_j >= 0.0:
        return Effort(wheel_j / build.efficiency, torque_nm / 0.97, 0.0)
    share = build.regeneration_share if before_mps > 5.0 / 3.6 else 0.0
    bus_w_max = min(build.regeneration_w_max, charge_w_max)
    recovered_j = min(-wheel_j * share, bus_w_max * dt_s / build.regeneration_efficiency)
    regenerated = recovered_j / -wheel_j
    return Effort(-recovered_j * build.regeneration_efficiency, torque_nm * regenerated, -wheel_j - recovered_j)


def motor_speed_rpm(build: Build, speed_mps: float) -> float:
    return speed_mps / build.wheel_m / (2.0 * pi) * 60.0 * build.gear_ratio
