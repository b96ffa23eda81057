"""Faces that answer requests: where the protocol, the faults of the line and the witness of what was said meet."""

import asyncio
import time
from typing import TYPE_CHECKING

from swapline_bench.fault.answer import Answer

if TYPE_CHECKING:
    from swapline_bench.faces.witness import Witness
    from swapline_bench.serial_line import SerialLine

STALL_BEFORE_S = 0.25  # a request may have waited for a bench that stood still until so shortly before


class RequestFace:
    """A face that answers requests: subclasses say where a request ends and what the answer is.

    `turnaround_s` is the device's thinking time between the request's last character and the answer's first.
    `witness` writes down what was said. `rival` is a second device with the same address, for the fault of that name.
    """

    witness: "Witness | None" = None
    rival: "RequestFace | None" = None

    def __init__(self, *, turnaround_s: float = 0.01, silence_s: float = 0.05) -> None:
        self.turnaround_s = turnaround_s
        self.silence_s = silence_s
        self.requests = 0
        self.answers = 0

    def take_request(self, received: bytearray) -> bytes | None:
        """Remove one whole request from the front of `received` and return it; None when more must come."""
        raise NotImplementedError

    def answer(self, request: bytes) -> bytes | None:
        """Return the answer's bytes, or None where a device would keep silent."""
        raise NotImplementedError

    def speaker(self, request: bytes) -> object:
        """Return who answers `request`: an answer ends where its speaker is pulled out. None where nobody can be."""
        del request
        return None

    def refusal(self, request: bytes) -> bytes | None:
        """Return the answer of a device that will not do what was asked; None where the protocol has none."""
        del request
        return None

    def from_another(self, request: bytes, reply: bytes) -> bytes | None:
        """Return `reply` as another device, or to another question, would have given it; None where that cannot be."""
        del request, reply
        return None

    def is_accepted(self, request: bytes, heard: bytes) -> bool:
        """Say whether `heard` passes every check that the protocol has for an answer to `request`."""
        del request, heard
        return False

    async def run(self, line: "SerialLine") -> None:
        """Answer for ever. Half a request that is followed by silence is forgotten, as real devices do."""
        received = bytearray()
        while True:
            data = await line.read(self.silence_s if received else None)
            if not data:
                received.clear()
            received += data
            while (request := self.take_request(received)) is not None:
                self.requests += 1
                reply = self.answer(request)
                if reply is not None:
                    self.answers += 1
                    await self._say(line, request, reply)

    async def _say(self, line: "SerialLine", request: bytes, reply: bytes) -> None:
        answer = Answer(self, line.fault, request, reply)
        speaker = self.speaker(request)
        if self.witness is not None:
            self.witness.lag.start()
            self.witness.look(request, reply)
        heard_s = time.monotonic()
        await asyncio.sleep((self.turnaround_s + answer.late_s) * line.pace)
        if answer.late_s:
            line.forget()  # a device that is busy hears nothing: it does not answer afterwards what was asked meanwhile
        await line.write(answer.data, still=lambda: self.speaker(request) is speaker)
        pace_s = (self.turnaround_s + len(reply) * (line.character_s + line.gap_s)) * line.pace
        self._tell(line, request, reply, time.monotonic() - heard_s - pace_s, heard_s)

    def _tell(self, line: "SerialLine", request: bytes, reply: bytes, late_s: float, heard_s: float) -> None:
        """Tell the witness what the node's end heard of `reply`, and count what no check can find."""
        heard = bytes(line.heard)
        is_whole = reply in heard
        is_accepted = not is_whole and self.is_accepted(request, heard)
        if line.fault is not None:
            line.fault.passed_by_chance += is_accepted
            line.fault.spoiled += not is_whole and not is_accepted
        witness = self.witness
        if witness is None:
            return
        if line.fault is not None and line.fault.is_near(time.monotonic()):
            witness.doubt()
        if is_whole:
            witness.said(max(late_s, witness.lag.stalled_s(heard_s - STALL_BEFORE_S)))
        else:
            witness.spoiled(is_accepted=is_accepted)
