// Early warnings: slow signs that a module may fail, ranked, with what they stand on. Never an alarm.

import { html, nothing, repeat } from "./lit.js";
import { age, clock, number, title } from "./format.js";
import { chip, empty, moduleLink } from "./parts.js";

const SHOWN = 5;
const KINDS = {
  cell_falls_behind: "A cell falls behind",
  spread_grows: "Cells drift apart",
  loses_charge: "Loses charge",
  sensor_stands_still: "Sensor stands still",
  hotter_than_siblings: "Hotter than its siblings",
};

export const warningLabel = (kind) => KINDS[kind] ?? title(kind);

// `score` is 0 to 1: only what lies in the upper part is asking for somebody now.
const scoreTone = (score) => (score >= 0.75 ? "bad" : score >= 0.4 ? "warn" : "off");

export function warningList(warnings, page, { isOfOneModule = false } = {}) {
  if (!warnings.length) return empty(isOfOneModule ? "No early warning" : "No early warning for any module", "Spread, self-discharge, sensors and temperatures are judged from some days of readings on.");
  const sorted = [...warnings].sort((one, other) => other.score - one.score);
  const shown = isOfOneModule || page.query.warnings === "all" ? sorted : sorted.slice(0, SHOWN);
  return html`<ol class="warnings">${repeat(shown, (one) => `${one.module}|${one.kind}`, (one) => warning(one, page, isOfOneModule))}</ol>
    ${sorted.length > shown.length ? html`<p class="more"><button type="button" class="plain" @click=${() => page.setQuery({ warnings: "all" })}>Show all ${sorted.length}</button></p>` : nothing}`;
}

function warning(one, page, isOfOneModule) {
  const score = Math.max(0, Math.min(1, one.score));
  return html`<li>
    <span class="score" role="img" aria-label="rank ${number(100 * score, 0)} of 100" title="Rank ${number(100 * score, 0)} of 100">
      <svg class="bar" data-tone=${scoreTone(score)} viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
        <rect class="track" width="100" height="4"></rect><rect class="fill" width=${100 * score} height="4"></rect></svg></span>
    <div>
      <div class="warning-head">${chip(scoreTone(score), warningLabel(one.kind))}
        ${isOfOneModule ? nothing : html`<a class="code" href=${moduleLink(one.module)}>${one.module}</a>`}
        <span class="muted">since ${clock(one.since_utc_ms, page.nowMs)}, ${age(page.nowMs - one.since_utc_ms)}</span></div>
      <p>${one.text}</p>
      ${evidence(one.evidence, page)}
    </div>
  </li>`;
}

function evidence(figures, page) {
  const entries = Object.entries(figures ?? {}).filter(([name, value]) => name !== "points" && value != null && textOf(name, value, page) !== null);
  const points = isSeries(figures?.points) ? figures.points : [];
  if (!entries.length && points.length < 2) return nothing;
  return html`<dl class="facts wide evidence">
    ${entries.map(([name, value]) => html`<div><dt>${nameOf(name)}</dt><dd class="number">${textOf(name, value, page)}</dd></div>`)}
    ${points.length > 1 ? html`<div><dt>Course</dt><dd>${course(points)}</dd></div>` : nothing}
  </dl>`;
}

const isSeries = (points) => Array.isArray(points) && points.every((point) => Array.isArray(point) && point.every(Number.isFinite));

const COURSE = { width: 180, height: 30, margin: 3 };

// A line without axes: the figures beside it say from where to where.
function course(points) {
  const [times, values] = [points.map(([time]) => time), points.map(([, value]) => value)];
  const place = (value, all, length) => COURSE.margin + ((value - Math.min(...all)) / (Math.max(...all) - Math.min(...all) || 1)) * (length - 2 * COURSE.margin);
  const at = (i) => `${place(times[i], times, COURSE.width).toFixed(1)} ${(COURSE.height - place(values[i], values, COURSE.height)).toFixed(1)}`;
  return html`<svg class="course" width=${COURSE.width} height=${COURSE.height} role="img" aria-label="from ${figure(values[0])} to ${figure(values.at(-1))}"><path d="M${points.map((_, i) => at(i)).join("L")}"></path></svg>`;
}

const NAMES = { first_mv: "At first", last_mv: "Now", slope_mv_per_day: "Growth", band_pct: "At a charge of", z: "Growth over its error", in_ah: "Charged", out_ah: "Discharged", current_a: "As a current", pct_per_day: "Loss", value_c: "It says" };
// Figures carry their unit as the name's last word, as everywhere.
const UNITS = { mv: "mV", v: "V", a: "A", c: "°C", k: "K", pct: "%", ah: "Ah", wh: "Wh", kwh: "kWh", w: "W", kw: "kW", mohm: "mΩ", h: "h", d: "days", s: "s", sigma: "σ" };
const UNIT_AT_END = new RegExp(`(?:^|_)(${Object.keys(UNITS).join("|")})(_per_(?:d|day|h|30d|month))?$`);
const RATES = { _per_d: " / day", _per_day: " / day", _per_h: " / h", _per_30d: " / 30 days", _per_month: " / month" };

function nameOf(name) {
  if (NAMES[name]) return NAMES[name];
  const plain = name.replace(/_utc_ms$/, "").replace(UNIT_AT_END, "").replaceAll("_", " ");
  return plain.charAt(0).toUpperCase() + plain.slice(1);
}

// null: not a thing to be written in a line.
function textOf(name, value, page) {
  if (Array.isArray(value)) return value.length <= 8 && value.every((one) => typeof one !== "object") ? value.join(", ") : null;
  if (typeof value === "object") return null;
  if (name.endsWith("_utc_ms")) return clock(value, page.nowMs);
  if (typeof value === "boolean") return value ? "yes" : "no";
  const [text, match] = [typeof value === "number" ? figure(value) : value, UNIT_AT_END.exec(name)];
  return match ? `${text}\u00a0${UNITS[match[1]]}${RATES[match[2]] ?? ""}` : text;
}

// Three significant digits; whole numbers whole.
export function figure(value) {
  if (value == null || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value)) return number(value, 0);
  const decimals = Math.max(0, Math.min(4, 2 - Math.floor(Math.log10(Math.abs(value) || 1))));
  return number(value, decimals);
}
