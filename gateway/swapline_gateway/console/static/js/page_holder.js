// One holder: a van or a station, its figures, what sits in its bays, charts, everything that it reports.

import { html, nothing } from "./lit.js";
import { address } from "./api.js";
import { age, clock, flags, number, signalText, title as titleOf, unitOf, word } from "./format.js";
import { dataAge, nodeStatus, slotState, stationFigures, temperatureTone } from "./fleet_model.js";
import { chip, empty, foldedSection, moduleLink, placeWord, section, shortList, signalTable, signalTile, socBar, socTile, tile, value } from "./parts.js";
import { rangePicker } from "./ranges.js";
import { stationCharts, trailOf, vanCharts } from "./holder_charts.js";
import { place } from "./page_fleet.js";

const EVENTS_STEP = 15;

export const title = (query) => query.node ?? "Holder";
export const scope = (query) => ["node", { fleet: query.fleet, node: query.node }];

export function view(content, page) {
  if (!content.known) {
    return empty(`${page.query.node} has not reported`, html`It shows here with its first message. Check the name in the address, or go <a href="./">back to the fleet</a>.`);
  }
  const isStation = content.summary.holder === "station";
  return html`
    ${heading(content, page)} ${alarmList(content, page)}
    ${isStation ? stationTiles(content) : vanTiles(content)}
    <div class=${isStation ? "" : "holder-columns"}>
      ${section(isStation ? "Slots" : "Bays", bayCards(content, page))}
      ${isStation ? nothing : section("Position", positionMap(content, page))}
    </div>
    ${section("Charts", html`<div class="charts">${isStation ? stationCharts(content, page) : vanCharts(content, page)}</div>`, rangePicker(page))}
    ${section("Events", eventList(content, page))}
    ${foldedSection("All signals", Object.values(content.readings).map((reading) => signalTable(reading, page.nowMs)))}
  `;
}

function heading({ summary, birth }, page) {
  const status = nodeStatus(summary, page.nowMs);
  const facts = [summary.holder, `fleet ${summary.fleet}`, birth.board, birth.firmware && `firmware ${birth.firmware}`, birth.boot && `boot ${birth.boot}`];
  return html`<div class="page-heading">
    <div><h1>${summary.node}</h1>${chip(status.tone, status.label)}
      ${birth.safe_mode ? chip("warn", "Safe mode") : nothing}</div>
    <p class="muted">${facts.filter(Boolean).join(" · ")}</p>
    <p class="muted last-data">Last data <b class="number">${dataAge(summary, page.nowMs)}</b> ago</p>
  </div>`;
}

function alarmList(content, page) {
  const told = new Set(content.alarms.map((alarm) => alarm.meaning.alarm.replace("vehicle fault: ", "").toLowerCase()));
  const faults = flags("vehicle", "faults", content.readings.vehicle?.values.faults).filter((fault) => !told.has(fault.toLowerCase()));
  if (!content.alarms.length && !faults.length) return nothing;
  return html`<ul class="alarms" aria-label="Standing alarms">
    ${faults.map((fault) => html`<li>${chip("bad", "Vehicle fault")}<span>${fault}</span></li>`)}
    ${content.alarms.map(
      (alarm) => html`<li>${chip(alarm.values.level >= 2 ? "bad" : "warn", `Level ${alarm.values.level}`)}
        <span>${alarm.meaning.alarm[0].toUpperCase()}${alarm.meaning.alarm.slice(1)}</span>
        ${alarmFigures(alarm)}
        ${alarm.bay ? html`<span class="muted">${placeWord(content.summary.holder)} ${alarm.bay}</span>` : nothing}
        <span class="muted">since ${clock(alarm.time_utc_ms, page.nowMs)}</span></li>`,
    )}
    ${page.books.alarms && content.alarms.length ? html`<li><a href=${address("alarms", { find: `${content.summary.fleet}/${content.summary.node}` })}>Acknowledge, and who has</a></li>` : nothing}
  </ul>`;
}

// What a limit was passed by and where; the words of bits say everything already.
function alarmFigures({ meaning, values }) {
  if (meaning.value == null || !meaning.unit) return nothing;
  const text = (raw) => `${signalText({ stream: meaning.stream, values: { [meaning.signal]: raw }, abnormal: [] }, meaning.signal)}\u00a0${unitOf(meaning.stream, meaning.signal)}`;
  const where = values.position == null ? "" : `${meaning.signal.startsWith("temperature") ? "sensor" : "cell"} ${values.position}, `;
  return html`<span class="muted">${where}${text(meaning.value)}, limit ${text(meaning.threshold)}</span>`;
}

function vanTiles({ summary, readings }) {
  const { vehicle } = readings;
  const watts = vehicle?.values.traction_voltage_v == null || vehicle.values.traction_current_a == null ? null
    : (vehicle.values.traction_voltage_v * vehicle.values.traction_current_a) / 1000;
  return html`<dl class="tiles">
    ${socTile(summary.soc_pct)}
    ${signalTile("Range", vehicle, "range_km")} ${signalTile("Speed", vehicle, "speed_kmh")}
    ${signalTile("Mode", vehicle, "drive_mode")} ${tile("Traction power", number(watts, 1), { unit: "kW" })}
    ${signalTile("Cargo", vehicle, "cargo_temperature_c")} ${signalTile("Load", vehicle, "cargo_mass_kg")}
    ${signalTile("Odometer", vehicle, "odometer_km")}
  </dl>`;
}

function stationTiles({ summary, readings }) {
  const figures = stationFigures(summary);
  return html`<dl class="tiles">
    ${tile("Modules ready", `${figures.ready}`, { unit: `/ ${figures.slots} slots`, tone: figures.ready ? "" : "bad" })}
    ${tile("Charging", `${figures.charging}`, { unit: figures.charging === 1 ? "slot" : "slots" })}
    ${tile("Charger power", number(figures.chargerKw, 1), { unit: "kW" })}
    ${signalTile("Grid power", readings.meter, "power_kw")} ${signalTile("Energy taken", readings.meter, "energy_import_kwh")}
    ${signalTile("Power factor", readings.meter, "power_factor")} ${signalTile("Frequency", readings.meter, "frequency_hz")}
    ${tile("Faults", `${figures.faults}`, { unit: figures.faults === 1 ? "slot" : "slots", tone: figures.faults ? "bad" : "" })}
  </dl>`;
}

function bayCards(content, page) {
  const bays = Object.values(content.bays).sort((one, other) => one.bay - other.bay);
  if (!bays.length) return empty("No bay has reported yet");
  return html`<ul class="bays" data-holder=${content.summary.holder}>${bays.map((bay) => bayCard(bay, page.nowMs))}</ul>`;
}

function bayCard(bay, nowMs) {
  const { reading, slot } = bay;
  const state = slot ? slotState(slot.values) : null;
  const faults = [...flags("module", "protections", reading?.values.protections), ...flags("slot", "faults", slot?.values.faults)];
  return html`<li class="bay" data-empty=${String(!bay.module && !bay.unknown)}>
    <header><span class="bay-name">${slot ? "Slot" : "Bay"} ${bay.bay}</span>
      ${bay.ready ? chip("good", "Ready") : state ? chip(state.tone, state.label) : nothing}
      ${faults.map((fault) => chip("bad", fault))}</header>
    ${bay.module ? bayModule(bay, nowMs) : html`<p class="muted">${emptyText(bay)}</p>`}
    ${slot ? html`<dl class="facts">${fact("Charger", slot, "charger_power_kw", "kW")}${fact("Session", slot, "session_duration_s", "", (s) => age(s * 1000))}</dl>` : nothing}
  </li>`;
}

function emptyText({ unknown, reading, slot }) {
  if (unknown) return `A module without a code, ${number(reading?.values.soc_pct, 0)} %`;
  return slot?.values.occupied ? "Occupied, module not read yet" : "Empty";
}

function bayModule({ module, reading, since_utc_ms: since }, nowMs) {
  return html`<a class="code" href=${moduleLink(module)}>${module}</a>
    ${socBar(reading?.values.soc_pct)}
    <dl class="facts">
      ${fact("Voltage", reading, "voltage_v", "V")} ${fact("Current", reading, "current_a", "A")}
      ${fact("Warmest", reading, "temperature_max_c", "°C", null, temperatureTone(reading?.values.temperature_max_c))}
      <div><dt>Here for</dt><dd>${value(age(nowMs - since))}</dd></div>
    </dl>`;
}

function fact(label, reading, name, unit, format = null, tone = "") {
  const raw = reading?.values[name];
  const text = format && raw != null ? format(raw) : signalText(reading, name);
  return html`<div data-tone=${tone}><dt>${label}</dt><dd>${value(text, raw == null ? "" : unit)}</dd></div>`;
}

function positionMap(content, page) {
  const { summary, readings } = content;
  const places = summary.latitude_deg == null ? [] : [place(summary, page.nowMs)];
  return html`<sl-map class="map small" .trail=${trailOf(content, page)} .places=${places}></sl-map>
    <dl class="facts wide">
      ${fact("Latitude", readings.position, "latitude_deg", "°")} ${fact("Longitude", readings.position, "longitude_deg", "°")}
      ${fact("Heading", readings.position, "heading_deg", "°")} ${fact("Fix", readings.position, "fix_mode", "")}
      ${fact("Satellites", readings.position, "satellites_used", "")}
    </dl>`;
}

// A node that starts tells what changed while it was off; docs/node.md.
const ARRIVALS = { 1: "found at the start", 2: "still there at the start" };
const DEPARTURES = { 1: "gone at the start", 2: "silent" };
const EVENTS = {
  boot: (values) => ["Started", [`boot ${values.count ?? "–"}`, values.reason ? word("node", "reset_cause", values.reason).toLowerCase() : ""].filter(Boolean).join(", ")],
  battery_in: (values) => ["Module in", [values.soc_pct != null && `${number(values.soc_pct, 1)} %`, ARRIVALS[values.reason]].filter(Boolean).join(", ")],
  battery_out: (values) => ["Module out", [DEPARTURES[values.reason], values.soc_pct != null && `${number(values.soc_pct, 1)} %`, values.duration_s != null && `after ${age(values.duration_s * 1000)}`].filter(Boolean).join(", ")],
  frames_dropped: (values) => ["Frames lost", `${values.count ?? "?"} frames, reason ${values.reason ?? "?"}`],
  rows_dropped: (values) => ["Rows lost", `${values.count ?? "?"} rows, reason ${values.reason ?? "?"}`],
  clock_step: (values) => ["Clock set", `by ${word("node", "clock_quality", values.reason)}`],
  configuration: (values) => ["Configuration", values.reason ? "refused" : "applied"],
};

function eventList({ events, summary: { holder } }, page) {
  if (!events.length) return empty("No event yet");
  return shortList(events, page, { name: "events", step: EVENTS_STEP }, (shown) => html`<ol class="events">${shown.map((event) => eventItem(event, holder, page.nowMs))}</ol>`);
}

function eventItem(event, holder, nowMs) {
  const [name, detail] = EVENTS[event.name]?.(event.values) ?? [event.name, ""];
  return html`<li><time datetime=${new Date(event.time_utc_ms).toISOString()}>${clock(event.time_utc_ms, nowMs)}</time>
    <b>${name}</b><span>${event.bay ? `${placeWord(holder)} ${event.bay}` : ""}</span>
    ${event.module ? html`<a class="code" href=${moduleLink(event.module)}>${event.module}</a>` : nothing}
    <span class="muted">${detail}</span></li>`;
}
