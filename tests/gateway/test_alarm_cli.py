"""`swapline alarms`: the same answers from the running gateway and, when it is gone, from the database."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiomqtt
import pytest
import structlog
from click.testing import CliRunner, Result

from swapline_bench import services
from swapline_bench.frame_source import FrameSource
from swapline_gateway.cli import main
from swapline_gateway.command.listing import MOMENT, when
from swapline_gateway.gateway import Gateway
from swapline_gateway.spool import now_utc_ms

from .test_alarm_watch import alarms, tell

MakeGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["alarms", *arguments])


@pytest.fixture(autouse=True)
def unlogged() -> Iterator[None]:
    """Keep what the gateway logs out of what the commands say: here both have one output."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def http_port() -> int:
    return services.free_port()


@pytest.fixture
def config(tmp_path: Path, http_port: int) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(f"[http]\nport = {http_port}\n")
    return path


async def test_alarms_are_listed_and_acknowledged_by_the_running_gateway_and_listed_without_it(
    make_gateway: MakeGateway, broker: services.Server, config: Path, http_port: int
) -> None:
    node = FrameSource(node="van-007")
    using = ("--config", str(config))
    async with aiomqtt.Client(broker.host, broker.port) as client, make_gateway(http={"port": http_port}) as gateway:
        await tell(client, node, 1000, 2)
        await tell(client, node, 1000, 1, code=6)
        await tell(client, node, 9000, 0, code=6)
        lives = [(1, False), (6, True)]
        await alarms(
            gateway, "", lambda found: sorted((one["code"], bool(one["cleared_utc_ms"])) for one in found) == lives
        )
        listed = await asyncio.to_thread(run, *using)
        assert listed.exit_code == 0
        assert "cell over-voltage" in listed.output
        assert "2 alarms, 1 of them stand." in listed.output
        acknowledge = ("acknowledge", "test/van-007", "1", "1", *using)
        said = await asyncio.to_thread(run, *acknowledge, "--by", "Ann", "--note", "called")
        assert (said.exit_code, said.output[:19]) == (0, "acknowledged by Ann")
        again = await asyncio.to_thread(run, *acknowledge, "--by", "Bob")
        assert "acknowledged by Ann" in again.output
        assert "before you" in again.output
        told = (await asyncio.to_thread(run, *using, "--json")).output.splitlines()
        (ended,) = (one for one in map(json.loads, told) if one["code"] == 6)
        at = when(ended["raised_utc_ms"]).replace(" ", "T")
        seen = await asyncio.to_thread(
            run, "acknowledge", "test/van-007", "1", "6", *using, "--by", "Cy", "--raised", at
        )
        assert (seen.exit_code, seen.output[:18]) == (0, "acknowledged by Cy")
        missing = await asyncio.to_thread(run, "acknowledge", "test/van-007", "1", "6", *using, "--by", "Bob")
        assert missing.exit_code == 1
        assert "No alarm 6 of test/van-007, bay 1, stands" in missing.output
        of_gateway = await asyncio.to_thread(run, *using, "--json")
    of_database = await asyncio.to_thread(run, *using, "--json")
    assert of_database.output == of_gateway.output
    found = [json.loads(line) for line in of_database.output.splitlines()]
    assert sorted((one["code"], one["cleared_utc_ms"] is None) for one in found) == [(1, True), (6, False)]
    assert {one["code"]: (one["acknowledgement"] or {}).get("by") for one in found} == {1: "Ann", 6: "Cy"}
    standing = await asyncio.to_thread(run, *using, "--standing")
    assert "1 alarms, 1 of them stand." in standing.output


def test_what_cannot_be_done_is_said_in_a_sentence(config: Path, tmp_path: Path) -> None:
    nowhere = run("acknowledge", "f/n", "1", "1", "--config", str(config), "--by", "Ann")
    assert nowhere.exit_code == 69
    assert "Is the gateway running?" in nowhere.output
    empty = tmp_path / "none.toml"
    empty.write_text("")
    unreachable = run("acknowledge", "f/n", "1", "1", "--config", str(empty), "--by", "Ann")
    assert unreachable.exit_code == 78
    assert "needs [http] with a port" in unreachable.output
    assert run("--config", str(config)).exit_code == 73, "there is no database"
    assert "FLEET/NODE" in run("acknowledge", "van-1", "1", "1", "--config", str(config), "--by", "Ann").output
    assert "90m, 36h, 14d" in run("--config", str(config), "--since", "yesterday").output
    assert "Missing option '--config'" in run().output


@pytest.mark.parametrize(("text", "ago_s"), [("90m", 5400), ("36h", 129_600), ("0.5d", 43_200)])
def test_times_may_be_said_as_how_long_ago(text: str, ago_s: float) -> None:
    assert abs(now_utc_ms() - MOMENT.convert(text, None, None) - ago_s * 1000) < 60_000
    assert MOMENT.convert("2026-11-22T17:30", None, None) == 1_795_368_600_000
