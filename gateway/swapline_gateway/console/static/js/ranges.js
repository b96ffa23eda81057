// The spans that charts show.

import { html } from "./lit.js";

const MINUTE_MS = 60_000;
const RANGES = { "5m": ["5 min", 5], "15m": ["15 min", 15], "1h": ["1 h", 60], "6h": ["6 h", 360], "24h": ["24 h", 1_440], "7d": ["7 d", 10_080] };

const DEFAULT = "5m"; // what is happening now

export const rangeMs = (page) => (RANGES[page.query.range] ?? RANGES[DEFAULT])[1] * MINUTE_MS;

export function rangePicker(page) {
  const chosen = page.query.range in RANGES ? page.query.range : DEFAULT;
  return html`<div class="segments" role="group" aria-label="Span of the charts">
    ${Object.entries(RANGES).map(
      ([id, [label]]) => html`<button type="button" aria-pressed=${String(id === chosen)}
        @click=${() => page.setQuery({ range: id === DEFAULT ? null : id })}>${label}</button>`,
    )}
  </div>`;
}

export const chart = (spec, page) => html`<sl-chart .config=${{ spec, rangeMs: rangeMs(page), nowMs: page.nowMs }}></sl-chart>`;

// The newest point of a line, out of the reading that the page already has.
export function livePoint(reading, name) {
  if (!reading || !(name in reading.values)) return null;
  return { time_utc_ms: reading.time_utc_ms, value: reading.values[name] };
}
