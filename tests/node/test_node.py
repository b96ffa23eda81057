"""The node as a process: real MicroPython, 256 KiB of heap, compiled to .mpy, over a real broker."""

import asyncio
import json
import os
import pty
import re
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swapline_bench import cpu_wait, services
from swapline_bench.node_process import NodeProcess
from swapline_wire.catalogue import (
    BOOT,
    CLOCK_STEP,
    CONFIGURATION,
    LOSS_POWER_CUT,
    ROWS_DROPPED,
    TIME_GATEWAY,
    TIME_NTP,
)
from tests.node.node_rig import GatewayEnd, gateway_end
from tests.node.test_sntp import serve

MakeNode = Callable[..., NodeProcess]
UTC = 1_800_000_000_000
RESET_CONFIGURATION = 7
RESET_NO_MEMORY = 8
# Runs instead of main.py.
NO_MEMORY = """
from swapline_node.boards import linux
def open_uart(board, bus):
    raise MemoryError
linux.Board.open_uart = open_uart
from main import main
main()
"""

# Likewise. The first of its nodes has a task that does not end when it is asked to.
STUBBORN = """
import asyncio
from swapline_node.app import App
starts = 0
class StubbornApp(App):
    async def run(self):
        global starts
        starts += 1
        if starts == 1:
            self.supervisor.start("stubborn", self.hold_on)
            self.request_restart()
        return await super().run()
    async def hold_on(self):
        ballast = bytearray(40_000)
        while True:
            try:
                print("stubborn in node", starts, len(ballast))
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                pass
import main
main.App = StubbornApp
main.main()
"""


@pytest.fixture
def make_node(compiled: Path, broker: services.Server, tmp_path: Path) -> MakeNode:
    """Return what makes a node named `name` of the compiled firmware; keywords go into its configuration."""

    def make(name: str, **keys: Any) -> NodeProcess:
        link = {"host": "127.0.0.1", "port": broker.port, "backoff_ms_min": 50, "backoff_ms_max": 200}
        config = {"fleet": "test", "node": name, "link": {**link, **keys.pop("link", {})}, "seal_interval_ms": 200}
        config["streams"] = {"node": {"report": "all"}}
        return NodeProcess(name, tmp_path / name, bundle=compiled, config={**config, **keys})

    return make


def open_files(node: NodeProcess) -> int:
    return len(list(Path(f"/proc/{node.pid}/fd").iterdir()))


def sequence(end: GatewayEnd) -> list[int]:
    return sorted(end.frames)


async def test_node_boots_asks_for_the_time_and_reports(make_node: MakeNode, broker: services.Server) -> None:
    async with gateway_end(broker.port, "test", "n1", utc_ms=UTC) as end, make_node("n1") as node:
        await end.until(lambda: len(end.rows("node")) > 0 and end.status.get("clock_quality") == TIME_GATEWAY)
        assert await node.stop() == 0
        await end.until(lambda: end.status == {"online": False})
    boot, *_ = end.rows("event")
    assert (boot["code"], boot["count"]) == (BOOT, 1)
    row = end.rows("node")[-1]
    assert abs(end.utc_of(row["header"]) - UTC) < 20_000
    assert row["heap_used_bytes"] < 200_000
    assert row["safe_mode"] == 0
    assert CLOCK_STEP in [event["code"] for event in end.rows("event")]


async def test_frames_sealed_without_a_gateway_reach_it_later_exactly_once(
    make_node: MakeNode, broker: services.Server
) -> None:
    async with make_node("n2") as node:
        await node.wait_for_line("connected")
        await node.wait_for_line("boot 1")
        await asyncio.sleep(1)
        async with gateway_end(broker.port, "test", "n2") as end:
            await end.until(lambda: len(end.rows("node")) > 0)
            await node.stop()
            assert sequence(end) == list(range(1, len(end.frames) + 1))
            assert end.received == len(end.frames)


async def test_unacknowledged_frames_survive_kill_and_come_again_with_the_same_bytes(
    make_node: MakeNode, broker: services.Server
) -> None:
    node = make_node("n3")
    async with gateway_end(broker.port, "test", "n3") as end:
        await node.start()
        await end.until(lambda: len(end.rows("node")) > 0)
        end.acknowledges = False
        known = len(end.rows("node"))
        await end.until(lambda: len(end.rows("node")) > known)
        await node.cut_power()
        first = dict(end.frames)
        end.acknowledges = True
        end.frames.clear()
        await node.start()
        assert re.search(r" [1-9]\d* frames wait; read in \d+ ms", await node.wait_for_line("after a power cut"))
        await end.until(lambda: set(first) <= set(end.frames) or max(first) in end.frames)
        unacknowledged = [seq for seq in first if seq in end.frames]
        assert unacknowledged
        assert all(end.frames[seq] == first[seq] for seq in unacknowledged)
        await end.until(lambda: any(row["code"] == ROWS_DROPPED for row in end.rows("event")))
        (declared,) = [row for row in end.rows("event") if row["code"] == ROWS_DROPPED]
        assert declared["reason"] == LOSS_POWER_CUT
        await node.stop()


async def test_power_cuts_at_any_moment_lose_no_sealed_frame(make_node: MakeNode, broker: services.Server) -> None:
    node = make_node("n4", seal_interval_ms=100, streams={"node": {"report": "all"}})
    async with gateway_end(broker.port, "test", "n4") as end:
        for cut in range(12):
            await node.start()
            await node.wait_for_line(f"boot {cut + 1}")
            await asyncio.sleep(0.03 * cut)
            await node.cut_power()
        await node.start()
        await node.wait_for_line("boot 13")
        await end.until(lambda: 13 in [row["count"] for row in end.rows("event") if row["code"] == BOOT])
        await end.until(lambda: sequence(end) == list(range(1, max(end.frames) + 1)))
        await node.stop()


async def test_broker_restart_is_survived(make_node: MakeNode) -> None:
    with services.mosquitto() as broker:
        async with make_node("n5", link={"host": "127.0.0.1", "port": broker.port}) as node:
            await node.wait_for_line("connected")
            broker.kill()
            await node.wait_for_line("warning link")
            broker.start()
            async with gateway_end(broker.port, "test", "n5") as end:
                await end.until(lambda: len(end.rows("node")) > 0)
                assert end.status["online"]
                await node.stop()


async def test_connections_that_fail_or_end_keep_no_file_open(make_node: MakeNode) -> None:
    """MicroPython's own open_connection and close keep one each, for ever: 1024 attempts would stop a node."""
    with services.mosquitto() as broker:
        node = make_node("n11", link={"host": "localhost", "port": broker.port, "backoff_ms_max": 60})
        async with node:
            await node.wait_for_line("connected")
            files = open_files(node)
            for _ in range(3):
                node.lines.clear()
                broker.kill()
                await node.wait_for_line("warning link")
                await asyncio.sleep(1)  # some ten refused attempts
                broker.start()
                await node.wait_for_line("connected")
            assert open_files(node) <= files + 1
            await node.stop()


async def test_commands_are_answered(make_node: MakeNode, broker: services.Server) -> None:
    async with gateway_end(broker.port, "test", "n6") as end, make_node("n6") as node:
        await end.until(lambda: bool(end.status))
        ping = await end.command(id=1, command="ping")
        assert (ping["id"], ping["ok"], ping["boot"]) == (1, True, 1)
        log = await end.command(id=2, command="log")
        assert any("connected" in line for line in log["lines"])
        config = await end.command(id=3, command="config")
        assert config["config"]["node"] == "n6"
        assert not (await end.command(id=4, command="pong"))["ok"]
        assert not (await end.command(id=5, command="config", config={"fleet": "x"}))["ok"]
        await end.publish("down", b"\xff not JSON")
        await end.until(lambda: len(end.replies) == 6)
        assert end.replies[-1]["ok"] is False
        assert (await end.command(id=7, command="restart"))["ok"]
        await node.wait_for_line("boot 2")
        await node.stop()


async def test_a_task_that_would_not_end_is_gone_after_a_restart(
    make_node: MakeNode, broker: services.Server, tmp_path: Path
) -> None:
    node = make_node("n6c")
    program = tmp_path / "stubborn.py"
    program.write_text(STUBBORN)
    async with gateway_end(broker.port, "test", "n6c") as end:
        await node.start(program=program)
        await end.until(lambda: end.status.get("boot") == 2)
        told = len(end.rows("node"))
        await end.until(lambda: len(end.rows("node")) >= told + 2)
        lines = list(node.lines)
        await node.stop()
    assert "stubborn in node 1 40000" in lines
    assert not [line for line in lines if line.startswith("stubborn in node 2")]


async def test_ping_says_how_much_the_gateway_does_not_have_yet(make_node: MakeNode, broker: services.Server) -> None:
    async with gateway_end(broker.port, "test", "n6b") as end:
        end.acknowledges = False
        async with make_node("n6b") as node:
            await end.until(lambda: bool(end.frames))
            ping = await end.command(id=1, command="ping")
            assert ping["pending_frames"] >= len(end.frames) > 0
            end.acknowledges = True
            await end.acknowledge(end.status["journal"], [(seq, seq) for seq in end.frames])
            async with asyncio.timeout(20):
                while ping["pending_frames"] or ping["open_rows"]:
                    ping = await end.command(id=2, command="ping")
            await node.stop()


async def test_bad_configuration_leads_to_a_safe_mode_that_takes_a_new_one(
    make_node: MakeNode, broker: services.Server
) -> None:
    node = make_node("n7")
    good = json.loads((node.folder / "config.json").read_text())
    bad_bus = {"name": "b", "port": "/dev/null", "devices": [{"driver": "sepls", "bay": 1}]}
    node.configure({**good, "buses": [bad_bus]})
    async with gateway_end(broker.port, "test", "n7") as end, node:
        await end.until(lambda: end.status.get("safe_mode") is True)
        assert "seplos_v3" in end.status["problems"][0]
        await end.until(lambda: any(row["safe_mode"] == 1 for row in end.rows("node")))
        assert (await end.command(id=1, command="config", config=good))["ok"]
        await end.until(lambda: end.status.get("safe_mode") is False)
        await end.until(lambda: [e["reason"] for e in end.rows("event") if e["code"] == CONFIGURATION] == [1, 0])
        await node.stop()
    assert json.loads((node.folder / "config.json").read_text()) == good
    assert json.loads((node.folder / "config.json.old").read_text())["buses"] == [bad_bus]


async def test_journal_that_cannot_be_used_leads_to_a_safe_mode_that_can_be_reached(
    make_node: MakeNode, broker: services.Server
) -> None:
    node = make_node("n12", journal={"path": "/proc/nowhere"})
    async with gateway_end(broker.port, "test", "n12") as end, node:
        await end.until(lambda: end.status.get("safe_mode") is True)
        assert "journal.path: /proc/nowhere cannot be used" in end.status["problems"][0]
        assert (await end.command(id=1, command="ping"))["ok"]
        assert not end.frames
        assert await node.stop() == 0


async def test_command_deeper_than_the_stack_is_refused(make_node: MakeNode, broker: services.Server) -> None:
    async with gateway_end(broker.port, "test", "n13") as end, make_node("n13") as node:
        await end.until(lambda: bool(end.status))
        await end.publish("down", b'{"command": "config", "config": {"fleet": %s1%s}}' % (b"[" * 2000, b"]" * 2000))
        await end.until(lambda: len(end.replies) == 1)
        assert end.replies[0]["ok"] is False
        assert (await end.command(id=2, command="ping"))["ok"]
        await node.stop()


async def test_unreadable_configuration_is_read_again_until_it_is_good(
    make_node: MakeNode, broker: services.Server
) -> None:
    node = make_node("n8")
    good = (node.folder / "config.json").read_text()
    (node.folder / "config.json").write_text("{")
    async with gateway_end(broker.port, "test", "n8") as end, node:
        await node.wait_for_line("config.json: is not JSON")
        (node.folder / "config.json").write_text(good)
        await end.until(lambda: end.status.get("safe_mode") is False)
        assert await node.stop() == 0


async def test_dead_lines_stop_neither_health_nor_sending(make_node: MakeNode, broker: services.Server) -> None:
    ports = [pty.openpty() for _ in range(4)]
    for near, far in ports:
        tty.setraw(near)
        tty.setraw(far)
    drivers = ["seplos_v3", "jbd", "vcu", "gnss"]
    buses = [
        {"name": name, "port": os.ttyname(far), "devices": [{"driver": name, "bay": i + 1, "period_ms": 100}]}
        for i, (name, (_, far)) in enumerate(zip(drivers, ports, strict=True))
    ]
    buses.append({"name": "missing", "port": "/dev/does-not-exist", "devices": [{"driver": "jbd", "bay": 9}]})
    try:
        async with gateway_end(broker.port, "test", "n9") as end, make_node("n9", buses=buses) as node:
            await end.until(lambda: end.rows("node")[-1:] != [] and end.rows("node")[-1]["bus_timeouts"] > 5)
            row = end.rows("node")[-1]
            waited_ms = 1000 * cpu_wait.waited_s([node.pid])  # for a processor: the machine was late, not the node
            assert row["loop_lag_ms_max"] < 250 + waited_ms
            assert row["heap_free_bytes"] > 8192
            assert end.status["bays"] == [1, 2, 3, 4, 9]
            await node.stop()
    finally:
        for near, far in ports:
            os.close(near)
            os.close(far)


async def test_node_sets_its_clock_from_an_sntp_server(make_node: MakeNode, broker: services.Server) -> None:
    transport, port = await serve()
    node = make_node("n10", time={"ntp_host": "127.0.0.1", "ntp_port": port})
    async with gateway_end(broker.port, "test", "n10", utc_ms=UTC) as end, node:
        await end.until(lambda: end.status.get("clock_quality") == TIME_NTP and len(end.rows("node")) > 0)
        assert abs(end.utc_of(end.rows("node")[-1]["header"]) - UTC) < 20_000
        await node.stop()
    transport.close()


async def test_node_that_keeps_running_out_of_memory_restarts_once_and_then_stays_in_safe_mode(
    make_node: MakeNode, broker: services.Server, tmp_path: Path
) -> None:
    """No line finds memory: what the firmware's own board file says when it opens one."""
    buses = [
        {"name": f"bay{bay}", "port": f"/dev/null{bay}", "devices": [{"driver": "seplos_v3", "bay": bay}]}
        for bay in range(1, 6)
    ]
    node = make_node("n13", buses=buses, seal_interval_ms=60000)
    program = tmp_path / "no_memory.py"
    program.write_text(NO_MEMORY)
    async with gateway_end(broker.port, "test", "n13") as end:
        await node.start(program=program)
        await end.until(lambda: end.status.get("boot") == 3, 40)
        assert end.status["safe_mode"] is True
        assert end.status["problems"] == [
            "buses: memory ran out soon after 2 starts, on bay1, bay2, bay3, bay4, bay5; "
            "configure fewer devices, or take a board with more"
        ]
        config = json.loads((node.folder / "config.json").read_text())
        node.configure({**config, "buses": []})
        await end.until(lambda: any(row["count"] == 4 for row in end.rows("event") if row["code"] == BOOT), 40)
        await end.until(lambda: end.status.get("boot") == 4, 10)
        assert end.status["safe_mode"] is False, "another file is another chance"
        await node.stop()
    boots = [row for row in end.rows("event") if row["code"] == BOOT]
    assert [row["count"] for row in boots] == [1, 2, 3, 4]
    assert [row["reason"] for row in boots][1:] == [RESET_NO_MEMORY, RESET_NO_MEMORY, RESET_CONFIGURATION]
    assert ROWS_DROPPED not in [row["code"] for row in end.rows("event")], "it was stopped in order"
    assert sequence(end) == list(range(1, len(end.frames) + 1))
