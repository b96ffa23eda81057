"""Fixtures of the console's tests: the demo, and a browser to look at it."""

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from swapline_gateway.config import DuckdbConfig
from swapline_gateway.history_duckdb import DuckdbHistory
from swapline_gateway.pipeline import PipelineFigures
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.state import FleetState

from .browser_page import ARGUMENTS, DESK
from .demo import SPAN_MS, Demo, fill


@pytest.fixture
def make_demo(tmp_path: Path) -> Iterator[Callable[[], Demo]]:
    made: list[Demo] = []

    def make() -> Demo:
        sink = DuckdbSink(DuckdbConfig(path=tmp_path / f"history-{len(made)}.duckdb", thread_count=1))
        sink.open()
        figures = PipelineFigures(spool_limit_bytes=1 << 30, sink_name="duckdb")
        figures.link_works("live")
        now_utc_ms = time.time_ns() // 1_000_000
        made.append(Demo(FleetState(), sink, DuckdbHistory(sink), figures, now_utc_ms - SPAN_MS))
        return made[-1]

    yield make
    for demo in made:
        demo.history.close()
        demo.sink.close()


@pytest_asyncio.fixture(loop_scope="module")
async def demo(make_demo: Callable[[], Demo]) -> AsyncIterator[Demo]:
    demo = make_demo()
    fill(demo)
    await demo.start()
    yield demo
    await demo.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser(require: Callable[[str], Path]) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=require("chromium"), args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(viewport=DESK, color_scheme="light")
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(context: BrowserContext, demo: Demo) -> AsyncIterator[Page]:
    """A page that must not complain: no script error, no refused resource, no violated policy."""
    complaints: list[str] = []
    page = await context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(demo.url) else None)
    yield page
    expected = re.compile(r"ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|status of 50[23]")
    assert [text for text in complaints if not expected.search(text)] == []
