"""The alarm book of a running gateway: over HTTP, live, and acknowledged."""

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiomqtt
import duckdb
import pytest

from swapline_bench import services
from swapline_bench.frame_source import AckListener, FrameSource, row_of
from swapline_gateway.alarm.acknowledge import read_message
from swapline_gateway.alarm.book import AlarmKey, AlarmRow, Boot
from swapline_gateway.alarm.routes import BadRequestError, read_statement, read_wanted
from swapline_gateway.alarm.shelf import row_of_message
from swapline_gateway.alarm.source import Span
from swapline_gateway.alarm.watch import AlarmWatch, NotDoneError, Wanted
from swapline_gateway.gateway import Gateway
from swapline_gateway.spool import now_utc_ms
from swapline_gateway.state import FleetState
from swapline_wire import topic
from swapline_wire.catalogue import ALARM_STREAM

MakeGateway = Callable[..., AbstractAsyncContextManager[Gateway]]
PAGES = {"host": "127.0.0.1", "port": 0}
STATEMENT = {"by": "Li Wei", "note": "driver called"}


def alarm_row(code: int, level: int) -> list[int]:
    row = row_of(ALARM_STREAM, code=code, level=level, signal=7, value=3662, threshold=3650)
    row[2] = 3  # the signal that is called `stream`
    return row


async def tell(client: aiomqtt.Client, node: FrameSource, at_ms: int, level: int, *, code: int = 1) -> None:
    frame = node.frame([(at_ms, alarm_row(code, level))], stream=ALARM_STREAM, bay=1, owner="M")
    await node.publish(client, frame)


async def ask(
    gateway: Gateway, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    def send() -> tuple[int, dict[str, Any]]:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if headers is None else headers
        request = urllib.request.Request(f"{gateway.http_url}{path}", data, given)  # noqa: S310 (our own)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return await asyncio.to_thread(send)


async def alarms(gateway: Gateway, question: str, condition: Callable[[list[dict[str, Any]]], object]) -> Any:
    """Ask until the answer is as wanted: the book is derived a moment after its rows came."""
    async with asyncio.timeout(30):
        while True:
            _, answer = await ask(gateway, f"/api/alarms?{question}")
            if condition(answer["alarms"]):
                return answer["alarms"]
            await asyncio.sleep(0.02)


def statement_of(alarm: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {name: alarm[name] for name in ("fleet", "node", "bay", "code", "raised_utc_ms")} | STATEMENT | more


async def alarm_metrics(gateway: Gateway) -> list[str]:
    """Return what `/metrics` says of alarms, without what is 0."""

    def read() -> str:
        with urllib.request.urlopen(f"{gateway.http_url}/metrics", timeout=20) as answer:  # noqa: S310 (our own)
            return str(answer.read(), "utf-8")

    lines = (await asyncio.to_thread(read)).splitlines()
    return [line for line in lines if line.startswith("swapline_alarms_") and not line.endswith(" 0.0")]


async def retained(client: aiomqtt.Client, node: FrameSource) -> dict[str, Any]:
    """Wait for the acknowledgement that the broker keeps."""
    name = node.topic("state/acknowledged/1/1")
    await client.subscribe(name, 1)
    async with asyncio.timeout(20):
        async for message in client.messages:
            if str(message.topic) == name:
                found: dict[str, Any] = json.loads(message.payload)
                return found
    raise AssertionError


async def test_alarm_is_raised_escalated_acknowledged_and_cleared(
    make_gateway: MakeGateway, broker: services.Server, tmp_path: Path
) -> None:
    node = FrameSource(node="told")
    async with aiomqtt.Client(broker.host, broker.port) as client, make_gateway(http=PAGES) as gateway:
        await tell(client, node, 1000, 1)
        await tell(client, node, 9000, 2)
        (alarm,) = await alarms(gateway, "standing=1&node=told", lambda found: found and found[0]["level"] == 2)
        assert alarm["acknowledgement"] is None
        _, live = await ask(gateway, "/api/view/alarms")
        assert live["content"].items() >= {"standing_count": 1, "unacknowledged_count": 1, "level_max": 2}.items()
        assert await alarm_metrics(gateway) == [
            'swapline_alarms_standing{level="2"} 1.0',
            'swapline_alarms_unacknowledged{level="2"} 1.0',
            'swapline_alarms_received_total{level="1"} 1.0',
            'swapline_alarms_received_total{level="2"} 1.0',
        ]
        status, answer = await ask(gateway, "/api/alarms/acknowledge", statement_of(alarm))
        assert (status, answer["problem"]) == (200, None)
        kept = answer["acknowledgement"]
        assert (kept["by"], kept["note"], kept["module"]) == ("Li Wei", "driver called", "M")
        assert await retained(client, node) == kept
        (alarm,) = await alarms(gateway, "standing=1&node=told", len)
        assert alarm["acknowledgement"] == kept
        again = await ask(gateway, "/api/alarms/acknowledge", statement_of(alarm, by="Somebody else"))
        assert again == (200, {"acknowledgement": kept, "problem": None})
        seen = ['swapline_alarms_standing{level="2"} 1.0', "swapline_alarms_acknowledged_total 1.0"]
        told = await alarm_metrics(gateway)
        assert [told[0], told[-1]] == seen
        assert not any("unacknowledged" in line for line in told)
        await tell(client, node, 20_000, 0)
        await tell(client, node, 30_000, 1)
        (standing,) = await alarms(gateway, "standing=1&node=told", lambda found: found and found[0]["level"] == 1)
        assert standing["acknowledgement"] is None, "this one was raised later"
        _, live = await ask(gateway, "/api/view/alarms")
        assert live["content"]["unacknowledged_count"] == 1
        past = await alarms(gateway, "node=told", lambda found: len(found) == 2)
        assert [one["cleared_utc_ms"] is None for one in past] == [True, False], "the newest first"
    with duckdb.connect(str(tmp_path / "swapline.duckdb"), read_only=True) as connection:
        found = connection.execute("SELECT node, bay, code, said_by, note, epoch_ms(time) FROM acknowledgement")
        assert found.fetchall() == [("told", "1", "1", "Li Wei", "driver called", alarm["raised_utc_ms"])]


async def test_book_is_the_same_after_a_restart_also_where_the_broker_has_forgotten_it(
    make_gateway: MakeGateway, broker: services.Server
) -> None:
    node = FrameSource(node="kept")
    async with aiomqtt.Client(broker.host, broker.port) as client:
        async with make_gateway(http=PAGES) as gateway:
            await tell(client, node, 1000, 2)
            await tell(client, node, 1500, 1, code=6)
            await tell(client, node, 9500, 0, code=6)
            found = await alarms(gateway, "node=kept", lambda found: len(found) == 2 and found[0]["cleared_utc_ms"])
            status, _ = await ask(gateway, "/api/alarms/acknowledge", statement_of(found[1]))
            assert status == 200
            before = await alarms(gateway, "node=kept", len)
        with services.mosquitto() as other:
            async with make_gateway(http=PAGES, mqtt={"port": other.port}) as gateway:
                assert await alarms(gateway, "node=kept", lambda found: len(found) == 2) == before


async def test_what_happened_before_the_last_weeks_is_asked_of_the_database(
    make_gateway: MakeGateway, broker: services.Server
) -> None:
    long_ago_ms = now_utc_ms() - 60 * 86_400_000
    node = FrameSource(node="old", anchor_utc_ms=long_ago_ms)
    async with aiomqtt.Client(broker.host, broker.port) as client:
        async with make_gateway(http=PAGES) as gateway:
            acks = await AckListener(client, node).begin()
            await tell(client, node, 1000, 2)
            await tell(client, node, 9000, 0)
            await acks.wait_for({1, 2})
            (alarm,) = await alarms(
                gateway, f"since={long_ago_ms}&node=old", lambda found: found and found[0]["cleared_utc_ms"]
            )
        async with make_gateway(http=PAGES) as gateway:
            assert await alarms(gateway, f"since={long_ago_ms}&node=old", len) == [alarm]
            _, answer = await ask(gateway, "/api/alarms?node=old")
            assert answer["alarms"] == []
            status, answer = await ask(gateway, "/api/alarms/acknowledge", statement_of(alarm))
            assert status == 200
            (alarm,) = await alarms(gateway, f"since={long_ago_ms}&node=old", len)
            assert alarm["acknowledgement"] == answer["acknowledgement"]


PAGES_OF_OTHERS: list[tuple[dict[str, str], int]] = [
    ({"Content-Type": "application/json", "Origin": "http://evil.example"}, 403),
    ({"Content-Type": "application/json", "Origin": "null"}, 403),
    ({"Content-Type": "application/json", "Origin": "http://["}, 403),
    ({"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}, 403),
    ({"Content-Type": "application/json", "Sec-Fetch-Site": "same-site"}, 403),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ({"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin", "Origin": "https://our.proxy"}, 404),
    ({"Content-Type": "application/json"}, 404),
    ({"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin", "Host": "evil.example:8080"}, 403),
    ({"Content-Type": "application/json", "Origin": "http://evil.example", "Host": "evil.example"}, 403),
    ({"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin", "Host": "Console.example"}, 404),
    ({"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin", "Host": "[::1]:8080"}, 404),
    ({"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin", "Host": "localhost:8080"}, 404),
]


async def test_another_sites_page_acknowledges_nothing(make_gateway: MakeGateway) -> None:
    statement = {"fleet": "f", "node": "n", "bay": 1, "code": 1, "raised_utc_ms": 1, **STATEMENT}
    async with make_gateway(http={**PAGES, "names": ["console.example"]}) as gateway:
        for headers, status in PAGES_OF_OTHERS:
            found, answer = await ask(gateway, "/api/alarms/acknowledge", statement, headers)
            assert (found, bool(answer["error"])) == (status, True), headers


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"by": ""}, "by"),
        ({"by": "  "}, "by"),
        ({"by": None}, "by"),
        ({"by": "x" * 65}, "by"),
        ({"by": "a\nb"}, "by"),
        ({"note": "x" * 501}, "note"),
        ({"note": "\x00"}, "note"),
        ({"bay": "1"}, "bay"),
        ({"bay": True}, "bay"),
        ({"code": -1}, "code"),
        ({"raised_utc_ms": 1e12}, "raised_utc_ms"),
        ({"fleet": ""}, "fleet"),
    ],
)
def test_statement_that_is_wrong_is_refused_by_name(change: dict[str, Any], word: str) -> None:
    statement = {"fleet": "f", "node": "n", "bay": 1, "code": 1, "raised_utc_ms": 1, **STATEMENT}
    assert read_statement(statement)["by"] == "Li Wei"
    with pytest.raises(BadRequestError, match=f"^{word}"):
        read_statement(statement | change)


@pytest.mark.parametrize("query", [{"standing": "yes"}, {"since": "-1"}, {"limit": "0"}, {"limit": "99999"}])
def test_question_that_is_wrong_is_refused_by_name(query: dict[str, str]) -> None:
    with pytest.raises(BadRequestError, match=f"^{next(iter(query))}"):
        read_wanted(query)


class Broken:
    """A broker's end that is there, or not; and that confirms, or not."""

    def __init__(self, *, is_there: bool, confirms: bool) -> None:
        self.connected = asyncio.Event()
        self.connection_count = 1
        self.confirms = confirms
        self.delivered: list[str] = []
        if is_there:
            self.connected.set()

    async def deliver(self, name: str, payload: str) -> bool:
        if self.confirms:
            assert read_message(name, payload.encode()) is not None
            self.delivered.append(name)
        return self.confirms


def message(**more: Any) -> bytes:
    told = {"bay": 1, "module": "M", "journal": 7, "boot": 1, "time_utc_ms": 1000, "keys": {"code": 1}}
    return json.dumps(told | {"values": {"level": 2}} | more).encode()


ADDRESS = topic.Address("f", "n", "alarm")
SAID: dict[str, Any] = {"fleet": "f", "node": "n", "bay": 1, "code": 1, "raised_utc_ms": 1000, **STATEMENT}


async def test_broker_that_is_away_changes_nothing_and_one_that_does_not_confirm_is_told_later() -> None:
    uplink = Broken(is_there=False, confirms=False)
    watch = AlarmWatch(FleetState(), uplink)
    assert watch.take_message(ADDRESS, message())
    with pytest.raises(NotDoneError, match="broker"):
        await watch.acknowledge(**SAID)
    assert (await watch.find(Wanted())).alarms[0].acknowledgement is None
    uplink.connected.set()
    said, problem = await watch.acknowledge(**SAID)
    assert "broker has not confirmed" in problem
    assert (await watch.find(Wanted())).alarms[0].acknowledgement == said
    uplink.confirms = True
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(20):
        while not uplink.delivered:  # noqa: ASYNC110 (a list announces nothing)
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    await watch.close()
    assert uplink.delivered == ["swapline/v1/f/n/state/acknowledged/1/1"]


class Remembering:
    """A database that has one alarm, and answers when it is let."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()

    def is_understood(self) -> bool:
        return True

    def rows(self, span: Span, limit: int) -> list[AlarmRow]:
        del limit
        assert self.may_answer.wait(20)
        return [row_of_message("f", "n", json.loads(message(time_utc_ms=span.start_utc_ms + 1)))]

    def boots(self, span: Span, nodes: object = None) -> list[Boot]:
        del span, nodes
        return []

    def has_run(self, boot: Boot, end_utc_ms: int | None) -> bool:
        del boot, end_utc_ms
        return False

    def answered(self, key: AlarmKey, after_utc_ms: int) -> int | None:
        del key, after_utc_ms
        return None


async def test_the_past_is_shown_as_soon_as_it_is_read() -> None:
    source, state = Remembering(), FleetState()
    watch = AlarmWatch(state, Broken(is_there=True, confirms=True), source=source, review_s=600)
    with state.subscribe() as changes:
        running = asyncio.create_task(watch.run())
        await asyncio.sleep(0)  # it has looked once, at nothing
        source.may_answer.set()
        await changes.take(20)
    assert [alarm.key.node for alarm in watch.standing()] == ["n"]
    assert watch.is_whole()
    running.cancel()
    await asyncio.wait([running])
    await watch.close()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 9000,
        message(time_utc_ms=1e12),
        message(time_utc_ms=1 << 60),
        message(time_utc_ms=-1),
        message(keys={}),
        message(keys={"code": "1"}),
        message(values={"level": "2"}),
        message(values={"level": 1.5}),
        message(module=5),
        message(boot=None),
    ],
)
async def test_message_that_is_no_alarm_changes_nothing(payload: bytes) -> None:
    watch = AlarmWatch(FleetState(), Broken(is_there=True, confirms=True))
    assert not watch.take_message(ADDRESS, payload)
    assert not watch.take_said("swapline/v1/f/n/state/acknowledged/1/1", payload or b"x")
    await watch.close()
