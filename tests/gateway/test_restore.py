"""A gateway that is started again shows what was known before: out of the topics that the broker retains."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiomqtt
import pytest

from swapline_bench import services
from swapline_bench.frame_source import FrameSource, module_row, row_of
from swapline_gateway.fleet_record import Reading, Value
from swapline_gateway.gateway import Gateway
from swapline_gateway.restore import read_state
from swapline_gateway.state import FleetState
from swapline_wire import topic
from swapline_wire.catalogue import ALARM_STREAM, POSITION, VEHICLE

from .test_gateway import until

MakeGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


def reading_of(gateway: Gateway, source: FrameSource, stream: str, bay: int = 0) -> Reading | None:
    state = gateway.state.nodes.get((source.fleet, source.node))
    return state.newest(stream, bay) if state else None


def soc_pct_of(gateway: Gateway, source: FrameSource) -> Value | None:
    found = reading_of(gateway, source, "vehicle")
    return found.values["soc_pct"] if found else None


def standing(gateway: Gateway, source: FrameSource) -> set[int]:
    state = gateway.state.nodes.get((source.fleet, source.node))
    return {alarm.keys["code"] for alarm in state.standing_alarms()} if state else set()


async def fill(gateway: Gateway, client: aiomqtt.Client, van: FrameSource, station: FrameSource) -> None:
    """Let module M ride in the van first, then be seen in the station; the van goes offline."""
    await client.publish(van.topic(topic.STATUS), van.birth(), 1, retain=True)
    await client.publish(station.topic(topic.STATUS), station.birth(holder="station"), 1, retain=True)
    await van.publish(client, van.frame([(1000, module_row(5100))], bay=1, owner="M"))
    await van.publish(client, van.frame([(1500, row_of(VEHICLE, soc_pct=421))], stream=VEHICLE, owner="", bay=0))
    await station.publish(client, station.frame([(9000, module_row(5200))], bay=4, owner="M"))
    await until(lambda: gateway.figures.state_messages >= 3)
    await client.publish(van.topic(topic.STATUS), json.dumps({"online": False}), 1, retain=True)


async def test_every_alarm_that_stands_is_known_again(make_gateway: MakeGateway) -> None:
    with services.mosquitto() as own:
        van = FrameSource(node="van")
        async with aiomqtt.Client(own.host, own.port) as client:
            async with make_gateway(mqtt={"port": own.port}) as before:
                await client.publish(van.topic(topic.STATUS), van.birth(), 1, retain=True)
                for uptime_ms, code, level in ((10, 1, 2), (20, 6, 0), (30, 32, 2)):
                    row = row_of(ALARM_STREAM, code=code, level=level)
                    await van.publish(client, van.frame([(uptime_ms, row)], stream=ALARM_STREAM, bay=1, owner="M"))
                await until(lambda: before.figures.state_messages >= 3)
            async with make_gateway(mqtt={"port": own.port}) as gateway:
                await until(lambda: standing(gateway, van) == {1, 32})


async def test_values_and_custody_are_there_again_also_of_an_offline_node(make_gateway: MakeGateway) -> None:
    with services.mosquitto() as own:
        van, station, gone = FrameSource(node="van"), FrameSource(node="station", journal=8), FrameSource(node="gone")
        async with aiomqtt.Client(own.host, own.port) as client:
            async with make_gateway(mqtt={"port": own.port}) as before:
                await fill(before, client, van, station)
                await gone.publish(client, gone.frame())
                await until(lambda: before.figures.state_messages >= 4)
                known = before.state.nodes["test", "van"].newest("vehicle")
            async with make_gateway(mqtt={"port": own.port}) as gateway:
                await until(lambda: reading_of(gateway, van, "vehicle") and reading_of(gateway, station, "module", 4))
                assert reading_of(gateway, van, "vehicle") == known
                assert gateway.state.nodes["test", "van"].is_online is False
                custody = gateway.state.modules["M"].custody
                assert custody is not None
                assert (custody.node, custody.bay, custody.is_present) == ("station", 4, True)
                assert not gateway.state.moves  # the van's last sight of M is no move
                assert ("test", "gone") not in gateway.state.nodes  # it has no status: it was taken out of the fleet
                late = van.frame([(1400, row_of(VEHICLE, soc_pct=1))], stream=VEHICLE, owner="", bay=0)
                behind_it = van.frame([(1400, row_of(POSITION, altitude_m=1))], stream=POSITION, owner="", bay=0)
                await van.publish(client, late, behind_it)
                await until(lambda: reading_of(gateway, van, "position"))
                assert reading_of(gateway, van, "vehicle") == known  # back-fill does not push out what is newer
                new = van.frame([(2000, row_of(VEHICLE, soc_pct=2))], stream=VEHICLE, owner="", bay=0)
                await van.publish(client, new)
                await until(lambda: soc_pct_of(gateway, van) == 0.2)


def reading(uptime_ms: int, soc_pct: float) -> Reading:
    now = time.time_ns() // 1_000_000
    return Reading(
        fleet="test",
        node="van",
        stream="vehicle",
        bay=0,
        module="",
        keys={},
        time_utc_ms=now - 10_000 + uptime_ms,
        time_quality=4,
        received_utc_ms=now,
        journal=7,
        boot=1,
        uptime_ms=uptime_ms,
        values={"soc_pct": soc_pct},
        abnormal=(),
    )


def test_live_data_is_never_overwritten() -> None:
    state = FleetState()
    state.apply_status("test", "van", {"online": True})
    state.restore(reading(2000, 50.0))
    state.restore(reading(1000, 60.0))
    newest = state.nodes["test", "van"].newest("vehicle")
    assert newest is not None
    assert newest.values == {"soc_pct": 50.0}


NAME = "swapline/v1/test/van/state/vehicle"


def test_what_was_published_is_read_back_as_it_was() -> None:
    original = reading(1000, 60.0)
    assert read_state(NAME, json.dumps(original.as_state_json()).encode()) == original


@pytest.mark.parametrize(
    "change",
    [
        {"stream": "nonsense"},
        {"stream": "module"},
        {"stream": []},
        {"bay": 3},
        {"bay": "x"},
        {"time_utc_ms": "now"},
        {"time_utc_ms": -1},
        {"time_quality": 99},
        {"values": {"soc_pct": float("nan")}},
        {"values": {"soc_pct": "<b>"}},
        {"values": []},
        {"boot": True},
        {"uptime_ms": None},
        {"abnormal": 5},
    ],
)
def test_what_could_not_be_ours_is_left_out(change: dict[str, Any]) -> None:
    content = reading(1000, 60.0).as_state_json() | change
    assert read_state(NAME, json.dumps(content).encode()) is None


@pytest.mark.parametrize(
    "payload", [b"", b"[", b"[]", b"null", b"7", b"[" * 9000, b"\xff", b"{" + b" " * 20_000 + b"}"]
)
def test_what_is_no_json_object_is_left_out(payload: bytes) -> None:
    assert read_state(NAME, payload) is None
    assert read_state("swapline/v1/../van/state/vehicle", payload) is None
