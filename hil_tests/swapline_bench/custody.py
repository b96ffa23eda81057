"""The truth about who held which module when: what an oracle later compares the database with."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from .module import Module


class WorldClock:
    """World time, and the real time that goes with it: `speed` world seconds pass in one real second.

    `real_time_s` may be a real clock (where faces run on real serial lines); without it real time is world time by
    speed.
    """

    def __init__(self, speed: float, real_time_s: Callable[[], float] | None = None) -> None:
        self.speed = speed
        self.time_s = 0.0
        self._read_real_s = real_time_s

    @property
    def real_time_s(self) -> float:
        return self.time_s / self.speed if self._read_real_s is None else self._read_real_s()


class CustodyEvent(NamedTuple):
    """One true change of custody: a module came into (`in`) or left (`out`) a bay of a holder."""

    kind: Literal["in", "out"]
    holder: str
    bay: int  # van bay or station slot, from 1
    code: str
    world_time_s: float
    real_time_s: float
    soc_pct: float
    request_id: int  # joins the four events of one exchange; 0: where the module was when the run began


class Swap(NamedTuple):
    """One finished exchange: `code_out` left the van's bay for the station's slot, `code_in` took the other way."""

    request_id: int
    van: str
    bay: int
    station: str
    slot: int
    code_out: str
    code_in: str
    world_time_s: float  # when the last of the four changes of custody happened
    real_time_s: float
    duration_s: float  # in world time


class Ledger:
    """All custody events and swaps in the order in which they happened."""

    def __init__(self, clock: WorldClock) -> None:
        self.clock = clock
        self.events: list[CustodyEvent] = []
        self.swaps: list[Swap] = []
        self.last_request_id = 0

    def next_request_id(self) -> int:
        self.last_request_id += 1
        return self.last_request_id

    def record(self, kind: Literal["in", "out"], place: tuple[str, int], module: Module, request_id: int) -> None:
        """Write down that `module` came into or left `place` (holder, bay) now."""
        clock = self.clock
        self.events.append(
            CustodyEvent(kind, *place, module.code, clock.time_s, clock.real_time_s, module.soc_pct, request_id)
        )
