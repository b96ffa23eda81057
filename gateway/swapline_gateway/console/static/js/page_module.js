// One module: where it is, how it is, its cells; who held it, how it was treated, what alarmed.

import { html, nothing, svg } from "./lit.js";
import { age, clock, flags, number, signalText } from "./format.js";
import { nodeStatus, temperatureTone } from "./fleet_model.js";
import { chip, empty, foldedSection, holderLink, placeWord, section, signalTable, signalTile, socTile, tile, value } from "./parts.js";
import { chart, livePoint, rangePicker } from "./ranges.js";
import { bookOf, bookSections, codeParts, hasBooks } from "./module_book.js";
import { moveList } from "./moves.js";

export const title = (query) => query.code ?? "Module";
export const scope = (query) => ["module", { code: query.code }];

const SPREAD_WARN_V = 0.03; // healthy LFP cells off the knees lie within 10 mV
const SPREAD_BAD_V = 0.1;

export function view(content, page) {
  const { code } = page.query;
  if (!content.known) return fromBefore(code, page);
  const { reading } = content;
  return html`
    ${heading(content, page)} ${protections(reading)} ${codeParts(code, page)}
    ${reading ? tiles(reading) : empty("No reading yet", "Its code was read, its figures were not.")}
    ${hasBooks(page) ? bookSections(code, page) : nothing}
    ${section("Cells", cells(content))}
    ${reading ? section("Charts", html`<div class="charts">${charts(content, page)}</div>`, rangePicker(page)) : nothing}
    ${hasBooks(page) ? nothing : section("Moves", moveList(content.moves, page.nowMs, { isOfOneModule: true }))}
    ${reading ? foldedSection("All signals", signalTable(reading, page.nowMs)) : nothing}
  `;
}

// Not heard of since the gateway started; the books may know it nevertheless.
function fromBefore(code, page) {
  const book = bookOf(code, page);
  if (!book?.ledger.stays.length && !book?.ledger.contradictions.length) {
    return empty(`Module ${code} has not been seen`, html`It shows here when a van or a station reads its code. <a href="modules">All modules</a>`);
  }
  return html`<div class="page-heading"><div><h1 class="code">${code}</h1>${chip("off", "Not heard of lately")}</div>
      <p class="muted">No reading came since the gateway started; what stands here is from the books.</p></div>
    ${codeParts(code, page)} ${bookSections(code, page)}`;
}

function heading(content, page) {
  const { custody, reading } = content;
  return html`<div class="page-heading">
    <div><h1 class="code">${content.code}</h1>${custody ? custodyChip(content, page) : nothing}</div>
    <p>${custody ? custodyText(content, page.nowMs) : "Never seen in a bay."}</p>
    <p class="muted last-data">Last data <b class="number">${reading ? age(page.nowMs - reading.time_utc_ms) : "–"}</b> ago</p>
  </div>`;
}

function custodyChip({ custody, online, reading }, page) {
  if (!custody.present) return chip("warn", "Between holders");
  const status = nodeStatus({ online, data_utc_ms: reading?.time_utc_ms }, page.nowMs);
  return chip(status.tone, status.label);
}

function custodyText({ custody, holder }, nowMs) {
  const place = html`<a href=${holderLink(custody)}>${custody.node}</a>, ${placeWord(holder)} ${custody.bay}`;
  if (custody.present) return html`In ${place} <span class="muted">for ${age(nowMs - custody.since_utc_ms)}, since ${clock(custody.since_utc_ms, nowMs)}</span>`;
  return html`Last seen in ${place} <span class="muted">${age(nowMs - custody.seen_utc_ms)} ago</span>`;
}

function protections(reading) {
  const names = reading ? flags("module", "protections", reading.values.protections) : [];
  if (!names.length) return nothing;
  return html`<ul class="alarms" aria-label="Active protections">${names.map((name) => html`<li>${chip("bad", "Protection")}<span>${name}</span></li>`)}</ul>`;
}

function tiles(reading) {
  const { voltage_v: voltage, current_a: current, cell_voltage_max_v: high, cell_voltage_min_v: low } = reading.values;
  const spread = high == null || low == null ? null : high - low;
  const power = voltage == null || current == null ? null : (voltage * current) / 1000;
  const direction = current == null || Math.abs(current) < 0.5 ? "At rest" : current > 0 ? "Charging" : "Discharging";
  return html`<dl class="tiles">
    ${socTile(reading.values.soc_pct)}
    ${signalTile("Voltage", reading, "voltage_v")} ${signalTile("Current", reading, "current_a", { note: direction })}
    ${tile("Power", number(power, 2), { unit: "kW" })} ${signalTile("Health", reading, "soh_pct")}
    ${tile("Cell spread", number(spread == null ? null : spread * 1000, 0), { unit: "mV", tone: spreadTone(spread) })}
    ${signalTile("Warmest", reading, "temperature_max_c", { tone: temperatureTone(reading.values.temperature_max_c) })}
    ${signalTile("Cycles", reading, "cycles")} ${signalTile("Insulation", reading, "insulation_kohm")}
    ${signalTile("Capacity left", reading, "capacity_remaining_ah", { note: `of ${signalText(reading, "capacity_full_ah")} Ah` })}
    ${signalTile("Energy in", reading, "energy_in_kwh")} ${signalTile("Energy out", reading, "energy_out_kwh")}
    ${tile("Switches", signalText(reading, "switches"))}
  </dl>`;
}

function spreadTone(spread) {
  if (spread == null || spread < SPREAD_WARN_V) return "";
  return spread < SPREAD_BAD_V ? "warn" : "bad";
}

// Cells and sensors of all segments, numbered through.
function measured(content, pattern) {
  return Object.entries(content.cells).flatMap(([segment, reading]) =>
    Object.entries(reading.values)
      .filter(([name, value]) => pattern.test(name) && value != null)
      .map(([name, value]) => ({ number: Number(segment) * (pattern === CELL ? 16 : 8) + Number(pattern.exec(name)[1]), value })),
  );
}

const CELL = /^cell_(\d+)_v$/;
const SENSOR = /^temperature_(\d+)_c$/;

function cells(content) {
  const voltages = measured(content, CELL);
  const temperatures = measured(content, SENSOR);
  if (!voltages.length && !temperatures.length) return empty("Cell voltages have not been reported yet");
  const balancing = content.reading?.values.balancing ?? 0;
  return html`${voltages.length ? cellBars(voltages, balancing) : nothing}
    ${temperatures.length
      ? html`<ul class="sensors" aria-label="Temperatures">${temperatures.map(
          ({ number: n, value: celsius }) => html`<li data-tone=${temperatureTone(celsius)}><span class="muted">Sensor ${n}</span><span>${value(number(celsius, 1), "°C")}</span></li>`,
        )}</ul>`
      : nothing}`;
}

// The bars begin below the weakest cell: what counts is the difference. The axis says so.
function cellBars(cells, balancing) {
  const values = cells.map(({ value }) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const floor = Math.floor((low - Math.max(0.02, (high - low) * 0.6)) * 100) / 100;
  const top = Math.ceil((high + 0.002) * 100) / 100;
  return html`<div class="cell-bars">
    <p class="muted">${number(floor, 2)} V to ${number(top, 2)} V · spread <b class="number">${number((high - low) * 1000, 0)}</b> mV · mean
      <b class="number">${number(values.reduce((sum, v) => sum + v, 0) / values.length, 3)}</b> V</p>
    <ol>${cells.map((cell) => cellBar(cell, { low, high, floor, top, isBalancing: Math.floor(balancing / 2 ** (cell.number - 1)) % 2 === 1 }))}</ol>
  </div>`;
}

function cellBar(cell, { low, high, floor, top, isBalancing }) {
  const height = ((cell.value - floor) / (top - floor)) * 100;
  const mark = cell.value === low ? "low" : cell.value === high ? "high" : "";
  return html`<li data-mark=${mark}>
    <svg viewBox="0 0 10 100" preserveAspectRatio="none" aria-hidden="true">
      <rect class="track" width="10" height="100"></rect>${svg`<rect class="fill" y=${100 - height} width="10" height=${height}></rect>`}
    </svg>
    <span class="number cell-value">${number(cell.value, 3)}</span>
    <span class="cell-name">${cell.number}</span>
    <span class="cell-mark">${mark} ${isBalancing ? html`<abbr title="balancing">bal.</abbr>` : nothing}</span>
  </li>`;
}

function charts(content, page) {
  const { custody, code, reading } = content;
  if (!custody) return nothing;
  const line = (label, signal) => ({ label, stream: "module", signal, source: { fleet: custody.fleet, module: code }, live: livePoint(reading, signal) });
  const specs = [
    { name: "soc", title: "Charge", unit: "%", decimals: 1, minimum: 0, maximum: 100, lines: [line("Charge", "soc_pct")] },
    { name: "current", title: "Current, charging positive", unit: "A", decimals: 1, lines: [line("Current", "current_a")] },
    { name: "cells", title: "Cell voltages", unit: "V", decimals: 3, lines: [line("Highest", "cell_voltage_max_v"), line("Mean", "cell_voltage_mean_v"), line("Lowest", "cell_voltage_min_v")] },
    { name: "temperature", title: "Temperatures", unit: "°C", decimals: 1, lines: [line("Warmest", "temperature_max_c"), line("Coolest", "temperature_min_c"), line("MOSFET", "temperature_mosfet_c")] },
  ];
  return specs.map((spec) => chart({ ...spec, id: `${code}/${spec.name}/${custody.fleet}`, isHeld: custody.present && content.online !== false }, page));
}
