"""Witnesses: they watch a face answer and write down what it has said, as statements.

A node that polls in time must make one row of each complete poll. Whether a poll was complete shows in the order of its
questions, which each witness states in its own words; whether it was in time, in how late the bench was. What the bench
cannot know (it was late itself, questions came too far apart: the node may have died between them) it states as
doubtful: such a reading may become a row and need not. So it does with what was said over a disturbed line, and of an
answer that was damaged in a way that its protocol cannot find, it states that it knows nothing.
"""

import time
from collections.abc import Collection, Mapping
from typing import Protocol

from swapline_bench.lag_watch import LagWatch
from swapline_bench.statement import Statement, StatementLog

LATE_S = 0.5 / 3  # a third of the time that nodes wait for an answer
GAP_S_MAX = 0.2  # questions of one poll follow each other at once; a node that died takes longer to come back


class Witness(Protocol):
    """What a face that answers requests tells its witness."""

    lag: LagWatch

    def look(self, request: bytes, reply: bytes) -> None:
        """Take note of the device's values at the moment at which `reply` was made of them."""

    def said(self, late_s: float) -> None:
        """Take note that the reply has left, `late_s` later than a device would have sent it."""

    def spoiled(self, *, is_accepted: bool) -> None:
        """Take note that the reply was not heard as it was, and whether what was heard passes for an answer."""

    def doubt(self) -> None:
        """Take note, before `said`, that something went wrong on the line since the last answer."""


class Scribe:
    """Writes the statements of one device's owner: a node, and a bay of it where it has one."""

    def __init__(self, log: StatementLog, node: str, bay: int = 0) -> None:
        self.log = log
        self._node = node
        self._bay = bay

    def write(
        self,
        stream: str,
        values: Mapping[str, float],
        *,
        module: str = "",
        is_doubtful: bool = False,
        damaged: Collection[str] = (),
        utc_ms: int | None = None,
    ) -> None:
        """State a reading of now, or of the given time. One with `damaged` signals is doubtful."""
        true_utc_ms = int(time.time() * 1000) if utc_ms is None else utc_ms
        is_doubtful = is_doubtful or bool(damaged)
        place = (true_utc_ms, self._node, stream, self._bay, module)
        self.log.write(Statement(*place, values, is_doubtful, sorted(damaged)))


class Punctuality:
    """Whether the questions of one poll came, and were answered, as they should be."""

    def __init__(self) -> None:
        self.is_doubtful = False
        self._last_s = 0.0

    def begin(self) -> None:
        """Begin a poll."""
        self.is_doubtful = False
        self._last_s = time.monotonic()

    def asked(self) -> None:
        """Take note of a question that belongs to the poll under way."""
        if time.monotonic() - self._last_s > GAP_S_MAX:
            self.is_doubtful = True

    def disturbed(self) -> None:
        """Take note that something went wrong on the line."""
        self.is_doubtful = True

    def answered(self, late_s: float) -> None:
        """Take note of an answer."""
        if late_s > LATE_S:
            self.is_doubtful = True
        self._last_s = time.monotonic()


class UnitWitnesses:
    """The witnesses of several devices on one line, by the address that a request begins with."""

    def __init__(self, witnesses: Mapping[int, Witness]) -> None:
        self._witnesses = witnesses
        self._present: Witness | None = None
        self.lag = next(iter(witnesses.values())).lag

    def look(self, request: bytes, reply: bytes) -> None:
        """Pass on to the witness of the device that was asked."""
        self._present = self._witnesses.get(request[0])
        if self._present is not None:
            self._present.look(request, reply)

    def said(self, late_s: float) -> None:
        """Pass on to the witness of the device that has answered."""
        if self._present is not None:
            self._present.said(late_s)

    def spoiled(self, *, is_accepted: bool) -> None:
        """Pass on to the witness of the device whose answer it was."""
        if self._present is not None:
            self._present.spoiled(is_accepted=is_accepted)

    def doubt(self) -> None:
        """Pass on to all: what disturbed the line may have been meant for any of them."""
        for witness in self._witnesses.values():
            witness.doubt()
