"""Seplos BMS 3.0 (XZH) over Modbus RTU, 19200 8N1, read only.

Source: "XZH BMS Modbus-RTU Protocol V0.3" (maker's document, 2024-10-15), blocks PIA 0x1000, PIB 0x1100, PIC 0x1200,
VIA 0x1700 of a pack, and EIA 0x2000, EIC 0x2200 of a master pack (unit 0); rounding as in answers of an SG16S200A.
"""

from collections.abc import Callable, Mapping, Sequence

from swapline_bench.faces import modbus
from swapline_bench.module import Module

PIA = 0x1000
PIB = 0x1100
PIC = 0x1200
VIA = 0x1700
EIA = 0x2000
EIC = 0x2200
BAUDRATE = 19200

ZERO_C_TENTHS_K = 2731  # 0.1 K, as the BMS counts it
_STANDBY, _DISCHARGING, _CHARGING, _FULL = 0x10, 0x01, 0x02, 0x08
_CURRENT_REST_A = 1.0  # the recorded pack said "discharging" at 1.37 A
_NO_SENSOR = 0x0AAB  # what an unconnected sensor shows: 273.1 K

# This bench's protection bits -> (PIC byte, bit): tables 4.2 to 4.6 and 4.10 of the maker's document.
_EVENTS = {
    0: (9, 1),
    1: (9, 3),
    2: (9, 5),
    3: (9, 7),
    4: (10, 1),
    5: (10, 3),
    6: (10, 5),
    7: (10, 7),
    8: (12, 1),
    9: (12, 4),
    10: (12, 6),
    11: (17, 1),
    13: (14, 4),
    14: (11, 5),
    16: (17, 0),
}


class SeplosV3(modbus.Unit):
    """The BMS of whichever module `module` returns; no module, no answer. Refusals are exception 02, as recorded."""

    functions = (modbus.READ_COILS, modbus.READ_INPUT)

    def __init__(self, module: Callable[[], Module | None], *, is_master: bool = False) -> None:
        self._module = module
        self._is_master = is_master
        self.manufacturer = "XZH-ElecTech Co.,Ltd"
        self.device_name = "1101-SP76"
        self.firmware_version = "15"
        self.has_pack_code = True  # False: only the BMS knows who it is, as in the recorded pack
        self.switch_bits_reserved = 0  # a recorded pack sets bit 6, which the document reserves
        self.charge_limit_a = 260
        self.discharge_limit_a = 300

    def is_present(self) -> bool:
        """Say whether a module is plugged in."""
        return self._module() is not None

    def speaker(self) -> object:
        """Return the module that answers."""
        return self._module()

    def blocks(self, function: int) -> Mapping[int, Sequence[int]]:
        """Return the present values of the blocks that `function` reads."""
        module = self._module()
        assert module is not None
        if function == modbus.READ_COILS:
            codes = bytearray(_event_codes(module))
            codes[15] |= self.switch_bits_reserved
            coils = {PIC: modbus.bits_of(bytes(codes))}
            if self._is_master:
                coils[EIC] = modbus.bits_of(bytes(codes[8:18]))
            return coils
        words = {PIA: self._pack(module), PIB: _cells(module), VIA: self._version(module)}
        if self._is_master:
            words[EIA] = self._system(module)
        return words

    def _pack(self, module: Module) -> list[int]:
        cells_mv = [modbus.word(v, 1000) for v in module.cell_voltages_v]
        temperatures = [_tenths_k(t) for t in module.cell_temperatures_c]
        return [
            modbus.word(module.voltage_v, 100),
            modbus.word_signed(module.current_a, 100),
            modbus.word(module.capacity_remaining_ah, 100),
            modbus.word(module.capacity_full_ah, 100),
            modbus.word(module.charge_out_ah, 0.1),
            modbus.word(module.soc_pct, 10),
            modbus.word(module.soh_pct, 10),
            modbus.word(module.cycles),
            sum(cells_mv) // len(cells_mv),
            sum(temperatures) // len(temperatures),
            max(cells_mv),
            min(cells_mv),
            max(temperatures),
            min(temperatures),
            0,
            self.discharge_limit_a,
            self.charge_limit_a,
            1000,
        ]

    def _version(self, module: Module) -> list[int]:
        return (
            modbus.words_of(self.manufacturer, 10)
            + modbus.words_of(self.device_name, 10)
            + modbus.words_of(self.firmware_version, 1)
            + modbus.words_of("SP76" + module.code[-12:] if self.has_pack_code else module.code, 15)
            + modbus.words_of(module.code if self.has_pack_code else "", 15)
        )

    def _system(self, module: Module) -> list[int]:
        longs = (
            modbus.words_long(module.voltage_v, 100),
            modbus.words_long_signed(int(module.current_a * 10)),
            modbus.words_long(module.capacity_remaining_ah, 100),
            modbus.words_long(module.capacity_full_ah, 100),
            modbus.words_long(module.charge_out_ah, 0.1),
            modbus.words_long(module.capacity_full_ah, 100),
            [0, 1],
            [0, int(bool(module.protections))],
            modbus.words_long(self.discharge_limit_a, 10),
            modbus.words_long(self.charge_limit_a, 10),
        )
        words = [word for high, low in longs for word in (low, high)]
        limits = [576, 464, 1]
        return [*words, *limits, module.cycles, modbus.word(module.soc_pct, 10), modbus.word(module.soh_pct, 10)]


def _tenths_k(temperature_c: float) -> int:
    return modbus.word(temperature_c * 10 + ZERO_C_TENTHS_K)


def _cells(module: Module) -> list[int]:
    return (
        [modbus.word(v, 1000) for v in module.cell_voltages_v]
        + [_tenths_k(t) for t in module.cell_temperatures_c]
        + [_NO_SENSOR] * 4
        + [_tenths_k(module.temperature_ambient_c), _tenths_k(module.temperature_mosfet_c)]
    )


def _event_codes(module: Module) -> bytes:
    """Return the eighteen code bytes of PIC."""
    codes = bytearray(18)
    codes[6] = module.balancing_mask & 0xFF
    codes[7] = module.balancing_mask >> 8 & 0xFF
    codes[8] = _system_state(module)
    for bit, (byte, event) in _EVENTS.items():
        if module.protections >> bit & 1:
            codes[byte] |= 1 << event
    codes[15] = module.discharge_switch | module.charge_switch << 1 | module.heater_switch << 3
    codes[16] = int(module.balancing_mask != 0)
    return bytes(codes)


def _system_state(module: Module) -> int:
    if module.current_a > _CURRENT_REST_A:
        return _CHARGING
    if module.current_a < -_CURRENT_REST_A:
        return _DISCHARGING
    return _FULL | _STANDBY if module.soc_pct >= 100 else _STANDBY
