// All stations with their slots.

import { html, nothing, repeat } from "./lit.js";
import { byName, number } from "./format.js";
import { baysOf, dataAge, nodeStatus, slotState, stationFigures } from "./fleet_model.js";
import { chip, empty, holderLink, moduleLink, socBar, value } from "./parts.js";

export const title = () => "Stations";
export const scope = () => ["fleet", {}];

export function view(content, page) {
  const stations = Object.values(content.nodes)
    .filter((node) => node.holder === "station")
    .sort((one, other) => byName(one.node, other.node));
  if (!stations.length) return empty("No station has reported yet", "Stations appear here by themselves with their first message.");
  return html`${repeat(stations, (station) => `${station.fleet}/${station.node}`, (station) => card(station, page.nowMs))}`;
}

function card(station, nowMs) {
  const status = nodeStatus(station, nowMs);
  const figures = stationFigures(station);
  return html`<section class="panel station">
    <header>
      <h2><a href=${holderLink(station)}>${station.node}</a></h2>${chip(status.tone, status.label)}
      <span class="muted last-data">Last data <b class="number">${dataAge(station, nowMs)}</b> ago</span>
    </header>
    <dl class="facts wide">
      <div><dt>Ready</dt><dd>${value(figures.ready, `/ ${figures.slots} slots`)}</dd></div>
      <div><dt>Charging</dt><dd>${value(figures.charging, figures.charging === 1 ? "slot" : "slots")}</dd></div>
      <div><dt>Chargers</dt><dd>${value(number(figures.chargerKw, 1), "kW")}</dd></div>
      <div><dt>Grid</dt><dd>${value(number(station.power_kw, 1), station.power_kw == null ? "" : "kW")}</dd></div>
    </dl>
    <ol class="slots" aria-label="Slots of ${station.node}">${baysOf(station).map(slotCard)}</ol>
  </section>`;
}

function slotCard(bay) {
  const state = slotState(bay.slot);
  return html`<li class="slot" data-empty=${String(!bay.module)} data-tone=${state.tone}>
    <header><span class="bay-name">Slot ${bay.bay}</span>${bay.ready ? chip("good", "Ready") : chip(state.tone, state.label)}</header>
    ${bay.module
      ? html`<a class="code" href=${moduleLink(bay.module)} title=${bay.module}><bdi>${bay.module}</bdi></a>${socBar(bay.soc_pct)}`
      : html`<p class="muted">${bay.slot?.occupied ? "Module not read yet" : "No module"}</p>`}
    <span class="slot-power">${bay.module ? value(number(bay.slot?.charger_power_kw, 2), "kW") : nothing}</span>
  </li>`;
}
