"""A gateway does not hand on a time that the fleet shows to be wrong."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import aiomqtt
import pytest

from swapline_bench import services
from swapline_bench.frame_source import AckListener, FrameSource
from swapline_gateway.gateway import Gateway
from swapline_gateway.ingest import Sender
from swapline_gateway.spool import now_utc_ms
from swapline_gateway.time_offer import FUTURE_MS_MAX, LIVE_S, PAST_MS_MAX, WITNESS_S_MAX, WITNESSES_MAX, FleetTime
from swapline_wire.catalogue import TIME_GATEWAY, TIME_GNSS, TIME_NTP

MakeGateway = Callable[..., AbstractAsyncContextManager[Gateway]]
DAY_MS = 86_400_000


class Watch:
    """A clock that the test turns on."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def sender(number: int) -> Sender:
    return Sender("fleet", f"van-{number}")


@pytest.mark.parametrize("delay_ms", [0, 2000, PAST_MS_MAX, -FUTURE_MS_MAX])
def test_rows_that_come_in_time_contradict_nothing(delay_ms: int) -> None:
    watch = Watch()
    fleet = FleetTime(watch)
    for number in range(5):
        fleet.take(sender(number), TIME_GNSS, delay_ms)
    watch.now_s += LIVE_S + 1
    assert not fleet.is_contradicted()


def test_rows_from_the_future_show_that_our_clock_is_slow_at_once() -> None:
    fleet = FleetTime(Watch())
    fleet.take(sender(1), TIME_GNSS, -DAY_MS)
    assert not fleet.is_contradicted(), "one node may be wrong itself"
    fleet.take(sender(2), TIME_NTP, -DAY_MS)
    assert fleet.is_contradicted()


def test_nodes_that_got_their_time_from_a_gateway_are_no_witnesses() -> None:
    fleet = FleetTime(Watch())
    for number in range(5):
        fleet.take(sender(number), TIME_GATEWAY, -DAY_MS)
    assert not fleet.is_contradicted()


def test_two_wrong_nodes_of_five_contradict_nothing() -> None:
    fleet = FleetTime(Watch())
    for number in range(5):
        fleet.take(sender(number), TIME_GNSS, -DAY_MS if number < 2 else 100)
    assert not fleet.is_contradicted()


def test_backlogs_contradict_nothing_but_fleets_without_a_new_row_do() -> None:
    watch = Watch()
    fleet = FleetTime(watch)
    for number in range(2):
        fleet.take(sender(number), TIME_GNSS, DAY_MS)
    assert not fleet.is_contradicted(), "new rows may follow"
    watch.now_s += LIVE_S + 1
    assert fleet.is_contradicted(), "our clock is a day fast"
    for number in range(2):
        fleet.take(sender(number), TIME_GNSS, 300)
    assert not fleet.is_contradicted()


def test_what_nodes_said_is_judged_anew_after_a_while() -> None:
    watch = Watch()
    fleet = FleetTime(watch)
    for number in range(2):
        fleet.take(sender(number), TIME_GNSS, -DAY_MS)
    assert fleet.is_contradicted()
    watch.now_s += WITNESS_S_MAX + 1
    for number in range(2):
        fleet.take(sender(number), TIME_GNSS, 100)
    assert not fleet.is_contradicted(), "somebody has put our clock right"


def test_witnesses_are_bounded() -> None:
    fleet = FleetTime(Watch())
    for number in range(WITNESSES_MAX + 100):
        fleet.take(sender(number), TIME_GNSS, 0)
    assert len(fleet._witnesses) == WITNESSES_MAX  # noqa: SLF001


async def test_gateway_that_its_fleet_contradicts_offers_no_time(
    make_gateway: MakeGateway, broker: services.Server
) -> None:
    tomorrow_ms = now_utc_ms() + DAY_MS
    sources = [FrameSource(node=name, anchor_utc_ms=tomorrow_ms) for name in ("van-001", "van-002")]
    async with make_gateway(), aiomqtt.Client(broker.host, broker.port) as client, asyncio.timeout(20):
        acks = await AckListener(client, sources[0]).begin()
        while not acks.acks or acks.acks[-1].utc_ms:
            for source in sources:
                await source.publish(client, source.frame(quality=TIME_GNSS))
            await acks.next()
    assert abs(acks.acks[0].utc_ms - now_utc_ms()) < DAY_MS / 2, "one node alone contradicts nothing"
