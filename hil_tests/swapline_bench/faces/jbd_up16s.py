"""JBD UP16S BMS on RS-485, 9600 8N1: unit, function 0x78, first and last address, length, data, CRC of Modbus.

Source: layout of the status block as in syssi/esphome-jbd-bms (`jbd_bms_up_pack`), checked against recorded answers of
two UP16S packs on one bus. Only the blocks that a telemetry unit reads are simulated: 0x1000 status, 0x1C00 identity.
"""

import struct
from collections.abc import Callable, Mapping

from swapline_bench.faces.modbus import DEVICE_FAILURE, crc16, with_crc
from swapline_bench.faces.turnaround import TURNAROUNDS
from swapline_bench.module import Module
from swapline_bench.serial_line import RequestFace

BAUDRATE = 9600
READ = 0x78
STATUS = (0x1000, 0x10A0)
IDENTITY = (0x1C00, 0x1CA0)
CURRENT_OFFSET = 300_000  # 10 mA a count
TEMPERATURE_OFFSET = 500  # 0.1 degC a count
_REQUEST_BYTES = 10
_HEAD_BYTES = 8  # pack, function, range, length
_IDLE, _CHARGING, _DISCHARGING = 0, 1, 2
_CURRENT_REST_A = 0.5

# This bench's protection bits -> bits of the status block's protection word.
_PROTECTIONS = {0: 0, 1: 1, 2: 2, 3: 3, 4: 8, 5: 9, 6: 10, 7: 11, 8: 4, 9: 6, 10: 18, 11: 26, 13: 15, 14: 12}


class Up16s:
    """The BMS of one pack. Attributes that no module has are what the recorded packs differ in."""

    def __init__(self, module: Callable[[], Module | None]) -> None:
        self.module = module
        self.model = "JBD48100000"
        self.product = "SWAP-MODULE"
        self.rated_capacity_ah: float | None = None  # None: the module's full capacity
        self.terminal_voltage_v: float | None = None  # None: the pack's voltage
        self.charge_current_limit_a = 260.0
        self.discharge_current_limit_a = 260.0
        self.flags = 0
        self.signature = 0x0C04
        self.tail = (2, 3, 0, 0, 0, 0)

    def status(self, module: Module) -> bytes:
        """Return the status block."""
        rated_ah = self.rated_capacity_ah or module.capacity_full_ah
        terminal_v = module.voltage_v if self.terminal_voltage_v is None else self.terminal_voltage_v
        protections = _protection_word(module.protections)
        head = struct.pack(
            ">HHIHHHHHHHHIIHHH",
            round(module.voltage_v * 100),
            round(terminal_v * 100),
            round(module.current_a * 100) + CURRENT_OFFSET,
            round(module.soc_pct * 100),
            round(module.capacity_remaining_ah * 100),
            round(module.capacity_full_ah * 100),
            round(rated_ah * 100),
            _temperature(module.temperature_mosfet_c),
            _temperature(module.temperature_ambient_c),
            _operation(module.current_a),
            round(module.soh_pct),
            protections,
            0,
            _switches(module),
            self.flags,
            module.cycles,
        )
        cells = [round(v * 1000) for v in module.cell_voltages_v]
        sensors = [_temperature(t) for t in module.cell_temperatures_c]
        limits = (584, round(self.charge_current_limit_a * 10), 448, round(self.discharge_current_limit_a * 10))
        words = [*_extremes(cells), *_extremes(sensors), *limits, len(cells), *cells, len(sensors), *sensors, 0, 0]
        words.append(self.signature)
        model = self.model.encode("ascii").ljust(30, b"\0")
        return head + _pack_words(words) + model + _pack_words(self.tail)

    def identity(self, module: Module) -> bytes:
        """Return the identity block: serial number, dates, model and product."""
        return (
            bytes.fromhex("00000000 0d48 001e 01f4 0258 1630 05dc")
            + module.code.encode("ascii").ljust(30, b"\0")
            + _pack_words((2025, 4, 17))
            + self.model.encode("ascii").ljust(30, b"\0")
            + _pack_words((2025, 3, 18))
            + self.product.encode("ascii").ljust(32, b"\0")
            + bytes.fromhex("0c4e 05a0 0001 00000000 00000005")
        )


class Up16sFace(RequestFace):
    """The packs of one bus by unit address. Wrong CRC, other units and blocks that are not simulated: no answer."""

    def __init__(self, packs: Mapping[int, Up16s], *, turnaround_s: float = TURNAROUNDS["jbd_up16s"].typical_s) -> None:
        super().__init__(turnaround_s=turnaround_s)
        self._packs = packs

    def take_request(self, received: bytearray) -> bytes | None:
        """Take a read request; writes are not simulated."""
        if len(received) < _REQUEST_BYTES:
            return None
        request = bytes(received[:_REQUEST_BYTES])
        if crc16(request[:-2]) != request[-2:]:
            received.clear()
            return None
        del received[:_REQUEST_BYTES]
        return request

    def answer(self, request: bytes) -> bytes | None:
        """Answer a read of a block that this bench knows."""
        pack = self._packs.get(request[0])
        module = None if pack is None else pack.module()
        if pack is None or module is None or request[1] != READ:
            return None
        block = struct.unpack(">HH", request[2:6])
        if block == STATUS:
            data = pack.status(module)
        elif block == IDENTITY:
            data = pack.identity(module)
        else:
            return None
        return with_crc(request[:6] + struct.pack(">H", len(data)) + data)

    def speaker(self, request: bytes) -> object:
        """See `RequestFace`."""
        pack = self._packs.get(request[0])
        return None if pack is None else pack.module()

    def refusal(self, request: bytes) -> bytes | None:
        """Return an exception as Modbus has them."""
        return with_crc(bytes((request[0], READ | 0x80, DEVICE_FAILURE)))

    def from_another(self, request: bytes, reply: bytes) -> bytes | None:
        """Return the answer as the next pack would have given it."""
        return with_crc(bytes(((request[0] + 1) & 0xFF,)) + reply[1:-2])

    def is_accepted(self, request: bytes, heard: bytes) -> bool:
        """See `RequestFace`: pack, function, range, length and CRC are what an answer has."""
        if len(heard) < _HEAD_BYTES or heard[:6] != request[:6]:
            return False
        frame = heard[: _HEAD_BYTES + int.from_bytes(heard[6:8]) + 2]
        return len(frame) > _HEAD_BYTES + 2 and with_crc(frame[:-2]) == frame


def _pack_words(words: "tuple[int, ...] | list[int]") -> bytes:
    return struct.pack(f">{len(words)}H", *words)


def _temperature(temperature_c: float) -> int:
    return round(temperature_c * 10) + TEMPERATURE_OFFSET


def _operation(current_a: float) -> int:
    if abs(current_a) < _CURRENT_REST_A:
        return _IDLE
    return _CHARGING if current_a > 0 else _DISCHARGING


def _switches(module: Module) -> int:
    bits = (module.discharge_switch, module.charge_switch, module.precharge_switch, module.heater_switch)
    return sum(bool(bit) << place for place, bit in enumerate(bits))


def _protection_word(protections: int) -> int:
    return sum(1 << theirs for ours, theirs in _PROTECTIONS.items() if protections >> ours & 1)


def _extremes(values: list[int]) -> tuple[int, int, int, int, int]:
    """Return place and value of the highest and of the lowest, and the mean; places count from 1."""
    highest, lowest = max(values), min(values)
    return values.index(highest) + 1, highest, values.index(lowest) + 1, lowest, sum(values) // len(values)
