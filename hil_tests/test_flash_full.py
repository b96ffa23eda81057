"""A flash without room, or one that fails: the node goes on, can be reached, and says what it lost."""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from swapline_bench.desk.node_process_driver import VirtualNode
from swapline_bench.desk.strategy import Desk
from swapline_bench.desk.virtual_board import BLOCK_BYTES, VirtualBoard
from swapline_bench.link_proxy import Impairment
from swapline_wire.catalogue import LOSS_JOURNAL_FULL

pytestmark = [
    pytest.mark.promise("flash full: the node goes on, can be reached, and declares what it lost"),
    pytest.mark.needs("flash_faults", "network", "simulators", "bays:1"),
]
SEAL_INTERVAL_MS = 500
FREE_BYTES = BLOCK_BYTES  # as LittleFS counts: it finds a few blocks more
PERIOD_MS, OFTEN_MS = 200, 100  # of polls and sealing, so that it is full soon
JOURNAL_LIMIT_BYTES = 1_500_000  # the journal believes that there is more room than there is
FULL_S_MAX = 60.0
WAIT_S_MAX = 30.0
REMOVE_JOURNAL = """
import os
for name in os.listdir("/journal"):
    os.remove("/journal/" + name)
os.rmdir("/journal")
"""


def board_of(desk: Desk) -> VirtualBoard:
    assert isinstance(desk.node, VirtualNode)
    return desk.node.board


def quick_buses(desk: Desk) -> list[dict[str, Any]]:
    """Return the buses of the holder on the desk, each device asked every `PERIOD_MS`."""
    assert desk.rig is not None
    buses: list[dict[str, Any]] = copy.deepcopy(desk.rig.config(fleet="", host="", port=0)["buses"])
    for bus in buses:
        for device in bus["devices"]:
            device["period_ms"] = PERIOD_MS
    return buses


async def test_an_outage_longer_than_the_flash_has_room_for_costs_the_oldest_frames_and_says_which(
    desk: Desk, record_property: Callable[[str, Any], None]
) -> None:
    desk.make_van(bays=2)
    await board_of(desk).fill_flash(FREE_BYTES)
    await desk.boot(
        seal_interval_ms=OFTEN_MS,
        journal={"limit_bytes": JOURNAL_LIMIT_BYTES},
        link={"backoff_ms_max": 1000},
        buses=quick_buses(desk),
    )
    await desk.tap.wait_rows(desk.name, "module", 3)
    desk.impair(Impairment(is_refusing=True))
    await desk.node.wait_for_line("error journal lost", timeout_s=FULL_S_MAX)
    sent = desk.tap[desk.name].row_count("module")
    desk.impair(Impairment())
    await desk.tap.wait_rows(desk.name, "module", sent + 3)
    health = desk.tap[desk.name].last("node")
    assert not health["safe_mode"]
    assert desk.node.is_running
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
    assert verdict.rows_lost_without_cut > 0, "the flash was not full"
    record_property("rows_lost_declared", verdict.rows_lost_declared)
    drops = [row for row in desk.database.rows("event", desk.name) if row.get("first_seq")]
    assert {int(row["reason"]) for row in drops} == {LOSS_JOURNAL_FULL}


async def test_a_node_whose_flash_is_full_at_power_on_reports_as_long_as_somebody_listens(desk: Desk) -> None:
    desk.make_van()
    board = board_of(desk)
    await desk.boot(seal_interval_ms=SEAL_INTERVAL_MS)  # it has a journal
    await desk.tap.wait_rows(desk.name, "module", 1)
    await desk.cut_power()
    assert await board.fill_flash() <= BLOCK_BYTES
    await desk.boot_again()
    assert desk.tap[desk.name].status["safe_mode"] is False
    count = desk.tap[desk.name].row_count("module")
    await desk.tap.wait_rows(desk.name, "module", count + 3)
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples


async def test_a_new_node_without_room_for_a_journal_can_be_reached_says_why_and_works_when_there_is_room(
    desk: Desk,
) -> None:
    desk.make_van()
    board = board_of(desk)
    await desk.boot(seal_interval_ms=SEAL_INTERVAL_MS)  # its configuration is there
    await desk.tap.wait_rows(desk.name, "module", 1)
    await desk.cut_power()
    await board.run(REMOVE_JOURNAL)
    assert await board.fill_flash() == 0
    await desk.boot_again()
    status = desk.tap[desk.name].status
    assert status["safe_mode"] is True
    assert any("no room left for folder journal" in problem for problem in status["problems"])
    await desk.cut_power()
    await board.empty_flash()
    await desk.boot_again()
    assert desk.tap[desk.name].status["safe_mode"] is False
    await desk.tap.wait_rows(desk.name, "module", 3)
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples


async def test_a_flash_that_fails_for_a_while_costs_what_was_sealed_then_and_says_so(desk: Desk) -> None:
    desk.make_van()
    board = board_of(desk)
    await desk.boot(seal_interval_ms=SEAL_INTERVAL_MS)
    await desk.tap.wait_rows(desk.name, "module", 1)
    board.fail_flash()
    before = board.flash_operations
    async with asyncio.timeout(WAIT_S_MAX):
        while board.flash_operations < before + 8:  # noqa: ASYNC110 (another process: nothing to wait on)
            await asyncio.sleep(0.02)
    assert desk.node.is_running
    board.fail_flash(is_failing=False)
    count = desk.tap[desk.name].row_count("module")
    await desk.tap.wait_rows(desk.name, "module", count + 3)
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
    assert verdict.rows_lost_without_cut > 0
    assert verdict.rows_lost_declared == verdict.rows_lost_without_cut
