"""The demo's story: one module has a cell with a soft short. It falls behind, is warned of, alarms, is taken out.

Its past (`faults`) and the world at its beginning (`plant`) fit together: what the cell leaked in those weeks is what
it lacks. Its van stays parked until the books have warned of it, or for a while: a warning that comes after the alarm
helps nobody, and a past of weeks takes a minute to arrive. The rest is physics: under load the empty cell's voltage
sinks below the others, the firmware's rule for the cell spread tells it, and at the station the robot takes the module
out as it does with any that is drained.
"""

import http.client
import json
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from swapline_bench.module import Module
from swapline_bench.past_life import Fault
from swapline_bench.past_schedule import DAY_S, Bay
from swapline_bench.van import Van
from swapline_bench.world import World

CELL = 6  # from 0: people count from 1
ANSWER_S_MAX = 5.0
WARNED_DAYS_MIN = 7.0  # of past, for a warning to be expected
WARNED_S_MAX = 240.0  # for which it is waited for
BEGINS_AT = 0.25  # of the past
LACKS_MAX = 0.33  # of its capacity, when the world begins: it is empty before its van goes to a station, at 30 %
LEFT_MIN = 0.045
SWAPPED = "swapped"  # the key of the story's last sentence
REFILLED = 0.91  # of what it leaked is what it lacks in the end: balancing drains the others meanwhile


def place(world: World) -> Bay:
    """Return where the module is when the world begins: in a van of several, so that the van can go on without it.

    The third van does not have to go to the station at once, so that there is time to see the warning first.
    """
    van = world.vans[2] if len(world.vans) > 2 else world.vans[0]
    return Bay(van.name, 1)


def lacks(module: Module) -> float:
    """Return how much less than the others the cell has when the world begins, as a share of its capacity."""
    return min(LACKS_MAX, module.soc_pct / 100.0 - LEFT_MIN)


def faults(world: World, bay: Bay, share: float, end_s: float) -> Sequence[Fault]:
    """Return what happened to the module that is in `bay` at the past's end, and shall lack `share` of a cell there."""
    if bay != place(world):
        return ()
    begin_s = BEGINS_AT * end_s
    return (Fault(begin_s, lambda module: module.cells.leak(_leak_a(module, share, end_s - begin_s), cell=CELL)),)


def _leak_a(module: Module, share: float, duration_s: float) -> float:
    return share * module.cells.capacity_ah[CELL] / REFILLED / (duration_s / 3600.0)


def plant(world: World, past_s: float) -> Module:
    """Give the world's module its fault; return it."""
    bay = place(world)
    van = next(van for van in world.vans if van.name == bay.node)
    module = van.bays[bay.bay - 1]
    assert module is not None
    cells, share = module.cells, lacks(module)
    others = min(charge / capacity for charge, capacity in zip(cells.charge_ah, cells.capacity_ah, strict=True))
    wanted_ah = (others - share) * cells.capacity_ah[CELL]
    cells.shift_charge(wanted_ah - cells.charge_ah[CELL], cells=[CELL])
    cells.leak(_leak_a(module, share, (1.0 - BEGINS_AT) * past_s), cell=CELL)
    return module


class StoryState(NamedTuple):
    """What a world that is written down keeps of its story."""

    module: str
    known: tuple[str, ...]  # keys of what was told


class Story:
    """Tells what becomes of the module, as the gateway and the world show it; each thing once, a sentence each."""

    def __init__(
        self,
        world: World,
        past_s: float,
        *,
        say: Callable[[str], None],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.told: list[str] = []
        self.module = ""
        self._world = world
        self._past_s = past_s
        self._say = say
        self._known: set[str] = set()
        self._monotonic_s = monotonic_s
        self._wait_until_s: float | None = None

    def begin(self) -> None:
        """Plant the fault and say so."""
        bay = place(self._world)
        self.module = plant(self._world, self._past_s).code
        if self._past_s >= WARNED_DAYS_MIN * DAY_S:
            self._wait_until_s = self._monotonic_s() + WARNED_S_MAX
            self._van.is_kept_waiting = True
        self._tell(
            "begin", f"story: cell {CELL + 1} of module {self.module} leaks; it is in bay {bay.bay} of {bay.node}"
        )

    def resume(self, state: StoryState) -> None:
        """Go on with the story that the world had when it was written down: what was told is told."""
        self.module, self._known = state.module, set(state.known)
        if self._van.is_kept_waiting:
            self._wait_until_s = self._monotonic_s() + WARNED_S_MAX
        if SWAPPED not in self._known:
            self._say(f"story: goes on with module {self.module}")

    @property
    def state(self) -> StoryState:
        """Return what the story has come to."""
        return StoryState(self.module, tuple(sorted(self._known.copy())))  # a look may be on its way in its thread

    @property
    def _van(self) -> Van:
        return next(van for van in self._world.vans if van.name == place(self._world).node)

    def watch(self, url: str) -> None:
        """Look for news. What does not answer has none."""
        self._watch_books(url)
        is_over = self._wait_until_s is not None and self._monotonic_s() >= self._wait_until_s
        is_warned = any(key.startswith("warning") for key in self._known)
        if self._van.is_kept_waiting and (is_warned or is_over):
            self._van.is_kept_waiting = False
            self._tell("sets out", f"story: {self._van.name} sets out")

    def _watch_books(self, url: str) -> None:
        for warning in _ask(f"{url}/api/battery/warnings", "warnings"):
            if warning["module"] == self.module:
                self._tell(f"warning {warning['kind']}", f"story: early warning: {warning['text']}")
        for alarm in _ask(f"{url}/api/alarms?limit=100&module={self.module}", "alarms"):
            self._tell_alarm(alarm)
        self.watch_swaps()

    def watch_swaps(self) -> None:
        """Look for the robot that takes the module out."""
        for swap in list(self._world.swaps):
            if swap.code_out == self.module:
                self._tell(SWAPPED, f"story: taken out of {swap.van} at {swap.station}: it is in slot {swap.slot} now")

    def _tell_alarm(self, alarm: Mapping[str, Any]) -> None:
        key = f"alarm {alarm['code']} {alarm['raised_utc_ms']} {alarm['level_max']}"
        where = f"bay {alarm['bay']} of {alarm['node']}"
        self._tell(key, f"story: ALARM in {where}: {alarm['text']}")

    def _tell(self, key: str, sentence: str) -> None:
        if key not in self._known:
            self._known.add(key)
            self.told.append(sentence)
            self._say(sentence)


def _ask(url: str, name: str) -> list[dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S_MAX) as answer:  # noqa: S310 (our own gateway)
            found: list[dict[str, Any]] = json.load(answer)[name]
            return found
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return []
