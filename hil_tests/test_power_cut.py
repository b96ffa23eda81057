"""A node's power goes at any moment, with and without warning: what was sealed is kept, what was not is declared."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from swapline_bench.desk.node_process_driver import VirtualNode
from swapline_bench.desk.strategy import Desk
from swapline_bench.desk.virtual_board import VirtualBoard
from swapline_bench.oracle import Verdict

pytestmark = [
    pytest.mark.promise("power cut and brown-out: what was sealed is kept, the rest is declared as lost"),
    pytest.mark.needs("power", "simulators", "bays:1"),
]
SEAL_INTERVAL_MS = 500
SEAL_LATE_MS = 10_000  # nothing is sealed before the power goes, unless the node hears that it will
POWER_GOOD_PIN = 4
WARNING_MS = 60  # what a large capacitor gives; the node looks every 20 ms
POWER_ON = {0, 1}  # a computer does not tell its processes: unknown
RESET_BROWN_OUT = 6
POLL_MS = 2000  # an answer that was on the line, and one that waited for the sealing
WAIT_S_MAX = 30.0


def board_of(desk: Desk) -> VirtualBoard:
    assert isinstance(desk.node, VirtualNode)
    return desk.node.board


async def wait_for_statements(desk: Desk, count: int) -> None:
    """Wait until the devices have said `count` more things than until now, which the node makes rows of."""
    assert desk.rig is not None
    assert desk.rig.statements is not None
    statements = desk.rig.statements
    end = statements.count + count
    async with asyncio.timeout(WAIT_S_MAX):
        while statements.count < end:  # noqa: ASYNC110 (a file, which tells nobody)
            await asyncio.sleep(0.02)


async def reset_cause(desk: Desk) -> int:
    """Return the reset cause of the boot that is running, from its health rows."""
    heard = desk.tap[desk.name]
    boot = heard.status["boot"]
    await desk.tap.wait(
        lambda: any(frame.header.boot == boot and frame.stream.name == "node" for frame in heard.frames.values()),
        f"health row of boot {boot}",
    )
    return heard.last("node")["reset_cause"]


def tell(verdict: Verdict, record_property: Callable[[str, Any], None]) -> None:
    """Put into the report what was kept and what was lost."""
    for name in ("rows_stored", "rows_lost_declared", "lost_before_cut_ms_max"):
        record_property(name, getattr(verdict, name))


async def test_power_cuts_at_any_moment_lose_what_was_not_sealed_and_nothing_else(
    desk: Desk, record_property: Callable[[str, Any], None]
) -> None:
    draw = random.Random(4)  # noqa: S311 (moments that can be repeated)
    desk.make_van()
    await desk.boot(seal_interval_ms=SEAL_INTERVAL_MS)
    for _ in range(4):
        await wait_for_statements(desk, 3)
        await asyncio.sleep(draw.uniform(0, 2 * SEAL_INTERVAL_MS / 1000))  # the moment is what is tried out
        await desk.cut_power()
        await desk.boot_again()
        assert await reset_cause(desk) in POWER_ON
    await wait_for_statements(desk, 3)
    verdict = await desk.judge()
    tell(verdict, record_property)
    assert verdict.is_good, verdict.examples
    assert verdict.rows_stored >= 4
    assert verdict.lost_before_cut_ms_max <= SEAL_INTERVAL_MS + POLL_MS


@pytest.mark.needs("flash_faults")
async def test_cuts_in_the_middle_of_flash_operations_while_it_samples_lose_nothing_that_was_sealed(
    desk: Desk, record_property: Callable[[str, Any], None]
) -> None:
    desk.make_van()
    await desk.boot(seal_interval_ms=SEAL_INTERVAL_MS)
    board = board_of(desk)
    for number in (1, 2, 3, 6):
        await wait_for_statements(desk, 3)
        board.cut_at_operation(number)
        async with asyncio.timeout(WAIT_S_MAX):
            await board.wait()
        await desk.boot_again()
    await wait_for_statements(desk, 3)
    verdict = await desk.judge()
    tell(verdict, record_property)
    assert verdict.is_good, verdict.examples
    assert verdict.rows_stored >= 4


@pytest.mark.needs("flash_faults")
async def test_cuts_in_every_flash_operation_of_a_boot_leave_a_node_that_boots(
    desk: Desk, record_property: Callable[[str, Any], None]
) -> None:
    desk.make_van()
    await desk.boot(seal_interval_ms=SEAL_INTERVAL_MS)
    await wait_for_statements(desk, 3)
    await desk.cut_power()
    board = board_of(desk)
    before = board.flash_operations
    await desk.boot_again()
    operations = board.flash_operations - before
    await desk.cut_power()
    assert operations > 3
    record_property("flash_operations_of_a_boot", operations)
    for number in range(1, operations + 1):
        board.cut_at_operation(number)
        await desk.node.start()
        async with asyncio.timeout(WAIT_S_MAX):
            await board.wait()
    await desk.boot_again()
    await wait_for_statements(desk, 3)
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples


@pytest.mark.needs("brown_out")
async def test_a_warning_saves_what_was_not_sealed_and_the_next_boot_tells_of_a_brown_out(
    desk: Desk, record_property: Callable[[str, Any], None]
) -> None:
    desk.make_van()
    await desk.boot(seal_interval_ms=SEAL_LATE_MS, power_good_pin=POWER_GOOD_PIN)
    await desk.node.wait_for_line("quality 4")  # of the receiver: it seals what is open
    await wait_for_statements(desk, 10)
    desk.node.lines.clear()
    await desk.node.brown_out(WARNING_MS)
    await desk.node.wait_for_line("supply fails")
    await desk.boot(seal_interval_ms=SEAL_INTERVAL_MS)  # and what the oracle excuses is a short interval
    assert await reset_cause(desk) == RESET_BROWN_OUT
    verdict = await desk.judge()
    tell(verdict, record_property)
    assert verdict.is_good, verdict.examples
    assert verdict.rows_stored >= 5, "rows that waited for their seal are there"
    assert verdict.lost_before_cut_ms_max <= WARNING_MS + POLL_MS


@pytest.mark.needs("brown_out")
async def test_without_a_warning_the_same_rows_are_lost_and_declared(
    desk: Desk, record_property: Callable[[str, Any], None]
) -> None:
    desk.make_van()
    await desk.boot(seal_interval_ms=SEAL_LATE_MS, power_good_pin=POWER_GOOD_PIN)
    await desk.node.wait_for_line("quality 4")  # of the receiver: it seals what is open
    await wait_for_statements(desk, 10)
    await desk.cut_power()
    await desk.boot(seal_interval_ms=SEAL_INTERVAL_MS)
    desk.config["seal_interval_ms"] = SEAL_LATE_MS  # as it was when the power went
    verdict = await desk.judge()
    tell(verdict, record_property)
    assert verdict.is_good, verdict.examples
    assert verdict.rows_lost_declared >= 3


@pytest.mark.needs("brown_out")
async def test_a_warning_that_is_too_short_costs_no_more_than_none(desk: Desk) -> None:
    desk.make_van()
    await desk.boot(seal_interval_ms=SEAL_INTERVAL_MS, power_good_pin=POWER_GOOD_PIN)
    for warning_ms in (0, 15, 30):
        await wait_for_statements(desk, 3)
        await desk.node.brown_out(warning_ms)
        await desk.boot_again()
        assert await reset_cause(desk) == RESET_BROWN_OUT
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
