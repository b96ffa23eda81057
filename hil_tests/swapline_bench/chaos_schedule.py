"""What a chaos run does to the stack, and when: a pure function of its arguments.

Two streams of actions: kills, and faults of links and clocks. Each deals from a shuffled deck that holds every part (or
every kind) once, so that nothing repeats before everything had its turn and a short run has met all of it. Whenever the
database is killed, so is a gateway while it is away.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from swapline_bench.randomness import make_random

WARM_UP_S = 8.0  # all nodes have connected once before the first action
DOWN_S = (0.2, 5.0)  # how long a killed part stays away
AWAY_S = (3.0, 5.0)  # the database stays away so long that a gateway fills its spool and is killed on it
REST_S = 3.0  # a part is left alone so long after it came back
NODE, BROKER, GATEWAY, DATABASE = "node", "broker", "gateway", "database"
PARTS = (NODE, BROKER, GATEWAY, DATABASE)
BROKER_NAME, DATABASE_NAME, SNTP_NAME = "broker", "database", "sntp"
KILL = "kill"
KILL_AND_FORGET = "kill_and_forget"  # the broker comes back without its persistence file

# Kind -> shortest and longest duration in seconds. Half-open connections need the time until a node notices.
LINK_FAULTS = {
    "link_half_open": (8.0, 60.0),
    "link_refused": (2.0, 30.0),
    "link_reset": (0.0, 0.0),
    "link_loss": (10.0, 40.0),
    "link_delay": (10.0, 40.0),
    "link_narrow": (10.0, 40.0),
}
GNSS_FAULTS = {
    "gnss_day_ahead": (10.0, 60.0),
    "gnss_day_behind": (10.0, 60.0),
    "gnss_week_rollover": (10.0, 60.0),
}
SNTP_FAULTS = {
    "sntp_lies": (10.0, 60.0),
    "sntp_silent": (10.0, 60.0),
}
CLOCK_FAULTS = {**GNSS_FAULTS, **SNTP_FAULTS}
FAULTS = {**LINK_FAULTS, **CLOCK_FAULTS}


@dataclass(frozen=True, slots=True)
class Setting:
    """The arguments on which a schedule depends, and nothing else."""

    seed: int
    duration_s: float
    vans: int
    stations: int
    gateways: int = 2
    has_database: bool = True  # a database process of its own, which can be killed
    kills_per_min: float = 18.0
    faults_per_min: float = 8.0

    @property
    def van_names(self) -> list[str]:
        return [f"van-{number:03d}" for number in range(1, self.vans + 1)]

    @property
    def node_names(self) -> list[str]:
        return self.van_names + [f"station-{number:03d}" for number in range(1, self.stations + 1)]

    @property
    def gateway_names(self) -> list[str]:
        return [f"gateway-{number}" for number in range(1, self.gateways + 1)]


@dataclass(frozen=True, slots=True)
class Action:
    """Something that is done to one part at `at_s` after the beginning, and undone `duration_s` later."""

    at_s: float
    kind: str  # KILL, KILL_AND_FORGET, or one of FAULTS
    part: str  # one of PARTS; of faults: of the node or the SNTP server
    name: str
    duration_s: float

    @property
    def end_s(self) -> float:
        return self.at_s + self.duration_s

    @property
    def is_kill(self) -> bool:
        return self.kind in {KILL, KILL_AND_FORGET}

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(setting: Setting) -> list[Action]:
    """Return all actions in the order of their time; all of them are over at `setting.duration_s`."""
    return sorted([*_kills(setting), *_faults(setting)], key=lambda action: (action.at_s, action.name))


class _Deck:
    """Deals cards in shuffled rounds, leaving out those that cannot be played at the moment."""

    def __init__(self, random: Random, cards: Iterable[str]) -> None:
        self._random = random
        self._cards = list(cards)
        self._left: list[str] = []

    def deal(self, busy: set[str]) -> str | None:
        """Return the next card that is not busy; None if all are."""
        for _ in range(2):
            for index, card in enumerate(self._left):
                if card not in busy:
                    return self._left.pop(index)
            refill = [card for card in self._cards if card not in self._left]
            self._random.shuffle(refill)
            self._left += refill
        return None


class _Calendar:
    """Until when each name is in use."""

    def __init__(self) -> None:
        self._free_at_s: dict[str, float] = {}

    def busy(self, at_s: float) -> set[str]:
        return {name for name, free_at_s in self._free_at_s.items() if free_at_s > at_s}

    def take(self, name: str, until_s: float) -> None:
        self._free_at_s[name] = until_s


def _times(random: Random, setting: Setting, per_min: float) -> Iterator[float]:
    """Yield moments, one at random in each of equal stretches of time."""
    if per_min <= 0:
        return
    stretch_s = 60.0 / per_min
    at_s = WARM_UP_S
    while at_s + stretch_s <= setting.duration_s - DOWN_S[1]:
        yield round(at_s + random.random() * stretch_s, 3)
        at_s += stretch_s


def _kills(setting: Setting) -> Iterator[Action]:
    random = make_random(setting.seed, "kills")
    parts = dict.fromkeys(setting.node_names, NODE) | dict.fromkeys(setting.gateway_names, GATEWAY)
    parts[BROKER_NAME] = BROKER
    if setting.has_database:
        parts[DATABASE_NAME] = DATABASE
    deck, calendar = _Deck(random, parts), _Calendar()
    others = {name for name, part in parts.items() if part != GATEWAY}
    broker_kinds = _Deck(random, (KILL, KILL_AND_FORGET))
    for at_s in _times(random, setting, setting.kills_per_min):
        name = deck.deal(calendar.busy(at_s))
        if name is None:
            continue  # more kills were asked for than there are parts to kill
        down_s = round(random.uniform(*(AWAY_S if name == DATABASE_NAME else DOWN_S)), 3)
        kind = (broker_kinds.deal(set()) or KILL) if name == BROKER_NAME else KILL
        calendar.take(name, at_s + down_s + REST_S)
        yield Action(at_s, kind, parts[name], name, down_s)
        if name == DATABASE_NAME:
            # What a gateway holds and nobody else has is put to the test only by a kill while its database is away.
            then_s = round(at_s + down_s * random.uniform(0.5, 0.9), 3)
            down_s = round(random.uniform(*DOWN_S), 3)
            holder = deck.deal(calendar.busy(then_s) | others) if then_s + down_s <= setting.duration_s else None
            if holder is not None:
                calendar.take(holder, then_s + down_s + REST_S)
                yield Action(then_s, KILL, GATEWAY, holder, down_s)


def _faults(setting: Setting) -> Iterator[Action]:
    random = make_random(setting.seed, "faults")
    kinds = [*LINK_FAULTS, *(GNSS_FAULTS if setting.vans else ()), *SNTP_FAULTS]
    deck = _Deck(random, kinds)
    victims = {
        "link": (_Deck(random, setting.node_names), _Calendar()),
        "gnss": (_Deck(random, setting.van_names), _Calendar()),
        "sntp": (_Deck(random, [SNTP_NAME]), _Calendar()),
    }
    for at_s in _times(random, setting, setting.faults_per_min):
        share = random.random()
        full = {family for family, (_, calendar) in victims.items() if not _has_idle(family, calendar, at_s, setting)}
        kind = deck.deal({kind for kind in kinds if kind.split("_")[0] in full})
        if kind is None:
            continue
        names, calendar = victims[kind.split("_")[0]]
        name = names.deal(calendar.busy(at_s))
        assert name is not None
        shortest_s, longest_s = FAULTS[kind]
        duration_s = round(min(shortest_s + share * (longest_s - shortest_s), setting.duration_s - at_s), 3)
        calendar.take(name, at_s + duration_s + REST_S)
        yield Action(at_s, kind, SNTP_NAME if name == SNTP_NAME else NODE, name, duration_s)


def _has_idle(family: str, calendar: _Calendar, at_s: float, setting: Setting) -> bool:
    names = {"link": setting.node_names, "gnss": setting.van_names, "sntp": [SNTP_NAME]}[family]
    return not calendar.busy(at_s).issuperset(names)


def format_plan(actions: Iterable[Action]) -> str:
    """Return the schedule for people, a line an action."""
    lines = []
    for action in actions:
        lasting = f"for {action.duration_s:.1f} s" if action.duration_s else ""
        lines.append(f"{action.at_s:8.1f} s  {action.name:<12} {action.kind.replace('_', ' ')} {lasting}".rstrip())
    return "\n".join(lines)
