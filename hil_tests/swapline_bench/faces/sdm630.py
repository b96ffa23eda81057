"""Eastron SDM630 energy meter over Modbus RTU: IEEE 754 singles in two registers, high word first.

Source: Eastron "SDM630-Modbus protocol", input registers 0x0000 to 0x0157; at most 80 registers a request.
"""

import math
from collections.abc import Mapping, Sequence

from swapline_bench.faces import modbus
from swapline_bench.grid import GridMeter

BAUDRATE = 9600
_INPUT_WORDS = 0x0158
_HOLDING_WORDS = 0x001E


class Sdm630(modbus.Unit):
    """The station's meter. Registers between the known parameters read as 0.0, as on the device."""

    registers_max = 80

    def __init__(self, meter: GridMeter, *, address: int = 1) -> None:
        self._meter = meter
        self._address = address

    def blocks(self, function: int) -> Mapping[int, Sequence[int]]:
        """Return input registers (function 4) or settings (function 3)."""
        if function == modbus.READ_INPUT:
            return {0: _lay_out(_parameters(self._meter), _INPUT_WORDS)}
        settings = {0x000A: 3.0, 0x000C: 100.0, 0x0014: float(self._address), 0x001C: 2.0}
        return {0: _lay_out(settings, _HOLDING_WORDS)}


def _lay_out(parameters: Mapping[int, float], words: int) -> list[int]:
    registers = [0] * words
    for address, value in parameters.items():
        registers[address : address + 2] = modbus.words_float(value)
    return registers


def _parameters(m: GridMeter) -> dict[int, float]:
    """Return the parameters by address; those that the simulated meter lacks follow from those that it has."""
    voltages = (m.voltage_l1_v, m.voltage_l2_v, m.voltage_l3_v)
    currents = (m.current_l1_a, m.current_l2_a, m.current_l3_a)
    powers_w = tuple(1000 * p for p in (m.power_l1_kw, m.power_l2_kw, m.power_l3_kw))
    apparent_va = tuple(v * i for v, i in zip(voltages, currents, strict=True))
    reactive_var = 1000 * m.reactive_power_kvar
    parameters = {
        0x002A: sum(voltages) / 3,
        0x002E: sum(currents) / 3,
        0x0030: sum(currents),
        0x0034: 1000 * m.power_kw,
        0x0038: math.hypot(1000 * m.power_kw, reactive_var),
        0x003C: reactive_var,
        0x003E: m.power_factor,
        0x0042: math.degrees(math.acos(min(max(m.power_factor, -1.0), 1.0))),
        0x0046: m.frequency_hz,
        0x0048: m.energy_import_kwh,
        0x004A: m.energy_export_kwh,
        0x0156: m.energy_import_kwh + m.energy_export_kwh,
    }
    for phase in range(3):
        offset = 2 * phase
        parameters[offset] = voltages[phase]
        parameters[0x0006 + offset] = currents[phase]
        parameters[0x000C + offset] = powers_w[phase]
        parameters[0x0012 + offset] = apparent_va[phase]
        parameters[0x0018 + offset] = reactive_var / 3
        parameters[0x001E + offset] = m.power_factor
    return parameters
