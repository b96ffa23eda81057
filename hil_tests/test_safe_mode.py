"""A node whose configuration is wrong starts all the same: it says what is wrong, and can be put right from afar."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from swapline_bench.desk.strategy import Desk
from swapline_bench.end_to_end import FLEET

pytestmark = [
    pytest.mark.promise("a configuration error leads to a safe mode that can be reached, never to a boot loop"),
    pytest.mark.needs("power", "simulators", "bays:2"),
]
RESET_CONFIGURATION = 7
PROBLEMS_IN_STATUS = 4  # the first ones: a birth message is short
BIRTH_AGAIN_S_MAX = 20.0  # the answer leaves, the node restarts a second later
TELL_WHEN_THE_FILE_IS_READ_AGAIN = """
from swapline_node import app
call_once = app.call_once
def tell(*arguments):
    print("bench: file is read again")
    return call_once(*arguments)
app.call_once = tell
"""

MISTAKES = (
    'buses[0].devices[0].driver: "seplos_v4" is not allowed',
    "buses[0].port: missing; it is required",
    "buses[2]: ",  # the second one's name and port again
    "seal_intervall_ms: unknown key; did you mean seal_interval_ms?",
    "seal_interval_ms: 1 is not allowed; 100 to 600000 is",
)


def spoil(buses: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a configuration's changes with every mistake of `MISTAKES`."""
    first, second = buses
    device = {**first["devices"][0], "driver": "seplos_v4"}
    first = {**first, "devices": [device]}
    del first["port"]
    return {"buses": [first, second, second], "seal_intervall_ms": 500, "seal_interval_ms": 1}


async def test_a_node_names_every_mistake_in_its_file_and_takes_a_good_one_by_command(
    desk: Desk, record_property: Callable[[str, Any], None]
) -> None:
    rig = desk.make_van(bays=2, gnss=False, vcu=False)
    good = rig.config(fleet=FLEET, host="", port=0)
    birth_s = await desk.boot(**spoil(good["buses"]))
    record_property("birth_in_safe_mode_s", round(birth_s, 3))
    heard = desk.tap[desk.name]
    assert heard.status["safe_mode"] is True
    log = "\n".join(desk.node.lines)
    assert [mistake for mistake in MISTAKES if mistake not in log] == [], log
    assert len(heard.status["problems"]) == PROBLEMS_IN_STATUS
    assert (await desk.tap.command(FLEET, desk.name, "ping"))["ok"]
    assert not heard.row_count("module"), "its buses stay off"

    boot = heard.status["boot"]
    desk.config = {**good, "link": desk.config["link"], "streams": desk.config["streams"]}
    began_s = time.monotonic()
    assert (await desk.tap.command(FLEET, desk.name, "config", config=desk.config))["ok"]
    await desk.tap.wait(
        lambda: heard.status.get("boot") == boot + 1 and heard.status["safe_mode"] is False,
        "birth with the new configuration",
        BIRTH_AGAIN_S_MAX,
    )
    record_property("birth_after_command_s", round(time.monotonic() - began_s, 3))
    await desk.tap.wait_rows(desk.name, "module", 2)
    assert heard.last("node")["reset_cause"] == RESET_CONFIGURATION
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples


async def test_a_bad_configuration_by_command_is_refused_and_the_node_goes_on(desk: Desk) -> None:
    desk.make_van(gnss=False, vcu=False)
    await desk.boot()
    await desk.tap.wait_rows(desk.name, "module", 2)
    answer = await desk.tap.command(FLEET, desk.name, "config", config={**desk.config, "seal_interval_ms": 1})
    assert not answer["ok"]
    assert "seal_interval_ms" in str(answer)
    count = desk.tap[desk.name].row_count("module")
    await desk.tap.wait_rows(desk.name, "module", count + 2)
    assert (await desk.tap.command(FLEET, desk.name, "config"))["config"]["seal_interval_ms"] == 2000
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples


@pytest.mark.needs("snippet")
async def test_a_file_that_is_no_json_leaves_a_node_that_waits_for_a_better_one_and_does_not_restart(
    desk: Desk,
) -> None:
    desk.make_van(gnss=False, vcu=False)
    await desk.boot()
    await desk.tap.wait_rows(desk.name, "module", 2)
    await desk.cut_power()
    await desk.node.run("with open('config.json', 'w') as file:\n    file.write('{\"fleet\": \"ben')")
    desk.node.lines.clear()
    await desk.node.start(snippet=TELL_WHEN_THE_FILE_IS_READ_AGAIN)
    await desk.node.wait_for_line("is not JSON")
    await desk.node.wait_for_line("bench: file is read again")
    assert sum("boot 2" in line for line in desk.node.lines) == 1
    assert desk.node.is_running
    await desk.cut_power()
    await desk.boot()
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
