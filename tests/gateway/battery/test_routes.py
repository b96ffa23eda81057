"""The books over HTTP, in the live documents and on the command line's ways to them: one answer everywhere."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import aiomqtt
import pytest

from swapline_bench import services
from swapline_bench.gateway_process import GatewayProcess
from swapline_gateway import config as configuration
from swapline_gateway.access import FileInUseError, gateway_url
from swapline_gateway.battery.access import HttpAnswers, open_answers, open_books
from swapline_gateway.battery.answers import Answers
from swapline_gateway.config import GatewayConfig
from swapline_gateway.error import StorageError, UnavailableError
from tests.gateway.battery.swap_story import HOUR_MS, MODULES, tell
from tests.gateway.battery.test_keeper_crash import send
from tests.gateway.conftest import MakeGateway

PATIENCE_S = 60.0


class Asker:
    """Asks a running gateway."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def __call__(self, path: str, status: int = 200, **query: Any) -> dict[str, Any]:
        async with self._session.get(f"{self.url}/{path}", params=query) as response:
            body: dict[str, Any] = await response.json()
            assert response.status == status, body
            return body

    async def until_swapped(self) -> list[dict[str, Any]]:
        """Wait for the story's two swaps, with all that was told of them, and until nothing is due any more."""

        def is_whole(swaps: list[dict[str, Any]]) -> bool:
            return len(swaps) == 2 and all(one["told_by_van"] == one["told_by_station"] == 2 for one in swaps)

        await self.until("api/battery/swaps", lambda body: is_whole(body["swaps"]))
        await self.until("api/view/battery", lambda body: body["content"]["due"] == 0)
        found: list[dict[str, Any]] = (await self("api/battery/swaps"))["swaps"]
        return found

    async def until(self, path: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask until the answer is as wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if condition(body := await self(path)):
                    return body
                await asyncio.sleep(0.2)


async def tell_all(broker: services.Server) -> None:
    async with aiomqtt.Client(broker.host, broker.port) as client:
        for teller in tell():
            await (await send(client, teller)).send_until_acknowledged()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Run a gateway that was told the story; nobody changes anything of it."""
    with services.mosquitto() as own:
        folder, settings = tmp_path_factory.mktemp("gateway"), {"http": {"console": True}, "battery": {"settle_s": 1}}
        with GatewayProcess.unlimited(folder, broker_port=own.port, settings=settings) as gateway:
            asyncio.run(tell_all(own))
            yield gateway


@pytest.fixture
async def asker(told: GatewayProcess) -> AsyncIterator[Asker]:
    async with aiohttp.ClientSession() as session:
        yield Asker(session, told.url)


def config_of(folder: Path, **tables: dict[str, Any]) -> GatewayConfig:
    return configuration.parse({"sink": {"type": "duckdb"}, **tables}, source="test", folder=folder)


async def test_books_answer_over_http_and_on_the_command_line_alike(asker: Asker, tmp_path: Path) -> None:
    newest, oldest = await asker.until_swapped()
    assert (newest["van"], newest["station"], newest["request_id"]) == ("van-001", "station-1", 2)
    assert (await asker("api/battery/swaps", limit=1))["swaps"] == [newest]
    assert (await asker("api/battery/swaps", since=oldest["start_utc_ms"] + 1, fleet="test"))["swaps"] == [newest]
    assert (await asker("api/battery/swaps", fleet="another"))["swaps"] == []
    assert (await asker("api/battery/codes"))["codes"] == list(MODULES)

    module = await asker("api/battery/module", code=MODULES[0])
    assert [stay["node"] for stay in module["ledger"]["stays"]] == ["van-001", "station-1", "van-001"]
    assert len(module["ledger"]["swaps"]) == 2
    assert module["ledger"]["is_complete"]
    part = (await asker("api/battery/module", code=MODULES[0], limit=1))["ledger"]
    assert (part["is_complete"], part["stays"], part["swaps"]) == (False, module["ledger"]["stays"][-1:], [newest])
    older = await asker("api/battery/module", code=MODULES[0], before=part["older_utc_ms"])
    assert (older["ledger"]["is_complete"], older["ledger"]["stays"]) == (True, module["ledger"]["stays"][:-1])
    assert {"time_utc_ms", "soc_min_pct", "energy_in_kwh"} <= module["hours"][0].keys()

    middle = oldest["end_utc_ms"] + HOUR_MS // 2
    then = await asker("api/battery/holder", fleet="test", node="van-001", at=middle)
    now = await asker("api/battery/holder", fleet="test", node="van-001")
    assert [stay["module"] for stay in then["stays"] + now["stays"]] == [MODULES[1], MODULES[0]]
    kinds = {one["kind"] for one in (await asker("api/battery/contradictions"))["contradictions"]}
    assert kinds == {"code_unusual"}
    assert (await asker("api/battery/warnings"))["warnings"] == []

    swaps, stays, codes = await asyncio.to_thread(ask_each, HttpAnswers(asker.url))
    assert (swaps["swaps"], stays["stays"], codes["codes"]) == ([newest, oldest], now["stays"], list(MODULES))
    assert gateway_url(config_of(tmp_path, http={"port": urlsplit(asker.url).port})) == asker.url


def ask_all(config: GatewayConfig) -> list[dict[str, Any]]:
    with open_answers(config) as answers:
        return ask_each(answers)


def ask_each(answers: Answers) -> list[dict[str, Any]]:
    return [answers.swaps(), answers.holder("test", "van-001"), answers.codes()]


WRONG_QUESTIONS: list[tuple[str, dict[str, str]]] = [
    ("module", {}),
    ("module", {"code": "x" * 65}),
    ("module", {"code": "\n"}),
    ("holder", {"fleet": "test"}),
    ("holder", {"fleet": "test", "node": "van-001", "at": "yesterday"}),
    ("swaps", {"limit": "0"}),
    ("swaps", {"limit": "1000000"}),
    ("contradictions", {"since": "-1"}),
    ("contradictions", {"kind": "two"}),
    ("contradictions", {"since": "9" * 30}),
]


async def test_question_that_cannot_be_understood_is_answered_with_what_is_allowed(make_gateway: MakeGateway) -> None:
    async with make_gateway(http={"port": 0}) as gateway, aiohttp.ClientSession() as session:
        ask = Asker(session, str(gateway.http_url))
        for path, query in WRONG_QUESTIONS:
            body = await ask(f"api/battery/{path}", status=400, **query)
            assert ":" in body["error"], (path, query)


async def test_module_s_page_gets_nothing_again_while_nothing_of_the_module_has_changed(asker: Asker) -> None:
    await asker.until_swapped()
    statuses: list[int] = []
    url = f"{asker.url}/api/battery/module?code={MODULES[0]}"
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE_S):
        etag = "none"
        while statuses[-1:] != [304]:  # a passport may come in between
            async with session.get(url, headers={"If-None-Match": etag}) as response:
                statuses.append(response.status)
                etag = response.headers.get("ETag", etag)
    assert statuses[0] == 200


async def test_pages_see_the_books_revision_grow(asker: Asker) -> None:
    await asker.until_swapped()
    warned = await asker("api/battery/warnings")
    shown = (await asker("api/view/battery"))["content"]
    assert shown.keys() >= {"revision", "contradiction_count", "warning_count", "due"}
    assert shown["revision"] >= warned["revision"] > 0
    await asker.until("api/view/battery", lambda body: body["content"]["contradiction_count"] == 2)


async def test_command_line_reads_the_file_when_no_gateway_runs(broker: services.Server, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    async with (
        GatewayProcess.unlimited(tmp_path, broker_port=broker.port),
        aiomqtt.Client(broker.host, broker.port) as client,
    ):
        van, _ = tell()
        await (await send(client, van)).send_until_acknowledged()
        with pytest.raises(StorageError, match=r"no \[http\]"):
            await asyncio.to_thread(ask_all, config)
        with pytest.raises(FileInUseError, match="stop it"), open_books(config, is_writing=True):
            pass
        unreachable = config_of(tmp_path, http={"port": 1})
        with pytest.raises(UnavailableError, match="does not answer"):
            await asyncio.to_thread(ask_all, unreachable)
    _, _, codes = ask_all(config)
    assert codes == {"codes": list(MODULES)}
    with open_books(config) as books:
        assert books.custody.ledger(MODULES[0]).module == MODULES[0]


def test_command_line_says_what_to_do_where_there_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"check sink\.path"), contextlib.ExitStack() as stack:
        stack.enter_context(open_answers(config_of(tmp_path)))
    (tmp_path / "swapline.duckdb").write_bytes(b"no database at all" * 1000)
    with pytest.raises(StorageError, match="mends it"), contextlib.ExitStack() as stack:
        stack.enter_context(open_answers(config_of(tmp_path)))


def test_database_that_is_away_is_unavailable(tmp_path: Path) -> None:
    config = config_of(tmp_path, sink={"type": "influxdb1", "url": "http://127.0.0.1:9"})
    with pytest.raises(UnavailableError, match="does not answer"):
        ask_all(config)
