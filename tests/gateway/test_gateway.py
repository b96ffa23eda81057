"""One gateway in this process, a real broker, a real database: what comes in, what is acknowledged, what is stored."""

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiomqtt
import duckdb
import pytest

from swapline_bench import services
from swapline_bench.frame_source import AckListener, FrameSource, module_row, row_of
from swapline_gateway import time_offer
from swapline_gateway.error import UnavailableError
from swapline_gateway.gateway import Gateway, cancel_all
from swapline_gateway.quarantine import Quarantine
from swapline_gateway.spool import now_utc_ms
from swapline_wire import topic
from swapline_wire.catalogue import ALARM_STREAM, EVENT_STREAM, FRAMES_DROPPED, LOSS_JOURNAL_FULL, TIME_GATEWAY
from swapline_wire.catalogue import TIME_NONE as NO_CLOCK
from swapline_wire.message import Anchor

MakeGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture
async def client(broker: services.Server) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client(broker.host, broker.port) as connected:
        yield connected


@pytest.fixture
def source(request: pytest.FixtureRequest) -> FrameSource:
    """Return a node of the test's own: the broker is shared by the tests of this file."""
    return FrameSource(node=f"n{abs(hash(request.node.name)) % 10**9}")


@pytest.fixture
async def acks(client: aiomqtt.Client, source: FrameSource) -> AckListener:
    return await AckListener(client, source).begin()


def stored(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask the database after its gateway has ended."""
    with duckdb.connect(str(folder / "swapline.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


async def fetch(gateway: Gateway, path: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{gateway.http_url}{path}", timeout=10) as answer:  # noqa: S310 (our own)
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(get)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that only shows itself in the gateway's figures."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (figures are numbers, they announce nothing)
            await asyncio.sleep(0.01)


async def test_frames_are_acknowledged_and_stored_with_their_rows(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener, tmp_path: Path
) -> None:
    async with make_gateway() as gateway:
        await source.publish(client, source.frame(), source.frame())
        await source.publish(client, source.frame())
        before_ms = now_utc_ms()
        await acks.wait_for({1, 2, 3})
        assert abs(acks.acks[-1].utc_ms - before_ms) < 10_000
        await until(lambda: gateway.figures.frames_stored == 3)
    assert stored(tmp_path, "SELECT seq, row_count FROM frames ORDER BY seq") == [(1, 1), (2, 1), (3, 1)]
    assert stored(tmp_path, "SELECT voltage_v FROM module ORDER BY time") == [(50.01,), (50.02,), (50.03,)]


async def test_repeats_are_acknowledged_again_counted_and_never_stored_twice(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener, tmp_path: Path
) -> None:
    frame = source.frame()
    async with make_gateway() as gateway:
        await source.publish(client, frame)
        await acks.next()
        await until(lambda: gateway.figures.frames_stored == 1)
        await source.publish(client, frame)
        await acks.next()
        assert [ack.ranges for ack in acks.acks] == [[(1, 1)], [(1, 1)]]
        assert gateway.figures.duplicates == 1
    assert stored(tmp_path, "SELECT COUNT(*) FROM module") == [(1,)]


async def test_anchor_of_the_message_gives_rows_their_time(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener, tmp_path: Path
) -> None:
    async with make_gateway():
        frame = source.frame(quality=NO_CLOCK)
        await source.publish(client, frame, anchors=[Anchor(1, 1_800_000_000_000, TIME_GATEWAY)])
        await acks.wait_for({1})
    assert stored(tmp_path, "SELECT epoch_ms(time), time_quality FROM module") == [(1_800_000_001_000, TIME_GATEWAY)]


async def test_live_frame_does_not_stand_behind_what_the_broker_holds_of_a_backlog(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener
) -> None:
    rows = [(row * 1000, module_row(5000)) for row in range(3)]
    messages = [source.message(*(source.frame(rows) for _ in range(15))) for _ in range(600)]
    live = source.message(source.frame())
    async with make_gateway():
        for payload in messages:  # at once: what is awaited would give the gateway a turn
            client._client.publish(source.topic(topic.UP), payload, 0)  # noqa: SLF001
        await client.publish(source.topic(topic.LIVE), live, 1)
        await acks.wait_for({source.seq})
        assert len(acks.acknowledged) < source.seq / 2


async def test_unreadable_frame_is_kept_and_never_acknowledged_while_its_neighbours_are(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener, tmp_path: Path
) -> None:
    damaged = bytearray(source.frame())
    damaged[70] ^= 4
    async with make_gateway() as gateway:
        await source.publish(client, bytes(damaged), source.frame())
        await acks.wait_for({2})
        assert acks.acknowledged == {2}
        assert gateway.figures.quarantined_by_reason == {"bad_checksum": 1}
    with Quarantine(tmp_path / "spool.sqlite") as quarantine:
        (entry,) = quarantine.entries(limit=10)
    assert (entry.reason, entry.data, entry.topic) == ("bad_checksum", bytes(damaged), source.topic(topic.UP))


async def test_node_without_clock_is_offered_time_until_its_birth_says_otherwise(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener
) -> None:
    async with make_gateway() as gateway:
        await client.publish(source.topic(topic.STATUS), source.birth(clock_quality=0), 1, retain=True)
        offer = await acks.next()
        assert (offer.journal, offer.ranges) == (source.journal, [])
        assert abs(offer.utc_ms - now_utc_ms()) < 10_000
        gateway._offers.repeat()  # noqa: SLF001 (the interval is ten seconds)
        assert (await acks.next()).ranges == []
        await client.publish(source.topic(topic.STATUS), source.birth(clock_quality=2), 1, retain=True)
        await until(lambda: gateway.state.nodes[source.fleet, source.node].birth.get("clock_quality") == 2)
        gateway._offers.repeat()  # noqa: SLF001
        await source.publish(client, source.frame())
        assert (await acks.next()).ranges == [(1, 1)]
        await client.publish(source.topic(topic.STATUS), None, 1, retain=True)


async def test_newest_readings_are_retained_for_whoever_comes_later(
    make_gateway: MakeGateway, client: aiomqtt.Client, broker: services.Server, source: FrameSource
) -> None:
    first, later = aiomqtt.Client(broker.host, broker.port), aiomqtt.Client(broker.host, broker.port)
    async with make_gateway(), first, later:
        await first.subscribe(source.topic("state/#"), 1)
        await source.publish(client, source.frame(bay=2), source.frame(bay=2))
        async for heard in first.messages:
            if json.loads(heard.payload)["values"]["voltage_v"] == 50.02:
                break
        await later.subscribe(source.topic("state/#"), 1)
        message = await anext(aiter(later.messages))
    assert (str(message.topic), message.retain) == (source.topic("state/module/2"), True)
    assert json.loads(message.payload)["values"]["voltage_v"] == 50.02


async def test_alarm_is_published_at_once_and_reaches_the_database_first(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, tmp_path: Path
) -> None:
    async with make_gateway() as gateway:
        await client.subscribe(source.topic(topic.ALARM), 1)
        row = row_of(ALARM_STREAM, code=12, level=3, value=-40)
        await source.publish(client, source.frame([(77, row)], stream=ALARM_STREAM))
        alarm = json.loads((await anext(aiter(client.messages))).payload)
        assert (alarm["node"], alarm["keys"], alarm["values"]["level"]) == (source.node, {"code": 12}, 3)
        assert alarm["time_utc_ms"] == source.anchor_utc_ms + 77
        await until(lambda: gateway.figures.frames_stored == 1)
    assert stored(tmp_path, "SELECT code, level, value FROM alarm") == [(12, 3, -40)]


async def test_losses_that_a_node_declares_are_counted_by_reason(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener
) -> None:
    row = row_of(EVENT_STREAM, code=FRAMES_DROPPED, reason=LOSS_JOURNAL_FULL, first_seq=3, last_seq=9, count=7)
    async with make_gateway() as gateway:
        await source.publish(client, source.frame([(1, row)], stream=EVENT_STREAM, owner="", bay=0))
        await acks.wait_for({1})
        await until(lambda: gateway.figures.frames_taken == 1)
        assert gateway.figures.lost == {"journal_full": 7}


async def test_spool_at_its_limit_stops_acknowledging_says_so_and_resumes(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener, tmp_path: Path
) -> None:
    frames = [source.frame() for _ in range(600)]
    away = {"type": "influxdb1", "url": "http://127.0.0.1:1"}
    spool = {"limit_bytes": 65536}
    async with make_gateway(sink=away, spool=spool, http={"port": 0, "console": False}) as gateway:
        for start in range(0, 600, 20):
            await source.publish(client, *frames[start : start + 20])
        await until(lambda: gateway.figures.frames_received == 600)
        await until(lambda: gateway.figures.frames_taken + gateway.figures.refused["spool_full"] == 600)
        assert gateway.figures.refused["spool_full"] > 0
        status, body = await fetch(gateway, "/healthz")
        assert status == 503
        assert "nodes hold their frames" in body
        assert "swapline_spool_full 1.0" in (await fetch(gateway, "/metrics"))[1]
        taken = gateway.figures.frames_taken
    async with make_gateway(spool=spool) as gateway:
        await until(lambda: gateway.figures.frames_stored == taken)
        while len(acks.acknowledged) < 600:
            missing = [frame for seq, frame in enumerate(frames, 1) if seq not in acks.acknowledged]
            await source.publish(client, *missing[:20])
            await acks.wait_for(acks.acknowledged | {int.from_bytes(frame[10:14], "little") for frame in missing[:20]})
    assert stored(tmp_path, "SELECT COUNT(*), COUNT(DISTINCT seq) FROM frames") == [(600, 600)]


async def test_node_over_its_rate_is_refused_and_others_are_served(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener
) -> None:
    greedy = FrameSource(node="greedy")
    async with make_gateway(quota={"frames_per_s": 5 / 3600, "burst_s": 3600}) as gateway:  # five, then one in 12 min
        for _ in range(10):
            await greedy.publish(client, greedy.frame(), greedy.frame())
        await source.publish(client, source.frame())
        await acks.wait_for({1})
        assert gateway.figures.refused["over_rate"] == 16
        assert gateway.figures.node("test", "greedy").refused == gateway.figures.refused["over_rate"]


async def test_hostile_messages_neither_stop_the_gateway_nor_other_nodes(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener
) -> None:
    other = FrameSource(node="hostile")
    async with make_gateway() as gateway:
        for payload in (b"", b"x", b"SM", b"\x00" * 100_000, other.message(other.frame())[:-1]):
            await client.publish(other.topic(topic.UP), payload, 1)
        for status in ("{", "[1]", "null", "[" * 4000, '{"online": true, "journal": "x", "clock_quality": 0}'):
            await client.publish(other.topic(topic.STATUS), status, 1)
        await client.publish("swapline/v1/bad fleet/node/up", b"x", 1)
        await source.publish(client, source.frame())
        await acks.wait_for({1})
        await until(lambda: (other.fleet, other.node) in gateway.state.nodes)  # its last status: on another connection
        assert gateway.figures.refused["bad_topic"] == 1
        assert gateway.figures.refused["bad_status"] == 4
        assert gateway.figures.frames_taken == 1


async def test_broker_that_is_restarted_is_found_again(
    make_gateway: MakeGateway, source: FrameSource, tmp_path: Path
) -> None:
    with services.mosquitto() as own:
        async with make_gateway(mqtt={"port": own.port, "backoff_s_max": 0.2}) as gateway:
            own.kill()
            await until(lambda: gateway.figures.link_failures > 0)
            await asyncio.to_thread(own.start)  # on the same port
            await until(lambda: gateway.figures.is_connected)
            async with aiomqtt.Client(own.host, own.port) as client:
                acks = await AckListener(client, source).begin()
                await source.publish(client, source.frame())
                await acks.wait_for({1})
    assert stored(tmp_path, "SELECT COUNT(*) FROM frames") == [(1,)]


async def test_shutdown_stores_everything_that_was_acknowledged(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener, tmp_path: Path
) -> None:
    async with make_gateway() as gateway:
        for _ in range(100):
            await source.publish(client, *(source.frame() for _ in range(10)))
        await acks.wait_for({1})
        gateway.stop()
    received = gateway.figures.frames_received
    assert gateway.figures.frames_taken == received
    assert stored(tmp_path, "SELECT COUNT(*) FROM frames") == [(received,)]


async def test_pages_say_what_passed(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener
) -> None:
    async with make_gateway(http={"port": 0, "console": False}) as gateway:
        await source.publish(client, source.frame(), source.frame())
        await acks.wait_for({1, 2})
        await until(lambda: gateway.figures.frames_stored == 2)
        status, body = await fetch(gateway, "/healthz")
        assert (status, json.loads(body)) == (200, {"status": "ok", "problems": []})
        figures = json.loads((await fetch(gateway, "/api/pipeline"))[1])
        assert (figures["frames_received"], figures["frames_stored"], figures["rows_stored"]) == (2, 2, 2)
        assert [node["node"] for node in figures["nodes"]] == [source.node]
        assert "swapline_frames_stored_total 2.0" in (await fetch(gateway, "/metrics"))[1].splitlines()


async def test_occupied_port_is_one_sentence(make_gateway: MakeGateway) -> None:
    async with make_gateway(http={"port": 0, "console": False}) as gateway:
        assert gateway.http_url is not None
        port = int(gateway.http_url.rsplit(":", 1)[1])
        with pytest.raises(UnavailableError, match=f"Port {port} of 127.0.0.1 is used by another program"):
            async with make_gateway(http={"port": port}, spool={"path": "other.sqlite"}, sink={"path": "other.duckdb"}):
                pass


@pytest.fixture
def influx() -> Iterator[services.InfluxServer]:
    with services.influxd() as server:
        yield server


async def test_database_that_dies_and_returns_gets_everything_once(
    make_gateway: MakeGateway,
    client: aiomqtt.Client,
    source: FrameSource,
    acks: AckListener,
    influx: services.InfluxServer,
) -> None:
    async with make_gateway(sink={"type": "influxdb1", "url": influx.url}) as gateway:
        await source.publish(client, source.frame())
        await until(lambda: gateway.figures.frames_stored == 1)
        influx.kill()
        for _ in range(20):
            await source.publish(client, *(source.frame() for _ in range(5)))
        await acks.wait_for(set(range(1, 102)))
        await until(lambda: gateway.figures.sink_failures > 0)
        assert any("does not take anything" in problem for problem in gateway.figures.problems())
        await asyncio.to_thread(influx.start)
        await until(lambda: gateway.figures.frames_stored == 101)
        assert not gateway.figures.problems()
    found = json.loads(influx.execute('SELECT count(seq) FROM "swapline".."frames"'))
    assert found["results"][0]["series"][0]["values"][0][1] == 101


async def test_points_that_the_database_refuses_are_set_aside_alone(  # noqa: PLR0917 (fixtures)
    make_gateway: MakeGateway,
    client: aiomqtt.Client,
    source: FrameSource,
    acks: AckListener,
    influx: services.InfluxServer,
    tmp_path: Path,
) -> None:
    influx.execute('CREATE DATABASE "short" WITH DURATION 2h')
    old = FrameSource(node=source.node, journal=99, anchor_utc_ms=now_utc_ms() - 100 * 86_400_000)
    sink = {"type": "influxdb1", "url": influx.url, "database": "short"}
    async with make_gateway(sink=sink) as gateway:
        guilty = old.frame()
        await source.publish(client, *(source.frame() for _ in range(10)), guilty, *(source.frame() for _ in range(10)))
        await acks.wait_for(set(range(1, 21)))
        await until(lambda: gateway.figures.frames_stored >= 20 and gateway.figures.quarantined_by_reason)
        assert gateway.figures.quarantined_by_reason == {"sink_rejected": 1}
    with Quarantine(tmp_path / "spool.sqlite") as quarantine:
        (entry,) = quarantine.entries(limit=10)
        assert (entry.data, entry.journal, entry.seq) == (guilty, 99, 1)
        assert "retention" in entry.detail


async def test_gateway_whose_clock_was_never_set_acknowledges_and_offers_no_time(
    make_gateway: MakeGateway,
    client: aiomqtt.Client,
    source: FrameSource,
    acks: AckListener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with make_gateway() as gateway:
        with monkeypatch.context() as patched:
            patched.setattr(time_offer, "now_utc_ms", lambda: 946_684_800_000)  # 2000: a board without a battery
            await client.publish(source.topic(topic.STATUS), source.birth(clock_quality=0), 1)
            await source.publish(client, source.frame())
            await acks.wait_for({1})
            assert [(ack.utc_ms, ack.ranges) for ack in acks.acks] == [(0, [(1, 1)])]
        gateway._offers.repeat()  # noqa: SLF001 (the interval is ten seconds)
        offer = await acks.next()
        assert (offer.ranges, abs(offer.utc_ms - now_utc_ms()) < 10_000) == ([], True)


async def test_losses_without_a_number_are_not_counted_as_four_billion(
    make_gateway: MakeGateway, client: aiomqtt.Client, source: FrameSource, acks: AckListener
) -> None:
    row = row_of(EVENT_STREAM, code=FRAMES_DROPPED)
    async with make_gateway() as gateway:
        await source.publish(client, source.frame([(1, row)], stream=EVENT_STREAM, owner="", bay=0))
        await acks.wait_for({1})
        await until(lambda: gateway.figures.frames_taken == 1)
        assert gateway.figures.lost.total() == 0


async def test_gateway_ends_although_the_broker_hangs(make_gateway: MakeGateway) -> None:
    with services.mosquitto() as own:
        async with make_gateway(mqtt={"port": own.port}) as gateway:
            os.kill(own.pid, signal.SIGSTOP)
            try:
                (uplink,) = (task for task in asyncio.all_tasks() if task.get_name() == "uplink")
                gateway.stop()
                done, _ = await asyncio.wait([uplink], timeout=15)
                assert done
            finally:
                os.kill(own.pid, signal.SIGCONT)


async def test_task_that_swallows_its_cancellation_is_asked_again() -> None:
    refusals = 0

    async def stubborn() -> None:
        nonlocal refusals
        while refusals < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                refusals += 1
        await asyncio.sleep(60)

    task: asyncio.Task[object] = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await cancel_all([task], again_s=0.01)
    assert (refusals, task.cancelled()) == (2, True)
