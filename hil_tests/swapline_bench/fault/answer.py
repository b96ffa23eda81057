"""What becomes of a device's answer before it is on the wire: silence, delay, a refusal, half of it, another's."""

from typing import TYPE_CHECKING

from swapline_bench.fault import uart
from swapline_bench.fault.model import NO_FAULTS, FaultModel

if TYPE_CHECKING:
    from swapline_bench.request_face import RequestFace

SAMPLES = 4  # of a bit, where two talk at once: their bits do not begin together
OVERLAP_BITS_MAX = 30  # two devices that answer the same question begin within a few characters


class Answer:
    """An answer as it goes out: `data`, and how many seconds later than it should."""

    def __init__(self, face: "RequestFace", fault: FaultModel | None, request: bytes, reply: bytes) -> None:
        self.data = reply
        self.late_s = 0.0
        self._request = request
        self._face = face
        if fault is not None and fault.faults != NO_FAULTS:
            self._spoil(fault)

    def _spoil(self, fault: FaultModel) -> None:
        faults = fault.faults
        if fault.chance(faults.silent):
            self._replace(fault, "silent", b"")
            return
        if fault.chance(faults.exception):
            self._replace(fault, "exception", self._face.refusal(self._request))
        if fault.chance(faults.wrong_slave):
            self._replace(fault, "wrong_slave", self._face.from_another(self._request, self.data))
        if fault.chance(faults.two_slaves):
            self._replace(fault, "two_slaves", self._talk_over(fault))
        if fault.chance(faults.truncated):
            self._replace(fault, "truncated", self.data[: fault.random.randrange(1, max(len(self.data), 2))])
        if fault.chance(faults.late):
            fault.count("late", 1, f"{faults.late_s:g} s")
            self.late_s = faults.late_s

    def _replace(self, fault: FaultModel, kind: str, data: bytes | None) -> None:
        """Send `data` instead, unless the protocol has no such thing."""
        if data is not None:
            fault.count(kind, 1, f"{len(data)} bytes instead of {len(self.data)}")
            self.data = data

    def _talk_over(self, fault: FaultModel) -> bytes:
        """Return what is heard when a second device answers the same question at almost the same time."""
        rival = self._face.rival
        other = None if rival is None else rival.answer(self._request)
        offset = fault.random.randrange(1, OVERLAP_BITS_MAX * SAMPLES)
        first = uart.levels(self.data, samples=SAMPLES)
        second = uart.levels(self.data if other is None else other, samples=SAMPLES)
        if fault.random.random() < 0.5:
            first, second = second, first
        return uart.receive(uart.overlap(first, second, offset), bit=SAMPLES)
