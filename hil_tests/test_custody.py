"""The ledger of who held which module is the world's own: real nodes, a van of two modules, one of one, a station.

The van of one module loses its power with it, and tells the departure when it has power again. The same nodes are kept
by two gateways, one with DuckDB and one with InfluxDB; both ledgers are compared with the world's, and derived again
from nothing but stored rows by `swapline custody rebuild`.
"""

import asyncio
import json
import signal
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from swapline_bench import rig
from swapline_bench.custody import CustodyEvent
from swapline_bench.end_to_end import FLEET, EndToEnd
from swapline_bench.gateway_process import GatewayProcess
from swapline_bench.services import whole
from swapline_bench.world import World
from swapline_gateway import config as configuration
from swapline_gateway.battery.access import open_books

pytestmark = pytest.mark.promise("the ledger of who held which module is what happened, and can be derived again")
DATABASES = ("duckdb", "influxdb1")
ABSENCE_S = 6.0  # of a module from every line: three polls without an answer, and their timeouts
SPEED = 120.0
PLAY_S_MAX = 140.0
KEPT_S_MAX = 60.0
ASK_S = 0.5
SETTLE_S = 2.0
CLOCK_S = 2.0  # a node's clock may be wrong by its quality
COMES_S = 3.0  # until the first answer of a module that came; a van's node has to boot first
BOOT_S = 15.0
GOES_S = 6.0  # three polls without an answer
ALIVE_S = 12.0  # a node that lost its power may have last noted so long before that it was alive


class Stay:
    """A module in a bay, as the world knows it."""

    def __init__(self, came: CustodyEvent, went: CustodyEvent | None) -> None:
        self.place = (came.holder, came.bay)
        self.is_first = came.request_id == 0
        self.from_s = came.real_time_s
        self.until_s = None if went is None else went.real_time_s


def true_stays(world: World) -> dict[str, list[Stay]]:
    stays: dict[str, list[Stay]] = {}
    came: dict[str, CustodyEvent] = {}
    for event in world.custody:
        if event.kind == "in":
            came[event.code] = event
        else:
            stays.setdefault(event.code, []).append(Stay(came.pop(event.code), event))
    for code, event in came.items():
        stays.setdefault(code, []).append(Stay(event, None))
    return stays


class Played:
    """A world that was played to its end, with two gateways that listened."""

    def __init__(self, folder: Path, urls: Mapping[str, str]) -> None:
        self.world = World(
            van_count=2,
            slot_count=4,
            modules_per_van=(2, 1),
            speed=SPEED,
            swap_absence_real_s=ABSENCE_S,
            real_time_s=time.monotonic,
        )
        self.world.swap_below_pct = 90.0  # both are on their way to the station at once
        self.clock_utc_s = time.time() - time.monotonic()
        self.path = EndToEnd(folder)
        self._folder = folder
        self._urls = urls

    async def run(self) -> None:
        async with self.path as path:
            for name in DATABASES:
                await self._start_gateway(name)
            rigs = [rig.make_van_rig(van, self._folder / van.name) for van in self.world.vans]
            rigs += [rig.make_station_rig(one, self._folder / one.name) for one in self.world.stations]
            for holder in rigs:
                path.stack.push_async_callback(holder.close)
                holder.plug()
                config = holder.config(fleet=FLEET, host=path.broker.host, port=path.broker.port)
                holder.node = await path.add_node(holder.name, config.pop("buses"), holder=holder.kind)
            await asyncio.gather(*(holder.node.start() for holder in rigs if holder.node))
            for holder in rigs:
                await path.tap.wait_rows(holder.name, "module", 1)
            await self._play(rigs)
            await path.tap.wait(self._is_told, "all arrivals", KEPT_S_MAX)
            await asyncio.gather(*(self._wait_kept(path.gateways[name]) for name in DATABASES))
            await path.stop()

    async def _start_gateway(self, name: str) -> None:
        sink: dict[str, Any] = (
            {"type": name} if name == "duckdb" else {"type": name, "url": self._urls[name], "database": "custody"}
        )
        tables: dict[str, dict[str, Any]] = {
            "mqtt": {"host": self.path.broker.host, "port": self.path.broker.port, "fleet": FLEET, "client_id": name},
            "sink": sink,
            "http": {"port": 0, "console": False},
            "battery": {"settle_s": SETTLE_S},
            "state": {"publish": False},
            "log": {"format": "json"},
        }
        gateway = GatewayProcess(self._folder / f"gateway-{name}", tables, name=name)
        self.path.gateways[name] = gateway
        await whole(gateway.start)

    async def _play(self, rigs: list[rig.HolderRig]) -> None:
        """Let the world pass until each van has had all its modules exchanged."""
        world = self.world
        wanted = sum(len(van.bays) for van in world.vans)
        tasks = [asyncio.create_task(world.pass_time()), asyncio.create_task(self._watch_power(rigs))]
        try:
            async with asyncio.timeout(PLAY_S_MAX):
                while len(world.swaps) < wanted:  # noqa: ASYNC110 (the world is no event)
                    await asyncio.sleep(ASK_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._switch(rigs)

    async def _watch_power(self, rigs: list[rig.HolderRig]) -> None:
        while True:
            await asyncio.sleep(0.1)
            await self._switch(rigs)

    async def _switch(self, rigs: list[rig.HolderRig]) -> None:
        for holder in rigs:
            node, is_on = holder.node, holder.van is None or holder.van.is_powered
            assert node is not None
            if node.is_running and not is_on:
                await node.cut_power()
            elif is_on and not node.is_running:
                assert node.returncode == -signal.SIGKILL, node.log_tail()
                await node.start()

    def _is_told(self) -> bool:
        """Say whether the broker has every module's rows from where it is now, and of its departures."""
        for code, stays in true_stays(self.world).items():
            holder, bay = stays[-1].place
            frames = self.path.tap[holder].frames.values()
            told = {f.header.bay for f in frames if f.stream.name == "module" and f.header.owner == code}
            if bay not in told:
                return False
        return True

    async def _wait_kept(self, gateway: GatewayProcess) -> None:
        """Wait until the gateway's keeper has all swaps in its book."""
        async with asyncio.timeout(KEPT_S_MAX):
            while True:
                found = (await asyncio.to_thread(ask, gateway.url, "swaps"))["swaps"]
                if len(found) >= len(self.world.swaps) and all(s["told_by_van"] == 2 for s in found):
                    return
                await asyncio.sleep(ASK_S)

    def ledgers(self, database: str) -> list[dict[str, Any]]:
        """Return what the stopped gateway's database says of every module of the world, in the order of their codes."""
        config = configuration.load(self.path.gateways[database].config_path)
        with open_books(config) as books:
            return [books.custody.ledger(code).as_json() for code in sorted(true_stays(self.world))]

    async def swapline(self, database: str, *words: str) -> str:
        config = str(self.path.gateways[database].config_path)
        command = (sys.executable, "-m", "swapline_gateway", *words, "--config", config)
        process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1)
        out, err = await process.communicate()
        assert process.returncode == 0, (out + err).decode()
        return out.decode()


def ask(url: str | None, what: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/api/battery/{what}", timeout=30) as answer:  # noqa: S310 (ours)
        found: dict[str, Any] = json.load(answer)
    return found


def check_stay(told: dict[str, Any], true: Stay, clock_utc_s: float) -> None:
    """Hold one stay to what a node needs to notice."""
    assert (told["node"], told["bay"]) == true.place
    came_s = told["from_utc_ms"] / 1000 - clock_utc_s - true.from_s
    if not true.is_first:  # else it was there before its node
        assert -CLOCK_S <= came_s <= (BOOT_S if true.place[0].startswith("van") else COMES_S) + CLOCK_S
    assert (told["until_utc_ms"] is None) == (true.until_s is None)
    if true.until_s is not None:
        went_s = told["until_utc_ms"] / 1000 - clock_utc_s - true.until_s
        assert -ALIVE_S - CLOCK_S <= went_s <= GOES_S + CLOCK_S, told


def check(played: Played, database: str) -> list[dict[str, Any]]:
    """Compare a database's ledger with the world's, and return it."""
    ledgers = played.ledgers(database)
    for ledger, (code, stays) in zip(ledgers, sorted(true_stays(played.world).items()), strict=True):
        assert [(stay["node"], stay["bay"]) for stay in ledger["stays"]] == [stay.place for stay in stays], code
        for told, true in zip(ledger["stays"], stays, strict=True):
            check_stay(told, true, played.clock_utc_s)
        assert ledger["contradictions"] == []
    swaps = {json.dumps(swap, sort_keys=True) for ledger in ledgers for swap in ledger["swaps"]}
    told_swaps = sorted(
        (s["van"], s["bay"], s["station"], s["slot_in"], s["slot_out"], s["module_out"], s["module_in"])
        for s in map(json.loads, swaps)
    )
    assert told_swaps == sorted(
        (s.van, s.bay, s.station, s.slot, s.slot, s.code_out, s.code_in) for s in played.world.swaps
    )
    return ledgers


@pytest.mark.timeout(400)
async def test_ledger_is_the_worlds_own_in_both_databases_and_after_a_rebuild(
    mosquitto: None, database_urls: dict[str, str], tmp_path: Path
) -> None:
    del mosquitto
    played = Played(tmp_path, database_urls)
    await played.run()
    for database in DATABASES:
        kept = check(played, database)
        figures = json.loads(await played.swapline(database, "custody", "rebuild", "--json"))
        assert figures["contradictions"] == 0
        rebuilt = check(played, database)
        assert [places(ledger) for ledger in rebuilt] == [places(ledger) for ledger in kept]
        again = json.loads(await played.swapline(database, "custody", "rebuild", "--check", "--json"))
        assert again["rows_changed"] == 0


def places(ledger: dict[str, Any]) -> list[Any]:
    """Return a ledger without what a running hour still adds to it."""
    stays: list[Any] = []
    for stay in ledger["stays"]:
        added = {"last_seen_utc_ms"} if stay["until_utc_ms"] else {"first_seen_utc_ms", "last_seen_utc_ms"}
        stays.append({name: value for name, value in stay.items() if name not in added})
    return stays + list(ledger["swaps"])
