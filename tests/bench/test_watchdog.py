"""The bench's watchdogs: systemd's, as docs/node.md has it in its unit, and a chip's."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from swapline_bench import bundle
from swapline_bench.desk.watchdog import NODE_SERVICE, Service, ServiceError, Watchdog
from swapline_bench.journal_reader import read_journal
from swapline_bench.node_process import NodeProcess
from swapline_wire.catalogue import BOOT
from swapline_wire.decode import decode

PAGE = Path(__file__).parents[2] / "docs" / "node.md"
RESET_UNKNOWN, RESET_WATCHDOG = 0, 3
HANG = """
import asyncio
from swapline_node.app import App
run = App.run
async def hang_later():
    await asyncio.sleep(0.3)
    while True:
        pass
async def run_and_hang(app):
    app.hanging = asyncio.create_task(hang_later())
    return await run(app)
App.run = run_and_hang
"""
CONFIG = {
    "fleet": "bench",
    "node": "pi",
    "link": {"host": "127.0.0.1", "port": 1},
    "journal": {"limit_bytes": 300_000},
    "watchdog_ms": 1000,
}
WAIT_S_MAX = 10.0


class Dog:
    """A watchdog, and whether it has bitten."""

    def __init__(self, timeout_s: float | None) -> None:
        self.bitten = asyncio.Event()
        self.watchdog = Watchdog(timeout_s=timeout_s, on_bite=self.bitten.set)
        self.say = self.watchdog.take


async def test_nothing_bites_before_the_node_is_ready() -> None:
    dog = Dog(60)
    dog.say("WATCHDOG=1")
    assert not dog.watchdog.is_armed
    assert dog.watchdog.feedings == 1


async def test_it_bites_once_when_it_is_not_fed() -> None:
    dog = Dog(0.05)
    dog.say("READY=1")
    assert dog.watchdog.is_armed
    async with asyncio.timeout(WAIT_S_MAX):
        await dog.bitten.wait()
    assert dog.watchdog.bites == 1
    assert not dog.watchdog.is_armed
    dog.say("WATCHDOG=1")
    assert not dog.watchdog.is_armed, "what is dead cannot feed it any more"


async def test_a_node_says_itself_how_long_a_chip_s_watchdog_waits() -> None:
    dog = Dog(None)
    dog.say("READY=1")
    assert not dog.watchdog.is_armed
    dog.say("READY=1\nWATCHDOG_USEC=60000000")
    assert dog.watchdog.is_armed
    assert dog.watchdog.timeout_s == 60
    dog.say("WATCHDOG_USEC=20000")
    async with asyncio.timeout(WAIT_S_MAX):
        await dog.bitten.wait()


async def test_a_node_without_power_is_not_expected_to_feed_it() -> None:
    dog = Dog(60)
    dog.say("READY=1")
    dog.watchdog.disarm()
    assert not dog.watchdog.is_armed


def test_the_page_s_unit_is_the_one_that_the_bench_plays() -> None:
    assert Service.parse_page(PAGE.read_text(encoding="utf-8")) == NODE_SERVICE


@pytest.mark.parametrize("unit", ["", "[Service]", "[Service]\nWatchdogSec=soon", "[Unit]\nWatchdogSec=3"])
def test_a_unit_without_a_watchdog_cannot_be_played(unit: str) -> None:
    with pytest.raises(ServiceError, match="cannot be played"):
        Service.parse(unit)


def test_a_page_without_a_unit_is_named() -> None:
    with pytest.raises(ServiceError, match="shows no unit"):
        Service.parse_page("# A page\n\n[Service]\n")


async def test_a_command_that_fails_after_the_node_s_end_is_shown(tmp_path: Path) -> None:
    service = Service(1, "/bin/sh -c 'echo no room; exit 3'")
    with pytest.raises(ServiceError, match="ended with 3: no room"):
        await service.run_stop_post(tmp_path, "watchdog", {})


async def boot_reasons(node: NodeProcess) -> list[int]:
    """Return the reset cause that each BOOT event in the journal of a node that is off tells."""
    frames = [decode(data) for _, data in sorted(read_journal(await node.copy_journal()).frames.items())]
    reasons = []
    for frame in frames:
        if frame.stream.name == "event":
            names = ["time_ms", *(one.name for one in frame.signals)]
            rows = [dict(zip(names, row, strict=True)) for row in frame.rows]
            reasons += [row["reason"] for row in rows if row["code"] == BOOT]
    return reasons


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.build(tmp_path_factory.mktemp("bundle") / "firmware")


async def test_systemd_restarts_a_node_that_hangs_and_the_next_boot_says_why(firmware: Path, tmp_path: Path) -> None:
    service = dataclasses.replace(NODE_SERVICE, watchdog_s=1)
    node = NodeProcess("pi", tmp_path / "pi", bundle=firmware, config=CONFIG, service=service)
    try:
        await node.start(snippet=HANG)
        await node.wait_for_line("boot 2")
        assert node.watchdog.bites == 1
        assert await node.stop() == 0
        await node.start()
        await node.wait_for_line("boot 3")
        assert await node.stop() == 0
        assert await boot_reasons(node) == [RESET_UNKNOWN, RESET_WATCHDOG, RESET_UNKNOWN]
    finally:
        await node.close()


async def test_systemd_restarts_a_node_that_ends_by_itself_without_blaming_the_watchdog(
    firmware: Path, tmp_path: Path
) -> None:
    node = NodeProcess("pi", tmp_path / "pi", bundle=firmware, config=CONFIG, service=NODE_SERVICE)
    crash = "from swapline_node.app import App\nasync def run(app):\n    raise ValueError('crash')\nApp.run = run\n"
    try:
        await node.start(snippet=crash)
        await node.wait_for_line("ValueError")
        await node.wait_for_line("boot 1")
        assert await node.stop() == 0
        assert await boot_reasons(node) == [RESET_UNKNOWN]
    finally:
        await node.close()
