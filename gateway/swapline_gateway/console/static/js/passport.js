// A module's passport: how it was treated, what it is worth, how sure that is, and how its siblings do.

import { html, nothing } from "./lit.js";
import { age, clock, number } from "./format.js";
import { empty, tile, value } from "./parts.js";
import { figure } from "./warnings.js";

// name -> [what it is called, what siblings are compared in, more of its unit]
const ESTIMATES = {
  capacity: ["Capacity", "capacity_ah", ""],
  resistance: ["Resistance", "resistance_mohm", ""],
  spread: ["Cell spread at rest", "spread_mv", ""],
  spread_trend: ["Growth of the spread", "spread_trend_mv", " in 30 days"],
};
const UNITS = { mohm: "mΩ" };
const unitText = (unit, more = "") => `${UNITS[unit] ?? unit}${more}`;
const LEVELS = ["1", "2", "3"];

export function passport(content, page) {
  if (!content) return empty("No passport yet", "It begins with the first hour of readings that is over.");
  return html`<p class="muted passport-span">From ${clock(content.first_utc_ms, page.nowMs)} to ${clock(content.last_utc_ms, page.nowMs)}; readings cover
      ${age(content.known_s * 1000)} of it, ${number(known(content), 0)} %. What is not covered is counted nowhere.
      ${siblingsText(content.siblings)}</p>
    <dl class="tiles estimates">${Object.entries(ESTIMATES).map(([name, [label, figureName, more]]) => estimateTile(label, content[name], siblingNote(content.siblings, figureName), more))}</dl>
    <dl class="tiles">${usageTiles(content)}</dl>
    <div class="bands-columns">
      ${bands("Time at charge", content.soc_s, "%")} ${bands("Time at temperature", content.temperature_s, "°C")}
    </div>
    ${methods(content)}`;
}

function siblingsText({ count, reason } = {}) {
  if (reason) return `It is compared with no siblings: ${reason}.`;
  return count ? `It is compared with ${number(count)} sibling${count === 1 ? "" : "s"} of the same maker, types and specification.` : "";
}

const known = ({ known_s: s, first_utc_ms: first, last_utc_ms: last }) => (last > first ? Math.min(100, (100_000 * s) / (last - first)) : 0);

// What is inferred stands with its uncertainty; before the data suffices, with what is missing.
function estimateTile(label, estimate, note, more) {
  if (!estimate) return nothing;
  if (estimate.value == null) {
    return html`<div class="tile" data-kind="word"><dt>${label}</dt><dd>Not yet known</dd><dd class="note">${estimate.reason}</dd></div>`;
  }
  const decimals = decimalsOf(estimate);
  const range = estimate.uncertainty == null ? "" : `± ${number(estimate.uncertainty, decimals)}`;
  return html`<div class="tile" data-kind="number"><dt>${label}</dt>
    <dd><span class="number">${number(estimate.value, decimals)}</span> <span class="uncertainty">${range}</span><span class="unit">${unitText(estimate.unit, more)}</span></dd>
    <dd class="note">${[`${number(estimate.sample_count, 0)} sample${estimate.sample_count === 1 ? "" : "s"}`, note].filter(Boolean).join(", ")}</dd></div>`;
}

// No more digits than the uncertainty leaves, but two of it.
function decimalsOf({ value: amount, uncertainty }) {
  const least = uncertainty || Math.abs(amount) / 100 || 1;
  return Math.max(0, Math.min(4, 1 - Math.floor(Math.log10(least))));
}

// The percentile is the share of the siblings that lie below.
function siblingNote(siblings, name) {
  const one = siblings?.figures?.[name];
  return one ? `siblings ${figure(one.median)}, above ${number(one.percentile, 0)} % of them` : "";
}

function usageTiles(content) {
  const { alarm_counts: alarms } = content;
  const alarmCount = LEVELS.reduce((sum, level) => sum + (alarms[level] ?? 0), 0);
  return html`
    ${tile("Equivalent full cycles", number(content.equivalent_full_cycles, 1), { note: siblingNote(content.siblings, "equivalent_full_cycles") })}
    ${tile("Energy in", figure(content.energy_in_kwh), { unit: "kWh", note: `charge ${figure(content.charge_in_ah)} Ah` })}
    ${tile("Energy out", figure(content.energy_out_kwh), { unit: "kWh", note: `charge ${figure(content.charge_out_ah)} Ah` })}
    ${tile("Fast charge", content.fast_charge_share == null ? "–" : number(100 * content.fast_charge_share, 1), { unit: "%", note: "of the charge, above 1 C" })}
    ${tile("Swaps", number(content.swap_count), { note: `${number(content.holder_count)} holder${content.holder_count === 1 ? "" : "s"}` })}
    ${tile("Alarms", number(alarmCount), { note: LEVELS.map((level) => `${number(alarms[level] ?? 0)} of level ${level}`).join(", "), tone: alarms["3"] ? "bad" : "" })}`;
}

function bands(heading, seconds, unit) {
  const entries = Object.entries(seconds ?? {});
  const total = entries.reduce((sum, [, s]) => sum + s, 0);
  if (!total) return nothing;
  return html`<section><h3>${heading}</h3><dl class="bands">${entries.map(([name, s]) => band(`${bandName(name)} ${unit}`, s, total))}</dl></section>`;
}

function band(name, seconds, total) {
  const share = (100 * seconds) / total;
  return html`<div><dt>${name}</dt><dd>
    <svg class="bar" data-tone="info" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="4"></rect><rect class="fill" width=${share} height="4"></rect></svg>
    <span class="share">${value(share > 0 && share < 0.1 ? "< 0.1" : number(share, 1), "%")}</span><span class="muted band-time">${age(seconds * 1000)}</span></dd></div>`;
}

// "0-10" -> "0 to 10", "below 0" -> "Below 0"
function bandName(name) {
  const text = name.replace(/(\d)-(\d)/, "$1 to $2");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function methods(content) {
  const lines = Object.entries(ESTIMATES).map(([name, [label]]) => [label, content[name]?.method]).filter(([, method]) => method);
  if (content.energy_method) lines.push(["Energy", content.energy_method]);
  if (!lines.length) return nothing;
  return html`<details class="methods"><summary>How these figures were found</summary>
    <dl>${lines.map(([label, method]) => html`<div><dt>${label}</dt><dd>${method}</dd></div>`)}</dl>
    <p class="muted">± is one standard uncertainty. Formulas and their sources are in docs/modules.md.</p></details>`;
}
