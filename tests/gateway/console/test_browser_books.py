"""Custody, passports, warnings and alarms in a real browser: what people see of the books, and what they do with it."""

import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, ViewportSize, expect

from swapline_gateway.battery.record import Contradiction, EarlyWarning, Ledger, Place, Stay, Swap

from .book_feed import DAY_MS, HOUR_MS, FakeAlarm, FakeBooks, fill_books
from .browser_page import CONTRAST, UNNAMED, open_page, tile, until_drawn
from .demo import STEP_MS, Demo, code, fill
from .fleet_feed import Unit, module_values

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODULE = f"/module?code={code(1)}"
SIZES = [ViewportSize(width=width, height=900) for width in (1400, 1200, 800, 390)]
PAGES = {"fleet": "/", "modules": "/modules", "module": MODULE, "custody": "/custody"}
PAGES |= {"alarms": "/alarms", "past": "/alarms?show=past"}


@pytest.fixture
def books() -> FakeBooks:
    books = FakeBooks()
    fill_books(books, code(1), code(2), time.time_ns() // 1_000_000)
    return books


@pytest_asyncio.fixture(loop_scope="module")
async def demo(make_demo: Callable[[], Demo], books: FakeBooks) -> AsyncIterator[Demo]:
    demo = make_demo()
    demo.books = books
    fill(demo, span_ms=STEP_MS)
    await demo.start()
    yield demo
    await demo.stop()


def now_utc_ms() -> int:
    return time.time_ns() // 1_000_000


def contradiction(module: str, text: str, *, kind: str = "two_places", age_ms: int = 0) -> Contradiction:
    place = Place("demo", "van-002", 1)
    return Contradiction(kind, module, now_utc_ms() - age_ms, None, place, None, None, text)


async def test_a_code_is_taken_apart_and_what_is_unusual_is_said(page: Page, demo: Demo) -> None:
    await open_page(page, demo, MODULE)
    parts = page.locator(".code-parts > div")
    await expect(parts.nth(2)).to_have_text(re.compile(r"Chemistry\s*B\s*lithium iron phosphate"))
    await expect(page.locator(".code-problems")).to_contain_text(
        "its production date '5D8' is no date", ignore_case=True
    )


async def test_a_timeline_shows_holders_and_tells_what_is_pointed_at(page: Page, demo: Demo) -> None:
    await open_page(page, demo, MODULE)
    timeline = page.locator("sl-timeline")
    await expect(timeline.locator(".row-name")).to_have_text(
        [re.compile(name) for name in ("van-001 bay 1", "van-001 bay 2", "van-002 bay 1", "station-1 slot 2", "slot 4")]
    )
    await expect(timeline.locator(".mark")).to_have_count(5)  # three contradictions, two of them at two places
    await timeline.locator(".mark").first.hover()
    await expect(timeline.locator(".timeline-told")).to_contain_text("Half a swap")
    await timeline.get_by_role("button", name="1 day").click()
    await timeline.locator(".stay").nth(1).hover()
    await expect(timeline.locator(".timeline-told")).to_contain_text(re.compile(r"told by the node\) (to|until)"))


async def test_a_timeline_is_moved_by_keys_buttons_and_dragging(page: Page, demo: Demo) -> None:
    await open_page(page, demo, MODULE)
    timeline = page.locator("sl-timeline")
    span = timeline.locator(".timeline-controls > .muted")
    await timeline.get_by_role("button", name="7 days").click()
    await expect(span).to_contain_text("to now")
    bars = await timeline.locator(".stay").count()
    await timeline.locator(".timeline-plot").focus()
    await page.keyboard.press("ArrowLeft")
    await expect(span).not_to_contain_text("now")
    await page.keyboard.press("End")
    await expect(span).to_contain_text("now")
    await page.keyboard.press("+")
    assert await timeline.locator(".stay").count() < bars
    box = await timeline.locator(".timeline-plot").bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + 300, box["y"] + 5)
    await page.mouse.down()
    await page.mouse.move(box["x"] + 700, box["y"] + 5)
    await page.mouse.up()
    await expect(span).not_to_contain_text("now")
    await timeline.get_by_role("button", name="All").click()
    assert await timeline.locator(".stay").count() > bars


async def test_holders_are_a_list_as_well(page: Page, demo: Demo, books: FakeBooks) -> None:
    await open_page(page, demo, MODULE)
    count = len(books.ledgers[code(1)].stays)
    await page.get_by_text(f"List of the {count} stays").click()
    rows = page.locator(".stay-list tbody tr")
    await expect(rows).to_have_count(20)
    await expect(rows.first).to_contain_text(re.compile("van-001 bay 1.*told by the node.*There now", re.DOTALL))
    await page.locator(".stays").get_by_role("button", name="Show more").click()
    await expect(rows).to_have_count(60)


async def test_stays_of_long_ago_are_reached_page_by_page(page: Page, demo: Demo, books: FakeBooks) -> None:
    start_ms = now_utc_ms() - 100 * DAY_MS
    places = [Place("demo", f"van-{n:03d}", 1) for n in range(1, 4)]
    stays = [
        Stay(code(1), places[n % 3], start_ms + n * HOUR_MS, "event", start_ms + (n + 1) * HOUR_MS, "event")
        for n in range(70)
    ]
    books.ledgers[code(1)], books.stays_at_once = Ledger(code(1), tuple(stays)), 30
    await open_page(page, demo, MODULE)
    summary, rows = page.locator(".stays summary"), page.locator(".stay-list tbody tr")
    await expect(summary).to_have_text("List of the newest 30 stays")
    older, newest = (page.get_by_role("button", name=name) for name in ("Older stays", "Newest stays"))
    await older.click()
    await expect(summary).to_contain_text("List of the 30 stays before")
    await expect(page.locator("sl-timeline .stay")).to_have_count(30)
    await expect(page.locator("sl-timeline .timeline-controls > .muted")).not_to_contain_text("now")
    await older.click()
    await expect(summary).to_contain_text("List of the 10 stays before")
    await summary.click()
    await expect(rows).to_have_count(10)
    await expect(older).to_have_count(0)
    await newest.click()
    await expect(summary).to_have_text("List of the newest 30 stays")
    await expect(newest).to_have_count(0)


async def test_a_passport_states_uncertainty_method_and_what_is_missing(page: Page, demo: Demo) -> None:
    await open_page(page, demo, MODULE)
    await expect(tile(page, "Capacity")).to_have_text(re.compile(r"503\.2 ± 6\.4Ah"))
    await expect(page.locator(".estimates .tile").nth(0)).to_contain_text("siblings 515, above 12 % of them")
    await expect(tile(page, "Resistance")).to_have_text("Not yet known")
    await expect(page.locator(".estimates .tile").nth(1)).to_contain_text("3 of 10 current steps were seen")
    await expect(tile(page, "Equivalent full cycles")).to_have_text("30.1")
    await expect(page.locator(".bands").first).to_contain_text(re.compile(r"20 to 80 %\s*62\.7%"))
    await page.get_by_text("How these figures were found").click()
    await expect(page.locator(".methods")).to_contain_text("charge between rest points")
    await expect(page.locator("sl-history canvas")).to_have_count(4)


async def test_a_module_that_only_the_books_know_has_its_page(page: Page, demo: Demo, books: FakeBooks) -> None:
    stay = Stay("RETIRED-1", Place("demo", "van-007", 1), now_utc_ms() - 400 * DAY_MS, "event")
    gone = replace(stay, until_utc_ms=now_utc_ms() - 399 * DAY_MS, until_evidence="event")
    books.ledgers["RETIRED-1"] = Ledger("RETIRED-1", (gone,))
    await open_page(page, demo, "/module?code=RETIRED-1")
    await expect(page.get_by_role("heading", level=1)).to_have_text("RETIRED-1")
    await expect(page.locator(".page-heading")).to_contain_text("Not heard of lately")
    await page.get_by_role("button", name="All").click()
    await expect(page.locator("sl-timeline .stay")).to_have_count(1)
    await expect(page.locator(".code-problems")).to_contain_text("9 characters instead of 24")


async def test_contradictions_are_listed_newest_first_and_found(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/custody")
    items = page.locator(".contradictions li")
    await expect(items.locator(".chip")).to_have_text(["In two places", "Arrived, never left", "Half a swap"])
    await expect(items.nth(0)).to_contain_text("What to do")
    await page.get_by_label("Kind").select_option("swap_half_told")
    await expect(items).to_have_count(1)
    await expect(page).to_have_url(re.compile("kind=swap_half_told"))
    await page.get_by_label("Kind").select_option("")
    await page.get_by_role("searchbox").fill("nowhere")
    await expect(page.get_by_text("No contradiction matches")).to_be_visible()


async def test_custody_changes_without_reloading(page: Page, demo: Demo, books: FakeBooks) -> None:
    await open_page(page, demo, "/custody")
    await expect(page.locator(".swaps tbody tr")).to_have_count(20)
    swap = Swap(
        now_utc_ms() - 30_000, now_utc_ms(), "demo", "van-900", 1, "station-1", code(2), code(3), 1, 2, 77, "request",
        12.0, 98.0, 100.0, None, None, told_by_van=1, told_by_station=2,
    )  # fmt: skip
    found = contradiction(code(3), "It answered in two vans at once.")
    books.ledgers[code(3)] = Ledger(code(3), (), (swap,), (found,))
    books.change()
    await expect(page.locator(".contradictions li").first).to_contain_text("It answered in two vans at once.")
    row = page.locator(".swaps tbody tr").first
    await expect(row).to_contain_text(
        re.compile("van-900 bay 1.*station-1.*12 %, to slot 2.*98 %, from slot 1", re.DOTALL)
    )
    await expect(row.locator(".chip")).to_have_text("3 of 4")


async def test_nothing_is_asked_while_the_fleet_changes_and_the_books_do_not(
    page: Page, demo: Demo, books: FakeBooks
) -> None:
    await open_page(page, demo, MODULE)
    await expect(page.locator("sl-timeline .stay").first).to_be_visible()
    await expect(page.locator(".alarm-list")).to_be_visible()
    asked = len(books.asked)
    for soc in range(30, 40):  # patches come twice a second: this takes longer than the books may be asked again after
        demo.units["van-001"].send("module", [(demo.now_ms, module_values(soc))], bay=1, owner=code(1))
        await expect(tile(page, "Charge")).to_contain_text(f"{soc}")
    assert len(books.asked) == asked


async def test_warnings_are_ranked_with_reasons_and_evidence(page: Page, demo: Demo, books: FakeBooks) -> None:
    await open_page(page, demo, "/modules")
    warnings = page.locator(".warnings > li")
    await expect(warnings).to_have_count(2)
    await expect(warnings.nth(0)).to_contain_text(
        re.compile(f"{code(1)}.*0.8 mV more each day.*Growth.*0.760.mV / day", re.DOTALL)
    )
    await expect(warnings.nth(0)).to_contain_text("20-30\u00a0%")
    await expect(warnings.nth(1)).to_contain_text("Sensor 3 stopped moving")
    books.warnings = [EarlyWarning(f"M{n}", "hot_module", n / 20, "Warm.", now_utc_ms(), {}) for n in range(12)]
    books.change()
    await expect(warnings).to_have_count(5)
    await page.get_by_role("button", name="Show all 12").click()
    await expect(warnings.nth(0)).to_contain_text("M11")
    await expect(warnings).to_have_count(12)


async def test_an_alarm_is_acknowledged_by_name_and_the_name_is_remembered(
    page: Page, demo: Demo, books: FakeBooks
) -> None:
    await open_page(page, demo, "/")
    await expect(tile(page, "Alarms")).to_have_text("2")
    await page.get_by_role("link", name="Alarms 2 not acknowledged").click()
    rows = page.locator(".alarm-list tbody tr")
    await expect(rows.locator("th")).to_have_text(
        [re.compile(name) for name in ("steering", "Cell spread", "temperature")]
    )
    await expect(rows.nth(0)).to_contain_text(re.compile("Ada, 4 h 00 ago.*towed to the yard", re.DOTALL))
    await page.get_by_role("button", name="Acknowledge cell spread of van-001").click()
    await expect(page.get_by_label("Your name")).to_be_focused()
    await page.keyboard.type("Grace")
    await page.keyboard.press("Tab")
    await page.keyboard.type("on my way")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("1 alarm acknowledged.")).to_be_visible()
    await expect(rows.nth(1)).to_contain_text("Grace")
    await expect(page.locator(".badge")).to_contain_text("1")
    assert [(said["by"], said["note"], said["code"]) for said in books.posted] == [("Grace", "on my way", 5)]
    await page.reload()
    await page.get_by_role("button", name="Acknowledge over-temperature of station-1").click()
    await expect(page.get_by_label("Your name")).to_have_value("Grace")
    await expect(page.get_by_label("Note")).to_be_focused()


async def test_several_alarms_at_once_and_what_failed_stays_chosen(page: Page, demo: Demo, books: FakeBooks) -> None:
    books.alarms += [FakeAlarm("van-002", 40 + n, f"BMS protection: {n}", 2, now_utc_ms() - n, 1) for n in range(8)]
    books.refused_code = 43
    await open_page(page, demo, "/alarms?show=open")
    await page.get_by_label("Choose all that are not acknowledged").check()
    await page.get_by_role("button", name="Acknowledge 10 alarms").click()
    await expect(page.get_by_label("Your name")).to_be_focused()  # it is asked for, and nothing was sent
    assert books.posted == []
    await page.get_by_label("Your name").fill("Grace")
    await page.get_by_role("button", name="Acknowledge 10 alarms").click()
    result = page.locator(".acknowledge-result")
    await expect(result).to_contain_text("9 alarms acknowledged, 1 alarm not: The broker does not answer")
    await expect(page.locator(".alarm-list tbody tr")).to_have_count(1)
    books.refused_code = None
    await page.get_by_role("button", name="Acknowledge 1 alarm").click()
    await expect(page.get_by_text("Every standing alarm is acknowledged")).to_be_visible()
    assert len(books.posted) == 11


async def test_past_alarms_are_filtered_and_may_be_acknowledged_later(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/alarms?show=past")
    rows = page.locator(".alarm-list tbody tr")
    await expect(rows).to_have_count(4)
    await expect(rows.nth(3)).to_contain_text(re.compile("over-current.*Over, after 1 h 00", re.DOTALL | re.IGNORECASE))
    await page.get_by_label("Level").select_option("3")
    await expect(rows).to_have_count(1)
    await page.get_by_label("Level").select_option("")
    await page.get_by_role("searchbox").fill("van-001")
    await expect(rows).to_have_count(2)
    await page.get_by_label("Span").select_option("1d")
    await expect(rows).to_have_count(1)


async def test_a_holder_leads_to_its_alarms(page: Page, demo: Demo) -> None:
    hot = {"code": 6.0, "level": 1, "stream": 2, "value": 561, "threshold": 550}
    demo.units["van-001"].send("alarm", [(demo.now_ms, hot)], bay=2, owner=code(2))
    await open_page(page, demo, "/holder?fleet=demo&node=van-001")
    await page.get_by_role("link", name="Acknowledge, and who has").click()
    await expect(page.locator(".alarm-list tbody th")).to_have_text([re.compile("Cell spread")])


async def test_a_module_page_has_its_own_alarms(page: Page, demo: Demo) -> None:
    await open_page(page, demo, MODULE)
    rows = page.locator(".alarm-list tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text(re.compile("Cell spread.*cell 4, 0.512.V, limit 0.5.V", re.DOTALL))


async def test_books_that_do_not_answer_are_said_and_mend_themselves(page: Page, demo: Demo, books: FakeBooks) -> None:
    books.is_away = True
    await open_page(page, demo, "/alarms")
    await expect(page.locator(".empty")).to_contain_text("The database does not answer. Trying again by itself.")
    books.is_away = False
    await expect(page.locator(".alarm-list tbody tr")).to_have_count(3)
    books.is_away = True
    books.change()
    await expect(page.locator(".book-note")).to_contain_text("What you see is from before.")
    await expect(page.locator(".alarm-list tbody tr")).to_have_count(3)


async def test_a_gateway_without_books_says_so_on_every_page(
    context: BrowserContext, make_demo: Callable[[], Demo]
) -> None:
    demo = make_demo()
    fill(demo, span_ms=STEP_MS)
    await demo.start()
    page = await context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path, text in {"/custody": "keeps no books of the modules", "/alarms": "keeps no alarm book"}.items():
        await open_page(page, demo, path)
        await expect(page.locator(".empty").first).to_contain_text(text)
    await open_page(page, demo, MODULE)
    await expect(page.get_by_role("heading", name="Moves")).to_be_visible()
    assert not [url for url in asked if "api/battery" in url or "api/alarms" in url]
    await demo.stop()


async def test_books_that_are_off_or_behind_say_why_and_how_far(page: Page, demo: Demo, books: FakeBooks) -> None:
    books.due = 412
    await open_page(page, demo, "/custody")
    note = page.get_by_text("The books are 20 min behind: 412 hours wait to be taken in.")
    await expect(note).to_be_visible()
    books.due = 0
    await expect(note).to_have_count(0)
    books.off = "the database answers no InfluxQL"
    await expect(page.get_by_text("The database answers no InfluxQL.").first).to_be_visible()
    await page.get_by_role("link", name="Modules").click()
    await expect(page.get_by_role("heading", name="Early warnings")).to_have_count(0)


async def test_empty_books_are_said_in_words(page: Page, demo: Demo, books: FakeBooks) -> None:
    books.ledgers, books.warnings, books.alarms, books.passports, books.hours = {}, [], [], {}, {}
    texts = {"/custody": "Nothing contradicts itself", "/alarms": "No alarm stands", "/modules": "No early warning"}
    for path, text in (texts | {MODULE: "No holder is known yet"}).items():
        await open_page(page, demo, path)
        await expect(page.get_by_text(text)).to_be_visible()
    await expect(page.get_by_text("No passport yet")).to_be_visible()


HOSTILE = "<img/src=x/onerror=a()>"


async def test_words_of_books_and_of_people_stay_text(page: Page, demo: Demo, books: FakeBooks) -> None:
    books.ledgers["X"] = Ledger(HOSTILE, (), (), (contradiction(HOSTILE, f"It said {HOSTILE}"),))
    books.warnings.append(EarlyWarning(HOSTILE, HOSTILE, 1.0, HOSTILE, now_utc_ms(), {HOSTILE: HOSTILE}))
    books.alarms.append(FakeAlarm(HOSTILE, 1, HOSTILE, 3, now_utc_ms(), 1, HOSTILE))
    for path, place in {"/custody": ".contradictions", "/modules": ".warnings", "/alarms": ".alarm-list"}.items():
        await open_page(page, demo, path)
        await expect(page.locator(place)).to_contain_text(HOSTILE)
        assert await page.locator("img").count() == 1  # the brand
    await page.get_by_role("button", name=f"Acknowledge {HOSTILE}").click()
    await page.get_by_label("Your name").fill(HOSTILE)
    await page.get_by_label("Note").fill(HOSTILE)
    await page.keyboard.press("Enter")
    await expect(page.locator(".said q").first).to_have_text(HOSTILE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_of_the_books_fits_is_named_and_has_contrast(page: Page, demo: Demo, scheme: str) -> None:
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for name, path in PAGES.items():
        await page.set_viewport_size(SIZES[0])
        await open_page(page, demo, path)
        if "alarms" in path:
            await page.get_by_label("Choose all that are not acknowledged").check()
        for size in SIZES:
            await page.set_viewport_size(size)
            await until_drawn(page)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} at {size}"
            assert await page.evaluate(OVERFLOWING) == [], f"{name} at {size}"
            assert await page.evaluate(CONTRAST) == [], f"{name}, {scheme}"
        assert await page.evaluate(UNNAMED) == [], name


# What sticks out of its panel, but for what scrolls by itself or is cut on purpose.
OVERFLOWING = """() => [...document.querySelectorAll(".panel")].flatMap((panel) => {
  const right = panel.getBoundingClientRect().right + 1;
  return [...panel.querySelectorAll("*")].filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > right
    && !e.closest(".scroll, svg, .segments, .visually-hidden")).map((e) => e.outerHTML.slice(0, 80));
})"""

# Runs in the page: how many elements it ever had.
WATCH = """() => {
  globalThis.most = 0;
  const count = () => (globalThis.most = Math.max(globalThis.most, document.getElementsByTagName("*").length));
  new MutationObserver(count).observe(document, { childList: true, subtree: true });
}"""


async def test_of_1500_modules_and_500_contradictions_no_more_is_drawn_than_people_read(
    page: Page, demo: Demo, books: FakeBooks
) -> None:
    unit = Unit(demo.state, "van-003", journal=3, anchor_utc_ms=demo.start_utc_ms)
    for number in range(1_500):
        unit.send("module", [(demo.now_ms, module_values(50))], bay=1, owner=f"M{number:05d}")
    many = [contradiction(f"M{n:05d}", f"number {n}", age_ms=n * 1_000) for n in range(500)]
    books.ledgers["M"] = Ledger("M", (), (), tuple(many))
    await page.add_init_script(f"({WATCH})()")
    await open_page(page, demo, "/modules")
    await expect(page.locator(".modules tbody tr")).to_have_count(300)
    await page.get_by_role("link", name="Custody").click()
    await expect(page.locator(".contradictions li")).to_have_count(50)
    await page.get_by_role("searchbox").fill("M00499")
    await expect(page.locator(".contradictions li")).to_have_count(1)
    assert await page.evaluate("globalThis.most") < 12_000  # it is 8,200; all the rows have five times as many


async def test_five_years_of_stays_are_drawn_as_what_can_be_told_apart(
    page: Page, demo: Demo, books: FakeBooks
) -> None:
    start_ms = now_utc_ms() - 5 * 365 * DAY_MS
    places = [Place("demo", f"van-{n:03d}", 1 + n % 3) for n in range(300)] + [
        Place("demo", "station-1", n) for n in range(1, 5)
    ]
    stays = [
        Stay(code(1), places[n % 304], start_ms + n * 4 * HOUR_MS, "event", start_ms + (n + 1) * 4 * HOUR_MS, "event")
        for n in range(10_950)
    ]
    books.ledgers[code(1)], books.stays_at_once = Ledger(code(1), tuple(stays)), len(stays)
    await page.add_init_script(f"({WATCH})()")
    await open_page(page, demo, MODULE)
    timeline = page.locator("sl-timeline")
    await timeline.get_by_role("button", name="All").click()
    await expect(timeline.locator(".row-name")).to_have_text([re.compile("Vans"), re.compile("Stations")])
    bars = await timeline.locator(".stay").count()
    assert 0 < bars < 3_000
    await timeline.get_by_role("button", name="1 day").click()
    await expect(timeline.locator(".stay")).to_have_count(6, timeout=20_000)
    assert await page.evaluate("globalThis.most") < 4_000  # it is 2,000; all the stays have twenty times as many
