"""What the fleet did before the world began: shifts, nights, charging and swaps of some weeks, as a plan.

The plan is made forwards, with places that do not know which module is in them; it ends where the world begins, so
the module that the world has in a place is the one that the plan left there. Times are seconds since the past began.
Each day has two shifts; between them, and after the second one, vans that would not get through the next shift go to
their station. The last day ends in its first shift.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

HOUR_S, DAY_S = 3600.0, 86400.0
SHIFTS_S = ((1.0 * HOUR_S, 6.0 * HOUR_S), (7.5 * HOUR_S, 12.5 * HOUR_S))  # of a day of the plan, which begins at 6
LAST_SHIFT_S = 3.0 * HOUR_S  # how much of the last one is over when the world begins
NIGHT_KW = 3.0  # what vans that stand overnight may be charged with before the last shift
LAST_SHIFT_SOC = 0.3  # what they use in it
SWAP_AFTER_S = 300.0  # from a shift's end to the first swap
EXCHANGE_S = 240.0
FETCH_S, REMOVE_S, INSERT_S = 60.0, 110.0, 180.0  # after an exchange's begin; it ends when the drained one is stored
MODULE_KWH = 26.0
VAN_KW = (2.2, 3.0)  # mean over a shift, stops included
CHARGER_KW = 12.0
READY_SOC, RESERVE_SOC = 0.9, 0.38  # of what a van gets; of what it does not go below
FULL_SOC = 0.985  # from there on a slot charges until full, as chargers do
BEGIN_SOC = (0.85, 0.97)
MARGIN_SOC = 0.06  # how much more may be left in a module than the plan, which knows no physics, reckons with

DRIVE, CHARGE, REST = "drive", "charge", "rest"


class Bay(NamedTuple):
    """A place of the plan."""

    node: str
    bay: int


class Phase(NamedTuple):
    """What a module does from then to then. `power_kw` is into the module; `bay` None: the robot carries it.

    `soc_end`: it charges until then at most; or it drives so that this is what is left at the end.
    """

    begin_s: float
    end_s: float
    bay: Bay | None
    what: str
    power_kw: float
    soc_end: float | None = None


class Move(NamedTuple):
    """A module comes into a bay or leaves it."""

    time_s: float
    bay: Bay
    is_in: bool
    request_id: int
    module: int  # number in the plan


@dataclass
class Plan:
    """Phases and moves of each module, by its number; and where each one is at the end."""

    end_s: float
    soc_begin: list[float]
    phases: list[list[Phase]]
    moves: list[Move] = field(default_factory=list)
    ends: dict[Bay, int] = field(default_factory=dict)


def days_of(end_s: float) -> int:
    """Return how many days of the plan begin before `end_s`."""
    return int(end_s // DAY_S) + 1


class Planner:
    """Makes a plan. `vans` and `stations` map names to the charge that the module of each bay is to have at the end."""

    def __init__(
        self,
        vans: Mapping[str, Sequence[float]],
        stations: Mapping[str, Sequence[float]],
        *,
        days: int,
        random: Random,
    ) -> None:
        self._random = random
        self._vans, self._slots = _bays_of(vans), _bays_of(stations)
        self._soc_end = {Bay(name, n): soc for name in stations for n, soc in enumerate(stations[name], start=1)}
        places = [bay for bays in (*self._vans.values(), *self._slots.values()) for bay in bays]
        self._held = dict(zip(places, range(len(places)), strict=True))
        self._soc = [random.uniform(*BEGIN_SOC) for _ in places]
        self._since = [0.0] * len(places)
        self._request_id = 0
        self._end_s = days * DAY_S + SHIFTS_S[0][0] + LAST_SHIFT_S
        self._plan = Plan(self._end_s, list(self._soc), [[] for _ in places])

    def make(self) -> Plan:
        """Return the plan."""
        for bay, module in self._held.items():
            self._plan.moves.append(Move(0.0, bay, True, 0, module))
        for day in range(days_of(self._end_s)):
            for begin_s, end_s in SHIFTS_S:
                self._shift(day * DAY_S + begin_s, day * DAY_S + end_s)
        self._plan.moves.sort()
        self._plan.ends = dict(self._held)
        return self._plan

    def _shift(self, begin_s: float, end_s: float) -> None:
        """Let all vans drive a shift, and exchange their modules after it where they must."""
        if begin_s >= self._end_s:
            return
        end_s = min(end_s, self._end_s)
        for bays in self._vans.values():
            self._drive(bays, begin_s, end_s)
        for slots in self._slots.values():
            for bay in slots:
                self._wait(bay, end_s)
        if end_s < self._end_s:
            self._swap_all(end_s)

    def _drive(self, bays: Sequence[Bay], begin_s: float, end_s: float) -> None:
        power_kw = -self._random.uniform(*VAN_KW) / len(bays)
        left_kwh = min(self._soc[self._held[bay]] - RESERVE_SOC for bay in bays) * MODULE_KWH
        power_kw = -min(-power_kw, max(0.0, left_kwh) * HOUR_S / (end_s - begin_s))
        for bay in bays:
            module = self._held[bay]
            begin = max(begin_s, self._since[module])
            self._wait(bay, begin)
            self._add(module, end_s, bay, DRIVE, power_kw)
            self._soc[module] += power_kw * (end_s - begin) / HOUR_S / MODULE_KWH

    def _wait(self, bay: Bay, until_s: float) -> None:
        """Let the module in a bay rest, or charge where there is a charger."""
        module = self._held[bay]
        is_slot = bay.node in self._slots
        charged = CHARGER_KW * (until_s - self._since[module]) / HOUR_S / MODULE_KWH
        self._add(module, until_s, bay, CHARGE if is_slot else REST, CHARGER_KW if is_slot else 0.0)
        if is_slot:
            self._soc[module] = min(1.0, self._soc[module] + max(charged, 0.0))

    def _add(self, module: int, until_s: float, bay: Bay | None, what: str, power_kw: float) -> None:
        if until_s > self._since[module]:
            self._plan.phases[module].append(Phase(self._since[module], until_s, bay, what, power_kw))
            self._since[module] = until_s

    def _swap_all(self, shift_end_s: float) -> None:
        """Serve the vans that need it, the emptiest first, each at the station whose turn it is."""
        needs = [
            (min(self._soc[self._held[bay]] for bay in bays), name)
            for name, bays in self._vans.items()
            if self._is_needed(bays)
        ]
        times_s = dict.fromkeys(self._slots, shift_end_s + SWAP_AFTER_S)
        for index, (_, name) in enumerate(sorted(needs)):
            station = list(self._slots)[index % len(self._slots)]
            for bay in self._vans[name]:
                times_s[station] = self._exchange(bay, station, times_s[station])

    def _is_needed(self, bays: Sequence[Bay]) -> bool:
        need = VAN_KW[1] / len(bays) * (SHIFTS_S[0][1] - SHIFTS_S[0][0]) / HOUR_S / MODULE_KWH
        return min(self._soc[self._held[bay]] for bay in bays) - need < RESERVE_SOC

    def _exchange(self, bay: Bay, station: str, begin_s: float) -> float:
        """Exchange one module for the fullest of the station, if that is full enough; return when the robot is free.

        It comes into no slot that may have to end with less charge than it has: a charger takes none out of it.
        """
        for one in self._slots[station]:
            self._wait(one, begin_s)
        drained = self._held[bay]
        fits = [one for one in self._slots[station] if self._soc[drained] + MARGIN_SOC <= self._soc_end[one]]
        slot = max(fits, key=lambda one: self._soc[self._held[one]], default=None)
        if slot is None or self._soc[self._held[slot]] < READY_SOC:
            return begin_s
        charged = self._held[slot]
        self._request_id += 1
        self._wait(slot, begin_s + FETCH_S)
        self._wait(bay, begin_s + REMOVE_S)
        self._carry(charged, slot, bay, (begin_s + FETCH_S, begin_s + INSERT_S))
        self._carry(drained, bay, slot, (begin_s + REMOVE_S, begin_s + EXCHANGE_S))
        return begin_s + EXCHANGE_S

    def _carry(self, module: int, origin: Bay, destination: Bay, times_s: tuple[float, float]) -> None:
        left_s, came_s = times_s
        self._plan.moves.append(Move(left_s, origin, False, self._request_id, module))
        self._add(module, came_s, None, REST, 0.0)
        self._plan.moves.append(Move(came_s, destination, True, self._request_id, module))
        self._held[destination] = module


def _bays_of(holders: Mapping[str, Sequence[float]]) -> dict[str, list[Bay]]:
    return {name: [Bay(name, n + 1) for n in range(len(bays))] for name, bays in holders.items()}


def land(plan: Plan, soc: Mapping[Bay, float]) -> Plan:
    """Let each module end with the state of charge that it is to have in the place where it ends.

    A van's modules are charged overnight as far as they must be, and used up in the last shift. A slot's are charged no
    further since they came: what is charged and then is not there any more has leaked, for whoever reads the rows.
    """
    for bay, module in plan.ends.items():
        phases = plan.phases[module]
        if phases[-1].what == DRIVE:
            night = next(n for n in range(len(phases) - 1, -1, -1) if phases[n].what == REST)
            phases[night] = phases[night]._replace(
                what=CHARGE, power_kw=NIGHT_KW, soc_end=min(0.97, soc[bay] + LAST_SHIFT_SOC)
            )
            phases[-1] = phases[-1]._replace(soc_end=soc[bay])
            continue
        came = next((n + 1 for n in range(len(phases) - 1, -1, -1) if phases[n].bay != bay), 0)
        soc_end = soc[bay] if soc[bay] < FULL_SOC else None
        phases[came:] = [phase._replace(soc_end=soc_end) for phase in phases[came:]]
        if came == 0:
            plan.soc_begin[module] = min(plan.soc_begin[module], soc[bay])
    return plan
