"""A node hangs, a task or as a whole: it works again soon, and its next boot says why it was reset."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from swapline_bench.desk.strategy import Desk
from swapline_bench.oracle import PowerCut
from swapline_wire.catalogue import BOOT

pytestmark = [
    pytest.mark.promise("the watchdog fires when a task hangs, and the next boot tells the reason"),
    pytest.mark.needs("watchdog", "power", "snippet", "simulators", "bays:1", "vcu"),
]
POWER_ON = {0, 1}  # a computer does not tell its processes: unknown
RESET_WATCHDOG = 3
WATCHDOG_MS = 1500
HUNG_MS = 3000  # a task is noticed that says nothing for so long
STOPPING_WATCHDOG_MS = 2500  # less than the 3 s that ending the task, the polls and all tasks take
SEAL_INTERVAL_MS = 500
HANGS_AT_POLL = 2
REBOOT_S_MAX = 10.0
# The vehicle controller's driver does `{hang}` instead of one poll; the firmware is the same otherwise. A task that
# hangs is noticed after 3 s (`HUNG_MS`) instead of 30 s, and health reports more often than that.
HANGING = """
import asyncio, time
from swapline_node import app, driver
Supervisor = app.Supervisor
app.Supervisor = lambda counters, log, uptime_ms: Supervisor(counters, log, uptime_ms, alive_ms_max={hung_ms})
run = app.App.run
make = driver.make
polls = [0]
async def report(one):
    while True:
        one.supervisor.alive("health")
        await asyncio.sleep(1)
async def run_and_report(one):
    one.reporter = asyncio.create_task(report(one))
    return await run(one)
def make_hanging(name, sampler, clock, counters, config):
    device = make(name, sampler, clock, counters, config)
    poll = device.poll
    async def poll_or_hang(bus):
        polls[0] += 1
        if polls[0] == {at_poll}:
            print("driver hangs")
            {hang}
        await poll(bus)
    if name == "vcu":
        device.poll = poll_or_hang
    return device
app.App.run = run_and_report
driver.make = make_hanging
"""
ASLEEP = "await asyncio.Event().wait()"
STUBBORN = """
            while True:
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    pass
"""
WAYS_TO_BLOCK = {"a loop that gives way to nobody": "while True: pass", "a call that never returns": "time.sleep(3600)"}


def hanging(hang: str) -> str:
    return HANGING.format(hang=hang, at_poll=HANGS_AT_POLL, hung_ms=HUNG_MS)


def boot_reasons(desk: Desk) -> list[int]:
    """Return the reset causes that the BOOT events tell, one a boot."""
    heard = desk.tap[desk.name]
    frames = [heard.frames[seq] for seq in sorted(heard.frames)]
    reasons = []
    for frame in frames:
        if frame.stream.name == "event":
            names = ["time_ms", *(signal.name for signal in frame.signals)]
            rows = [dict(zip(names, row, strict=True)) for row in frame.rows]
            reasons += [row["reason"] for row in rows if row["code"] == BOOT]
    return reasons


async def reset_cause(desk: Desk) -> int:
    """Return the reset cause that the boot which is running tells in its health rows."""
    heard = desk.tap[desk.name]
    boot = heard.status["boot"]
    await desk.tap.wait(
        lambda: any(frame.header.boot == boot and frame.stream.name == "node" for frame in heard.frames.values()),
        f"health row of boot {boot}",
    )
    return heard.last("node")["reset_cause"]


async def wait_for_reset(desk: Desk) -> float:
    """Wait until the driver hangs and the node has booted again; return how many seconds were between."""
    heard = desk.tap[desk.name]
    boot = heard.status["boot"]
    await desk.node.wait_for_line("driver hangs")
    began_s = time.monotonic()
    desk.power_cuts.append(PowerCut(desk.name, int(time.time() * 1000)))  # as good as: what is open stays unsealed
    await desk.tap.wait(
        lambda: heard.status.get("boot", 0) > boot, f"birth of a boot after {boot}", timeout_s=REBOOT_S_MAX
    )
    return time.monotonic() - began_s


async def test_a_task_that_hangs_is_started_anew_alone_and_the_node_is_not_reset(
    desk: Desk, record_property: Callable[[str, Any], None]
) -> None:
    desk.make_van()
    await desk.boot(seal_interval_ms=SEAL_INTERVAL_MS, watchdog_ms=WATCHDOG_MS, snippet=hanging(ASLEEP))
    heard = desk.tap[desk.name]
    await desk.node.wait_for_line("driver hangs")
    began_s = time.monotonic()
    line = await desk.node.wait_for_line("bus vcu task hung, and is started again")
    record_property("task_hung_s", round(time.monotonic() - began_s, 3))
    await desk.tap.wait_rows(desk.name, "vehicle", heard.row_count("vehicle") + 2)
    hung_ms = float(line.split()[0]) * 1000
    times_ms = [row[0] for row in heard.rows("module") if hung_ms - HUNG_MS <= row[0] <= hung_ms]
    assert len(times_ms) >= 2, "the other lines are not slower for it"
    await desk.tap.wait(lambda: heard.last("node")["task_restarts"] == 1, "health row that counts the restart")
    assert heard.last("node")["reset_cause"] in POWER_ON
    assert len(boot_reasons(desk)) == 1
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples


async def test_a_task_that_cannot_be_ended_leads_to_an_orderly_restart_that_loses_no_row(
    desk: Desk, record_property: Callable[[str, Any], None]
) -> None:
    desk.make_van()
    await desk.boot(seal_interval_ms=SEAL_INTERVAL_MS, watchdog_ms=STOPPING_WATCHDOG_MS, snippet=hanging(STUBBORN))
    record_property("hang_to_birth_s", round(await wait_for_reset(desk), 3))
    assert any("task bus vcu is stuck" in line for line in desk.node.lines)
    assert not any("after a power cut" in line for line in desk.node.lines), "the watchdog bit before all was sealed"
    assert await reset_cause(desk) == RESET_WATCHDOG
    first, second = boot_reasons(desk)
    assert first in POWER_ON
    assert second == RESET_WATCHDOG
    desk.power_cuts.clear()  # in order: it had all the time that it needed
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples


async def test_a_node_that_hangs_as_a_whole_is_reset_and_the_next_boot_tells_why(
    desk: Desk, record_property: Callable[[str, Any], None]
) -> None:
    desk.make_van()
    for boots, (way, code) in enumerate(WAYS_TO_BLOCK.items(), 1):
        await desk.boot(seal_interval_ms=SEAL_INTERVAL_MS, watchdog_ms=WATCHDOG_MS, snippet=hanging(code))
        took_s = await wait_for_reset(desk)
        record_property(f"hang_to_birth_s, {way}", round(took_s, 3))
        assert WATCHDOG_MS / 2000 < took_s < REBOOT_S_MAX
        assert await reset_cause(desk) == RESET_WATCHDOG
        *_, first, second = boot_reasons(desk)
        assert len(boot_reasons(desk)) == 2 * boots
        assert first in POWER_ON
        assert second == RESET_WATCHDOG
        if boots < len(WAYS_TO_BLOCK):
            await desk.switch_off()
            desk.node.lines.clear()
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
    stored = [int(row["reset_cause"]) for row in desk.database.rows("node", desk.name)]
    assert set(stored) == {first, second}, "and the database knows it"
