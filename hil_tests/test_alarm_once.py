"""Every fault is one alarm in the book, whatever happens on the way: flapping bits, deaths of node, gateway and broker.

Real nodes on simulated devices, a real broker, the real gateway; what was injected is compared with the alarm book
that the database gives. Every rule of the alarm table has its turn, in several modules at once.
"""

import asyncio
import json
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from swapline_bench import bundle
from swapline_bench.bench_alarm import Source, sources_of
from swapline_bench.end_to_end import FLEET, EndToEnd
from swapline_bench.faces.modbus import ModbusFace
from swapline_bench.faces.seplos_v3 import SeplosV3
from swapline_bench.gateway_process import GatewayProcess
from swapline_bench.hurry import hasten, hurry
from swapline_bench.module import Module
from swapline_bench.rig import HolderRig, make_station_rig, make_van_rig
from swapline_bench.services import whole
from swapline_bench.station import Slot
from swapline_bench.van import Van
from swapline_bench.world import World
from swapline_gateway.alarm.access import read_past
from swapline_gateway.alarm.book import Alarm
from swapline_gateway.alarm.watch import Wanted
from swapline_gateway.config import load
from swapline_wire.alarm_table import rules_of
from swapline_wire.catalogue import ALARM_STREAM, MODULE_LOST

pytestmark = pytest.mark.promise("every injected fault is raised exactly once")
CELL_HIGH, CELL_LOW, PACK_HIGH, PACK_LOW, CELL_SPREAD, HOT, COLD, TEMPERATURE_SPREAD = range(1, 9)
CHARGE_CURRENT, DISCHARGE_CURRENT, INSULATION, VAN_INSULATION, DECELERATION = range(9, 14)
RUNAWAY = 15
PROTECTIONS, SLOT_FAULTS, VEHICLE_FAULTS = 32, 64, 96  # codes of their bits 0
JBD_BITS = range(13)  # what its protocol has, and what of the others a Seplos says
SEPLOS_BITS = (13, 14, 16)
AGAIN_S_MAX = 120.0
SPEED = 5  # the longest duration is a minute
HASTE = {"timeout_ms": 10_000, "look_ms": 750}  # two real seconds for a machine that is late; looks as often as ever
WARM_BY_C, WARM_S, WARM_C, WARM_C_MAX = 2.0, 0.25, 50.0, 90.0  # 1.6 degC in each of the node's seconds
SENSORS = range(4)
CELLS = range(16)
# No BMS that swapline has a driver for measures insulation: so a driver of the test's own reads what a Seplos reserves.
INSULATION_REGISTER = 14  # of the pack's block
GUARDED_SEPLOS = """
from swapline_wire.catalogue import MODULE, find_signal

from .bms import u16
from .modbus import READ_INPUT_REGISTERS, read
from .seplos_v3 import SeplosV3


class GuardedSeplos(SeplosV3):
    def __init__(self, sampler, clock, counters, device_config):
        super().__init__(sampler, clock, counters, device_config)
        self.insulation_query = read(self.address, READ_INPUT_REGISTERS, 0x100E, 1)

    async def read(self, bus):
        await super().read(bus)
        answer = await bus.ask(self.insulation_query, self.timeout_ms)
        self.module.values[find_signal(MODULE, "insulation_kohm")] = u16(answer, 0)
"""


class GuardedPack(SeplosV3):
    """A Seplos pack that measures its insulation."""

    def _pack(self, module: Module) -> list[int]:
        words = super()._pack(module)
        words[INSULATION_REGISTER] = module.insulation_kohm
        return words


def guarded_firmware(folder: Path) -> Path:
    """Return the firmware with a driver more."""
    root = bundle.firmware_root()
    for package in bundle.PACKAGES:
        shutil.copytree(root / package, folder / "source" / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in bundle.START_FILES:
        shutil.copyfile(root / name, folder / "source" / name)
    driver = folder / "source" / "swapline_node" / "drivers" / "guarded_seplos.py"
    driver.write_text(GUARDED_SEPLOS, encoding="utf-8")
    return bundle.build(folder / "bundle", source=folder / "source")


class Holder:
    """A van or a station on the whole path, whose faults the test makes."""

    def __init__(self, path: EndToEnd, rig: HolderRig, modules: list[Module | None]) -> None:
        self.path = path
        self.rig = rig
        self.modules = [module for module in modules if module is not None]
        self.injected: list[tuple[str, int, int]] = []  # node, bay, code
        path.stack.push_async_callback(rig.close)

    async def start(self, *, firmware: Path | None = None, is_hurried: bool = True) -> None:
        config = self.rig.config(fleet=FLEET, host="", port=0)
        buses = hasten(self.rig, **HASTE) if is_hurried else config["buses"]
        node = await self.path.add_node(self.rig.name, buses, holder=self.rig.kind, firmware=firmware)
        self.rig.node = node
        self.rig.plug()
        await self.path.start_node_again(node, snippet=hurry(SPEED) if is_hurried else None)
        await self.path.tap.wait(
            lambda: {bay for bay, _ in self.owners("module")} == {*range(1, len(self.modules) + 1)},
            f"the modules of {self.rig.name}",
        )

    def owners(self, stream: str) -> set[tuple[int, str]]:
        frames = self.path.tap[self.rig.name].frames.values()
        return {(frame.header.bay, frame.header.owner) for frame in frames if frame.stream.name == stream}

    async def pass_by(self, bay: int, codes: list[int], make: Callable[[], object], mend: Callable[[], object]) -> None:
        """Make a fault and mend it; wait until its alarms, those of `codes`, were raised, and then cleared."""
        self.injected += [(self.rig.name, bay, code) for code in codes]
        make()
        await self.reach(bay, codes, is_raised=True)
        mend()
        await self.reach(bay, codes, is_raised=False)

    async def reach(self, bay: int, codes: list[int], *, is_raised: bool) -> None:
        def are_there() -> bool:
            return all(bool((self.levels(bay, code) or [0])[-1]) is is_raised for code in codes)

        what = f"alarms {codes} of {self.rig.name}, bay {bay}: {'raised' if is_raised else 'cleared'}"
        await self.path.tap.wait(are_there, what, AGAIN_S_MAX)

    def levels(self, bay: int, code: int) -> list[int]:
        """Return the levels that were told of an alarm, in the node's order."""
        frames = sorted(self.path.tap[self.rig.name].frames.items())
        return [
            row[2]
            for _, frame in frames
            if frame.stream is ALARM_STREAM and frame.header.bay == bay
            for row in frame.rows
            if row[1] == code
        ]

    async def told(self, bay: int, code: int, count: int) -> None:
        heard = self.path.tap[self.rig.name]
        await self.path.tap.wait(
            lambda: len(self.levels(bay, code)) >= count and heard.is_acknowledged(),
            f"alarm {code} of bay {bay} for the {count}. time",
            AGAIN_S_MAX,
        )


def make_van(path: EndToEnd, folder: Path) -> tuple[Holder, Van]:
    van = World(van_count=1, modules_per_van=(2,), speed=1.0).vans[0]
    return Holder(path, make_van_rig(van, folder, bms_driver=["jbd", "seplos_v3"]), van.bays), van


def make_station(path: EndToEnd, folder: Path) -> tuple[Holder, list[Slot]]:
    station = World(van_count=0, slot_count=4, speed=1.0, seed=2).stations[0]
    drivers = ["seplos_v3", "jbd_up16s", "seplos_v3", "jbd"]
    rig = make_station_rig(station, folder, bms_driver=drivers, has_meter=False)
    face = rig.faces[2]
    assert isinstance(face, ModbusFace)
    face.units = {1: GuardedPack(lambda: station.slots[2].module)}
    (device,) = rig.config(fleet="", host="", port=0)["buses"][2]["devices"]
    device["driver"] = "guarded_seplos"
    return Holder(path, rig, [slot.module for slot in station.slots]), station.slots


def book(folder: Path) -> list[Alarm]:
    """Return what the database says, after its gateway has ended."""
    config = load(folder / "gateway-duckdb" / "gateway.toml")
    return read_past(config, Wanted(since_utc_ms=time.time_ns() // 1_000_000 - 3_600_000, limit=10_000))


def keys(alarms: list[Alarm]) -> list[tuple[str, int, int]]:
    return sorted((alarm.key.node, alarm.key.bay, alarm.key.code) for alarm in alarms)


def codes_of(stream: str) -> set[int]:
    """Return the codes of a stream's rules, of bits those of all bits that the rule knows."""
    codes: set[int] = set()
    for rule in rules_of(stream):
        known = 1
        if rule[5] == "bits":
            known = int(rule[6], 0) | int(rule[7], 0) | int(rule[8], 0)
        codes |= {int(rule[0]) + bit for bit in range(known.bit_length()) if known >> bit & 1}
    return codes


def bits(thing: object, name: str, numbers: list[int]) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return what sets these bits of a device's word, and what clears them."""
    return change(thing, name, sum(1 << number for number in numbers)), change(thing, name, 0)


def change(thing: object, name: str, value: float) -> Callable[[], None]:
    return lambda: setattr(thing, name, value)


async def fail_vehicle(holder: Holder, van: Van) -> None:
    numbers = [code - VEHICLE_FAULTS for code in codes_of("vehicle") if code >= VEHICLE_FAULTS]
    await holder.pass_by(0, [VEHICLE_FAULTS + number for number in numbers], *bits(van, "faults", numbers))
    await holder.pass_by(0, [VAN_INSULATION], change(van, "insulation_kohm", 20), change(van, "insulation_kohm", 5000))
    await holder.pass_by(
        0, [DECELERATION], change(van, "acceleration_mps2", -25.0), change(van, "acceleration_mps2", 0.0)
    )


async def fail_jbd(holder: Holder, module: Module) -> None:
    codes = [PROTECTIONS + number for number in JBD_BITS]
    await holder.pass_by(1, codes, *bits(module, "protections", list(JBD_BITS)))
    await holder.pass_by(
        1, [HOT, TEMPERATURE_SPREAD], lambda: show(module, 70.0, sensors=[1]), lambda: show(module, None)
    )


async def fail_seplos(holder: Holder, module: Module) -> None:
    codes = [PROTECTIONS + number for number in SEPLOS_BITS]
    await holder.pass_by(2, codes, *bits(module, "protections", list(SEPLOS_BITS)))
    await holder.pass_by(2, [CELL_SPREAD], lambda: set_cells(module, 2.9, cells=[3]), lambda: set_cells(module, 3.3))


async def fail_cells(holder: Holder, module: Module) -> None:
    await holder.pass_by(1, [CELL_HIGH, PACK_HIGH], lambda: set_cells(module, 3.7), lambda: set_cells(module, 3.3))
    await holder.pass_by(1, [CELL_LOW, PACK_LOW], lambda: set_cells(module, 2.4), lambda: set_cells(module, 3.3))


async def fail_current(holder: Holder, module: Module) -> None:
    """Let more flow than two C: 518 Ah, of which only this BMS can tell more than 328 A."""
    await holder.pass_by(2, [CHARGE_CURRENT], change(module, "current_a", 1150.0), change(module, "current_a", 0.0))
    await holder.pass_by(2, [DISCHARGE_CURRENT], change(module, "current_a", -1150.0), change(module, "current_a", 0.0))


async def fail_guarded(holder: Holder, module: Module) -> None:
    await holder.pass_by(3, [INSULATION], change(module, "insulation_kohm", 4), change(module, "insulation_kohm", 5000))
    warming = asyncio.Event()
    holder.path.run(warm(module, warming), "thermal runaway")

    def cool() -> None:
        warming.set()
        show(module, None)

    await holder.pass_by(3, [RUNAWAY, HOT], lambda: None, cool)


async def fail_cold_and_lost(holder: Holder, module: Module) -> None:
    await holder.pass_by(4, [COLD], lambda: show(module, -30.0), lambda: show(module, None))
    line, face = holder.rig.lines["bay4"], holder.rig.faces[3]
    await holder.pass_by(4, [MODULE_LOST], line.detach, lambda: line.attach(face))


async def fail_charger(holder: Holder, slot: Slot) -> None:
    numbers = [code - SLOT_FAULTS for code in codes_of("slot")]
    await holder.pass_by(2, [SLOT_FAULTS + number for number in numbers], *bits(slot, "faults", numbers))


async def warm(module: Module, is_over: asyncio.Event) -> None:
    """Let all sensors of a module rise, anew where a busy machine has missed it."""
    temperature_c = WARM_C
    while not is_over.is_set():
        show(module, temperature_c)
        temperature_c = temperature_c + WARM_BY_C if temperature_c < WARM_C_MAX else WARM_C
        await asyncio.sleep(WARM_S)  # this is the course of the temperature


def set_cells(module: Module, voltage_v: float, cells: Iterable[int] = CELLS) -> None:
    """Let these cells show this voltage, as their BMS sees it."""
    for cell in cells:
        module._cell_offset_v[cell] = voltage_v - module.cells.cell_voltages_v()[cell]  # noqa: SLF001 (no fault of the bench's own)


def show(module: Module, temperature_c: float | None, sensors: Iterable[int] = SENSORS) -> None:
    """Let these sensors show this, or all of them again what is there."""
    module._stuck_c = {} if temperature_c is None else dict.fromkeys(sensors, temperature_c)  # noqa: SLF001


async def test_every_rule_is_raised_once_and_cleared_once_through_drivers_gateway_and_database(
    mosquitto: None, tmp_path: Path
) -> None:
    del mosquitto
    async with EndToEnd(tmp_path) as path:
        await path.start_gateway("duckdb")
        firmware = await asyncio.to_thread(guarded_firmware, tmp_path / "guarded")
        van_holder, van = make_van(path, tmp_path / "van")
        station_holder, slots = make_station(path, tmp_path / "station")
        await asyncio.gather(van_holder.start(firmware=firmware), station_holder.start(firmware=firmware))
        modules = station_holder.modules
        await asyncio.gather(
            fail_vehicle(van_holder, van),
            fail_jbd(van_holder, van_holder.modules[0]),
            fail_seplos(van_holder, van_holder.modules[1]),
            fail_cells(station_holder, modules[0]),
            fail_current(station_holder, modules[1]),
            fail_guarded(station_holder, modules[2]),
            fail_cold_and_lost(station_holder, modules[3]),
            fail_charger(station_holder, slots[1]),
        )
        await path.stop()
    found = book(tmp_path)
    assert keys(found) == sorted(van_holder.injected + station_holder.injected)
    assert {(alarm.ending, alarm.told_count) for alarm in found} == {("cleared", 1)}
    for holder in (van_holder, station_holder):
        for _, bay, code in holder.injected:
            *raised, cleared = holder.levels(bay, code)
            assert (raised, cleared) == (sorted(set(raised) - {0}), 0), (holder.rig.name, bay, code)
    codes = {alarm.key.code for alarm in found}
    assert codes >= codes_of("vehicle") | codes_of("slot") | {MODULE_LOST}
    bits_unsaid = {PROTECTIONS + 15, PROTECTIONS + 17}  # by the simulated BMSs; other bits of theirs stand for them
    assert codes_of("module") - codes == bits_unsaid
    owners = {alarm.key.module for alarm in found if alarm.key.bay and alarm.key.code not in codes_of("slot")}
    assert owners == {module.code for module in van_holder.modules + modules}


async def in_book(gateway: GatewayProcess, condition: Callable[[list[dict[str, Any]]], object]) -> None:
    """Wait until the running gateway's book is as wanted."""

    def ask() -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{gateway.url}/api/alarms", timeout=20) as answer:  # noqa: S310 (our own)
            found: list[dict[str, Any]] = json.load(answer)["alarms"]
            return found

    async with asyncio.timeout(AGAIN_S_MAX):
        while not condition(await asyncio.to_thread(ask)):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.1)


def is_last(code: int, bay: int, *, standing: bool) -> Callable[[list[dict[str, Any]]], bool]:
    """Say whether the newest alarm of this code stands, or not."""

    def check(found: list[dict[str, Any]]) -> bool:
        of_it = [one for one in found if (one["bay"], one["code"]) == (bay, code)]
        return bool(of_it) and (of_it[0]["cleared_utc_ms"] is None) is standing

    return check


async def test_flapping_register_and_deaths_of_node_gateway_and_broker_make_no_other_alarm(
    mosquitto: None, tmp_path: Path
) -> None:
    del mosquitto
    async with EndToEnd(tmp_path) as path:
        gateway = await path.start_gateway("duckdb")
        van, _ = make_van(path, tmp_path / "rig")
        sources: dict[str, Source] = {source.name: source for source in sources_of(van.rig)}
        jbd, seplos = sources["jbd"], sources["seplos_v3"]
        for source in (jbd, seplos):  # they stand at the first boot, the second one at both: before the vehicle answers
            source.set(True)
        await van.start(is_hurried=False)
        await van.told(1, 32, 1)
        await van.told(2, 32, 1)
        for is_set in (False, True, False, True, False):
            before = len(van.levels(1, 32))
            jbd.set(is_set)
            await van.told(1, 32, before + 1)
        node = van.rig.node
        assert node is not None
        await node.cut_power()
        await whole(gateway.kill)
        await whole(path.broker.kill)
        await whole(path.broker.start)
        await whole(gateway.start)
        await node.start()
        await in_book(gateway, lambda found: any(one["told_count"] == 2 for one in found))
        seplos.set(False)
        await in_book(gateway, is_last(32, 2, standing=False))
        await in_book(gateway, is_last(32, 1, standing=False))  # its end was on its way when the gateway was killed
        jbd.set(True)
        await in_book(gateway, is_last(32, 1, standing=True))
        await van.rig.hush()
        await node.stop()
        await whole(gateway.stop)
    found = book(tmp_path)
    assert keys(found) == [(van.rig.name, 1, 32)] * 4 + [(van.rig.name, 2, 32)]
    assert [alarm.ending for alarm in found] == [None, "cleared", "cleared", "cleared", "cleared"], "the newest first"
    assert {alarm.key.bay: alarm.told_count for alarm in found} == {1: 1, 2: 2}
