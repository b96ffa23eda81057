"""From readings to the outlook: pure functions, so that every replica says the same of the same minute."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from swapline_gateway.config import OutlookConfig

from .record import Blocked, ModuleReading, NodeKey, Position, Readings

EARTH_KM = 6371.0
KM_PER_DEG = EARTH_KM * math.pi / 180  # of latitude
# A module whose van has spoken so much later is no longer in it: it answers once a minute at least.
ABSENT_MS = 300_000

Fields = dict[str, Any]


def modules_there(readings: Readings) -> dict[NodeKey, list[ModuleReading]]:
    """Return the modules that sit in each node: a module is where it was read last, a bay has the one read last."""
    newest: dict[str, ModuleReading] = {}
    bays: dict[tuple[str, str, int], ModuleReading] = {}
    for one in readings.modules:
        bay = one.fleet, one.node, one.bay
        bays[bay] = max(one, bays.get(bay, one))
        if one.module:
            newest[one.module] = max(one, newest.get(one.module, one))
    found: dict[NodeKey, list[ModuleReading]] = {}
    for one in bays.values():
        key = one.fleet, one.node
        is_here = not one.module or newest[one.module] is one
        if is_here and one.time_utc_ms >= readings.heard_utc_ms.get(key, 0) - ABSENT_MS:
            found.setdefault(key, []).append(one)
    return found


def distance_km(one: Position, other: Position) -> float:
    """Return the way from one place to another as the crow flies."""
    latitude, other_latitude = math.radians(one.latitude_deg), math.radians(other.latitude_deg)
    half_latitude = (other_latitude - latitude) / 2
    half_longitude = math.radians(other.longitude_deg - one.longitude_deg) / 2
    chord = math.sin(half_latitude) ** 2
    chord += math.cos(latitude) * math.cos(other_latitude) * math.sin(half_longitude) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, chord)))


def judge_vans(
    config: OutlookConfig,
    readings: Readings,
    stations: Mapping[NodeKey, Position],
    consumption: Callable[[NodeKey], float],
    now_ms: int,
) -> dict[NodeKey, Fields]:
    """Return the outlook of every van that was heard of."""
    there = modules_there(readings)
    nearest = Nearest(stations)
    found = {}
    for van in sorted(_vans(readings, there)):
        modules = there.get(van, [])
        place = readings.positions.get(van)
        fields: Fields = {"modules": len(modules), "consumption_kwh_per_km": consumption(van)}
        fields |= _energy(config, modules, fields["consumption_kwh_per_km"])
        if place is not None:
            fields |= place[1]._asdict()
            if (station := nearest.find(van[0], place[1])) is not None:
                fields |= {"station": station[1], "station_distance_km": station[0] * config.detour_factor}
        heard = [readings.heard_utc_ms.get(van, 0), place[0] if place else 0, *(one.time_utc_ms for one in modules)]
        fields["age_s"] = max(0, now_ms - max(heard)) / 1000
        if modules:
            fields["is_low"] = int(is_low(config, fields))
        found[van] = fields
    return found


def _vans(readings: Readings, there: Iterable[NodeKey]) -> set[NodeKey]:
    """Return who drives: who has a vehicle's controller, and who has a position or modules but no slots."""
    return readings.vans | ({*readings.positions, *there} - readings.slots.keys() - readings.powers_kw.keys())


def _energy(config: OutlookConfig, modules: Sequence[ModuleReading], kwh_per_km: float) -> Fields:
    if not modules:
        return {}
    full_kwh = [one.energy_full_kwh or config.rated_module_kwh for one in modules]
    left_kwh = sum(one.soc_pct / 100 * full for one, full in zip(modules, full_kwh, strict=True))
    return {
        "soc_pct": 100 * left_kwh / sum(full_kwh),
        "soc_min_pct": min(one.soc_pct for one in modules),
        "energy_left_kwh": left_kwh,
        "range_km": left_kwh / kwh_per_km,
    }


class Nearest:
    """Finds the nearest of a fleet's stations, by latitude first: ten thousand vans look for theirs each minute."""

    def __init__(self, stations: Mapping[NodeKey, Position]) -> None:
        self._fleets: dict[str, list[tuple[float, str, Position]]] = {}
        for (fleet, name), position in stations.items():
            self._fleets.setdefault(fleet, []).append((position.latitude_deg, name, position))
        for found in self._fleets.values():
            found.sort()

    def find(self, fleet: str, place: Position) -> tuple[float, str] | None:
        """Return distance as the crow flies (km) and name; None where the fleet has no station with a place."""
        stations = self._fleets.get(fleet, [])
        middle = bisect_left(stations, (place.latitude_deg, "", place))
        best: tuple[float, str] | None = None
        for side in (range(middle, len(stations)), range(middle - 1, -1, -1)):
            for index in side:
                latitude, name, position = stations[index]
                if best is not None and abs(latitude - place.latitude_deg) * KM_PER_DEG > best[0]:
                    break
                found = distance_km(place, position), name
                best = found if best is None else min(best, found)
        return best


def is_low(config: OutlookConfig, fields: Fields) -> bool:
    """Say whether a van needs a swap: little charge, or little more range than the way to its station."""
    way_km = fields.get("station_distance_km")
    is_far = way_km is not None and fields["range_km"] < config.reserve_factor * way_km
    return bool(fields["soc_pct"] < config.low_pct or is_far)


def judge_stations(
    config: OutlookConfig, readings: Readings, stations: Mapping[NodeKey, Position], blocked: Blocked
) -> dict[NodeKey, Fields]:
    """Return the outlook of every station that was heard of."""
    there = modules_there(readings)
    found = {}
    for station in sorted({*readings.slots, *readings.powers_kw} - readings.vans):
        slots = readings.slots.get(station, [])
        occupied = {slot.bay for slot in slots if slot.is_occupied}
        ready = [
            one for one in there.get(station, []) if one.bay in occupied and _is_ready(one, config.ready_pct, blocked)
        ]
        position = stations.get(station)
        found[station] = {
            "slots": len(slots),
            "occupied": len(occupied),
            "ready": len(ready),
            "charging": sum(slot.is_charging for slot in slots),
            "power_kw": readings.powers_kw.get(station),
            "swaps_hour": readings.swaps_hour.get(station, 0),
        } | ({} if position is None else position._asdict())
    return found


def _is_ready(one: ModuleReading, ready_pct: float, blocked: Blocked) -> bool:
    """Say whether a van could take a module: charged, known, and without an alarm that matters."""
    is_blocked = (one.fleet, one.node, one.bay) in blocked.bays or one.module in blocked.modules
    return bool(one.module) and one.soc_pct >= ready_pct and not is_blocked


def place_stations(
    config: OutlookConfig, readings: Readings, told: Mapping[NodeKey, Position]
) -> dict[NodeKey, Position]:
    """Return where stations are: as configured, else as their own receiver says, else as vans' swaps tell."""
    own = {key: position for key, (_, position) in readings.positions.items() if key in readings.slots}
    found = {**told, **own}
    for name, (latitude, longitude) in config.stations.items():
        fleet, _, node = name.rpartition("/")
        for key in [key for key in {*readings.slots, *readings.powers_kw, *found} if key[1] == node]:
            if fleet in ("", key[0]):
                found[key] = Position(latitude, longitude)
        if fleet:
            found[fleet, node] = Position(latitude, longitude)
    return found
