"""What the BMS of a module has said in one poll.

A poll is bracketed by the module's code: code, data, code; the code after one poll is the code before the next. Only
data between two equal codes are a reading. A node that has lost touch begins with the code, once or twice.

- Seplos V3: code (0x1700), pack (0x1000), cells (0x1100), state (0x1200, which a node may leave out), code.
- JBD UP16S: code (0x1C00), status (0x1000), code.
- JBD: code (A2, or 05 where a node asks for the name instead), cells (04), basic (03), code.
- JK: everything in one answer, the code too, so each answer is a poll.

Each poll has one row of `module`. Rows of `cells` are kept at a slower pace that the node chooses: each poll states
what such a row would hold.
"""

import asyncio
import struct
import time
from collections.abc import Callable
from typing import Any

from swapline_bench.faces import jbd, jbd_up16s, jk, modbus, seplos_v3
from swapline_bench.faces.witness import GAP_S_MAX, Punctuality, Scribe
from swapline_bench.module import Module

CODE = "code"
_SEPLOS_PROTECTIONS = 0x16FFF  # the bench's protection bits that the maker's protocol can say
_SEPLOS_PARTS = {seplos_v3.VIA: CODE, seplos_v3.PIA: "pack", seplos_v3.PIB: "cells", seplos_v3.PIC: "state"}
_JBD_PROTECTIONS = 0x1FFF
_UP16S_PROTECTIONS = 0x6FFF
_JK_HOT, _JK_COLD = 1 << 4 | 1 << 6, 1 << 5 | 1 << 7  # what the BMS does not tell apart, it says of both


class Part:
    """What one answer of a poll has said: signals of `module`, cells and temperatures."""

    def __init__(self, name: str, code: str) -> None:
        self.name = name
        self.code = code
        self.values: dict[str, float] = {}
        self.cells_mv: list[int] = []
        self.temperatures_dc: list[int] = []  # tenths of a degree
        self.is_damaged = False  # and yet accepted


class BmsWitness:
    """Joins answers to polls. A subclass names the parts and reads the module as its protocol rounds it."""

    first = ""  # the part that begins the data
    needed: frozenset[str] = frozenset()

    def __init__(self, scribe: Scribe, module: Callable[[], Module | None]) -> None:
        self.lag = scribe.log.lag
        self._scribe = scribe
        self._module = module
        self._part: Part | None = None
        self._code = ""  # of the module before the poll under way
        self._parts: dict[str, Part] = {}
        self._punctuality = Punctuality()

    def part(self, request: bytes, reply: bytes, module: Module) -> Part | None:
        """Return what `reply` says of the module, or None if it is a refusal or about something else."""
        raise NotImplementedError

    def look(self, request: bytes, reply: bytes) -> None:
        """See `Witness`."""
        module = self._module()
        self._part = part = None if module is None else self.part(request, reply, module)
        if part is not None and part.name == self.first:
            self._parts.clear()
            self._punctuality.begin()
        elif part is not None and self._parts:
            self._punctuality.asked()

    def said(self, late_s: float) -> None:
        """See `Witness`."""
        part = self._part
        if part is None:
            return
        self._punctuality.answered(late_s)
        if part.name != CODE:
            self._parts[part.name] = part
            return
        if part.code == self._code and self.needed <= self._parts.keys():
            self._state(part.code)
        self._code = part.code
        self._parts.clear()

    def spoiled(self, *, is_accepted: bool) -> None:
        """See `Witness`. Data that are accepted belong to the poll; whatever else goes wrong ends it.

        The node then begins with the code again. It may ask for data before that, to see whether anybody is there.
        """
        part = self._part
        if part is None:
            return
        if part.name != CODE and is_accepted:
            part.is_damaged = True
            self._parts[part.name] = part
        elif part.name != CODE and part.name not in self.needed:
            self._punctuality.disturbed()  # the node may go on without it
        else:
            self._code = ""
            self._parts.clear()

    def doubt(self) -> None:
        """See `Witness`."""
        self._punctuality.disturbed()

    def _state(self, code: str, utc_ms: int | None = None) -> None:
        """Write down the poll that has ended, just now or at the given time."""
        values: dict[str, float] = {}
        cells_mv: list[int] = []
        temperatures_dc: list[int] = []
        damaged: set[str] = set()
        for part in self._parts.values():
            values |= part.values
            cells_mv += part.cells_mv
            temperatures_dc += part.temperatures_dc
            if part.is_damaged:
                damaged |= _signals(part)
        values |= _of_cells(cells_mv) | _of_sensors(temperatures_dc)
        is_doubtful = self._punctuality.is_doubtful
        self._scribe.write(
            "module", values, module=code, is_doubtful=is_doubtful, utc_ms=utc_ms, damaged=damaged & values.keys()
        )
        cells = {"segment": 0} | _each_cell(cells_mv) | _each_sensor(temperatures_dc)
        self._scribe.write(
            "cells", cells, module=code, is_doubtful=is_doubtful, utc_ms=utc_ms, damaged=damaged & cells.keys()
        )


def _signals(part: Part) -> set[str]:
    """Return the signals of both streams that an answer tells."""
    names = set(part.values)
    if part.cells_mv:
        names |= _of_cells(part.cells_mv).keys() | _each_cell(part.cells_mv).keys()
    if part.temperatures_dc:
        names |= _of_sensors(part.temperatures_dc).keys() | _each_sensor(part.temperatures_dc).keys()
    return names


def _each_cell(cells_mv: list[int]) -> dict[str, float]:
    return {f"cell_{i:02d}_v": mv / 1000 for i, mv in enumerate(cells_mv, 1)}


def _each_sensor(temperatures_dc: list[int]) -> dict[str, float]:
    return {f"temperature_{i}_c": dc / 10 for i, dc in enumerate(temperatures_dc, 1)}


def _of_cells(cells_mv: list[int]) -> dict[str, float]:
    lowest, highest = min(cells_mv), max(cells_mv)
    return {
        "cell_voltage_min_v": lowest / 1000,
        "cell_voltage_max_v": highest / 1000,
        "cell_voltage_mean_v": (2 * sum(cells_mv) + len(cells_mv)) // (2 * len(cells_mv)) / 1000,
        "cell_voltage_min_cell": cells_mv.index(lowest) + 1,
        "cell_voltage_max_cell": cells_mv.index(highest) + 1,
        "cell_count": len(cells_mv),
    }


def _of_sensors(temperatures_dc: list[int]) -> dict[str, float]:
    lowest, highest = min(temperatures_dc), max(temperatures_dc)
    return {
        "temperature_min_c": lowest / 10,
        "temperature_max_c": highest / 10,
        "temperature_min_sensor": temperatures_dc.index(lowest) + 1,
        "temperature_max_sensor": temperatures_dc.index(highest) + 1,
    }


def _register(value: float, scale: float) -> float:
    """Return what an unsigned register of this scale shows, in the signal's unit."""
    return modbus.word(value, scale) / scale if scale >= 1 else modbus.word(value, scale) * round(1 / scale)


def _hundredths_signed(value: float) -> float:
    return min(max(round(value * 100), -0x8000), 0x7FFF) / 100


def _kelvin_dc(temperature_c: float) -> int:
    """Return tenths of a degree Celsius after the way over tenths of a Kelvin."""
    return modbus.word(temperature_c * 10 + seplos_v3.ZERO_C_TENTHS_K) - seplos_v3.ZERO_C_TENTHS_K


class SeplosWitness(BmsWitness):
    """Watches a Seplos V3."""

    first = "pack"
    needed = frozenset({"pack", "cells"})

    def part(self, request: bytes, reply: bytes, module: Module) -> Part | None:
        """See `BmsWitness`."""
        (address,) = struct.unpack(">H", request[2:4])
        if reply[1] & 0x80:
            return None
        part = Part(_SEPLOS_PARTS.get(address, ""), module.code)
        if part.name == "pack":
            self._pack(part, module)
        elif part.name == "cells":
            self._cells(part, module)
        elif part.name == "state":
            self._state_bits(part, module)
        return part if part.name else None

    def _pack(self, part: Part, module: Module) -> None:
        part.values = {
            "voltage_v": _register(module.voltage_v, 100),
            "current_a": _hundredths_signed(module.current_a),
            "capacity_remaining_ah": _register(module.capacity_remaining_ah, 100),
            "capacity_full_ah": _register(module.capacity_full_ah, 100),
            "charge_out_ah": _register(module.charge_out_ah, 0.1),
            "soc_pct": _register(module.soc_pct, 10),
            "soh_pct": _register(module.soh_pct, 10),
            "cycles": _register(module.cycles, 1),
        }

    def _cells(self, part: Part, module: Module) -> None:
        part.cells_mv = [modbus.word(v, 1000) for v in module.cell_voltages_v]
        part.temperatures_dc = [_kelvin_dc(t) for t in module.cell_temperatures_c]
        part.values = {
            "temperature_ambient_c": _kelvin_dc(module.temperature_ambient_c) / 10,
            "temperature_mosfet_c": _kelvin_dc(module.temperature_mosfet_c) / 10,
        }

    def _state_bits(self, part: Part, module: Module) -> None:
        part.values = {
            "protections": module.protections & _SEPLOS_PROTECTIONS,
            "switches": module.charge_switch | module.discharge_switch << 1 | module.heater_switch << 3,
            "balancing": module.balancing_mask & 0xFFFF,
        }


class JbdWitness(BmsWitness):
    """Watches a JBD board."""

    first = "cells"
    needed = frozenset({"basic", "cells"})

    def part(self, request: bytes, reply: bytes, module: Module) -> Part | None:
        """See `BmsWitness`."""
        register = request[2]
        if reply[2] != jbd.STATUS_OK or request[1] != jbd.READ:
            return None
        if register in (jbd.BARCODE, jbd.HARDWARE):
            return Part(CODE, module.code)
        if register == jbd.BASIC:
            return self._basic(module)
        if register != jbd.CELLS:
            return None
        part = Part("cells", module.code)
        part.cells_mv = [round(v * 1000) for v in module.cell_voltages_v]
        return part

    def _basic(self, module: Module) -> Part:
        part = Part("basic", module.code)
        part.temperatures_dc = [round(t * 10) for t in module.cell_temperatures_c]
        part.values = {
            "voltage_v": _register(module.voltage_v, 100),
            "current_a": _hundredths_signed(module.current_a),
            "capacity_remaining_ah": _register(module.capacity_remaining_ah, 100),
            "capacity_full_ah": _register(module.capacity_full_ah, 100),
            "soc_pct": round(module.soc_pct),
            "cycles": module.cycles,
            "protections": module.protections & _JBD_PROTECTIONS,
            "switches": module.charge_switch | module.discharge_switch << 1,
            "balancing": module.balancing_mask,
        }
        return part


class JkWitness(BmsWitness):
    """Watches a JK board.

    A node reads a code that is new to it twice at once, and makes a row of the second answer only. So an answer that is
    followed by another question at once is doubtful, and each is held until that is decided.
    """

    def __init__(self, scribe: Scribe, module: Callable[[], Module | None]) -> None:
        super().__init__(scribe, module)
        self._held: Part | None = None
        self._held_utc_ms = 0
        self._due: asyncio.TimerHandle | None = None

    def look(self, request: bytes, reply: bytes) -> None:
        """See `Witness`."""
        self._settle(is_doubtful=True)
        module = self._module()
        self._part = None if module is None else self.part(request, reply, module)
        self._punctuality.begin()

    def said(self, late_s: float) -> None:
        """See `Witness`."""
        if self._part is None:
            return
        self._punctuality.answered(late_s)
        self._held = self._part
        self._held_utc_ms = int(time.time() * 1000)
        self._due = asyncio.get_running_loop().call_later(GAP_S_MAX, self._settle)

    def spoiled(self, *, is_accepted: bool) -> None:
        """See `Witness`. An answer that was accepted all the same is one reading, whatever became of its values."""
        if self._part is not None and is_accepted:
            self._part.is_damaged = True
            self.said(0.0)

    def _settle(self, *, is_doubtful: bool = False) -> None:
        """Write down what was held."""
        part = self._held
        if part is None:
            return
        self._held = None
        if self._due is not None:
            self._due.cancel()
        self._parts = {part.name: part}
        self._punctuality.is_doubtful |= is_doubtful
        self._state(part.code, self._held_utc_ms)

    def part(self, request: bytes, reply: bytes, module: Module) -> Part | None:
        """See `BmsWitness`."""
        del request, reply
        part = Part("everything", module.code)
        part.cells_mv = [round(v * 1000) for v in module.cell_voltages_v]
        part.temperatures_dc = [10 * _whole_degrees(t) for t in jk.sensors_c(module)]
        part.values = {
            "voltage_v": _register(module.voltage_v, 100),
            "current_a": min(max(round(module.current_a * 100), -0x7FFF), 0x7FFF) / 100,
            "soc_pct": round(module.soc_pct),
            "cycles": module.cycles,
            "capacity_full_ah": round(module.capacity_full_ah),
            "temperature_mosfet_c": _whole_degrees(module.temperature_mosfet_c),
            "protections": _jk_protections(module.protections),
            "switches": module.charge_switch | module.discharge_switch << 1,
        }
        return part


def _whole_degrees(temperature_c: float) -> int:
    return min(max(round(temperature_c), -40), 100)


def _jk_protections(protections: int) -> int:
    """Return which of the bench's protections the BMS can tell, in what it tells them."""
    told = protections & sum(1 << bit for bit in jk.WARNINGS)
    for pair in (_JK_HOT, _JK_COLD):
        told |= pair if told & pair else 0
    return told


class Up16sWitness(BmsWitness):
    """Watches a pack of JBD's UP16S: one answer for all data, another one for the code."""

    first = "status"
    needed = frozenset({"status"})

    def part(self, request: bytes, reply: bytes, module: Module) -> Part | None:
        """See `BmsWitness`."""
        (address,) = struct.unpack(">H", request[2:4])
        if reply[1] & 0x80:
            return None
        if address == jbd_up16s.IDENTITY[0]:
            return Part(CODE, module.code)
        part = Part("status", module.code)
        part.cells_mv = [round(v * 1000) for v in module.cell_voltages_v]
        part.temperatures_dc = [round(t * 10) for t in module.cell_temperatures_c]
        part.values = {
            "voltage_v": round(module.voltage_v * 100) / 100,
            "current_a": round(module.current_a * 100) / 100,
            "soc_pct": (round(module.soc_pct * 100) + 5) // 10 / 10,
            "soh_pct": round(module.soh_pct),
            "capacity_remaining_ah": round(module.capacity_remaining_ah * 100) / 100,
            "capacity_full_ah": round(module.capacity_full_ah * 100) / 100,
            "temperature_mosfet_c": round(module.temperature_mosfet_c * 10) / 10,
            "temperature_ambient_c": round(module.temperature_ambient_c * 10) / 10,
            "cycles": module.cycles,
            "protections": module.protections & _UP16S_PROTECTIONS,
            "switches": _all_switches(module),
        }
        return part


def _all_switches(module: Module) -> int:
    switches = (module.charge_switch, module.discharge_switch, module.precharge_switch, module.heater_switch)
    return sum(bool(switch) << bit for bit, switch in enumerate(switches))


_WITNESSES = {"jbd": JbdWitness, "jbd_up16s": Up16sWitness, "jk": JkWitness, "seplos_v3": SeplosWitness}


def bms_witness(driver: str, scribe: Scribe, module: Callable[[], Module | None]) -> Any:
    """Return the witness of a bay's face for the node's `driver`."""
    return _WITNESSES[driver](scribe, module)
