"""JBD (Jiabaida) BMS, classic protocol over UART, 9600 8N1: `DD A5 register length ... checksum 77`.

Source: JBD communication protocol V4 as implemented by syssi/esphome-jbd-bms, and recorded answers of SP04S034 packs.
"""

import struct
from collections.abc import Callable

from swapline_bench.faces.turnaround import TURNAROUNDS
from swapline_bench.module import Module
from swapline_bench.serial_line import RequestFace

BAUDRATE = 9600
START = 0xDD
READ = 0xA5
WRITE = 0x5A
END = 0x77
BASIC = 0x03
CELLS = 0x04
HARDWARE = 0x05
BARCODE = 0xA2
ERROR_COUNTS = 0xAA
STATUS_OK = 0x00
STATUS_ERROR = 0x80
ZERO_C_TENTHS_K = 2731
_EMPTY_FRAME_BYTES = 7  # start, register, status, length, sum, end
_CODES_MASK = 0x1FFF  # the protocol's thirteen protection bits are this bench's bits 0 to 12


def frame(register: int, status: int, data: bytes) -> bytes:
    """Return an answer as on the line; the checksum is the negated 16-bit sum of status, length and data."""
    body = bytes((status, len(data))) + data
    checksum = -sum(body) & 0xFFFF
    return bytes((START, register)) + body + struct.pack(">HB", checksum, END)


class JbdFace(RequestFace):
    """The BMS of whichever module `module` returns; no module, no answer."""

    def __init__(
        self, module: Callable[[], Module | None], *, turnaround_s: float = TURNAROUNDS["jbd"].typical_s
    ) -> None:
        super().__init__(turnaround_s=turnaround_s)
        self._module = module
        self.nominal_capacity_ah: float | None = None  # None: the module's full capacity
        self.production_date = 0x2C7C  # year - 2000 in 7 bits, month in 4, day in 5: 2022-03-28
        self.software_version = 0x80
        self.error_counts = bytes(24)

    def take_request(self, received: bytearray) -> bytes | None:
        """Take `DD A5|5A register length data checksum 77`; bytes before a start are noise."""
        while received and received[0] != START:
            del received[0]
        if len(received) < 7:
            return None
        length = 7 + received[3]
        if len(received) < length:
            return None
        request = bytes(received[:length])
        del received[:length]
        return request

    def answer(self, request: bytes) -> bytes | None:
        """Answer a read; a wrong checksum or end gets no answer, a write or an unknown register an error status."""
        module = self._module()
        (checksum,) = struct.unpack(">H", request[-3:-1])
        if module is None or request[-1] != END or checksum != -sum(request[2:-3]) & 0xFFFF:
            return None
        register = request[2]
        data = self._data(register, module) if request[1] == READ else None
        return frame(register, STATUS_ERROR, b"") if data is None else frame(register, STATUS_OK, data)

    def speaker(self, request: bytes) -> object:
        """See `RequestFace`."""
        del request
        return self._module()

    def refusal(self, request: bytes) -> bytes | None:
        """Return the answer with an error status."""
        return frame(request[2], STATUS_ERROR, b"")

    def from_another(self, request: bytes, reply: bytes) -> bytes | None:
        """Return the answer of another register: the protocol has no addresses, and its sum leaves the register out."""
        del request
        return bytes((START, reply[1] ^ 1)) + reply[2:]

    def is_accepted(self, request: bytes, heard: bytes) -> bool:
        """See `RequestFace`: start, register, status, length, sum and end are what an answer has."""
        if len(heard) < _EMPTY_FRAME_BYTES or heard[:3] != bytes((START, request[2], STATUS_OK)):
            return False
        whole = heard[: _EMPTY_FRAME_BYTES + heard[3]]
        return whole == frame(whole[1], whole[2], whole[4:-3])

    def _data(self, register: int, module: Module) -> bytes | None:
        if register == BASIC:
            return self._basic(module)
        if register == CELLS:
            return b"".join(struct.pack(">H", round(v * 1000)) for v in module.cell_voltages_v)
        if register == HARDWARE:
            return module.code.encode("ascii")
        if register == BARCODE:
            return bytes((len(module.code),)) + module.code.encode("ascii")
        return self.error_counts if register == ERROR_COUNTS else None

    def _basic(self, module: Module) -> bytes:
        nominal = module.capacity_full_ah if self.nominal_capacity_ah is None else self.nominal_capacity_ah
        head = struct.pack(
            ">HhHHHHHHHBBBBB",
            round(module.voltage_v * 100),
            min(max(round(module.current_a * 100), -0x8000), 0x7FFF),
            round(module.capacity_remaining_ah * 100),
            round(nominal * 100),
            module.cycles,
            self.production_date,
            module.balancing_mask & 0xFFFF,
            module.balancing_mask >> 16,
            module.protections & _CODES_MASK,
            self.software_version,
            round(module.soc_pct),
            module.charge_switch | module.discharge_switch << 1,
            len(module.cell_voltages_v),
            len(module.cell_temperatures_c),
        )
        return head + b"".join(struct.pack(">H", round(t * 10) + ZERO_C_TENTHS_K) for t in module.cell_temperatures_c)
