"""What a node would read of a simulated module, without the serial line: raw rows of `module` and `cells`."""

from collections.abc import Sequence
from statistics import fmean

from swapline_bench.module import Module
from swapline_wire import catalogue
from swapline_wire.catalogue import CELLS, MODULE, Stream

_SCALES = [10**signal.decimals for signal in MODULE.signals]


def module_row(module: Module) -> list[int]:
    """Return a raw row of the stream `module`."""
    cells_v, temperatures_c = module.cell_voltages_v, module.cell_temperatures_c
    lowest_v, highest_v = min(cells_v), max(cells_v)
    coldest_c, warmest_c = min(temperatures_c), max(temperatures_c)
    values = {
        "voltage_v": sum(cells_v),
        "current_a": module.current_a,
        "soc_pct": module.soc_pct,
        "soh_pct": module.soh_pct,
        "capacity_remaining_ah": module.capacity_remaining_ah,
        "capacity_full_ah": module.capacity_full_ah,
        "cell_voltage_min_v": lowest_v,
        "cell_voltage_max_v": highest_v,
        "cell_voltage_mean_v": fmean(cells_v),
        "cell_voltage_min_cell": cells_v.index(lowest_v) + 1,
        "cell_voltage_max_cell": cells_v.index(highest_v) + 1,
        "temperature_min_c": coldest_c,
        "temperature_max_c": warmest_c,
        "temperature_min_sensor": temperatures_c.index(coldest_c) + 1,
        "temperature_max_sensor": temperatures_c.index(warmest_c) + 1,
        "temperature_mosfet_c": module.temperature_mosfet_c,
        "temperature_ambient_c": module.temperature_ambient_c,
        "insulation_kohm": module.insulation_kohm,
        "cycles": module.cycles,
        "charge_in_ah": module.charge_in_ah,
        "charge_out_ah": module.charge_out_ah,
        "energy_in_kwh": module.energy_in_kwh,
        "energy_out_kwh": module.energy_out_kwh,
        "cell_count": len(cells_v),
        "switches": module.charge_switch | module.discharge_switch << 1,
        "protections": module.protections,
        "balancing": module.balancing_mask,
    }
    return [round(values[signal.name] * scale) for signal, scale in zip(MODULE.signals, _SCALES, strict=True)]


def cells_row(module: Module) -> list[int]:
    """Return a raw row of the stream `cells`: a module of one segment."""
    row = catalogue.not_available(CELLS.signals)
    row[0] = 0
    for n, voltage_v in enumerate(module.cell_voltages_v, start=1):
        row[n] = round(voltage_v * 1000)
    first = 1 + catalogue.CELLS_PER_SEGMENT
    for n, temperature_c in enumerate(module.cell_temperatures_c):
        row[first + n] = round(temperature_c * 10)
    return row


class Reporter:
    """Says which rows of a stream a node would keep: where a signal moved by its deadband, and now and then."""

    def __init__(self, stream: Stream) -> None:
        self._deadbands = [signal.deadband for signal in stream.signals]
        self._silence_ms_max = stream.silence_ms_max
        self._kept: Sequence[int] = ()
        self._kept_ms = 0

    def keeps(self, time_ms: int, row: Sequence[int]) -> bool:
        """Take a reading, and say whether it becomes a row."""
        if self._kept and time_ms - self._kept_ms < self._silence_ms_max and not self._moved(row):
            return False
        self._kept, self._kept_ms = row, time_ms
        return True

    def forget(self) -> None:
        """Begin anew: the module is somewhere else, so its next reading is kept."""
        self._kept = ()

    def _moved(self, row: Sequence[int]) -> bool:
        return any(
            abs(value - kept) >= deadband
            for value, kept, deadband in zip(row, self._kept, self._deadbands, strict=True)
            if value != kept
        )
