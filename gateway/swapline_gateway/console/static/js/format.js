// Numbers, units, ages and words. Everything about signals comes from the gateway's catalogue.

let catalogue = { streams: {}, states: {}, flags: {}, silence_ms_max: {} };

export function setCatalogue(loaded) {
  catalogue = loaded;
}

export const silenceMs = (stream) => catalogue.silence_ms_max[stream] ?? 60_000;
export const signalsOf = (stream) => Object.keys(catalogue.streams[stream] ?? {});
export const kindOf = (stream, name) => catalogue.streams[stream]?.[name]?.kind;

const UNITS = {
  degC: "°C",
  deg: "°",
  "m/s2": "m/s²",
  "N.m": "N·m",
  "A.h": "Ah",
  "kW.h": "kWh",
  kohm: "kΩ",
  rpm: "rpm",
};
// What people read at a glance; the catalogue's full resolution stays in the data.
const DECIMALS_SHOWN = { degC: 1, A: 1, kW: 2, "kW.h": 1, "A.h": 1, km: 1, "km/h": 1, deg: 5, m: 1, "%": 1, kohm: 0, "N.m": 0 };

export const unitName = (unit) => UNITS[unit] ?? unit;
export const unitOf = (stream, name) => unitName(catalogue.streams[stream]?.[name]?.unit ?? "");

export function decimalsOf(stream, name) {
  const signal = catalogue.streams[stream]?.[name];
  if (!signal) return 0;
  const isCell = name.startsWith("cell_");
  return Math.min(signal.decimals, isCell ? 3 : (DECIMALS_SHOWN[signal.unit] ?? signal.decimals));
}

const formatters = new Map();

export function number(value, decimals = 0) {
  if (value == null || !Number.isFinite(value)) return "–";
  if (!formatters.has(decimals)) {
    const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
    formatters.set(decimals, new Intl.NumberFormat("en", digits));
  }
  const text = formatters.get(decimals).format(value);
  return /^-0(\.0+)?$/.test(text) ? text.slice(1) : text.replace("-", "\u2212");
}

export function bytes(value) {
  if (value == null) return "–";
  const steps = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]];
  const [unit, size] = steps.find(([, step]) => value >= step) ?? ["B", 1];
  return `${number(value / size, size === 1 ? 0 : 1)} ${unit}`;
}

export const word = (stream, name, value) =>
  value == null ? "–" : (catalogue.states[stream]?.[name]?.[value] ?? `Code ${value}`);

export const hasWords = (stream, name) => Boolean(catalogue.states[stream]?.[name] || catalogue.flags[stream]?.[name]);

export function flags(stream, name, value) {
  if (!value) return [];
  const names = catalogue.flags[stream]?.[name] ?? [];
  return Array.from({ length: 32 }, (_, bit) => bit)
    .filter((bit) => Math.floor(value / 2 ** bit) % 2 === 1)
    .map((bit) => names[bit] ?? `Bit ${bit}`);
}

// One signal of a reading as text, without its unit.
export function signalText(reading, name) {
  if (!reading || !(name in reading.values)) return "–";
  if (reading.abnormal.includes(name)) return "abnormal";
  const value = reading.values[name];
  if (value == null) return "–";
  if (catalogue.flags[reading.stream]?.[name]) return flags(reading.stream, name, value).join(", ") || "None";
  if (catalogue.states[reading.stream]?.[name]) return word(reading.stream, name, value);
  return number(value, decimalsOf(reading.stream, name));
}

const UNIT_SUFFIX = /_(kmh|km|v|a|pct|nm|rpm|c|mps2|kw|kvar|kohm|kg|deg|m|db|dbm|ah|kwh|hz|s|ms|bytes)(?=_max$|_min$|$)/;

// "auxiliary_voltage_v" -> "Auxiliary voltage"
export function title(name) {
  const plain = name.replace(UNIT_SUFFIX, "").replaceAll("_", " ");
  const text = plain.replace(/\b(soc|soh|gnss|rssi|rtt|hdop|pdop|vdop|snr)\b/g, (word) => ({ soc: "SoC", soh: "SoH" })[word] ?? word.toUpperCase());
  return text.charAt(0).toUpperCase() + text.slice(1).replace(/\bl([123])\b/, "L$1").replace("mosfet", "MOSFET");
}

export function age(ms) {
  if (ms == null) return "never";
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const dayFormat = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const dayOfYearFormat = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const HALF_YEAR_MS = 182 * 86_400_000; // within it, day and month leave no doubt

export function clock(utcMs, nowMs = Date.now()) {
  if (utcMs == null) return "–";
  const isToday = dayFormat.format(utcMs) === dayFormat.format(nowMs);
  if (isToday) return timeFormat.format(utcMs);
  const day = Math.abs(nowMs - utcMs) < HALF_YEAR_MS ? dayOfYearFormat : dayFormat;
  return `${day.format(utcMs)}, ${timeFormat.format(utcMs)}`;
}

const collator = new Intl.Collator("en", { numeric: true });
export const byName = (one, other) => collator.compare(one, other);
