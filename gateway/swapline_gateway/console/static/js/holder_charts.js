// The charts of a holder, and the trail on its map.

import { address, fetchJson } from "./api.js";
import { chart, livePoint, rangeMs } from "./ranges.js";

const KILO = 1000;
const TRAIL_POINTS = 300;
const TRAIL_REFRESH_MS = 15_000;

const sourceOf = ({ summary }) => ({ fleet: summary.fleet, node: summary.node });
const baysOf = (content) => Object.values(content.bays).sort((one, other) => one.bay - other.bay);
const chartId = (content, name) => `${content.summary.fleet}/${content.summary.node}/${name}/${Object.keys(content.bays)}`;

function ownLine(content, label, stream, signal) {
  return { label, stream, signal, source: sourceOf(content), live: livePoint(content.readings[stream], signal) };
}

// By bay and not by module: the line goes on when another module takes the place.
function bayLines(content, signal, stream = "module", word = "Bay") {
  return baysOf(content).map((bay) => ({
    label: `${word} ${bay.bay}`,
    stream,
    signal,
    source: { ...sourceOf(content), bay: bay.bay },
    live: livePoint(stream === "slot" ? bay.slot : bay.reading, signal),
  }));
}

const kilowatts = (volts, amperes) => (volts == null || amperes == null ? null : (volts * amperes) / KILO);

function powerLine(line, reading, voltage, current) {
  const point = reading && { time_utc_ms: reading.time_utc_ms, value: kilowatts(reading.values[voltage], reading.values[current]) };
  return { ...line, derive: { signals: [voltage, current], compute: kilowatts }, live: point };
}

function powerLines(content) {
  const traction = { label: "Traction", stream: "vehicle", source: sourceOf(content) };
  const modules = baysOf(content).map((bay) =>
    powerLine({ label: `Bay ${bay.bay}`, stream: "module", source: { ...sourceOf(content), bay: bay.bay } }, bay.reading, "voltage_v", "current_a"),
  );
  return [powerLine(traction, content.readings.vehicle, "traction_voltage_v", "traction_current_a"), ...modules];
}

export function vanCharts(content, page) {
  const specs = [
    { name: "speed", title: "Speed", unit: "km/h", decimals: 0, minimum: 0, lines: [ownLine(content, "Vehicle", "vehicle", "speed_kmh"), ownLine(content, "GNSS", "position", "speed_kmh")] },
    { name: "soc", title: "Charge of the modules", unit: "%", decimals: 1, minimum: 0, maximum: 100, lines: bayLines(content, "soc_pct") },
    { name: "power", title: "Power, charging positive", unit: "kW", decimals: 2, lines: powerLines(content) },
    {
      name: "temperature",
      title: "Temperatures",
      unit: "°C",
      decimals: 1,
      lines: [
        ...bayLines(content, "temperature_max_c"),
        ownLine(content, "Motor", "vehicle", "motor_temperature_c"),
        ownLine(content, "Inverter", "vehicle", "inverter_temperature_c"),
        ownLine(content, "Cargo", "vehicle", "cargo_temperature_c"),
      ],
    },
  ];
  return specs.filter((spec) => spec.lines.length).map((spec) => chart({ ...spec, id: chartId(content, spec.name), isHeld: content.summary.online !== false }, page));
}

export function stationCharts(content, page) {
  const specs = [
    { name: "grid", title: "Grid power", unit: "kW", decimals: 2, lines: [ownLine(content, "Meter", "meter", "power_kw")] },
    { name: "chargers", title: "Charger power", unit: "kW", decimals: 2, minimum: 0, lines: bayLines(content, "charger_power_kw", "slot", "Slot") },
    { name: "soc", title: "Charge of the modules", unit: "%", decimals: 1, minimum: 0, maximum: 100, lines: bayLines(content, "soc_pct", "module", "Slot") },
    { name: "temperature", title: "Warmest cell of each module", unit: "°C", decimals: 1, lines: bayLines(content, "temperature_max_c", "module", "Slot") },
  ];
  return specs.filter((spec) => spec.lines.length).map((spec) => chart({ ...spec, id: chartId(content, spec.name), isHeld: content.summary.online !== false }, page));
}

let trail = { id: null, loadedAtMs: 0, points: [] };

// The way that the van came, within the chosen span; without a history the map simply has no trail.
export function trailOf(content, page) {
  const id = `${content.summary.fleet}/${content.summary.node}/${rangeMs(page)}`;
  if (trail.id !== id) trail = { id, loadedAtMs: 0, points: [] };
  if (page.nowMs - trail.loadedAtMs > TRAIL_REFRESH_MS) loadTrail(trail, content, page);
  const { latitude_deg: latitude, longitude_deg: longitude } = content.summary;
  return latitude == null ? trail.points : [...trail.points, [latitude, longitude]];
}

async function loadTrail(mine, content, page) {
  mine.loadedAtMs = page.nowMs;
  const span = { start: Math.floor(page.nowMs - rangeMs(page)), end: Math.ceil(page.nowMs), points: TRAIL_POINTS };
  const query = { stream: "position", ...sourceOf(content), signals: "latitude_deg,longitude_deg", ...span };
  try {
    const { values } = await fetchJson(address("api/series", query));
    mine.points = values.latitude_deg.map((latitude, i) => [latitude, values.longitude_deg[i]]).filter((point) => !point.includes(null));
  } catch {
    return; // the charts on the same page say why
  }
  page.redraw();
}
