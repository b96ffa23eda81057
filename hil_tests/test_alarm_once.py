"""Every fault is one alarm in the book, whatever happens on the way: flapping bits, deaths of node, gateway and broker.

A real node on simulated devices, a real broker, the real gateway; what was injected is compared with the alarm book
that the database gives.
"""

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swapline_bench.bench_alarm import Source, sources_of
from swapline_bench.end_to_end import FLEET, EndToEnd
from swapline_bench.gateway_process import GatewayProcess
from swapline_bench.module import Module
from swapline_bench.rig import HolderRig, make_van_rig
from swapline_bench.services import whole
from swapline_bench.world import World
from swapline_gateway.alarm.access import read_past
from swapline_gateway.alarm.book import Alarm
from swapline_gateway.alarm.watch import Wanted
from swapline_gateway.config import load
from swapline_wire.catalogue import ALARM_STREAM

pytestmark = pytest.mark.promise("every injected fault is raised exactly once")
CELL_HIGH, CELL_SPREAD, HOT, TEMPERATURE_SPREAD = 1, 5, 6, 8
VAN_INSULATION, DECELERATION = 12, 13
AGAIN_S_MAX = 120.0


class Van:
    """A van on the whole path, whose faults the test makes."""

    def __init__(self, path: EndToEnd, folder: Path) -> None:
        self.path = path
        self.world = World(van_count=1, modules_per_van=(2,), speed=1.0)
        self.van = self.world.vans[0]
        self.rig: HolderRig = make_van_rig(self.van, folder, bms_driver=["jbd", "seplos_v3"])
        self.sources: dict[str, Source] = {source.name: source for source in sources_of(self.rig)}
        self.injected: list[tuple[int, int]] = []  # bay, code

    async def start(self) -> None:
        config = self.rig.config(fleet=FLEET, host="", port=0)
        self.rig.node = await self.path.add_node(self.rig.name, config["buses"])
        self.rig.plug()
        await self.path.start_node_again(self.rig.node)
        await self.path.tap.wait_rows(self.rig.name, "module", 2)

    async def fault(self, bay: int, code: int, make: Callable[[], None]) -> None:
        """Make a fault, and wait until its alarm has been told and stored."""
        self.injected.append((bay, code))
        before = self.count(bay, code)
        make()
        await self.told(bay, code, before + 1)

    def count(self, bay: int, code: int) -> int:
        frames = self.path.tap[self.rig.name].frames.values()
        return sum(
            row[1] == code
            for frame in frames
            if frame.stream is ALARM_STREAM and frame.header.bay == bay
            for row in frame.rows
        )

    async def told(self, bay: int, code: int, count: int) -> None:
        heard = self.path.tap[self.rig.name]
        await self.path.tap.wait(
            lambda: self.count(bay, code) >= count and heard.is_acknowledged(),
            f"alarm {code} of bay {bay} for the {count}. time",
            AGAIN_S_MAX,
        )


def book(folder: Path) -> list[Alarm]:
    """Return what the database says, after its gateway has ended."""
    config = load(folder / "gateway-duckdb" / "gateway.toml")
    return read_past(config, Wanted(since_utc_ms=time.time_ns() // 1_000_000 - 3_600_000, limit=10_000))


def keys(alarms: list[Alarm]) -> list[tuple[int, int]]:
    return sorted((alarm.key.bay, alarm.key.code) for alarm in alarms)


async def test_faults_of_all_kinds_are_one_alarm_each_through_drivers_gateway_and_database(
    mosquitto: None, tmp_path: Path
) -> None:
    del mosquitto
    async with EndToEnd(tmp_path) as path:
        await path.start_gateway("duckdb")
        van = Van(path, tmp_path / "rig")
        path.stack.push_async_callback(van.rig.close)
        await van.start()
        modules = [module for module in van.van.bays if module is not None]
        await van.fault(1, 32, lambda: van.sources["jbd"].set(True))
        await van.fault(2, 32, lambda: van.sources["seplos_v3"].set(True))
        await van.fault(0, 98, lambda: van.sources["vcu"].set(True))
        await van.fault(0, VAN_INSULATION, lambda: setattr(van.van, "insulation_kohm", 20))
        await van.fault(0, DECELERATION, lambda: setattr(van.van, "acceleration_mps2", -25.0))
        await van.fault(2, CELL_SPREAD, lambda: shift_cell(modules[1], -0.4))
        await van.fault(1, CELL_HIGH, lambda: shift_cell(modules[0], 0.6))
        van.injected.append((1, CELL_SPREAD))  # one cell is so high that the spread is, too
        await van.told(1, CELL_SPREAD, 1)
        await van.fault(1, HOT, lambda: heat_sensor(modules[0], 70.0))
        van.injected.append((1, TEMPERATURE_SPREAD))
        await van.told(1, TEMPERATURE_SPREAD, 1)
        await path.stop()
    found = book(tmp_path)
    assert keys(found) == sorted(van.injected)
    assert {alarm.key.module for alarm in found} == {"", modules[0].code, modules[1].code}


def shift_cell(module: Module, shift_v: float) -> None:
    """Let a cell stand far from the others, as its BMS sees it."""
    module._cell_offset_v[3] += shift_v  # noqa: SLF001 (the bench has no such fault of its own)


def heat_sensor(module: Module, temperature_c: float) -> None:
    """Let a sensor show what is too hot."""
    module._stuck_c[1] = temperature_c  # noqa: SLF001


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
        van = Van(path, tmp_path / "rig")
        path.stack.push_async_callback(van.rig.close)
        await van.start()
        jbd, seplos = van.sources["jbd"], van.sources["seplos_v3"]
        for is_set in (True, False, True, False, True, False):
            before = van.count(1, 32)
            jbd.set(is_set)
            await van.told(1, 32, before + 1)
        await van.fault(2, 32, lambda: seplos.set(True))
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
        jbd.set(True)
        await in_book(gateway, is_last(32, 1, standing=True))
        await van.rig.hush()
        await node.stop()
        await whole(gateway.stop)
    found = book(tmp_path)
    assert keys(found) == [(1, 32)] * 4 + [(2, 32)]
    assert [alarm.ending for alarm in found] == [None, "cleared", "cleared", "cleared", "cleared"], "the newest first"
    assert {alarm.key.bay: alarm.told_count for alarm in found} == {1: 1, 2: 2}
