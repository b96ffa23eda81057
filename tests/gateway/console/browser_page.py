"""What tests of pages share: how the browser starts, what every page is held to, how to open one."""

from playwright.async_api import Locator, Page, ViewportSize, expect

from .demo import Demo

expect.set_options(timeout=20_000)  # for machines that do something else as well
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
# Luminance contrast of every visible text with the first opaque ground behind it (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("svg, noscript, script")) continue;
    if (!element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(parse(style.color)), light(ground(element))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.7 && Number(style.fontWeight) >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (isLarge ? 3 : 4.5)) poor.push(`${walker.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
UNNAMED = """() => [...document.querySelectorAll("a, button, input, select, [role=img]")]
  .filter((e) => e.checkVisibility() && !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length))
  .map((e) => e.outerHTML)"""


async def open_page(page: Page, demo: Demo, path: str) -> None:
    await page.goto(demo.url + path)
    await expect(page.locator(".connection[data-status=live]")).to_have_text("Live")
    await expect(page.locator(".page")).to_be_visible()


async def until_drawn(page: Page) -> None:
    """Wait until what is there is laid out: the second of two frames begins when the first one is done with."""
    await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def tile(page: Page, label: str) -> Locator:
    return page.locator(".tile", has=page.get_by_text(label, exact=True)).locator("dd").first
