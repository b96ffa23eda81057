// Contradictions and swaps as lists: the custody page shows all of them, a module's page its own.

import { html, nothing, repeat } from "./lit.js";
import { age, clock, number } from "./format.js";
import { chip, empty, holderLink, moduleLink, value } from "./parts.js";
import { isStation } from "./books.js";
import { kindAdvice, kindLabel, kindTone } from "./custody_words.js";

export function placeLink(place, page) {
  if (!place?.node) return nothing;
  const word = isStation(page, place) ? "slot" : "bay";
  return html`<a href=${holderLink(place)}>${place.node}</a>${!place.bay ? nothing : html` <span class="muted">${word} ${place.bay}</span>`}`;
}

export const timeOf = (utcMs, page) => html`<time datetime=${new Date(utcMs).toISOString()} title="${age(page.nowMs - utcMs)} ago">${clock(utcMs, page.nowMs)}</time>`;

const contradictionKey = (one) => [one.kind, one.module, one.time_utc_ms, one.place?.node, one.place?.bay, one.other_place?.node, one.other_module].join("|");

export function contradictionList(contradictions, page, { isOfOneModule = false } = {}) {
  return html`<ol class="contradictions">${repeat(contradictions, contradictionKey, (one) => contradictionItem(one, page, isOfOneModule))}</ol>`;
}

function contradictionItem(one, page, isOfOneModule) {
  const lasted = one.until_utc_ms == null ? "goes on" : one.until_utc_ms > one.time_utc_ms ? `for ${age(one.until_utc_ms - one.time_utc_ms)}` : "";
  return html`<li data-tone=${kindTone(one.kind)}>
    <div class="contradiction-head">${chip(kindTone(one.kind), kindLabel(one.kind))}
      ${timeOf(one.time_utc_ms, page)}${lasted ? html`<span class="muted">${lasted}</span>` : nothing}
      ${isOfOneModule || !one.module ? nothing : html`<a class="code" href=${moduleLink(one.module)}>${one.module}</a>`}
      ${one.other_module ? html`<span><span class="muted">and</span> <a class="code" href=${moduleLink(one.other_module)}>${one.other_module}</a></span>` : nothing}
      ${one.place ? html`<span>${placeLink(one.place, page)}${one.other_place ? html`<span class="arrow" role="img" aria-label="and">↔</span>${placeLink(one.other_place, page)}` : nothing}</span>` : nothing}
    </div>
    <p>${one.text}</p>
    ${kindAdvice(one.kind) ? html`<p class="muted advice"><b>What to do</b> ${kindAdvice(one.kind)}</p>` : nothing}
  </li>`;
}

const swapKey = (swap) => [swap.start_utc_ms, swap.fleet, swap.van, swap.bay, swap.station, swap.module_in, swap.module_out].join("|");

export function swapTable(swaps, page) {
  if (!swaps.length) return empty("No swap is known yet", "A swap stands here as soon as a van or a station tells a half of it.");
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Swaps, scrolls sideways"><table class="list swaps">
    <thead><tr><th scope="col">When</th><th scope="col">Van</th><th scope="col">Station</th><th scope="col">Out of the van</th><th scope="col">Into the van</th>
      <th scope="col" class="right">Took</th><th scope="col" class="right">Odometer</th><th scope="col">Told by</th></tr></thead>
    <tbody>${repeat(swaps, swapKey, (swap) => swapRow(swap, page))}</tbody>
  </table></div>`;
}

function swapRow(swap, page) {
  return html`<tr>
    <th scope="row">${timeOf(swap.start_utc_ms, page)}</th>
    <td data-label="Van">${swap.van ? placeLink({ fleet: swap.fleet, node: swap.van, bay: swap.bay }, page) : html`<span class="muted">Not known</span>`}</td>
    <td data-label="Station">${swap.station ? placeLink({ fleet: swap.fleet, node: swap.station }, page) : html`<span class="muted">Not known</span>`}</td>
    <td data-label="Out of the van">${swapModule(swap.module_out, swap.soc_out_pct, swap.slot_in, "to")}</td>
    <td data-label="Into the van">${swapModule(swap.module_in, swap.soc_in_pct, swap.slot_out, "from")}</td>
    <td data-label="Took" class="right">${swap.duration_s > 0 ? value(number(swap.duration_s, 0), "s") : "–"}</td>
    <td data-label="Odometer" class="right">${odometer(swap)}</td>
    <td data-label="Told by">${tellers(swap)}</td>
  </tr>`;
}

// Events carry it; where they do not, it is from the van's row that is nearest in time.
function odometer({ odometer_km: km, where_from: source }) {
  if (km == null) return "–";
  const isNear = source === "nearest";
  return html`<span title=${isNear ? "from the van's row that is nearest in time" : ""}>${isNear ? "≈ " : ""}${value(number(km, 1), "km")}</span>`;
}

function swapModule(code, soc, slot, word) {
  if (!code) return html`<span class="muted">–</span>`;
  return html`<a class="code" href=${moduleLink(code)}>${code}</a>
    <span class="muted">${[soc != null && `${number(soc, 0)} %`, slot != null && `${word} slot ${slot}`].filter(Boolean).join(", ")}</span>`;
}

// Both halves of both sides are four messages; what is missing is what a dispute would ask for.
function tellers({ told_by_van: van, told_by_station: station, basis, request_id: request }) {
  const side = (name, count) => (count >= 2 ? name : count === 1 ? `${name}, a half` : null);
  const told = [side("van", van), side("station", station)].filter(Boolean).join(" and ");
  const missing = Math.max(0, 2 - van) + Math.max(0, 2 - station);
  const how = basis === "request" ? `joined by request ${request}` : "joined by place, time and modules";
  return html`<span class="told" title=${how}>${missing ? chip("warn", `${4 - missing} of 4`) : chip("good", "Both sides")} <span class="muted">${missing ? told : ""}${basis === "request" ? "" : " matched"}</span></span>`;
}
