"""A test's page in a real browser, with a timeline as long as timelines get: what an engineer does with it."""

import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from swapline_bench.faces.modbus import crc16
from swapline_bench.report.page import Run, write_report
from swapline_bench.report.result import FAILED, PASSED, Result, Results
from swapline_bench.report.timeline import Timeline
from swapline_wire import catalogue, message
from swapline_wire.frame import FrameBuilder

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

expect.set_options(timeout=10_000)  # for machines that do something else as well
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
MANY, SOME = 100_000, 20_000  # entries of the long and of the short timeline
LOG_EVERY, FAULT_EVERY = 100, 5000
OWNER = "08APB0000001AB0000000001"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _modbus(body: bytes) -> bytes:
    return body + crc16(body)


def _frame(row_ms: int) -> bytes:
    """Return a message with a frame of two module rows: one with numbers, one without."""
    stream = next(stream for stream in catalogue.STREAMS if stream.name == "module")
    builder = FrameBuilder(stream, bay=1, owner=OWNER)
    builder.add(row_ms, [512 if signal.name == "voltage_v" else signal.minimum for signal in stream.signals])
    builder.add(row_ms + 100, [catalogue.FORMATS[signal.format][2] for signal in stream.signals])
    frame = builder.seal(journal=7, seq=1, boot=3, time_quality=catalogue.TIME_GNSS, anchor_utc_ms=1790000000000)
    return message.pack_up_head(7, []) + bytes(frame)


def _fill(timeline: Timeline, clock: Clock, count: int) -> None:
    drawn = random.Random(1)  # noqa: S311 - the same page every time
    timeline.power("on")
    timeline.serial("gnss", False, b"$GPGLL,,,,,,V,N*64\r\n")
    timeline.message("swapline/v1/bench/node-001/up", _frame(1000))
    timeline.log("0.5 warning node <script>document.title = 'hacked'</script>")
    request = _modbus(bytes((1, 4, 0x10, 0, 0, 18)))
    for number in range(count - 5):
        clock.now_s += 0.1
        if number % LOG_EVERY == 0:
            timeline.log(f"{clock.now_s:.3f} info journal {number} frames")
        elif number % FAULT_EVERY == 1:
            timeline.fault("bay1: bit error")
        elif number % 2:
            timeline.serial("bay1", True, request)
        else:
            answer = _modbus(bytes((1, 4, 36)) + drawn.randbytes(36))
            timeline.serial("bay1", False, answer[:-1] if number % FAULT_EVERY == 2 else answer)
    timeline.mark("call failed: a value was altered")


def _timeline(count: int) -> Timeline:
    clock = Clock()
    timeline = Timeline(entries_max=count, bytes_max=2**30, clock=clock)
    _fill(timeline, clock, count)
    return timeline


def _write(folder: Path) -> Path:
    results = Results()
    for name, count in (("long", MANY), ("short", SOME)):
        _timeline(count).save(folder / "tests" / f"{name}.jsonl")
        failed = Result(f"t.py::test_that_is_{name}", name, promise="<i>keeps</i>", outcome=FAILED, message="1 < 2")
        results.tests[failed.nodeid] = failed
    results.tests["t.py::test_without"] = Result("t.py::test_without", "none", promise="other", outcome=PASSED)
    provenance = {
        "bench": {"name": "virtual", "description": "", "file": "virtual.toml", "sha256": "00", "text": "[bench]"},
        "firmware": {"version": "0.1.0"},
        "repository": {"commit": "unknown"},
        "micropython": "unknown",
        "host": {"system": "Linux", "cores": 2, "python": "3.11", "is_ci": False},
        "packages": {},
    }
    write_report(folder, Run(results, provenance, "swapline hil run", 1790000000.0, 3.0))
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("report"))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser(require: Callable[[str], Path]) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=require("chromium"), args=ARGUMENTS)
        yield browser
        await browser.close()


@contextlib.asynccontextmanager
async def _open(browser: Browser, report: Path, name: str, count: int) -> AsyncIterator[Page]:
    """Open a page that must not complain, and must ask for nothing but itself."""
    complaints: list[str] = []
    context = await browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light")
    page = await context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("request", lambda asked: complaints.append(asked.url) if not _is_own(asked.url, report) else None)
    await page.goto((report / "tests" / f"{name}.html").as_uri())
    await expect(page.locator("#count")).to_have_text(f"{count:,} of {count:,} entries")
    yield page
    await context.close()
    assert complaints == []


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, report: Path) -> AsyncIterator[Page]:
    async with _open(browser, report, "short", SOME) as page:
        yield page


@pytest_asyncio.fixture(loop_scope="module")
async def long_page(browser: Browser, report: Path) -> AsyncIterator[Page]:
    async with _open(browser, report, "long", MANY) as page:
        yield page


def _is_own(url: str, report: Path) -> bool:
    return url.startswith((report.as_uri(), "data:,"))


async def test_only_rows_in_sight_exist_and_every_entry_can_be_reached(long_page: Page) -> None:
    assert await long_page.locator("#list .row").count() < 100
    await long_page.evaluate("document.getElementById('list').scrollTop = 0")
    await expect(long_page.locator("#list .row").first).to_contain_text("on")
    await long_page.evaluate("document.getElementById('list').scrollTop = 1e9")
    await expect(long_page.locator("#list .row").last).to_contain_text("call failed: a value was altered")
    assert await long_page.locator("#list .row").count() < 100


async def test_failure_is_in_sight_when_the_page_opens(page: Page) -> None:
    await expect(page.locator("#list .row.selected")).to_contain_text("call failed: a value was altered")
    await expect(page.locator("#detail")).to_be_hidden()


async def test_telegrams_have_words_and_control_characters_are_visible(page: Page) -> None:
    await page.evaluate("document.getElementById('list').scrollTop = 0")
    gnss = page.locator("#list .row", has_text="GPGLL")
    await expect(gnss.locator(".control")).to_have_text(["CR", "LF"])
    await expect(page.locator("#list .row", has_text="read 18 input registers at 0x1000").first).to_contain_text(
        "01 04 10"
    )
    await page.locator("#bytes").click()
    await expect(page.locator("#list .row", has_text="GPGLL")).to_contain_text("24 47 50 47 4c 4c")


async def test_filter_leaves_what_matches_and_says_how_many(long_page: Page) -> None:
    query, count = long_page.locator("#query"), long_page.locator("#count")
    await query.fill("damaged")
    await expect(count).to_have_text(f"{MANY // FAULT_EVERY} of 100,000 entries")
    await query.fill("journal frames -info")
    await expect(count).to_have_text("0 of 100,000 entries")
    await query.fill("/bit error|damaged/")
    await expect(count).to_have_text(f"{2 * MANY // FAULT_EVERY} of 100,000 entries")
    await query.fill("/(/")
    await expect(query).to_have_class("wrong")
    await query.press("Escape")
    await long_page.keyboard.press("Escape")
    await long_page.keyboard.press("Escape")
    await expect(count).to_have_text("100,000 of 100,000 entries")


async def test_message_opens_to_its_rows_in_peoples_units(page: Page) -> None:
    await page.evaluate("document.getElementById('list').scrollTop = 0")
    await page.locator("#list .row", has_text="#1 module bay 1 x2").click()
    detail = page.locator("#detail")
    await expect(detail).to_contain_text(OWNER)
    cells = detail.locator("table.rows tr", has_text="voltage_v").first.locator("td")
    await expect(cells).to_have_text(["V", "5.12", "\N{EN DASH}"])
    await page.keyboard.press("Escape")
    await expect(detail).to_be_hidden()


async def test_keyboard_zooms_moves_and_finds_trouble(page: Page) -> None:
    await page.keyboard.press("l")
    await expect(page.locator("#window")).to_contain_text("(1.00 s)")
    await page.keyboard.press("+")
    await expect(page.locator("#window")).to_contain_text("(500.5 ms)")
    await page.keyboard.press("0")
    await expect(page.locator("#count")).to_have_text("20,000 of 20,000 entries")
    await page.keyboard.press("Shift+N")
    await expect(page.locator("#list .row.selected")).to_contain_text("damaged")
    await page.keyboard.press("z")
    await expect(page.locator("#window")).to_contain_text("(500.0 ms)")
    await page.keyboard.press("j")
    await expect(page.locator("#list .row.selected")).to_contain_text("read 18 input registers")


async def test_picture_zooms_by_dragging_and_hides_tracks_by_their_names(page: Page) -> None:
    lanes = page.locator("#lanes")
    box = await lanes.bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + 600, box["y"] + 80)
    await page.mouse.down()
    await page.mouse.move(box["x"] + 700, box["y"] + 80)
    await page.mouse.up()
    await expect(page.locator("#count")).not_to_have_text("20,000 of 20,000 entries")
    await lanes.dblclick(position={"x": 600, "y": 80})
    await expect(page.locator("#count")).to_have_text("20,000 of 20,000 entries")
    tops = await page.evaluate("page.lanes.lanes().map((lane) => [lane.track.name, lane.top])")
    top = next(top for name, top in tops if name == "serial bay1")
    await lanes.click(position={"x": 20, "y": top + 5})
    shown = SOME // LOG_EVERY + SOME // FAULT_EVERY + 5
    await expect(page.locator("#count")).to_have_text(f"{shown:,} of 20,000 entries")


async def test_theme_follows_the_key_and_is_kept_from_page_to_page(page: Page, report: Path) -> None:
    html = page.locator("html")
    await expect(html).to_have_attribute("data-theme", "light")
    other = await page.context.new_page()
    await other.goto((report / "index.html").as_uri())
    await page.keyboard.press("t")
    await expect(html).to_have_attribute("data-theme", "dark")
    await expect(other.locator("html")).to_have_attribute("data-theme", "dark")  # so the browser has kept it
    await page.goto((report / "index.html").as_uri())
    await expect(html).to_have_attribute("data-theme", "dark")
    await page.locator("#theme").click()
    await expect(html).to_have_attribute("data-theme", "light")
    await expect(other.locator("html")).to_have_attribute("data-theme", "light")


async def test_nothing_that_was_recorded_becomes_part_of_the_page(page: Page, report: Path) -> None:
    assert await page.title() == "failed: that is short"
    await expect(page.locator("header")).to_contain_text("<i>keeps</i>")
    await page.goto((report / "index.html").as_uri())
    await expect(page.locator("tr.promise td").first).to_have_text("<i>keeps</i>")


async def test_test_without_a_timeline_says_so(page: Page, report: Path) -> None:
    await page.goto((report / "tests" / "none.html").as_uri())
    await expect(page.locator("main")).to_contain_text(
        "No timeline: this test had no desk, or ended before it was there."
    )


async def test_everything_is_drawn_in_less_than_a_second_on_a_busy_machine(long_page: Page) -> None:
    await long_page.keyboard.press("0")
    draw = "(() => { const began = performance.now(); page.lanes._draw(); return performance.now() - began; })()"
    # The machine may be late, but not every time: the shortest shows how long drawing takes.
    assert min([await long_page.evaluate(draw) for _ in range(5)]) < 1000
