"""The console over HTTP: pages, headers, errors, charts' data, the live stream."""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientResponse, ClientSession, web

from swapline_gateway.console import add_routes, routes
from swapline_gateway.console.live import LiveStreams
from swapline_gateway.state import FleetState
from swapline_wire.catalogue import STREAMS

from .demo import SPAN_MS, Demo, code
from .fleet_feed import module_values, vehicle_values

over_http = pytest.mark.asyncio(loop_scope="module")
STATIC = Path(routes.__file__).parent / "static"


@pytest_asyncio.fixture(loop_scope="module")
async def client(demo: Demo) -> AsyncIterator[ClientSession]:
    async with ClientSession(demo.url) as session:
        yield session


async def read_json(client: ClientSession, path: str, **query: str) -> Any:
    async with client.get(path, params=query) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def read_event(response: ClientResponse) -> tuple[str, dict[str, Any]]:
    name = (await response.content.readline()).decode().removeprefix("event: ").strip()
    data = json.loads((await response.content.readline()).decode().removeprefix("data: "))
    assert await response.content.readline() == b"\n"
    return name, data


@over_http
async def test_every_page_has_an_address_and_strict_headers(client: ClientSession) -> None:
    for path in routes.PAGES:
        async with client.get(path) as response:
            assert (response.status, response.content_type) == (200, "text/html"), path
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Referrer-Policy"] == "no-referrer"


def test_assets_need_no_other_host_and_no_inline_code() -> None:
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=|javascript:", page)
    sources = [file for file in STATIC.rglob("*") if file.suffix in {".html", ".css", ".js"}]
    assert len(sources) > 15
    for file in sources:
        loads = re.findall(
            r"""(?:src|href)=["']?(https?:[^"'\s>]+)|@import\s+\S+|url\((?!['"]?data:)[^)]*\)|from\s*["'](https?:[^"']+)""",
            file.read_text(),
        )
        assert not loads, f"{file.name} loads {loads}"


def test_every_borrowed_library_brings_its_licence() -> None:
    folders = [entry for entry in (STATIC / "vendor").iterdir() if entry.is_dir()]
    assert len(folders) == 2
    for folder in folders:
        assert "copyright" in (folder / "LICENSE").read_text().lower(), folder.name


def test_scripts_have_no_way_around_escaping() -> None:
    for file in (STATIC / "js").iterdir():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|unsafeHTML|document\.write|\beval\(", file.read_text()
        ), file.name


@over_http
async def test_catalogue_says_unit_and_decimals_of_every_signal(client: ClientSession) -> None:
    catalogue = await read_json(client, "/api/catalogue")
    for stream in STREAMS:
        assert set(catalogue["streams"][stream.name]) == {signal.name for signal in stream.signals}
    assert catalogue["streams"]["module"]["voltage_v"]["unit"] == "V"
    assert catalogue["states"]["vehicle"]["drive_mode"][3] == "Autonomous"


@over_http
async def test_words_exist_for_every_value_of_an_enumeration(client: ClientSession) -> None:
    catalogue = await read_json(client, "/api/catalogue")
    for stream, names in catalogue["states"].items():
        for name, words in names.items():
            assert len(words) == catalogue["streams"][stream][name]["maximum"] + 1, f"{stream}.{name}"


@over_http
async def test_fleet_view_shows_vans_and_stations(client: ClientSession) -> None:
    nodes = (await read_json(client, "/api/view/fleet"))["content"]["nodes"]
    assert {name: (node["holder"], node["online"]) for name, node in nodes.items()} == {
        "demo/van-001": ("van", True),
        "demo/van-002": ("van", False),
        "demo/station-1": ("station", True),
    }
    assert [bay["module"] for bay in nodes["demo/van-001"]["bays"].values()] == [code(1), code(2)]
    assert nodes["demo/station-1"]["bays"]["3"]["module"] is None


@over_http
async def test_node_view_shows_readings_and_bays(client: ClientSession) -> None:
    content = (await read_json(client, "/api/view/node", fleet="demo", node="van-001"))["content"]
    assert content["readings"]["vehicle"]["values"]["odometer_km"] == 18_204.512
    assert content["bays"]["2"]["reading"]["module"] == code(2)


@over_http
async def test_module_view_shows_custody_and_cells(client: ClientSession) -> None:
    content = (await read_json(client, "/api/view/module", code=code(1)))["content"]
    assert (content["custody"]["node"], content["custody"]["bay"]) == ("van-001", 1)
    assert len([v for n, v in content["cells"]["0"]["values"].items() if n.startswith("cell_") and v]) == 16


@over_http
async def test_pipeline_view_joins_the_gateways_and_the_nodes_figures(client: ClientSession, demo: Demo) -> None:
    demo.figures.node("demo", "van-001").frames_stored = 17
    content = (await read_json(client, "/api/view/pipeline"))["content"]
    assert content["gateway"]["broker"]["connected"] is True
    assert content["nodes"]["demo/van-001"]["flow"]["frames_stored"] == 17
    assert content["nodes"]["demo/van-001"]["values"]["frames_sealed"] == 5_210


@over_http
@pytest.mark.parametrize(
    ("scope", "query"), [("node", {"fleet": "demo", "node": "van-999"}), ("module", {"code": "no/such?<b>"})]
)
async def test_the_unknown_is_a_view_that_may_become_known(
    client: ClientSession, scope: str, query: dict[str, str]
) -> None:
    assert (await read_json(client, f"/api/view/{scope}", **query))["content"] == {"known": False}


@over_http
async def test_series_come_from_the_database(client: ClientSession, demo: Demo) -> None:
    start = demo.start_utc_ms
    query = {"stream": "module", "fleet": "demo", "node": "van-001", "bay": "1", "signals": "soc_pct,voltage_v"}
    series = await read_json(client, "/api/series", **query, start=str(start), end=str(start + 10_000), points="100")
    assert series["time_utc_ms"] == [start + t for t in range(0, 10_000, 1_000)]
    assert series["values"]["soc_pct"] == [72.0] * 5 + [71.9] * 5
    by_module = {**query, "module": code(1)}
    del by_module["node"], by_module["bay"]
    assert await read_json(client, "/api/series", **by_module, start=str(start), end=str(start + 10_000)) == series


@over_http
async def test_a_long_span_is_thinned(client: ClientSession, demo: Demo) -> None:
    start, end = demo.start_utc_ms, demo.start_utc_ms + SPAN_MS
    query = {"stream": "vehicle", "fleet": "demo", "node": "van-001", "signals": "speed_kmh", "points": "50"}
    series = await read_json(client, "/api/series", **query, start=str(start), end=str(end))
    assert 40 <= len(series["time_utc_ms"]) <= 50


GOOD = {"stream": "module", "fleet": "demo", "signals": "soc_pct", "start": "0", "end": "1000"}


WRONG: list[tuple[dict[str, str], str]] = [
    ({"stream": "secrets"}, "stream"),
    ({"stream": "module; DROP TABLE frames"}, "stream"),
    ({"signals": 'soc_pct","x'}, "signals"),
    ({"signals": ""}, "signals"),
    ({"signals": "segment", "stream": "cells"}, "signals"),
    ({"start": "now"}, "start"),
    ({"start": "1000"}, "end"),
    ({"end": str(401 * 86_400_000)}, "end"),
    ({"points": "1000000"}, "points"),
    ({"bay": "256"}, "bay"),
    ({"module": "x" * 25}, "module"),
    ({"module": "a\nb"}, "module"),
    ({"fleet": ""}, "fleet"),
]


@over_http
async def test_a_wrong_question_is_refused_and_names_the_parameter(client: ClientSession) -> None:
    for change, name in WRONG:
        async with client.get("/api/series", params=GOOD | change) as response:
            assert (response.status, (await response.json())["error"].split(":")[0]) == (400, name), change


@over_http
async def test_quotes_in_names_are_values_and_not_sql(client: ClientSession) -> None:
    query = GOOD | {"node": "x' OR '1'='1", "module": "'; DROP TABLE--"}
    assert (await read_json(client, "/api/series", **query))["time_utc_ms"] == []


@over_http
async def test_a_database_that_fails_is_told_without_its_details(client: ClientSession, demo: Demo) -> None:
    demo.sink.close()
    async with client.get("/api/series", params=GOOD) as response:
        assert response.status == 502
        assert await response.json() == {"error": "the database does not answer"}
    demo.sink.open()


@over_http
async def test_unknown_addresses_answer_404(client: ClientSession) -> None:
    for path in ("/api/view/secrets", "/nothing", "/static/../routes.py", "/static/%2e%2e/routes.py"):
        async with client.get(path) as response:
            assert response.status == 404, path


@over_http
async def test_live_stream_begins_with_a_snapshot_and_sends_only_changes(client: ClientSession, demo: Demo) -> None:
    async with client.get("/api/live/fleet") as response:
        assert response.content_type == "text/event-stream"
        name, snapshot = await read_event(response)
        assert name == "snapshot"
        assert snapshot["content"] == (await read_json(client, "/api/view/fleet"))["content"]
        van = demo.units["van-001"]
        van.send("vehicle", [(demo.now_ms, vehicle_values(55.5, speed_kmh=9))])
        name, patch = await read_event(response)
        assert name == "patch"
        assert list(patch["set"]) == ["nodes"]
        changed = patch["set"]["nodes"]["demo/van-001"]
        assert (changed["soc_pct"], changed["speed_kmh"]) == (55.5, 9)
        assert "bays" not in changed


@over_http
async def test_live_stream_sends_at_most_two_batches_a_second(client: ClientSession, demo: Demo) -> None:
    van = demo.units["van-001"]
    received: list[dict[str, Any]] = []

    async def feed() -> None:
        for number in range(100):
            van.send("vehicle", [(demo.now_ms + number, vehicle_values(50, speed_kmh=number))])
            await asyncio.sleep(0.012)

    async with client.get("/api/live/node", params={"fleet": "demo", "node": "van-001"}) as response:
        await read_event(response)
        feeding = asyncio.create_task(feed())
        began = time.monotonic()
        while not feeding.done() or received[-1]["set"]["summary"].get("speed_kmh") != 99:
            received.append((await read_event(response))[1])
        assert len(received) <= (time.monotonic() - began) / 0.5 + 2


@over_http
async def test_a_quiet_line_shows_that_it_is_alive(
    make_demo: Callable[[], Demo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swapline_gateway.console.live.HEARTBEAT_S", 0.05)
    demo = make_demo()
    await demo.start()
    async with ClientSession(demo.url) as client, client.get("/api/live/modules") as response:
        assert (await read_event(response))[0] == "snapshot"
        name, event = await read_event(response)
        assert (name, set(event)) == ("patch", {"now"})
    await demo.stop()


@over_http
async def test_module_view_becomes_known_while_it_is_watched(client: ClientSession, demo: Demo) -> None:
    async with client.get("/api/live/module", params={"code": "NEW"}) as response:
        assert (await read_event(response))[1]["content"] == {"known": False}
        demo.units["van-001"].send("module", [(demo.now_ms, module_values(50))], bay=2, owner="NEW")
        _, patch = await read_event(response)
        assert patch["set"]["known"] is True
        assert patch["set"]["custody"]["bay"] == 2


@over_http
async def test_viewers_are_bounded(demo: Demo) -> None:
    assert demo.console is not None
    demo.console.live = LiveStreams(demo.state, viewers_max=1)
    async with ClientSession(demo.url) as client, client.get("/api/live/fleet") as first:
        await read_event(first)
        async with client.get("/api/live/fleet") as second:
            assert second.status == 503
            assert second.headers["Retry-After"]


@over_http
async def test_shutdown_does_not_wait_for_viewers(make_demo: Callable[[], Demo]) -> None:
    demo = make_demo()
    await demo.start(shutdown_s=600)  # for which the server itself would wait
    async with ClientSession(demo.url) as client, client.get("/api/live/fleet") as response:
        await read_event(response)
        async with asyncio.timeout(60):
            await demo.stop()


@over_http
async def test_without_a_history_charts_say_so() -> None:
    app = web.Application()
    add_routes(app, state=FleetState(), history=None, pipeline=dict)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}/api/series"
    async with ClientSession() as client, client.get(address, params=GOOD) as response:
        assert response.status == 503
        assert "history" in (await response.json())["error"]
    await runner.cleanup()


@over_http
async def test_viewer_that_never_reads_is_cut_off(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swapline_gateway.console.live.SEND_TIMEOUT_S", 0.2)
    assert demo.console is not None
    assert demo.runner is not None
    assert demo.runner.server is not None
    live = demo.console.live = LiveStreams(demo.state, interval_s=0.001)
    deaf = socket.create_connection(demo.runner.addresses[0][:2])
    deaf.sendall(b"GET /api/live/fleet HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(30):
        while not live.viewer_count:  # noqa: ASYNC110 (a number, it announces nothing)
            await asyncio.sleep(0.001)
        is_online = False
        while demo.runner.server.connections:
            is_online = not is_online
            for number in range(1000):
                demo.state.apply_status("demo", f"crowd-{number}", {"online": is_online})
            await asyncio.sleep(0.001)
    assert live.viewer_count == 0
    deaf.close()
