"""`swapline bench week`: a fleet's week of driving, swapping and charging, judged by the firmware's own alarm code.

Nothing in such a week is a fault, so no alarm may be raised. The world is the bench's (cells with their physics, BMSs
with their errors, vans on their routes, stations that charge); what its registers would say is given, every two seconds
of world time, to the very `Source.judge` that runs on a node: limits, their durations, bits, and the suspicion of
thermal runaway. A week takes about half an hour of one core. What it does not hold: serial lines and `module lost`,
which come from a node's drivers; the demo and `swapline chaos` have those.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from swapline_bench.module import Module
from swapline_bench.station import Slot
from swapline_bench.van import Van
from swapline_bench.world import World
from swapline_node import cpython  # noqa: F401 (MicroPython's module, which the firmware imports)
from swapline_node.clock import Clock
from swapline_node.counter import Counters
from swapline_node.sampler import Sampler
from swapline_wire.catalogue import ALARM_STREAM, Stream, stream_by_name
from swapline_wire.decode import decode

STEP_S = 2.0
VANS = 10
SLOTS = 12
HOURS = 168.0
_VAN = ("insulation_kohm", "acceleration_mps2", "faults")


class Told:
    """Stands where a node's journal is: keeps what was told, by code and level."""

    def __init__(self) -> None:
        self.id = self.boot = self.next_seq = 1
        self.alarms: list[tuple[int, int, str]] = []  # code, level, owner
        self.occupants: dict[int, tuple[str, Any]] = {}

    def occupy(self, bay: int, code: str) -> None:
        """Remember who sits in a bay."""
        self.occupants[bay] = (code, None)

    def append(self, frame: memoryview, seq: int, _priority: int) -> int:
        """Take a frame."""
        decoded = decode(bytes(frame))
        if decoded.stream is ALARM_STREAM:
            self.alarms += [(row[1], row[2], str(decoded.header.owner)) for row in decoded.rows]
        self.next_seq = seq + 1
        return 0

    def commit(self) -> bool:
        """Say that there is nothing to send."""
        return False


class JudgedSource:
    """One bay, slot or controller of a node, with the node's own code behind it."""

    def __init__(self, stream_name: str, bay: int, *, is_lfp: bool = True) -> None:
        stream = stream_by_name(stream_name)
        assert stream is not None
        self.told = Told()
        self.now_ms = 0
        clock = Clock(lambda: self.now_ms, lambda later, earlier: later - earlier, utc_ms_min=0)
        self._source = Sampler(self.told, clock, Counters()).source(stream, bay)
        self._source.is_lfp = is_lfp
        self._places = _places(stream)
        self._empty = list(self._source.values)

    def see(self, at_s: float, owner: str, values: Mapping[str, float]) -> None:
        """Judge what the device says at that time of the world."""
        self.now_ms = round(at_s * 1000)
        source = self._source
        source.values[:] = self._empty
        for name, value in values.items():
            place, scale = self._places[name]
            source.values[place] = round(value * scale)
        if source.owner == owner:
            source.judge(owner)
        else:
            source.commit(owner)  # the first reading of whoever sits there now; rows of the others would only cost time


def _places(stream: Stream) -> dict[str, tuple[int, int]]:
    return {signal.name: (place, 10**signal.decimals) for place, signal in enumerate(stream.signals)}


def reading_of(module: Module) -> dict[str, float]:
    """Return what a module's BMS says of what alarms are judged by."""
    cells_v, temperatures_c = module.cell_voltages_v, module.cell_temperatures_c
    return {
        "voltage_v": module.voltage_v,
        "current_a": module.current_a,
        "capacity_full_ah": module.capacity_full_ah,
        "cell_voltage_max_v": max(cells_v),
        "cell_voltage_min_v": min(cells_v),
        "temperature_max_c": max(temperatures_c),
        "temperature_min_c": min(temperatures_c),
        "insulation_kohm": module.insulation_kohm,
        "cell_count": len(cells_v),
        "protections": module.protections,
    }


@dataclass
class Extremes:
    """How near to the limits the modules came."""

    cell_v_max: float = 0.0
    cell_v_min: float = 9.0
    spread_v_max: float = 0.0
    temperature_c_max: float = -99.0
    temperature_c_min: float = 99.0
    temperature_spread_c_max: float = 0.0
    c_rate_max: float = 0.0

    def see(self, values: Mapping[str, float]) -> None:
        """Take a reading."""
        high_v, low_v = values["cell_voltage_max_v"], values["cell_voltage_min_v"]
        warm_c, cold_c = values["temperature_max_c"], values["temperature_min_c"]
        self.cell_v_max, self.cell_v_min = max(self.cell_v_max, high_v), min(self.cell_v_min, low_v)
        self.spread_v_max = max(self.spread_v_max, high_v - low_v)
        self.temperature_c_max = max(self.temperature_c_max, warm_c)
        self.temperature_c_min = min(self.temperature_c_min, cold_c)
        self.temperature_spread_c_max = max(self.temperature_spread_c_max, warm_c - cold_c)
        self.c_rate_max = max(self.c_rate_max, abs(values["current_a"]) / values["capacity_full_ah"])


@dataclass
class Week:
    """A fleet, its sources, and what was told."""

    world: World
    readings: int = 0
    extremes: Extremes = field(default_factory=Extremes)
    sources: dict[tuple[str, str, int], JudgedSource] = field(default_factory=dict)

    def pass_by(self, hours: float, *, step_s: float = STEP_S, say: Callable[[float], None] | None = None) -> None:
        """Let that time pass."""
        end_s = self.world.time_s + hours * 3600
        while self.world.time_s < end_s:
            self.world.step(step_s)
            for van in self.world.vans:
                self._see_van(van)
            for station in self.world.stations:
                for bay, slot in enumerate(station.slots, 1):
                    self._see_slot(station.name, bay, slot)
            if say is not None:
                say(self.world.time_s / 3600)

    def _see_van(self, van: Van) -> None:
        if van.is_powered:
            self._see("vehicle", van.name, 0, "", {name: getattr(van, name) for name in _VAN})
        for bay, module in enumerate(van.bays, 1):
            self._see_module(van.name, bay, module)

    def _see_slot(self, name: str, bay: int, slot: Slot) -> None:
        self._see("slot", name, bay, "", {"faults": slot.faults})
        self._see_module(name, bay, slot.module)

    def _see_module(self, name: str, bay: int, module: Module | None) -> None:
        if module is not None:
            values = reading_of(module)
            self.extremes.see(values)
            self._see("module", name, bay, module.code, values)

    def _see(self, stream: str, node: str, bay: int, owner: str, values: Mapping[str, float]) -> None:
        key = (stream, node, bay)
        if key not in self.sources:
            self.sources[key] = JudgedSource(stream, bay)
        self.sources[key].see(self.world.time_s, owner, values)
        self.readings += 1

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """Return everything that was told."""
        return [
            {"stream": stream, "node": node, "bay": bay, "module": owner or None, "code": code, "level": level}
            for (stream, node, bay), source in self.sources.items()
            for code, level, owner in source.told.alarms
        ]

    def result(self) -> dict[str, Any]:
        """Return what was lived through and what was told."""
        return {
            "hours": round(self.world.time_s / 3600, 2),
            "vans": len(self.world.vans),
            "modules": len({code for van in self.world.vans for code in [m.code for m in van.modules]})
            + sum(slot.module is not None for station in self.world.stations for slot in station.slots),
            "swaps": len(self.world.swaps),
            "readings": self.readings,
            "extremes": {name: round(value, 3) for name, value in vars(self.extremes).items()},
            "alarms": self.alarms,
        }


class Progress:
    """Writes a line every six hours of the fleet's time."""

    def __init__(self, hours: float) -> None:
        self._hours = hours
        self._next = 6.0
        self._begun_s = time.monotonic()

    def __call__(self, hour: float) -> None:
        """Note that it is so late."""
        if hour >= self._next:
            self._next += 6.0
            took_s = time.monotonic() - self._begun_s
            left_s = took_s / hour * (self._hours - hour)
            click.echo(f"{hour:.0f} of {self._hours:.0f} hours, {left_s / 60:.0f} min left", err=True)


@click.command()
@click.option("--vans", default=VANS, show_default=True, type=click.IntRange(1, 100), help="Of one to three modules.")
@click.option("--hours", default=HOURS, show_default=True, type=click.FloatRange(0.1), help="Of the fleet's time.")
@click.option("--step-s", default=STEP_S, show_default=True, type=click.FloatRange(0.5, 5.0), help="Between readings.")
@click.option("--seed", default=7, show_default=True, help="Of the simulated world.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
def week(*, vans: int, hours: float, step_s: float, seed: int, as_json: bool) -> None:
    """Let a healthy fleet live a week in virtual time and count the alarms that a node would raise: none.

    Exit code 1 if there is one. A week of ten vans takes about half an hour of one core.
    """
    lived = Week(World(van_count=vans, slot_count=SLOTS, seed=seed, speed=1.0))
    lived.pass_by(hours, step_s=step_s, say=Progress(hours))
    result = lived.result()
    if as_json:
        click.echo(json.dumps(result))
    else:
        for name, value in {**result, **result.pop("extremes")}.items():
            click.echo(f"{name:<26} {value if name != 'alarms' else len(result['alarms'])}")
        for alarm in result["alarms"]:
            click.echo(f"  {alarm}")
    sys.exit(1 if result["alarms"] else 0)
