"""The console in a real browser: what people see, without reloading, on a desk and on a phone."""

import asyncio
import re
from collections.abc import Callable

import pytest
from playwright.async_api import BrowserContext, Page, expect

from swapline_wire import catalogue

from .browser_page import CONTRAST, DESK, PHONE, UNNAMED, open_page, tile, until_drawn
from .demo import Demo, code, fill
from .fleet_feed import Unit, module_values, vehicle_values

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

PAGES = {
    "fleet": "/",
    "van": "/holder?fleet=demo&node=van-001",
    "station": "/holder?fleet=demo&node=station-1",
    "stations": "/stations",
    "modules": "/modules",
    "module": f"/module?code={code(1)}",
    "pipeline": "/pipeline",
}


async def test_fleet_shows_every_van_its_status_and_the_figures(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/")
    rows = page.locator(".vans tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.nth(0)).to_contain_text("van-001")
    await expect(rows.nth(0).locator("th .chip")).to_have_text("Online")
    await expect(rows.nth(1).locator("th .chip")).to_have_text("Offline")
    await expect(rows.nth(1)).to_contain_text("Low")
    await expect(tile(page, "Vans online")).to_have_text("1/ 2")
    await expect(tile(page, "Modules ready")).to_have_text("1/ 4 slots")
    await expect(page.locator("sl-map .marker")).to_have_count(3)


async def test_fleet_changes_without_reloading(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/")
    van = demo.units["van-001"]
    charge = page.locator(".vans tbody tr").nth(0).locator("[data-label=Charge]")
    for soc in (41, 7):
        van.send("vehicle", [(demo.now_ms, vehicle_values(soc))])
        await expect(charge).to_contain_text(f"{soc}%")
    await expect(charge).to_contain_text("Critical")
    Unit(demo.state, "van-009", journal=9, anchor_utc_ms=demo.start_utc_ms).send(
        "vehicle", [(demo.now_ms, vehicle_values(88))]
    )
    await expect(page.locator(".vans tbody tr")).to_have_count(3)
    demo.state.apply_status("demo", "van-001", {"online": False})
    await expect(page.locator(".vans tbody tr").nth(0).locator("th .chip")).to_have_text("Offline")


async def test_filter_and_sort_live_in_the_address(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/")
    await page.get_by_role("button", name="Not online 1").click()
    await expect(page.locator(".vans tbody tr")).to_have_count(1)
    await page.get_by_role("searchbox").fill("nothing")
    await expect(page.get_by_text("No van matches")).to_be_visible()
    await page.reload()
    await expect(page.get_by_text("No van matches")).to_be_visible()
    await page.goto(f"{demo.url}/?sort=soc")
    await expect(page.locator(".vans tbody th").first).to_contain_text("van-002")


async def test_a_van_leads_to_its_module_and_back(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/")
    await page.get_by_role("link", name="van-001", exact=True).click()
    await expect(page).to_have_url(f"{demo.url}/holder?fleet=demo&node=van-001")
    await expect(page.get_by_role("heading", level=1)).to_have_text("van-001")
    await page.get_by_role("link", name=code(2)).first.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(code(2))
    await expect(page.locator(".page-heading")).to_contain_text("In van-001, bay 2")
    await page.go_back()
    await expect(page.get_by_role("heading", level=1)).to_have_text("van-001")
    await expect(page).to_have_title("van-001 · swapline")


async def test_a_marker_on_the_map_leads_to_its_holder(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/")
    await page.locator("sl-map .marker", has_text="station-1").locator(".body").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("station-1")


async def test_charts_are_drawn_from_the_database_and_go_on_live(page: Page, demo: Demo) -> None:
    await open_page(page, demo, PAGES["van"])
    chart = page.locator("sl-chart", has_text="Charge of the modules")
    await expect(chart.locator("canvas")).to_be_visible()
    await expect(chart.locator(".legend li").nth(0)).to_have_text(re.compile(r"Bay 1\s+[67]\d\.\d"))
    await expect(chart.locator(".plot-note")).to_have_count(0)
    drawn = await chart.locator("canvas").evaluate(
        "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " const opaque = (i) => d[4 * i + 3] > 200 ? d.slice(4 * i, 4 * i + 3).join() : '';"
        " return new Set(Array.from({length: d.length / 4}, (_, i) => opaque(i))).size }"
    )
    assert drawn > 3
    demo.units["van-001"].send("module", [(demo.now_ms, module_values(33.3))], bay=1, owner=code(1))
    await expect(chart.locator(".legend li").nth(0)).to_have_text(re.compile(r"Bay 1\s+33\.3"))


async def test_a_longer_span_is_asked_of_the_database(page: Page, demo: Demo) -> None:
    await open_page(page, demo, PAGES["van"])
    async with page.expect_request(re.compile("api/series")) as caught:
        await page.get_by_role("button", name="6 h", exact=True).click()
    request = await caught.value
    span = [int(re.search(rf"{name}=(\d+)", request.url)[1]) for name in ("start", "end")]  # type: ignore[index]
    assert span[1] - span[0] == pytest.approx(6 * 3_600_000, abs=10)
    await expect(page).to_have_url(re.compile("range=6h"))


async def test_charts_say_when_the_database_does_not_answer(page: Page, demo: Demo) -> None:
    demo.sink.close()
    await open_page(page, demo, PAGES["module"])
    await expect(page.locator(".plot-note[data-state=error]").first).to_have_text("The database does not answer.")
    await expect(page.locator(".tile").first).to_contain_text("%")
    demo.sink.open()


async def test_module_shows_cells_counters_and_custody_live(page: Page, demo: Demo) -> None:
    await open_page(page, demo, PAGES["module"])
    await expect(page.locator(".cell-bars li")).to_have_count(16)
    await expect(page.locator(".cell-bars li[data-mark=low]").first).to_contain_text("low")
    await expect(page.locator(".sensors li")).to_have_count(4)
    await expect(tile(page, "Cycles")).to_have_text("312")
    van, station = demo.units["van-001"], demo.units["station-1"]
    van.send("event", [(demo.now_ms, {"code": catalogue.BATTERY_OUT, "soc_pct": 60})], bay=1, owner=code(1))
    await expect(page.locator(".page-heading .chip")).to_have_text("Between holders")
    station.send("event", [(demo.now_ms, {"code": catalogue.BATTERY_IN, "soc_pct": 60})], bay=3, owner=code(1))
    await expect(page.locator(".page-heading")).to_contain_text("In station-1, slot 3")
    await expect(page.locator(".moves li")).to_contain_text("van-001 bay 1→station-1 slot 3")


async def test_standing_alarms_say_what_where_and_by_how_much_the_worst_first(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/holder?fleet=demo&node=van-001")
    van, place = demo.units["van-001"], catalogue.find_signal(catalogue.MODULE, "temperature_max_c")
    hot = {"code": 6, "level": 1, "stream": catalogue.MODULE.id, "signal": place, "position": 3}
    van.send("alarm", [(demo.now_ms, hot | {"value": 561, "threshold": 550})], bay=2, owner=code(2))
    alarms = page.get_by_role("list", name="Standing alarms").locator("li")
    await expect(alarms).to_have_count(1)
    what = re.compile("Level 1.*Over-temperature.*sensor 3, 56.1.°C, limit 55.0.°C.*bay 2", re.DOTALL)
    await expect(alarms).to_contain_text(what)
    van.send("alarm", [(demo.now_ms, {"code": 96 + 3, "level": 3, "stream": 1, "value": 8})])
    van.send("vehicle", [(demo.now_ms, vehicle_values(70) | {"faults": 8 | 16})])
    await expect(alarms).to_have_count(3)  # the fault that is told as an alarm is there once
    await expect(alarms.nth(1)).to_contain_text("Level 3")


async def test_stations_show_slots_and_their_states(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/stations")
    slots = page.locator(".slot")
    await expect(slots).to_have_count(4)
    await expect(slots.locator(".chip")).to_have_text(["Ready", "Charging", "Empty", "Fault"])
    await page.get_by_role("link", name="station-1").click()
    await expect(page.locator(".bay").nth(3)).to_contain_text("Output over-current")
    await expect(tile(page, "Grid power")).to_have_text("6.50kW")


async def test_modules_are_found_by_code_or_holder(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/modules")
    await expect(page.locator(".modules tbody tr")).to_have_count(6)
    await page.get_by_role("searchbox").fill("station-1")
    await expect(page.locator(".modules tbody tr")).to_have_count(3)
    await page.get_by_role("searchbox").fill(code(2).lower())
    await expect(page.locator(".modules tbody th")).to_have_text([code(2)])


async def test_pipeline_tells_problems_and_losses(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/pipeline")
    await expect(page.locator(".verdict")).to_contain_text("All well")
    demo.figures.link_fails("live", "connection refused")
    demo.figures.lost["journal_full"] = 40
    demo.figures.quarantined_by_reason["bad_checksum"] = 3
    await expect(page.get_by_role("alert")).to_contain_text("no connection to the broker: connection refused")
    await expect(page.locator(".reason-list")).to_have_text(["Journal full40frames", "Bad checksum3frames"])
    await expect(page.locator(".nodes tbody tr")).to_have_count(3)


async def test_a_lost_connection_is_said_and_mends_itself(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/")
    port = int(demo.url.rsplit(":", 1)[1])
    await demo.stop()
    await expect(page.locator(".banner")).to_contain_text("connection to the gateway is lost")
    await expect(page.locator(".vans tbody tr")).to_have_count(2)
    demo.units["van-001"].send("vehicle", [(demo.now_ms, vehicle_values(31))])
    await demo.start(port)
    await expect(page.locator(".connection")).to_have_text("Live", timeout=20_000)
    await expect(page.locator(".vans tbody tr").nth(0)).to_contain_text("31%")
    await expect(page.locator(".banner")).to_have_count(0)


async def test_a_hidden_page_asks_for_nothing(page: Page, demo: Demo) -> None:
    assert demo.console is not None
    await open_page(page, demo, "/")
    await page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    async with asyncio.timeout(10):
        while demo.console.live.viewer_count:
            demo.units["van-001"].send("vehicle", [(demo.now_ms, vehicle_values(31))])  # a write finds the line closed
            await asyncio.sleep(0.1)


async def test_empty_fleet_explains_itself(context: BrowserContext, make_demo: Callable[[], Demo]) -> None:
    demo = make_demo()
    await demo.start()
    page = await context.new_page()
    texts = {
        "/": "No node has reported yet",
        "/modules": "No module has been seen yet",
        PAGES["van"]: "van-001 has not reported",
    }
    for path, text in texts.items():
        await open_page(page, demo, path)
        await expect(page.locator(".empty").first).to_contain_text(text)
    fill(demo)
    await expect(page.get_by_role("heading", level=1)).to_have_text("van-001")
    await demo.stop()


HOSTILE = "<img/src=x/onerror=a()>"


async def test_names_from_outside_stay_text(page: Page, demo: Demo) -> None:
    van = demo.units["van-001"]
    van.say_birth("van", [1, 2], board="<script>document.title='taken'</script>", firmware="<b>x</b>")
    van.send("module", [(demo.now_ms, module_values(50))], bay=2, owner=HOSTILE)
    dots = Unit(demo.state, "..", journal=77, anchor_utc_ms=demo.start_utc_ms)
    dots.send("vehicle", [(demo.now_ms, vehicle_values(50))])
    await open_page(page, demo, PAGES["van"])
    await expect(page.locator(".page-heading")).to_contain_text("<script>document.title='taken'</script>")
    await page.get_by_role("link", name=HOSTILE).first.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    await page.get_by_role("link", name="Fleet").click()
    await page.get_by_role("link", name="..", exact=True).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("..")
    assert await page.locator("img").count() == 1  # the brand


async def test_theme_follows_the_system_and_a_choice_outlives_the_page(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/")
    html = page.locator("html")
    await page.emulate_media(color_scheme="dark")
    await expect(html).to_have_attribute("data-theme", "dark")
    other = await page.context.new_page()
    await other.emulate_media(color_scheme="dark")
    await other.goto(f"{demo.url}/")
    await page.get_by_role("button", name="Use light colours").click()
    await expect(html).to_have_attribute("data-theme", "light")
    await expect(other.locator("html")).to_have_attribute("data-theme", "light")
    await other.close()
    await page.reload()
    await expect(html).to_have_attribute("data-theme", "light")


async def test_keyboard_reaches_content_and_vans(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/")
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("Skip to content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()
    await page.locator(".vans tbody a").first.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("van-001")
    await expect(page.locator("main")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_fits_is_named_and_has_contrast(page: Page, demo: Demo, scheme: str) -> None:
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for size in (DESK, PHONE):
        await page.set_viewport_size(size)
        for name, path in PAGES.items():
            await open_page(page, demo, path)
            await until_drawn(page)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} at {size}"
            assert await page.evaluate(UNNAMED) == [], name
            assert await page.evaluate(CONTRAST) == [], f"{name}, {scheme}"
            await expect(page.get_by_role("navigation", name="Main").locator("[aria-current=page]")).to_have_count(1)


async def test_figures_keep_their_place_while_they_change(page: Page, demo: Demo) -> None:
    await open_page(page, demo, "/")
    speed = page.locator(".vans tbody tr").nth(0).locator("[data-label=Speed]")
    boxes = []
    for kmh in (11.0, 88.0):
        demo.units["van-001"].send("vehicle", [(demo.now_ms, vehicle_values(50, speed_kmh=kmh))])
        await expect(speed).to_contain_text(f"{kmh:.0f}")
        boxes.append(await speed.bounding_box())
    assert boxes[0] == boxes[1]


# Runs in the page: how many vans' charges each drawing touches, and how often rows come or go.
WATCH = """() => {
  globalThis.drawings = [];
  globalThis.rowsMoved = 0;
  const element = (node) => (node.nodeType === Node.TEXT_NODE ? node.parentElement : node);
  const watcher = new MutationObserver((changes) => {
    const cells = changes.map(({ target }) => element(target).closest("[data-label=Charge]"));
    const touched = new Set(cells.filter(Boolean)).size;
    if (touched) drawings.push(touched);
    rowsMoved += changes.filter(({ target, type }) => type === "childList" && target.matches("tbody")).length;
  });
  const everything = { childList: true, characterData: true, attributes: true, subtree: true };
  watcher.observe(document.querySelector(".vans tbody"), everything);
}"""


async def test_a_fleet_of_500_is_shown_and_only_what_changes_is_drawn_all_of_it_at_once(page: Page, demo: Demo) -> None:
    units = [Unit(demo.state, f"big-{n:03d}", journal=1000 + n, anchor_utc_ms=demo.start_utc_ms) for n in range(500)]
    for unit in units:
        unit.send("vehicle", [(demo.now_ms, vehicle_values(60))])
    await open_page(page, demo, "/")
    await expect(page.locator(".vans tbody tr")).to_have_count(502)
    await page.evaluate(WATCH)
    for changed, soc in ((units[:1], 59), (units, 58)):
        for unit in changed:
            unit.send("vehicle", [(demo.now_ms, vehicle_values(soc))])
        await expect(page.locator(".vans tbody tr").nth(0)).to_contain_text(f"{soc}%")
    assert await page.evaluate("[drawings, rowsMoved]") == [[1, 500], 0]
