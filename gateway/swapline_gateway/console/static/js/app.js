// The shell: navigation, the live view of the page that is shown, drawing. Addresses are real, so pages can be linked.

import { html, keyed, nothing, render } from "./lit.js";
import { fetchJson } from "./api.js";
import { setCatalogue } from "./format.js";
import { LiveView } from "./live.js";
import { chip, empty, icon } from "./parts.js";
import "./chart.js";
import "./history.js";
import "./map.js";
import "./timeline.js";
import * as alarms from "./page_alarms.js";
import * as custody from "./page_custody.js";
import * as fleet from "./page_fleet.js";
import * as holder from "./page_holder.js";
import * as module from "./page_module.js";
import * as modules from "./page_modules.js";
import * as pipeline from "./page_pipeline.js";
import * as stations from "./page_stations.js";

const PAGES = { "": fleet, holder, stations, modules, module, custody, alarms, pipeline };
const NAVIGATION = [["", "Fleet", "fleet"], ["stations", "Stations", "stations"], ["modules", "Modules", "modules"], ["custody", "Custody", "custody"], ["alarms", "Alarms", "alarms"], ["pipeline", "Pipeline", "pipeline"]];
const BESIDE = "battery,alarms,stations"; // what every page's stream carries: the figures of the books, and which holders are stations
const SECTION_OF = { module: "modules" };
const CATALOGUE_RETRY_MS = 3_000;

const base = new URL("./", location.href); // every page lies directly below the console's root
const root = document.getElementById("app");
let current = null; // {name, page, query, live}
let catalogueError = null;
let isCatalogueLoaded = false;
let frame = 0;

function locate() {
  const name = location.pathname.slice(base.pathname.length);
  return { name: name in PAGES ? name : "", query: Object.fromEntries(new URLSearchParams(location.search)) };
}

// The live view is kept as long as the page shows the same thing: a filter or a span does not concern it.
function open() {
  const { name, query } = locate();
  const page = PAGES[name];
  const [scope, parameters] = page.scope(query);
  const key = JSON.stringify([scope, parameters]);
  if (current?.key !== key) {
    current?.live.close();
    current = { key, live: new LiveView(scope, { ...parameters, also: BESIDE }, redraw) };
  }
  Object.assign(current, { name, page, query });
  document.title = `${page.title(query)} · swapline`;
  redraw();
}

function navigate(href, { replace = false, keepsPlace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", href);
  open();
  if (keepsPlace) return;
  scrollTo(0, 0);
  document.getElementById("main")?.focus({ preventScroll: true });
}

function setQuery(changes) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value == null) query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  navigate(`${location.pathname}${text ? `?${text}` : ""}`, { replace: true, keepsPlace: true });
}

function redraw() {
  if (!frame) frame = requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  render(shell(), root);
}

function shell() {
  const section = SECTION_OF[current.name] ?? (current.name === "holder" ? holderSection() : current.name);
  return html`
    <a class="skip" href="#main" @click=${skip}>Skip to content</a>
    <header class="top">
      <a class="brand" href="./"><img src="static/icon.svg" alt="" width="24" height="24">swapline</a>
      <nav aria-label="Main">${NAVIGATION.map(
        ([name, label, sign]) => html`<a href=${name || "./"} aria-current=${name === section ? "page" : nothing}>${icon(sign)}<span>${label}</span>${badge(name)}</a>`,
      )}</nav>
      <div class="top-end">${connection()}${themeButton()}</div>
    </header>
    <main id="main" tabindex="-1">${keyed(current.key, body())}</main>
  `;
}

// What waits for somebody, seen from every page.
function badge(name) {
  const { unacknowledged_count: count, unacknowledged_level_max: level } = (name === "alarms" && current.live.content?.books?.alarms) || {};
  if (!count) return nothing;
  return html`<span class="badge" data-tone=${level >= 2 ? "bad" : "warn"} title="${count} not acknowledged">${count > 99 ? "99+" : count}<span class="visually-hidden"> not acknowledged</span></span>`;
}

const holderSection = () => (current.live.content?.summary?.holder === "station" ? "stations" : "");

function body() {
  if (!isCatalogueLoaded) return catalogueError ? empty("The gateway does not answer", catalogueError) : empty("Loading…");
  const { content, status } = current.live;
  if (!content) {
    return status === "lost" ? empty("The gateway does not answer", "Trying again by itself.") : empty("Loading…");
  }
  const page = { query: current.query, books: content.books ?? {}, nowMs: current.live.nowUtcMs(), setQuery, redraw };
  return html`<div class="page" data-page=${current.name || "fleet"}>${status === "lost" ? lostNote() : nothing}${current.page.view(content, page)}</div>`;
}

const lostNote = () => html`<p class="banner" role="alert">The connection to the gateway is lost. What you see is from before; it goes on by itself.</p>`;

const CONNECTIONS = { live: ["good", "Live"], connecting: ["off", "Connecting"], lost: ["bad", "Reconnecting"] };

function connection() {
  return html`<span class="connection" role="status" data-status=${current.live.status}>${chip(...CONNECTIONS[current.live.status])}</span>`;
}

function themeButton() {
  const isDark = globalThis.swaplineTheme.current() === "dark";
  return html`<button type="button" class="theme" aria-label=${isDark ? "Use light colours" : "Use dark colours"}
    @click=${() => globalThis.swaplineTheme.toggle()}>${icon(isDark ? "sun" : "moon")}</button>`;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

function onClick(event) {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const target = new URL(link.href.baseVal ?? link.getAttribute("href"), location.href); // links in a map are SVG
  const name = target.pathname.slice(base.pathname.length);
  if (target.origin !== location.origin || !target.pathname.startsWith(base.pathname) || !(name in PAGES)) return;
  event.preventDefault();
  navigate(target.href);
}

async function loadCatalogue() {
  try {
    setCatalogue(await fetchJson("api/catalogue"));
    isCatalogueLoaded = true;
    catalogueError = null;
  } catch (error) {
    catalogueError = error.message;
    setTimeout(loadCatalogue, CATALOGUE_RETRY_MS);
  }
  redraw();
}

addEventListener("popstate", open);
addEventListener("themechange", redraw);
document.addEventListener("click", onClick);
setInterval(redraw, 1_000); // ages
open();
loadCatalogue();
