"""BMS: what the drivers of battery modules share. Whose reading is it, and what do its cells add up to.

Modules wander, and a serial line does not tell when one was taken out. So the module's code is read before and after
the data of every poll (one poll's code after is the next one's code before), and only if both agree are the data
committed, with that code as their owner. A failed poll forgets the code. A module that answers, but has no code at all,
is an unknown one: its data are committed without an owner (docs/node.md).

Between two polls a driver can look (`has_look`): one answer, or two, with what changes when something goes wrong. If
that would raise or clear an alarm, the code is read behind it: the sandwich is the same, only the alarm is sooner.
"""

from array import array

from micropython import const

from swapline_node.bus import BusRefused, BusTimeout
from swapline_node.driver import Driver
from swapline_wire.catalogue import (
    CELLS,
    CELLS_PER_SEGMENT,
    MODULE,
    SENSORS_PER_SEGMENT,
    columns,
    find_signal,
    not_available,
)
from swapline_wire.frame import OWNER_BYTES_MAX

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from swapline_node.bus import Bus, Query
    from swapline_node.clock import Clock
    from swapline_node.counter import Counters
    from swapline_node.sampler import Sampler

_CELLS_MAX = const(48)
_SENSORS_MAX = const(24)
_SERIAL_MISSES_MAX = const(3)  # a module that answers but has kept silent about its serial number so often has none
_NAME_MISSES_MAX = const(6)  # and one that three more times has no name either is unknown
_AGAIN = const(64)  # an unknown module is asked for its serial number again at every 64th reading
_REFUSALS_MAX = const(30)  # a module that had told its number and so often in a row does not tell it has lost it
KELVIN_TENTHS = -2731  # BMSs send 0.1 K and encode 0 degC as 2731 (seen on unused Seplos sensors)

# Numbers of the bits of `protections`, the same for every BMS: 0 cell over-voltage, 1 cell under-voltage, 2 pack
# over-voltage, 3 pack under-voltage, 4 charge over-temperature, 5 charge under-temperature, 6 discharge
# over-temperature, 7 discharge under-temperature, 8 charge over-current, 9 discharge over-current, 10 short circuit,
# 11 front-end fault, 12 switches locked by software, 13 cell spread, 14 MOSFET over-temperature, 15 insulation,
# 16 sensor fault, 17 another one that only this BMS knows (ambient temperature, low SoC, a broken MOSFET).
# Numbers of the bits of `switches`: 0 charge, 1 discharge, 2 pre-charge, 3 heater.
NO_BIT = 0xFF  # in a table of bit numbers: what the BMS says here is an alarm or a mode, not a protection


SOC = find_signal(MODULE, "soc_pct")
SOH = find_signal(MODULE, "soh_pct")
SWITCHES = find_signal(MODULE, "switches")
PROTECTIONS = find_signal(MODULE, "protections")
BALANCING = find_signal(MODULE, "balancing")
CELL_COUNT = find_signal(MODULE, "cell_count")
_CELL_MIN = find_signal(MODULE, "cell_voltage_min_v")
_CELL_MAX = find_signal(MODULE, "cell_voltage_max_v")
_CELL_MEAN = find_signal(MODULE, "cell_voltage_mean_v")
_CELL_MIN_CELL = find_signal(MODULE, "cell_voltage_min_cell")
_CELL_MAX_CELL = find_signal(MODULE, "cell_voltage_max_cell")
_SENSOR_MIN = find_signal(MODULE, "temperature_min_c")
_SENSOR_MAX = find_signal(MODULE, "temperature_max_c")
_SENSOR_MIN_SENSOR = find_signal(MODULE, "temperature_min_sensor")
_SENSOR_MAX_SENSOR = find_signal(MODULE, "temperature_max_sensor")
_CELL_MV_MAX = columns(MODULE.signals).maximums[_CELL_MAX]
_SENSOR_LOWEST = columns(MODULE.signals).minimums[_SENSOR_MIN]
_SENSOR_HIGHEST = columns(MODULE.signals).maximums[_SENSOR_MIN]
_SOC_EMPTY = not_available(MODULE.signals)[SOC]
_FIRST_CELL = find_signal(CELLS, "cell_01_v")
_FIRST_SENSOR = find_signal(CELLS, "temperature_1_c")


def module_code(text: "bytes | bytearray | memoryview") -> str:
    """Return a module's code from what its BMS calls its serial number: up to the first NUL, printable ASCII only.

    A longer one keeps its end, where serial numbers count: GB/T 34014 codes have 24 characters. Nothing but zeros, or
    but F, is what a memory holds that nobody has written to, and no code.
    """
    code = bytearray()
    for byte in text:
        if byte == 0:
            break
        if 0x21 <= byte <= 0x7E:
            code.append(byte)
    kept = code[-OWNER_BYTES_MAX:].decode()
    return kept if kept.strip("0") and kept.strip("Ff") else ""


def u16(data: memoryview, offset: int) -> int:
    """Return the big-endian word at `offset`."""
    return data[offset] << 8 | data[offset + 1]


def mapped_bits(word: int, table: bytes) -> int:
    """Return a word in which bit `table[i]` is set for every bit i that is set in `word`."""
    bits = 0
    for i in range(len(table)):
        if word >> i & 1 and table[i] != NO_BIT:
            bits |= 1 << table[i]
    return bits


class Bms(Driver):
    """A battery module's BMS. A subclass reads; this class decides whose reading it is, sums up and commits.

    `serial_query` asks for the serial number. `name_query` asks for what a module without one is known by.
    """

    STREAMS = (MODULE, CELLS)
    serial_query: "Query"
    name_query: "Query"

    def __init__(
        self, sampler: "Sampler", clock: "Clock", counters: "Counters", device_config: "dict[str, Any]"
    ) -> None:
        super().__init__(clock, counters, device_config)
        self.module = sampler.source(MODULE, self.bay)
        self.module.is_lfp = self.is_lfp = device_config.get("chemistry") != "other"
        self.cells = sampler.source(CELLS, self.bay)
        self.presence = sampler.presence(self.bay)
        self.cell_mv = array("H", bytes(2 * _CELLS_MAX))
        self.cell_count = 0
        self.sensor_dc = array("i", bytes(4 * _SENSORS_MAX))  # tenths of a degree Celsius
        self.sensor_count = 0
        self._code: "str | None" = (
            None  # of the module that answered last; "": it has none; None: who answers is not known
        )
        self._serial_misses = 0
        self._has_serial = False  # the module that answers now has told its serial number
        self._is_silent = False
        self._cells_due_ms = 0

    async def read(self, bus: "Bus") -> None:
        """Ask for the data and put them into `module.values`, `cell_mv` and `sensor_dc`."""
        raise NotImplementedError

    async def read_look(self, bus: "Bus") -> None:
        """Read what a look is for into the same places: the answer with protections, voltage and temperatures.

        A driver with `has_look` and one answer for everything need not say more.
        """
        await self.read(bus)

    def serial_of(self, answer: memoryview) -> "bytes | memoryview":
        """Return the serial number's bytes from the answer to `serial_query`."""
        raise NotImplementedError

    def name_of(self, answer: memoryview) -> "bytes | memoryview":
        """Return the name's bytes from the answer to `name_query`."""
        raise NotImplementedError

    async def poll(self, bus: "Bus") -> None:
        """Read one reading, sandwiched between the module's code, and commit it. Raises `BusError`.

        Where another module came meanwhile, its own reading follows at once: its code is known already.
        """
        before = self._code
        self._code = None
        try:
            if self._is_silent:  # what every module answers: one question into the void a poll, not one after the other
                await bus.ask(self.name_query, self.timeout_ms)
                self._is_silent = False
            if before is None:
                before = await self._read_code(bus)
            after = await self._read_whole(bus)
            if after != before:
                bus.protocol_error("module %s became %s" % (before, after))
                before, after = after, await self._read_whole(bus)
        except BusTimeout:
            self._is_silent = True
            self._forget_module()  # it may be another one that answers next
            raise
        self._code = after
        if after != before:
            raise bus.protocol_error("module %s became %s" % (before, after))
        self._commit(after)

    async def _read_whole(self, bus: "Bus") -> str:
        """Read one reading and return the code of the module that answers behind it."""
        self.module.clear()
        self.cell_count = self.sensor_count = 0
        await self.read(bus)
        return await self._read_code(bus)

    async def look(self, bus: "Bus") -> None:
        """Look for what the alarm table would tell; if there is something, see whose it is. Raises `BusError`."""
        before = self._code
        if before is None:
            return
        self._code = None
        self.module.clear()
        self.cell_count = self.sensor_count = 0
        try:
            await self.read_look(bus)
            self._sum_up()
            if not self.module.judge(None):
                self._code = before
                return
            after = await self._read_code(bus)
        except BusTimeout:
            self._is_silent = True
            self._forget_module()
            raise
        self._code = after
        if after != before:
            raise bus.protocol_error("module %s became %s" % (before, after))
        self.module.judge(after)

    def silent(self) -> None:
        """Take the module for gone."""
        self._code = None
        self._forget_module()
        self.presence.silent()

    def _forget_module(self) -> None:
        self._serial_misses = 0
        self._has_serial = False

    def set_cells(self, answer: memoryview, offset: int, count: int) -> None:
        """Take `count` cell voltages, big-endian words in mV."""
        self.cell_count = min(count, _CELLS_MAX)
        for i in range(self.cell_count):
            self.cell_mv[i] = u16(answer, offset + 2 * i)

    def set_sensors(self, answer: memoryview, offset: int, count: int, zero: int) -> None:
        """Take `count` temperatures, big-endian words in 0.1 degrees; `zero` is added to make them Celsius."""
        self.sensor_count = min(count, _SENSORS_MAX)
        for i in range(self.sensor_count):
            self.sensor_dc[i] = u16(answer, offset + 2 * i) + zero

    async def _read_code(self, bus: "Bus") -> str:
        if self._has_serial or self._serial_misses < _SERIAL_MISSES_MAX:
            code = await self._read_serial(bus)
            if (
                code or self._has_serial
            ):  # one that has lost its number is unknown: its name is not what it was known by
                return code
        answer = await bus.ask(self.name_query, self.timeout_ms)
        code = module_code(self.serial_of(answer)) if self.name_query is self.serial_query else ""
        code = code or module_code(self.name_of(answer))
        if not code:
            self._serial_misses += 1
            if self._serial_misses <= _NAME_MISSES_MAX:
                raise bus.protocol_error("module has no code")
            if self._serial_misses % _AGAIN == 0:
                return await self._read_serial_again(bus)
        return code

    async def _read_serial_again(self, bus: "Bus") -> str:
        try:
            code = module_code(self.serial_of(await bus.ask(self.serial_query, self.timeout_ms)))
        except (BusRefused, BusTimeout):
            return ""
        if code:
            self._has_serial = True
            self._serial_misses = 0
        return code

    async def _read_serial(self, bus: "Bus") -> str:
        """Return the serial number, or "" of a module that has none: it refuses, or answers everything but this."""
        try:
            code = module_code(self.serial_of(await bus.ask(self.serial_query, self.timeout_ms)))
        except BusRefused:
            self._serial_misses += 1
            if self._has_serial:
                if self._serial_misses < _REFUSALS_MAX:
                    raise  # it is busy: another code now would be another module
                return ""
            return await self._read_serial(bus) if self._serial_misses < _SERIAL_MISSES_MAX else ""
        except BusTimeout:
            await bus.ask(self.name_query, self.timeout_ms)  # raises if the module is silent altogether
            self._serial_misses += 1
            if self._serial_misses < (_REFUSALS_MAX if self._has_serial else _SERIAL_MISSES_MAX):
                raise bus.protocol_error("no serial number") from None
            return ""
        if not code and self._has_serial:
            self._serial_misses += 1
            if self._serial_misses < _REFUSALS_MAX:
                raise bus.protocol_error("empty serial number")
            return ""
        self._has_serial = bool(code)
        self._serial_misses = 0 if code else _SERIAL_MISSES_MAX
        return code

    def _sum_up(self) -> None:
        self._sum_up_cells()
        self._sum_up_sensors()

    def _commit(self, code: str) -> None:
        self._sum_up()
        values = self.module.values
        if code != self.presence.code:
            self._cells_due_ms = 0
        self.presence.seen(
            code,
            None if values[SOC] == _SOC_EMPTY else values[SOC],
            None if values[SOH] == _SOC_EMPTY else values[SOH],
        )
        self.module.commit(owner=code)
        now_ms = self.clock.uptime_ms()
        if now_ms >= self._cells_due_ms:
            self._cells_due_ms = now_ms + CELLS.period_ms
            self._commit_cells(code)

    def _commit_cells(self, code: str) -> None:
        values = self.cells.values
        segment = 0
        while segment * CELLS_PER_SEGMENT < self.cell_count or segment * SENSORS_PER_SEGMENT < self.sensor_count:
            self.cells.clear()
            values[0] = segment
            for i in range(CELLS_PER_SEGMENT):
                if segment * CELLS_PER_SEGMENT + i < self.cell_count:
                    values[_FIRST_CELL + i] = self.cell_mv[segment * CELLS_PER_SEGMENT + i]
            for i in range(SENSORS_PER_SEGMENT):
                if segment * SENSORS_PER_SEGMENT + i < self.sensor_count:
                    values[_FIRST_SENSOR + i] = self.sensor_dc[segment * SENSORS_PER_SEGMENT + i]
            self.cells.commit(owner=code)
            segment += 1

    def _sum_up_cells(self) -> None:
        """Fill what `module` says of the cells. Impossible voltages (a broken sense wire) are left out."""
        values = self.module.values
        lowest = highest = -1
        total = count = 0
        for i in range(self.cell_count):
            voltage_mv = self.cell_mv[i]
            if voltage_mv > _CELL_MV_MAX:
                continue
            if lowest < 0 or voltage_mv < self.cell_mv[lowest]:
                lowest = i
            if highest < 0 or voltage_mv > self.cell_mv[highest]:
                highest = i
            total += voltage_mv
            count += 1
        if count:
            values[_CELL_MIN] = self.cell_mv[lowest]
            values[_CELL_MAX] = self.cell_mv[highest]
            values[_CELL_MEAN] = (total + count // 2) // count
            values[_CELL_MIN_CELL] = lowest + 1
            values[_CELL_MAX_CELL] = highest + 1
        if self.cell_count:
            values[CELL_COUNT] = self.cell_count

    def _sum_up_sensors(self) -> None:
        """Fill what `module` says of the temperature sensors. Impossible ones (open or shorted) are left out."""
        values = self.module.values
        lowest = highest = -1
        for i in range(self.sensor_count):
            temperature_dc = self.sensor_dc[i]
            if not _SENSOR_LOWEST <= temperature_dc <= _SENSOR_HIGHEST:
                continue
            if lowest < 0 or temperature_dc < self.sensor_dc[lowest]:
                lowest = i
            if highest < 0 or temperature_dc > self.sensor_dc[highest]:
                highest = i
        if lowest >= 0:
            values[_SENSOR_MIN] = self.sensor_dc[lowest]
            values[_SENSOR_MAX] = self.sensor_dc[highest]
            values[_SENSOR_MIN_SENSOR] = lowest + 1
            values[_SENSOR_MAX_SENSOR] = highest + 1
