// Small pieces that every page uses. Text goes through the template library, which escapes it.

import { html, nothing, svg } from "./lit.js";
import { address } from "./api.js";
import { age, number, signalText, title, unitOf } from "./format.js";
import { socNote, socTone } from "./fleet_model.js";

export const holderLink = (place) => address("holder", { fleet: place.fleet, node: place.node });
export const moduleLink = (code) => address("module", { code });

// A status always has its word; colour and dot only help the eye.
export const chip = (tone, label) => html`<span class="chip" data-tone=${tone}><i aria-hidden="true"></i>${label}</span>`;

export const value = (text, unit = "") =>
  html`<span class="number">${text}</span>${unit && text !== "–" ? html`<span class="unit">${unit}</span>` : nothing}`;

export function tile(label, text, { unit = "", note = "", tone = "" } = {}) {
  const kind = typeof text !== "string" || /\d|–/.test(text) ? "number" : "word";
  return html`<div class="tile" data-tone=${tone} data-kind=${kind}>
    <dt>${label}</dt>
    <dd>${value(text, unit)}</dd>
    ${note ? html`<dd class="note">${note}</dd>` : nothing}
  </div>`;
}

export const signalTile = (label, reading, name, more = {}) =>
  tile(label, signalText(reading, name), { unit: reading?.values[name] == null ? "" : unitOf(reading.stream, name), ...more });

const bar = (soc) => html`<svg class="bar" data-tone=${socTone(soc)} viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
  <rect class="track" width="100" height="4"></rect><rect class="fill" width=${Math.max(0, Math.min(100, soc ?? 0))} height="4"></rect>
</svg>`;

export function socBar(soc) {
  return html`<span class="soc" data-tone=${socTone(soc)}>${bar(soc)}
    <span class="soc-text">${soc == null ? "–" : html`${number(soc, 0)}<span class="unit">%</span>`}</span>
    ${socNote(soc) ? html`<span class="soc-note">${socNote(soc)}</span>` : nothing}
  </span>`;
}

export function socTile(soc) {
  return html`<div class="tile" data-kind="soc">
    <dt>Charge</dt>
    <dd>${value(number(soc, 0), "%")} <span class="soc-note" data-tone=${socTone(soc)}>${socNote(soc)}</span></dd>
    <dd class="note">${bar(soc)}</dd>
  </div>`;
}

// A standing battery: one module at a glance.
export function cellGlyph(soc, label) {
  const height = soc == null ? 0 : Math.max(1, (soc / 100) * 18);
  return html`<svg class="glyph" data-tone=${socTone(soc)} viewBox="0 0 12 24" role="img" aria-label=${label}>
    <title>${label}</title>
    <rect class="cap" x="4" y="0" width="4" height="3" rx="1"></rect>
    <rect class="shell" x="1" y="2.500" width="10" height="20.500" rx="2.500"></rect>
    ${svg`<rect class="fill" x="2.500" y=${21.75 - height} width="7" height=${height} rx="1.200"></rect>`}
  </svg>`;
}

export const empty = (heading, text = "") =>
  html`<div class="empty" role="status"><strong>${heading}</strong>${text ? html`<p>${text}</p>` : nothing}</div>`;

export const section = (heading, body, more = nothing) => html`<section class="panel">
  <header><h2>${heading}</h2>${more}</header>
  ${body}
</section>`;

// A station's places are called slots, a van's bays; the data calls both bays.
export const placeWord = (holder) => (holder === "station" ? "slot" : "bay");

const isNarrow = matchMedia("(max-width: 720px)").matches;

// Long lists stay folded on a phone until they are asked for.
export const foldedSection = (heading, body) => html`<details class="panel" ?open=${!isNarrow}>
  <summary><h2>${heading}</h2></summary>
  ${body}
</details>`;

// The first `step` of a long list, and more of it on request; how many stands in the address, so that a link shows the same.
export function shortList(items, page, { name, step }, draw) {
  const count = Math.max(step, Number(page.query[name]) || 0);
  return html`${draw(items.slice(0, count))}
    ${items.length > count
      ? html`<p class="more"><button type="button" class="plain" @click=${() => page.setQuery({ [name]: count + 2 * step })}>Show more</button>
        <span class="muted">${count} of ${items.length}</span></p>`
      : nothing}`;
}

// Every signal of a reading; nothing is hidden from people who look for it.
export function signalTable(reading, nowMs) {
  const rows = Object.keys(reading.values).map((name) => {
    const text = signalText(reading, name);
    const unit = reading.values[name] == null ? "" : unitOf(reading.stream, name);
    return html`<div data-abnormal=${text === "abnormal"}><dt>${title(name)}</dt><dd>${value(text, unit)}</dd></div>`;
  });
  return html`<section class="signals">
    <h3>${title(reading.stream)}<span class="muted">${age(nowMs - reading.time_utc_ms)} ago</span></h3>
    <dl>${rows}</dl>
  </section>`;
}

export const ICONS = {
  fleet: svg`<path d="M2.500 7h10v9.500h-10zM12.500 10h4l3 3v3.500h-7z"/><circle cx="6.500" cy="17" r="1.800"/><circle cx="15.500" cy="17" r="1.800"/>`,
  stations: svg`<path d="M4 19V5.500A1.500 1.500 0 0 1 5.500 4h6A1.500 1.500 0 0 1 13 5.500V19M2.500 19h12M13 11h2.500v4.500a1.500 1.500 0 0 0 3 0V9L16 6.500"/><path d="m9 7.500-2 3.500h3l-2 3.500"/>`,
  modules: svg`<rect x="5.500" y="5" width="11" height="14.500" rx="2"/><path d="M9 2.800h4M8.500 9.500h5M8.500 12.500h5M8.500 15.500h5"/>`,
  custody: svg`<path d="M3 7h12.500M12 3.500 15.500 7 12 10.500M19 15H6.500M10 11.500 6.500 15l3.500 3.500"/>`,
  alarms: svg`<path d="M5.500 15.500V10a5.500 5.500 0 0 1 11 0v5.500l1.500 1.500H4zM9.500 19.500h3"/>`,
  pipeline: svg`<path d="M2.500 12h4l2.500-6.500 4 13L15.500 12h4"/>`,
  moon: svg`<path d="M17.500 13A7 7 0 1 1 9 4.500 5.500 5.500 0 0 0 17.500 13z"/>`,
  sun: svg`<circle cx="11" cy="11" r="3.500"/><path d="M11 2.500v2M11 17.500v2M2.500 11h2M17.500 11h2M5 5l1.400 1.400M15.600 15.600 17 17M17 5l-1.400 1.400M6.400 15.600 5 17"/>`,
};
export const icon = (name) => html`<svg class="icon" viewBox="0 0 22 22" aria-hidden="true">${ICONS[name]}</svg>`;
