// What a timeline shows of many stays in a span of time: rows, bars, marks, ticks. Pure, so that it can be tested.

import { byName } from "./format.js";

export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
const ROWS_MAX = 10;
const UNSEEN_MS_MIN = 180_000; // three of the longest silences of a node that runs
const BAR_PIXELS_MIN = 2;
const MERGE_PIXELS = 1;

const placeKey = (place) => `${place.fleet}/${place.node}/${place.bay}`;

// How places are gathered to rows, the finest first: by bay, by holder, vans and stations.
function groupings(isStation, isNarrow) {
  const bayWord = (place) => (isStation(place) ? "slot" : "bay");
  return [
    { key: placeKey, label: (place) => (isNarrow ? `${place.node} · ${place.bay}` : `${place.node} ${bayWord(place)} ${place.bay}`), text: () => "" },
    { key: (place) => `${place.fleet}/${place.node}`, label: (place) => place.node, text: (place) => `${bayWord(place)} ${place.bay}` },
    { key: (place) => String(isStation(place)), label: (place) => (isStation(place) ? "Stations" : "Vans"), text: (place) => `${place.node} ${bayWord(place)} ${place.bay}` },
  ];
}

const endOf = (stay, nowMs) => stay.until_utc_ms ?? nowMs;

function rowsOf(items, { key, label }, isStation) {
  const rows = new Map();
  for (const place of items) {
    const id = key(place);
    if (!rows.has(id)) rows.set(id, { id, label: label(place), isStation: isStation(place), bars: [], marks: [] });
  }
  return rows;
}

// stays and contradictions in any order; the window is [fromMs, toMs] over `width` pixels.
export function layOut({ stays, contradictions, fromMs, toMs, nowMs, width, isStation, isNarrow }) {
  const visible = stays.filter((stay) => stay.from_utc_ms < toMs && endOf(stay, nowMs) > fromMs).sort((one, other) => one.from_utc_ms - other.from_utc_ms);
  const marked = contradictions.filter((one) => one.time_utc_ms < toMs && (one.until_utc_ms ?? nowMs) >= fromMs).sort((one, other) => one.time_utc_ms - other.time_utc_ms);
  const places = [...visible, ...marked.flatMap((one) => [one.place, one.other_place].filter(Boolean))];
  const all = groupings(isStation, isNarrow);
  const grouping = all.find((one) => new Set(places.map(one.key)).size <= ROWS_MAX) ?? all.at(-1);
  const rows = rowsOf(places, grouping, isStation);
  const x = (time) => ((time - fromMs) / (toMs - fromMs)) * width;
  for (const stay of visible) addBar(rows.get(grouping.key(stay)), stay, { x, width, nowMs, text: grouping.text(stay), isStation: isStation(stay) });
  const general = { id: "", label: "No place", bars: [], marks: [] };
  for (const one of marked) {
    const targets = new Set([one.place, one.other_place].filter(Boolean).map((place) => rows.get(grouping.key(place))));
    for (const row of targets.size ? targets : [general]) addMark(row, one, x);
  }
  const sorted = [...rows.values()].sort((one, other) => one.isStation - other.isStation || byName(one.label, other.label));
  return [...sorted, ...(general.marks.length ? [general] : [])]; // in an order that stays while people move through the time
}

// Thousands of stays in few pixels become one bar that says how many it stands for.
function addBar(row, stay, { x, width, nowMs, text, isStation }) {
  const start = Math.max(-4, x(stay.from_utc_ms));
  const end = Math.max(start + BAR_PIXELS_MIN, Math.min(width + 4, x(endOf(stay, nowMs))));
  const last = row.bars.at(-1);
  const isThin = (one, other) => one - other < 6;
  if (last && start - last.end < MERGE_PIXELS && (isThin(end, start) || isThin(last.end, last.start)) && last.isStation === isStation) {
    last.end = Math.max(last.end, end);
    last.stays.push(stay);
    last.seenEnd = end;
    return;
  }
  row.bars.push({ start, end, seenEnd: seenEnd(stay, { x, start, end, nowMs }), text, isStation, stays: [stay] });
}

// Up to where it was proved to be there. What was not told ends only where it is proved to be over; between, nobody knows.
function seenEnd(stay, { x, start, end, nowMs }) {
  const isTold = stay.until_evidence === "event" || stay.last_seen_utc_ms == null || endOf(stay, nowMs) - stay.last_seen_utc_ms < UNSEEN_MS_MIN;
  return isTold ? end : Math.max(start, Math.min(end, x(stay.last_seen_utc_ms)));
}

function addMark(row, contradiction, x) {
  const at = x(contradiction.time_utc_ms);
  const end = x(contradiction.until_utc_ms ?? contradiction.time_utc_ms);
  const last = row.marks.at(-1);
  if (last && Math.abs(last.at - at) < 4) {
    last.contradictions.push(contradiction);
    last.end = Math.max(last.end, end);
  } else row.marks.push({ at, end, contradictions: [contradiction] });
}

const STEPS_MS = [60_000, 300_000, 900_000, HOUR_MS, 3 * HOUR_MS, 6 * HOUR_MS, 12 * HOUR_MS];
const STEPS_DAYS = [1, 2, 7, 14];
const STEPS_MONTHS = [1, 3, 6, 12];

// Round times of the viewer's clock, at most `countMax` of them, and whether they are days or times of a day.
export function ticks(fromMs, toMs, countMax) {
  const span = toMs - fromMs;
  const fits = (stepMs) => span / stepMs <= countMax;
  const short = STEPS_MS.find(fits);
  if (short) return { unit: "time", times: stepped(fromMs, toMs, (date) => floorTime(date, short), (date) => date.setTime(date.getTime() + short)) };
  const days = STEPS_DAYS.find((count) => fits(count * DAY_MS));
  if (days) return { unit: "day", times: stepped(fromMs, toMs, floorDay, (date) => date.setDate(date.getDate() + days)) };
  const months = STEPS_MONTHS.find((count) => fits(count * 30 * DAY_MS)) ?? Math.ceil(span / (365 * DAY_MS) / countMax) * 12;
  const floorMonth = (date) => new Date(date.getFullYear(), Math.floor(date.getMonth() / months) * months, 1);
  return { unit: "month", times: stepped(fromMs, toMs, floorMonth, (date) => date.setMonth(date.getMonth() + months)) };
}

const floorDay = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());

function floorTime(date, stepMs) {
  const day = floorDay(date).getTime();
  return new Date(day + Math.floor((date.getTime() - day) / stepMs) * stepMs);
}

function stepped(fromMs, toMs, floor, advance) {
  const times = [];
  for (const date = floor(new Date(fromMs)); date.getTime() <= toMs; advance(date)) if (date.getTime() >= fromMs) times.push(date.getTime());
  return times;
}
