// The fleet: figures on top, the map, all vans.

import { html, nothing, repeat } from "./lit.js";
import { byName, number, word } from "./format.js";
import { SOC_LOW_PCT, baysOf, dataAge, fleetFigures, isMoving, modeTone, nodeStatus, stationFigures } from "./fleet_model.js";
import { cellGlyph, chip, empty, holderLink, section, socBar, tile, value } from "./parts.js";
import { moveList } from "./moves.js";

export const title = () => "Fleet";
export const scope = () => ["fleet", {}];

const FILTERS = {
  all: ["All", () => true],
  low: [`Below ${SOC_LOW_PCT} %`, (van) => van.soc_pct != null && van.soc_pct < SOC_LOW_PCT],
  moving: ["Moving", isMoving],
  attention: ["Not online", (van, nowMs) => nodeStatus(van, nowMs).id !== "online"],
};
const SORTS = {
  name: ["Name", () => 0],
  soc: ["Charge, lowest first", (one, other) => (one.soc_pct ?? 101) - (other.soc_pct ?? 101)],
  age: ["Data, oldest first", (one, other) => (one.data_utc_ms ?? 0) - (other.data_utc_ms ?? 0)],
};

export function view(content, page) {
  const nodes = Object.values(content.nodes).sort((one, other) => byName(one.node, other.node));
  if (!nodes.length) {
    return empty("No node has reported yet", "Vans and stations appear here by themselves with their first message.");
  }
  const vans = nodes.filter((node) => node.holder !== "station");
  return html`
    ${kpis(fleetFigures(nodes, page.nowMs), content, page.books)}
    <div class="fleet-columns">
      ${section("Map", html`<sl-map class="map" .places=${nodes.filter(hasPosition).map((node) => place(node, page.nowMs))}></sl-map>`)}
      <div class="stack">
        ${section("Vans", vanTable(vans, page), vanControls(vans, page))}
        ${section("Last module moves", moveList(content.moves, page.nowMs))}
      </div>
    </div>
  `;
}

const hasPosition = (node) => node.latitude_deg != null && node.longitude_deg != null;

export function place(node, nowMs) {
  const status = nodeStatus(node, nowMs);
  const isLow = node.soc_pct != null && node.soc_pct < SOC_LOW_PCT;
  const ready = node.holder === "station" ? `${stationFigures(node).ready} modules ready` : "";
  return {
    id: `${node.fleet}/${node.node}`,
    name: node.node,
    holder: node.holder,
    latitude: node.latitude_deg,
    longitude: node.longitude_deg,
    heading: isMoving(node, nowMs) ? node.heading_deg : null,
    tone: status.id === "online" && isLow && node.holder === "van" ? "warn" : status.tone,
    status: status.label,
    detail: [ready || (node.soc_pct == null ? "" : `${number(node.soc_pct, 0)} %`), node.position_estimated && "position estimated from swaps"].filter(Boolean).join(", "),
    isEstimated: node.position_estimated,
    href: holderLink(node),
  };
}

function kpis(figures, content, books) {
  return html`<dl class="tiles" aria-label="Key figures">
    ${tile("Vans online", `${figures.vansOnline}`, { unit: `/ ${figures.vans}`, tone: figures.vansOnline < figures.vans ? "warn" : "" })}
    ${tile("Moving", `${figures.driving}`, { unit: `/ ${figures.vans}` })}
    ${tile("Mean charge", number(figures.socMean, 0), { unit: "%" })}
    ${tile(`Below ${SOC_LOW_PCT} %`, `${figures.low}`, { unit: figures.low === 1 ? "van" : "vans", tone: figures.low ? "warn" : "" })}
    ${tile("Modules ready", `${figures.ready}`, { unit: `/ ${figures.slots} slots`, tone: figures.stations && !figures.ready ? "bad" : "" })}
    ${tile("Charging", number(figures.chargerKw, 1), { unit: "kW" })}
    ${tile("Swaps, last hour", `${content.swaps_last_hour}`, { unit: content.swaps_last_hour === 1 ? "module" : "modules" })}
    ${alarmTile(figures, books.alarms)}
  </dl>`;
}

// Those that nobody has acknowledged are what asks for somebody; without an alarm book, whose nodes have any.
function alarmTile({ alarms }, book) {
  if (book?.unacknowledged_count == null) return tile("Alarms", `${alarms}`, { unit: alarms === 1 ? "node" : "nodes", tone: alarms ? "bad" : "" });
  const open = book.unacknowledged_count;
  return tile("Alarms", html`<a href="alarms?show=open">${open}</a>`, { note: "not acknowledged", tone: open ? "bad" : "" });
}

function vanControls(vans, page) {
  const { filter, sort, find } = choices(page);
  return html`<div class="controls">
    <input type="search" placeholder="Find a van" aria-label="Find a van" .value=${find}
      @input=${(event) => page.setQuery({ find: event.target.value || null })}>
    <div class="segments" role="group" aria-label="Show">
      ${Object.entries(FILTERS).map(
        ([id, [label, test]]) => html`<button type="button" aria-pressed=${String(id === filter)}
          @click=${() => page.setQuery({ show: id === "all" ? null : id })}>
          ${label} <span class="count">${vans.filter((van) => test(van, page.nowMs)).length}</span></button>`,
      )}
    </div>
    <label class="select"><span class="visually-hidden">Sort by</span>
      <select .value=${sort} @change=${(event) => page.setQuery({ sort: event.target.value === "name" ? null : event.target.value })}>
        ${Object.entries(SORTS).map(([id, [label]]) => html`<option value=${id} ?selected=${id === sort}>${label}</option>`)}
      </select></label>
  </div>`;
}

const choices = (page) => ({
  filter: page.query.show in FILTERS ? page.query.show : "all",
  sort: page.query.sort in SORTS ? page.query.sort : "name",
  find: page.query.find ?? "",
});

function vanTable(vans, page) {
  const { filter, sort, find } = choices(page);
  const shown = vans
    .filter((van) => FILTERS[filter][1](van, page.nowMs) && van.node.toLowerCase().includes(find.toLowerCase()))
    .sort((one, other) => SORTS[sort][1](one, other));
  if (!shown.length) return empty("No van matches", "Change the filter or the name to find.");
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Vans, may scroll sideways"><table class="list vans">
    <thead><tr>
      <th scope="col">Van</th><th scope="col">Charge</th><th scope="col">Modules</th><th scope="col" class="right">Range</th>
      <th scope="col" class="right">Speed</th><th scope="col">Mode</th><th scope="col" class="right">Last data</th>
    </tr></thead>
    <tbody>${repeat(shown, (van) => `${van.fleet}/${van.node}`, (van) => vanRow(van, page.nowMs))}</tbody>
  </table></div>`;
}

function vanRow(van, nowMs) {
  const status = nodeStatus(van, nowMs);
  return html`<tr data-status=${status.id}>
    <th scope="row"><a href=${holderLink(van)}>${van.node}</a>${chip(status.tone, status.label)}</th>
    <td data-label="Charge">${socBar(van.soc_pct)}</td>
    <td data-label="Modules"><span class="glyphs">${baysOf(van).map(bayGlyph)}</span></td>
    <td data-label="Range" class="right">${value(number(van.range_km, 0), "km")}</td>
    <td data-label="Speed" class="right">${value(number(van.speed_kmh, 0), "km/h")}</td>
    <td data-label="Mode">${van.drive_mode == null ? nothing : chip(modeTone(van.drive_mode), word("vehicle", "drive_mode", van.drive_mode))}</td>
    <td data-label="Last data" class="right age">${dataAge(van, nowMs)}</td>
  </tr>`;
}

function bayGlyph(bay) {
  const label = bay.module ? `Bay ${bay.bay}: ${bay.module}, ${number(bay.soc_pct, 0)} %` : `Bay ${bay.bay}: empty`;
  return cellGlyph(bay.module ? bay.soc_pct : null, label);
}
