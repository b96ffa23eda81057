"""Presence: which module sits in a bay. What its driver sees becomes BATTERY_IN and BATTERY_OUT events.

Every arrival and every departure is told once, over restarts too: the journal's state remembers who sat in each bay
(docs/node.md, "Who sits in the bays", says what the reasons mean and why).
"""

from micropython import const

from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT, MODULE, MODULE_LOST

from .alarm import CLEARED, NO_POSITION, NO_VALUE

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .sampler import Sampler

_LOST_LEVEL = const(2)
_REQUEST_MS_MAX = const(5000)  # after a start the first arrival waits so long for what slot or vehicle say of the swap
_GONE_MS_MIN = const(30000)  # a BMS that starts together with the node may be as slow to answer

# Reasons, as in `catalogue_text.py`.
_CAME = const(0)
_FOUND = const(1)
_STILL_THERE = const(2)
_LEFT = const(0)
_FOUND_GONE = const(1)
_SILENT = const(2)


class Presence:
    """Which module sits in a bay. `code` is empty while none does, or one that has no code."""

    def __init__(self, sampler: "Sampler", bay: int) -> None:
        self.code = ""
        self._sampler = sampler
        self._bay = bay
        self._since_ms = 0
        self._soc: "int | None" = None
        self._soh: "int | None" = None
        self._lost_code = ""
        self._waiting = ""  # came already, but is not told yet
        self._is_new = True  # nothing was told of this bay since the start
        self._is_silent = False  # and nobody answers

    def seen(self, code: str, soc: "int | None" = None, soh: "int | None" = None) -> None:
        """Tell that the module `code` answered; `soc` and `soh` are raw values of the catalogue, None if not known.

        An empty code is that of a module which has none: nobody is told to arrive, but who was here has left.
        """
        self._is_silent = False
        if code != self._waiting:
            self._end_waiting()
        if code and self._is_new and self._sampler.awaits_request(self._bay, _REQUEST_MS_MAX):
            self._waiting = code
        elif code != self.code or self._lost_code:
            self._waiting = ""
            self._change(code, soc, soh)
        self._soc = soc
        self._soh = soh

    def _end_waiting(self) -> None:
        """Tell of an arrival that waits for what slot or vehicle say of the swap, for now it is over."""
        if self._waiting:
            code, self._waiting = self._waiting, ""
            self._change(code, self._soc, self._soh)

    def _change(self, code: str, soc: "int | None", soh: "int | None") -> None:
        lost = self._find()
        sampler = self._sampler
        if self.code:  # else the alarms of this bay are the newcomer's own already, told while its arrival waited
            self.absent()
        if not code:
            return
        before = sampler.occupant(self._bay)
        if lost and lost != code:
            self._tell_departure(lost, _LEFT)
        elif self._is_new and before and before[0] != code:
            sampler.event(BATTERY_OUT, before[0], self._bay, before[1], reason=_FOUND_GONE)
        reason = _CAME
        if lost == code or (self._is_new and before and before[0] == code):
            reason = _STILL_THERE
        elif self._is_new:
            reason = _FOUND
        sampler.event(BATTERY_IN, code, self._bay, reason=reason, soc_pct=soc, soh_pct=soh)
        sampler.occupy(self._bay, code)
        self.code = code
        self._is_new = False
        self._since_ms = sampler.clock.uptime_ms()

    def silent(self) -> None:
        """Tell that the bay has been silent for too long: its module left, or is lost where it cannot have left."""
        self._is_silent = True
        self._end_waiting()
        if self.code and self._sampler.tells_of_module(self._bay):
            self._sampler.leave_bay(self._bay)
            self._lost_code = self.code
            self.code = ""
            self._tell_lost(_LOST_LEVEL)
            self._tell_departure(self._lost_code, _SILENT)
        else:
            self.absent()

    def look(self) -> None:
        """See whether somebody who is missed has left, and tell it. To be called now and then."""
        sampler = self._sampler
        there = sampler.tells_of_module(self._bay)
        if self._lost_code and there == 0:
            self._tell_departure(self._find(), _LEFT)
            sampler.occupy(self._bay, "")
        before = sampler.occupant(self._bay) if self._is_new and self._is_silent else None
        if before and not there and sampler.clock.uptime_ms() >= _GONE_MS_MIN:
            sampler.event(BATTERY_OUT, before[0], self._bay, before[1], reason=_FOUND_GONE)
            sampler.occupy(self._bay, "")
            self._is_new = False

    def _find(self) -> str:
        """No longer miss a lost module; return its code, empty if none was lost."""
        code = self._lost_code
        if code:
            self._tell_lost(CLEARED)
            self._lost_code = ""
        return code

    def _tell_lost(self, level: int) -> None:
        values = [MODULE_LOST, level, MODULE.id, NO_POSITION, NO_POSITION, NO_VALUE, NO_VALUE]
        self._sampler.alarm(values, self._lost_code, self._bay)
        self._sampler.commit()

    def absent(self) -> None:
        """Tell that the bay is empty."""
        self._sampler.leave_bay(self._bay)
        if self.code:
            self._tell_departure(self.code, _LEFT)
            self._sampler.occupy(self._bay, "")
            self.code = ""

    def _tell_departure(self, code: str, reason: int) -> None:
        sampler = self._sampler
        sampler.event(
            BATTERY_OUT,
            code,
            self._bay,
            reason=reason,
            soc_pct=self._soc,
            soh_pct=self._soh,
            duration_s=(sampler.clock.uptime_ms() - self._since_ms) // 1000,
        )
