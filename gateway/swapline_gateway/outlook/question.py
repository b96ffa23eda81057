"""The outlook's questions in InfluxQL: as many for one van as for a thousand.

`last` without `GROUP BY time` reads one block of each series, not the day: each of the newest values costs the same
however long a day was.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from swapline_gateway.battery.table import SWAP
from swapline_gateway.influxql import InfluxqlClient
from swapline_wire.catalogue import METER, MODULE, NODE, POSITION, SLOT, VEHICLE

from .record import ModuleReading, NodeKey, Position, Readings, SlotReading

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
STATION_MS = 30 * DAY_MS  # a station's place is the median of what its swaps of so long say
AHEAD_MS = 60_000  # a node whose clock runs ahead by more does not own a module until then
POWER_MS_MAX = 600_000  # an older one says nothing about now
SLOT_MS = 300_000  # in which a module does not leave a van and come back charged
GROWTH_MAX = 25.0  # km or kWh in a slot: 300 km/h, 300 kW
CHARGING = 2  # a slot's charger state


class Use(NamedTuple):
    """What a van took from its modules, and how far it drove with it."""

    energy_kwh: float = 0.0
    distance_km: float = 0.0


class _Newest(NamedTuple):
    """The newest row of a series."""

    time_utc_ms: int
    tags: dict[str, str]
    value: float  # of the signal that was asked for
    others: list[float | None]

    @property
    def node(self) -> NodeKey:
        return _node(self.tags)

    @property
    def bay(self) -> int:
        bay = self.tags["bay"]
        return int(bay) if bay.isascii() and bay.isdigit() else 0


class Questions:
    """Asks one database. All calls block, and raise `SinkBusyError`."""

    def __init__(self, client: InfluxqlClient) -> None:
        self._client = client

    def readings(self, now_ms: int) -> Readings:
        """Return the newest of everything, in seven questions."""
        found = Readings()
        self._ask_nodes(found, now_ms)
        for one in self._newest(SLOT.name, ("occupied", "charger_state"), now_ms, "bay"):
            slot = SlotReading(one.time_utc_ms, one.bay, one.value == 1, one.others[0] == CHARGING)
            found.slots.setdefault(one.node, []).append(slot)
        for one in self._newest(METER.name, ("power_kw",), now_ms):
            if now_ms - one.time_utc_ms <= POWER_MS_MAX:
                found.powers_kw[one.node] = one.value
        signals = ("soc_pct", "capacity_full_ah", "voltage_v")
        for one in self._newest(MODULE.name, signals, now_ms, "bay", "module"):
            capacity_ah, voltage_v = one.others
            full_kwh = capacity_ah * voltage_v / 1000 if capacity_ah and voltage_v else None
            found.modules.append(
                ModuleReading(one.time_utc_ms, *one.node, one.bay, one.tags["module"], one.value, full_kwh)
            )
        found.swaps_hour = self._swaps_hour(now_ms)
        return found

    def _ask_nodes(self, found: Readings, now_ms: int) -> None:
        """Ask who is there, since when, and where."""
        for stream in (VEHICLE.name, NODE.name):
            for one in self._newest(stream, ("time_quality",), now_ms):
                found.heard_utc_ms[one.node] = max(one.time_utc_ms, found.heard_utc_ms.get(one.node, 0))
                if stream == VEHICLE.name:
                    found.vans.add(one.node)
        for one in self._newest(POSITION.name, ("latitude_deg", "longitude_deg"), now_ms):
            if one.others[0] is not None:
                found.positions[one.node] = (one.time_utc_ms, Position(one.value, one.others[0]))

    def _newest(self, stream: str, signals: tuple[str, ...], now_ms: int, *tags: str) -> Iterator["_Newest"]:
        """Yield the newest row of each series that has a value of the first signal.

        What is no number is no value: a stranger may have written texts into a field of ours.
        """
        columns = ", ".join([f'last("{signals[0]}")', *(f'"{name}"' for name in signals[1:])])
        names = ", ".join(f'"{tag}"' for tag in ("fleet", "node", *tags))
        for series in self._client.query(
            f"SELECT {columns} FROM {self._client.source(stream)}"  # noqa: S608 (the catalogue's names)
            f" WHERE time >= {now_ms - DAY_MS}ms AND time < {now_ms + AHEAD_MS}ms GROUP BY {names}"
        ):
            time_ms, value, *others = series["values"][0]
            number, found = _number(value), series["tags"]
            if number is not None and found["fleet"] and found["node"]:
                yield _Newest(time_ms, found, number, [_number(other) for other in others])

    def _swaps_hour(self, now_ms: int) -> dict[NodeKey, int]:
        return {
            (series["tags"]["fleet"], series["tags"]["station"]): series["values"][0][1]
            for series in self._client.query(
                f'SELECT count("is_void") FROM {self._client.lasting(SWAP.name)} WHERE "is_void" = false'  # noqa: S608
                f' AND time >= {now_ms - HOUR_MS}ms GROUP BY "fleet", "station"'
            )
        }

    def stations(self, now_ms: int) -> dict[NodeKey, Position]:
        """Return where stations are, by where vans were when they swapped there."""
        found = {}
        for series in self._client.query(
            'SELECT median("latitude_deg"), median("longitude_deg")'  # noqa: S608
            f' FROM {self._client.lasting(SWAP.name)} WHERE "is_void" = false AND time >= {now_ms - STATION_MS}ms'
            ' GROUP BY "fleet", "station"'
        ):
            _, latitude, longitude = series["values"][0]
            tags = series["tags"]
            if tags["station"] and latitude is not None and longitude is not None:
                found[tags["fleet"], tags["station"]] = Position(latitude, longitude)
        return found

    def use(self, begin_ms: int, end_ms: int) -> dict[NodeKey, Use]:
        """Return what all vans used from one time to another, both the beginning of a slot.

        A module's totals grow elsewhere too while it is away from a van, so growth is added up of slots.
        """
        energies = self._growth(MODULE.name, ("energy_out_kwh", "energy_in_kwh"), begin_ms, end_ms, "module", "bay")
        distances = self._growth(VEHICLE.name, ("odometer_km",), begin_ms, end_ms)
        found = {}
        for key, (distance,) in distances.items():
            out_kwh, in_kwh = energies.get(key, (0.0, 0.0))
            found[key] = Use(out_kwh - in_kwh, distance)
        return found

    def _growth(
        self, stream: str, totals: tuple[str, ...], begin_ms: int, end_ms: int, *owner: str
    ) -> dict[NodeKey, tuple[float, ...]]:
        """Return by how much totals grew, added up for each node. One that jumped (a new device) has not grown.

        Added up here: InfluxDB 1.6.7 takes ten times as long for the sum of a subquery, and for `spread`.
        """
        columns = ", ".join(f'max("{name}") - min("{name}")' for name in totals)
        names = ", ".join(f'"{tag}"' for tag in ("fleet", "node", *owner))
        found: dict[NodeKey, tuple[float, ...]] = {}
        for series in self._client.query(
            f"SELECT {columns} FROM {self._client.source(stream)}"  # noqa: S608 (the catalogue's names)
            f" WHERE time >= {begin_ms}ms AND time < {end_ms}ms"
            f" GROUP BY time({SLOT_MS}ms), {names} fill(none)"
        ):
            key = _node(series["tags"])
            before = found.get(key, (0.0,) * len(totals))
            columns_grown = zip(*(values[1:] for values in series["values"]), strict=True)
            found[key] = tuple(start + _sum(grown) for start, grown in zip(before, columns_grown, strict=True))
        return found

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _sum(grown: Iterable[object]) -> float:
    numbers = [_number(one) or 0.0 for one in grown]
    return sum(number for number in numbers if number <= GROWTH_MAX)


def _node(tags: dict[str, str]) -> NodeKey:
    return tags["fleet"], tags["node"]
