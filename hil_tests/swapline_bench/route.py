"""Where vans drive: a synthetic city of streets, legs between two places, and how a careful driver covers a leg.

The city is drawn from a seed: a grid of about 220 m with crooked crossings and some missing streets, every fourth
street an arterial road, gentle hills. Positions are real coordinates.

The driver follows Krauss' rule of a safe speed (Phys. Rev. E 55 (1997) 5597, doi:10.1103/PhysRevE.55.5597) towards what
comes next: a corner, a red light, the end of the leg. Its parameters are chosen so that speed statistics fall among
published urban cycles (Braunschweig: 22.9 km/h mean, 58.2 km/h top, 22 % idle, after dieselnet.com; tests compare).
"""

from collections import deque
from heapq import heappop, heappush
from itertools import pairwise
from math import atan2, cos, degrees, hypot, pi, radians, sin, sqrt
from random import Random
from typing import NamedTuple

from .randomness import make_random

ORIGIN_LATITUDE_DEG, ORIGIN_LONGITUDE_DEG, ORIGIN_ALTITUDE_M = 31.8200, 117.2900, 28.0
METRES_PER_DEGREE = 111195.0  # of latitude, on a sphere of 6371 km
BLOCK_M = 220.0
ARTERIAL_EVERY = 4
ARTERIAL_KMH, STREET_KMH = (60.0, 45.0)
RED_LIGHT_SHARE = 0.30  # of the crossings that have lights: those with an arterial road
RED_LIGHT_S = (4.0, 38.0)
BRAKE_MPS2 = 0.8
ACCELERATION_MPS2 = 1.3
REACTION_S = 1.0


class Point(NamedTuple):
    """A place in the city's plane, in metres east and north of its origin."""

    east_m: float
    north_m: float


class City:
    """Crossings and streets; deterministic from `seed`."""

    def __init__(self, seed: int, *, side: int = 22) -> None:
        random = make_random(seed, "city")
        self.side = side
        self.crossings = [
            Point(
                (n % side - side / 2) * BLOCK_M + random.uniform(-25.0, 25.0),
                (n // side - side / 2) * BLOCK_M + random.uniform(-25.0, 25.0),
            )
            for n in range(side * side)
        ]
        self._hill_phase = random.uniform(0.0, 2.0 * pi)
        self._streets: list[dict[int, float]] = [{} for _ in self.crossings]  # neighbour -> speed limit, m/s
        self._lay_streets(random)

    def _lay_streets(self, random: Random) -> None:
        side = self.side
        for n in range(side * side):
            column, row = n % side, n // side
            if column + 1 < side:
                self._lay_street(n, n + 1, is_arterial=row % ARTERIAL_EVERY == 2, random=random)
            if row + 1 < side:
                self._lay_street(n, n + side, is_arterial=column % ARTERIAL_EVERY == 2, random=random)

    def _lay_street(self, a: int, b: int, *, is_arterial: bool, random: Random) -> None:
        # Arterial roads and the city's edge are never missing, so every place can be reached.
        on_edge = any(n % self.side in (0, self.side - 1) or n // self.side in (0, self.side - 1) for n in (a, b))
        if is_arterial or on_edge or random.random() > 0.06:
            limit = (ARTERIAL_KMH if is_arterial else STREET_KMH) / 3.6
            self._streets[a][b] = self._streets[b][a] = limit

    def is_lit(self, crossing: int) -> bool:
        """Say whether a crossing has traffic lights: where an arterial road meets another street."""
        limits = self._streets[crossing].values()
        return len(limits) > 2 and max(limits) > STREET_KMH / 3.6

    def middle_crossings(self) -> list[int]:
        """Return the crossings of the inner quarter of the city: where stations are, and vans begin."""
        inner = range(self.side // 4, self.side - self.side // 4)
        return [row * self.side + column for row in inner for column in inner]

    def distance_m(self, a: int, b: int) -> float:
        p, q = self.crossings[a], self.crossings[b]
        return hypot(q.east_m - p.east_m, q.north_m - p.north_m)

    def find_path(self, start: int, end: int) -> list[int]:
        """Return the crossings of the fastest way, both ends included (Dijkstra)."""
        best, came_from = {start: 0.0}, {start: start}
        queue = [(0.0, start)]
        while queue:
            cost, here = heappop(queue)
            if here == end:
                break
            if cost > best[here]:
                continue
            for there, limit in self._streets[here].items():
                reached = cost + self.distance_m(here, there) / limit
                if reached < best.get(there, 1e18):
                    best[there], came_from[there] = reached, here
                    heappush(queue, (reached, there))
        assert end in came_from, f"no way from {start} to {end}"
        path = [end]
        while path[-1] != start:
            path.append(came_from[path[-1]])
        return path[::-1]

    def limit_mps(self, a: int, b: int) -> float:
        return self._streets[a][b]

    def altitude_m(self, point: Point) -> float:
        """Return the height of the ground: hills of 6 m over kilometres, at most about 2 % steep."""
        wave = sin(point.east_m / 620.0 + self._hill_phase) + cos(point.north_m / 540.0 - self._hill_phase)
        return ORIGIN_ALTITUDE_M + 3.0 * wave

    def coordinates_deg(self, point: Point) -> tuple[float, float]:
        """Return latitude and longitude."""
        latitude = ORIGIN_LATITUDE_DEG + point.north_m / METRES_PER_DEGREE
        scale = METRES_PER_DEGREE * cos(radians(ORIGIN_LATITUDE_DEG))
        return latitude, ORIGIN_LONGITUDE_DEG + point.east_m / scale


class Constraint(NamedTuple):
    """At `at_m` of the leg, drive no faster than `speed_mps` and then wait `wait_s`."""

    at_m: float
    speed_mps: float
    wait_s: float


class Leg:
    """A drive from crossing to crossing: geometry, limits, and what slows the driver down on it."""

    def __init__(self, city: City, path: list[int], random: Random) -> None:
        self.city = city
        self.path = path
        self._starts_m = [0.0]
        for a, b in pairwise(path):
            self._starts_m.append(self._starts_m[-1] + city.distance_m(a, b))
        self.length_m = self._starts_m[-1]
        self._limits_mps = [city.limit_mps(a, b) * random.uniform(0.8, 1.0) for a, b in pairwise(path)]
        self.constraints = deque(self._constrain(random))
        self._street = 0

    def _constrain(self, random: Random) -> list[Constraint]:
        constraints = []
        for n in range(1, len(self.path) - 1):
            turn = abs(self._heading_rad(n) - self._heading_rad(n - 1))
            turn = min(turn, 2.0 * pi - turn)
            speed = 5.5 if turn > 0.9 else self._limits_mps[n]
            wait = 0.0
            if self.city.is_lit(self.path[n]) and random.random() < RED_LIGHT_SHARE:
                speed, wait = 0.0, random.uniform(*RED_LIGHT_S)
            constraints.append(Constraint(self._starts_m[n], speed, wait))
        constraints.append(Constraint(self.length_m, 0.0, 0.0))
        return constraints

    def _heading_rad(self, street: int) -> float:
        a, b = (self.city.crossings[c] for c in self.path[street : street + 2])
        return atan2(b.east_m - a.east_m, b.north_m - a.north_m)

    def _find_street(self, at_m: float) -> int:
        while self._street < len(self.path) - 2 and at_m >= self._starts_m[self._street + 1]:
            self._street += 1
        return self._street

    def limit_mps(self, at_m: float) -> float:
        return self._limits_mps[self._find_street(at_m)]

    def place(self, at_m: float) -> tuple[Point, float]:
        """Return the point at `at_m` of the leg (which only grows from call to call) and the heading there."""
        street = self._find_street(at_m)
        a, b = (self.city.crossings[c] for c in self.path[street : street + 2])
        share = (at_m - self._starts_m[street]) / (self._starts_m[street + 1] - self._starts_m[street])
        point = Point(a.east_m + share * (b.east_m - a.east_m), a.north_m + share * (b.north_m - a.north_m))
        return point, degrees(self._heading_rad(street)) % 360.0

    def start_m(self, index: int) -> float:
        """Return how far along the leg the crossing `path[index]` is."""
        return self._starts_m[index]

    def crossing_after(self, at_m: float) -> int:
        """Return the index in `path` of the next crossing."""
        return self._find_street(at_m) + 1


class Driver:
    """Drives one leg: position, speed and waiting; a step never passes a constraint faster than it allows."""

    def __init__(self, leg: Leg, random: Random) -> None:
        self.leg = leg
        self.at_m = 0.0
        self.speed_mps = 0.0
        self._wait_s = 0.0
        self._eagerness = random.uniform(0.85, 1.1)

    @property
    def is_there(self) -> bool:
        return not self.leg.constraints

    def step(self, dt_s: float, *, acceleration_mps2_max: float = ACCELERATION_MPS2) -> float:
        """Drive for `dt_s` (at most a second, better less); return the metres covered."""
        if self._wait_s > 0.0 or self.is_there:
            self._wait_s -= dt_s
            self.speed_mps = 0.0
            return 0.0
        limit = self.leg.limit_mps(self.at_m) * self._eagerness
        ease = 1.0 - 0.75 * min(self.speed_mps / 16.7, 1.0)  # acceleration fades with speed
        wanted = min(limit, self.speed_mps + acceleration_mps2_max * self._eagerness * ease * dt_s)
        for constraint in self.leg.constraints:
            distance = constraint.at_m - self.at_m
            if distance > 140.0:
                break
            wanted = min(wanted, _safe_speed_mps(distance, constraint.speed_mps))
        # Brakes hold 3 m/s2 where the rule asks for more, as at a limit that drops at a crossing.
        self.speed_mps = max(wanted, self.speed_mps - 3.0 * dt_s, 0.0)
        covered = min(self.speed_mps * dt_s, self.leg.length_m - self.at_m)
        self.at_m += covered
        self._pass_constraints()
        return covered

    def _pass_constraints(self) -> None:
        constraints = self.leg.constraints
        while constraints and constraints[0].at_m - self.at_m < (1.5 if constraints[0].speed_mps == 0.0 else 0.0):
            passed = constraints.popleft()
            if passed.speed_mps == 0.0:
                self.speed_mps = 0.0
                self._wait_s = passed.wait_s


def _safe_speed_mps(distance_m: float, speed_then_mps: float) -> float:
    reaction = BRAKE_MPS2 * REACTION_S
    room = max(distance_m, 0.0) * 2.0 * BRAKE_MPS2
    return -reaction + sqrt(reaction * reaction + speed_then_mps * speed_then_mps + room)
