"""Browser, gateway, broker, database, all real: what nodes tell is on the pages, what people say is at the broker."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect

from swapline_bench import services
from swapline_bench.frame_source import row_of
from swapline_gateway.gateway import Gateway
from swapline_wire.catalogue import ALARM_STREAM, MODULE, find_signal
from tests.gateway.battery.swap_story import HOUR_MS, MODULES, Teller, tell
from tests.gateway.battery.test_keeper_crash import send
from tests.gateway.conftest import MakeGateway

from .browser_page import ARGUMENTS, DESK, tile

expect.set_options(timeout=30_000)  # the keeper takes a moment until books are derived


def raise_alarm(node: Teller, module: str, time_ms: int) -> None:
    """Tell over-temperature of sensor 3 in bay 1, as a node would."""
    place = find_signal(MODULE, "temperature_max_c")
    row = row_of(ALARM_STREAM, code=6, level=2, signal=place, position=3, value=612, threshold=600)
    row[[signal.name for signal in ALARM_STREAM.signals].index("stream")] = MODULE.id  # it is also a parameter's name
    node.frames.append(node.source.frame([(time_ms, row)], stream=ALARM_STREAM, bay=1, owner=module))


@pytest_asyncio.fixture
async def page(require: Callable[[str], Path]) -> AsyncIterator[Page]:
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=require("chromium"), args=ARGUMENTS)
        page = await browser.new_page(viewport=DESK)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        yield page
        await browser.close()
    assert complaints == []


async def see_custody(page: Page, gateway: Gateway) -> None:
    await page.goto(f"{gateway.http_url}/custody")
    rows = page.locator(".swaps tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text(
        re.compile(f"van-001 bay 1.*station-1.*{MODULES[1]}.*{MODULES[0]}", re.DOTALL)
    )
    await expect(rows.first.locator(".chip")).to_have_text("Both sides")
    await expect(page.locator(".contradictions li .chip").first).to_have_text("Unusual code")


async def see_module(page: Page, gateway: Gateway) -> None:
    await page.goto(f"{gateway.http_url}/module?code={MODULES[0]}")
    await page.get_by_role("button", name="All").click()
    await expect(page.locator("sl-timeline .stay")).to_have_count(3)
    await page.get_by_text("List of the 3 stays").click()
    rows = page.locator(".stay-list tbody tr")
    await expect(rows.locator("th")).to_have_text([re.compile(name) for name in ("van-001", "station-1", "van-001")])
    await expect(page.locator(".swaps tbody tr")).to_have_count(2)
    await expect(tile(page, "Capacity")).to_have_text("Not yet known")
    await expect(tile(page, "Swaps")).to_have_text("2")
    await expect(page.locator(".bands").first).to_contain_text("20 to 80 %")
    await expect(page.locator("sl-history canvas")).to_have_count(4)


async def acknowledge(page: Page) -> None:
    await page.get_by_role("link", name="Alarms 1 not acknowledged").click()
    row = page.locator(".alarm-list tbody tr")
    await expect(row).to_contain_text(
        re.compile("Level 2.*Over-temperature.*sensor 3, 61.2.°C, limit 60.°C.*van-001.*bay 1", re.DOTALL)
    )
    await row.get_by_role("button", name="Acknowledge").click()
    await expect(page.get_by_label("Your name")).to_be_focused()
    await page.keyboard.type("Grace")
    await page.keyboard.press("Tab")
    await page.keyboard.type("on my way")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("1 alarm acknowledged.")).to_be_visible()
    await expect(row).to_contain_text(re.compile("Grace.*on my way", re.DOTALL))
    await expect(page.locator(".badge")).to_have_count(0)


async def retained(client: aiomqtt.Client, topic: str) -> dict[str, Any]:
    await client.subscribe(topic, 1)
    async with asyncio.timeout(20):
        async for message in client.messages:
            if message.topic.matches(topic):
                content: dict[str, Any] = json.loads(bytes(message.payload))
                return content
    raise AssertionError


async def test_what_nodes_tell_is_seen_and_an_alarm_is_acknowledged_at_the_broker(
    page: Page, make_gateway: MakeGateway, broker: services.Server
) -> None:
    van, station = tell()
    raise_alarm(van, MODULES[0], 3 * HOUR_MS)
    async with (
        make_gateway(http={"port": 0}, battery={"settle_s": 1}) as gateway,
        aiomqtt.Client(broker.host, broker.port) as client,
    ):
        for teller in (van, station):
            await (await send(client, teller)).send_until_acknowledged()
        await see_custody(page, gateway)
        await see_module(page, gateway)
        await acknowledge(page)
        said = await retained(client, "swapline/v1/+/van-001/state/acknowledged/1/6")
        assert (said["by"], said["note"], said["module"]) == ("Grace", "on my way", MODULES[0])
        await page.goto("about:blank")  # or it would complain that the gateway ends
