"""The station's swap robot: exchanges a van's modules one after the other and writes down who holds what.

It has two forks, so it needs no empty slot: fetch the charged module from its slot, remove the drained one from the
van, insert the charged one, store the drained one in the slot that became free. Whatever the speed of the world, a
module is on no serial line, and a bay empty, for at least `absence_real_s` of real time: a node has to have the chance
to notice.

Van and slot are told the exchange's request id, for their controllers to tell, as docs/vehicle-controller.md and
docs/slot-charger.md ask for: before anything moves, and until a while after. The id of a van's next exchange comes so
late that a node has noticed the module of the one before.
"""

from dataclasses import dataclass
from math import isfinite

from .custody import Ledger, Swap
from .module import Module
from .station import Slot, Station
from .van import Van

FETCH_S, REMOVE_S, INSERT_S, STORE_S = 35.0, 40.0, 25.0, 35.0
READY_PCT = 90.0  # a module that a van gets without waiting
PATIENCE_S = 1200.0  # of world time; then a module that is good enough will do
GOOD_ENOUGH_PCT = 25.0  # fuller than the one it replaces
EXCHANGE_BELOW_PCT = 85.0  # fuller modules stay in the van
REQUEST_REAL_S = 60.0  # a request id stays so long after the last movement
BOOT_REAL_S = 10.0  # in which nodes that begin to run have read all bays (measured: 2 to 4)
NOTICE_REAL_S = 5.0  # and a van's at least so long before the next one replaces it


@dataclass
class Exchange:
    """What the robot is doing: which module for which, and since when the places are empty."""

    request_id: int
    van: Van
    bay: int  # index
    slot: Slot
    started_s: float
    phase: int = 0
    charged: Module | None = None
    drained: Module | None = None
    charged_out_real_s: float = 0.0
    drained_out_real_s: float = 0.0


class SwapRobot:
    """Serves the queue of one station."""

    def __init__(self, station: Station, ledger: Ledger, *, absence_real_s: float) -> None:
        self.station = station
        self.absence_real_s = absence_real_s
        self._ledger = ledger
        self._exchange: Exchange | None = None
        self._phase_s = 0.0
        self._waited_s = 0.0
        self._inserted_real_s = self._rests_until_real_s = float("-inf")
        self._finished: list[tuple[float, int, Van | Slot]] = []  # when, request id and who still tells it

    def resume(self) -> None:
        """Go on after nodes were off: rest until they have read who is where, and measure real time from now."""
        now_s = self._ledger.clock.real_time_s
        self._rests_until_real_s = now_s + BOOT_REAL_S
        if self._exchange is not None:
            self._exchange.charged_out_real_s = self._exchange.drained_out_real_s = now_s
        if isfinite(self._inserted_real_s):
            self._inserted_real_s = now_s
        self._finished = [(now_s, request_id, holder) for _, request_id, holder in self._finished]

    def step(self, dt_s: float) -> None:
        """Work for `dt_s`: at most one change of custody a step."""
        for module in self._carried():
            module.advance(0.0, dt_s)
        self.station.is_robot_moving = self._exchange is not None
        self._end_requests()
        if self._ledger.clock.real_time_s < self._rests_until_real_s:
            return
        if self._exchange is None:
            self._begin(dt_s)
            return
        self._tell_van(self._exchange)
        self._phase_s += dt_s
        durations_s = (FETCH_S, REMOVE_S, INSERT_S, STORE_S)
        if self._phase_s < durations_s[self._exchange.phase] or not self._has_been_absent(self._exchange):
            return
        (self._fetch, self._remove, self._insert, self._store)[self._exchange.phase](self._exchange)
        self._phase_s = 0.0

    def _carried(self) -> list[Module]:
        exchange = self._exchange
        return [m for m in (exchange.charged, exchange.drained) if m is not None] if exchange else []

    def _has_been_absent(self, exchange: Exchange) -> bool:
        """Say whether the next phase may end: what it puts in place has been off every line for long enough."""
        now_s = self._ledger.clock.real_time_s
        if exchange.phase == 1:
            return exchange.van.request_id == exchange.request_id
        if exchange.phase == 2:
            # The drained module left the bay later than the charged one its slot; both have to have been seen missing.
            return now_s - exchange.drained_out_real_s >= self.absence_real_s
        return exchange.phase != 3 or now_s - exchange.charged_out_real_s >= self.absence_real_s

    def _begin(self, dt_s: float) -> None:
        """Find the next exchange for the first van in the queue, or let it go."""
        if not self.station.queue:
            self._waited_s = 0.0
            return
        van = self.station.queue[0]
        drained = [(m.soc_pct, n) for n, m in enumerate(van.bays) if m is not None and m.soc_pct < EXCHANGE_BELOW_PCT]
        slot = self.station.find_fullest()
        if not drained:
            self._release(van)
        elif slot is not None and slot.module is not None and self._is_worth_it(slot.module, min(drained)[0]):
            if van.task != "swapping":
                van.begin_swap()
            slot.is_reserved = True
            request_id = slot.request_id = self._ledger.next_request_id()
            self._exchange = Exchange(request_id, van, min(drained)[1], slot, self._ledger.clock.time_s)
            self._phase_s = self._waited_s = 0.0
        else:
            self._waited_s += dt_s

    def _tell_van(self, exchange: Exchange) -> None:
        """Tell the van the request id, when its node has noticed the module of the exchange before."""
        notice_s = min(NOTICE_REAL_S, self.absence_real_s)
        if self._ledger.clock.real_time_s - self._inserted_real_s >= notice_s:
            exchange.van.request_id = exchange.request_id

    def _end_requests(self) -> None:
        """Take back the request ids whose last movement was long enough ago."""
        now_s = self._ledger.clock.real_time_s
        while self._finished and now_s - self._finished[0][0] >= REQUEST_REAL_S:
            _, request_id, holder = self._finished.pop(0)
            if holder.request_id == request_id:
                holder.request_id = 0

    def _is_worth_it(self, module: Module, drained_pct: float) -> bool:
        if module.soc_pct >= READY_PCT:
            return True
        return self._waited_s >= PATIENCE_S and module.soc_pct >= drained_pct + GOOD_ENOUGH_PCT

    def _release(self, van: Van) -> None:
        self.station.queue.pop(0)
        self._waited_s = 0.0
        van.end_swap()

    def _place_of(self, exchange: Exchange) -> tuple[str, int]:
        return self.station.name, self.station.slots.index(exchange.slot) + 1

    def _fetch(self, exchange: Exchange) -> None:
        exchange.charged = exchange.slot.take()
        exchange.charged_out_real_s = self._ledger.clock.real_time_s
        self._ledger.record("out", self._place_of(exchange), exchange.charged, exchange.request_id)
        exchange.phase = 1

    def _remove(self, exchange: Exchange) -> None:
        module = exchange.van.bays[exchange.bay]
        assert module is not None
        module.advance(0.0, 1e-3)
        exchange.drained, exchange.van.bays[exchange.bay] = module, None
        exchange.drained_out_real_s = self._ledger.clock.real_time_s
        self._ledger.record("out", (exchange.van.name, exchange.bay + 1), module, exchange.request_id)
        exchange.phase = 2

    def _insert(self, exchange: Exchange) -> None:
        assert exchange.charged is not None
        exchange.van.bays[exchange.bay] = exchange.charged
        self._ledger.record("in", (exchange.van.name, exchange.bay + 1), exchange.charged, exchange.request_id)
        self._inserted_real_s = self._ledger.clock.real_time_s
        exchange.phase = 3

    def _store(self, exchange: Exchange) -> None:
        assert exchange.charged is not None
        assert exchange.drained is not None
        exchange.slot.put(exchange.drained)
        place = self._place_of(exchange)
        self._ledger.record("in", place, exchange.drained, exchange.request_id)
        clock = self._ledger.clock
        codes = (exchange.drained.code, exchange.charged.code)
        times = (clock.time_s, clock.real_time_s, clock.time_s - exchange.started_s)
        self._ledger.swaps.append(
            Swap(exchange.request_id, exchange.van.name, exchange.bay + 1, *place, *codes, *times)
        )
        self._finished += [(clock.real_time_s, exchange.request_id, holder) for holder in (exchange.van, exchange.slot)]
        self._exchange = None
