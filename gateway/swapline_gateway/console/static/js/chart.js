// <sl-chart>: one chart over the chosen span, filled from the history and kept going by the live readings.
//
// spec: {id, title, unit, decimals, minimum?, maximum?, isHeld, lines: [{label, stream, source, signal, live, derive?}]}
// isHeld: the newest values still stand, as their node is online. source: {fleet, node?, bay?, module?}; live: {time_utc_ms, value} of the newest reading, or null.
// derive: {signals: [...], compute: (...values) => value} where a line is calculated from several signals.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { html, nothing, render } from "./lit.js";
import { address, fetchJson } from "./api.js";
import { number, silenceMs } from "./format.js";

const POINTS_MAX = 600;
const REFRESH_MS_MIN = 15_000; // live readings keep the line going in between
const RETRY_MS = 10_000;
const LIVE_POINTS_MAX = 2_000;
const HEIGHT = 180;
const COLOURS = 6;

class Chart extends HTMLElement {
  #spec = null;
  #rangeMs = 0;
  #nowMs = 0;
  #lines = []; // one a line of the spec: Map of time -> value
  #state = "loading";
  #error = "";
  #loadedAtMs = 0;
  #hovered = null;

  set config({ spec, rangeMs, nowMs }) {
    const isNew = spec.id !== this.#spec?.id || rangeMs !== this.#rangeMs;
    this.#spec = spec;
    this.#rangeMs = rangeMs;
    this.#nowMs = nowMs;
    if (isNew) this.#restart();
    this.#takeLive();
    this.#refreshIfDue();
    this.#draw();
  }

  connectedCallback() {
    this.resize = new ResizeObserver(() => this.#fitWidth());
    this.resize.observe(this);
    this.onTheme = () => this.#rebuild();
    addEventListener("themechange", this.onTheme);
  }

  disconnectedCallback() {
    this.resize?.disconnect();
    removeEventListener("themechange", this.onTheme);
    this.request?.abort();
    this.plot?.destroy();
    this.plot = null;
  }

  #restart() {
    this.request?.abort();
    this.request = null;
    this.#lines = this.#spec.lines.map(() => new Map());
    this.#state = "loading";
    this.#loadedAtMs = 0;
    this.#rebuild();
  }

  #refreshIfDue() {
    const interval = this.#state === "error" ? RETRY_MS : Math.max(REFRESH_MS_MIN, this.#rangeMs / 100);
    if (!this.request && this.#nowMs - this.#loadedAtMs >= interval) this.#load();
  }

  async #load() {
    this.request = new AbortController();
    const { signal } = this.request;
    this.#loadedAtMs = this.#nowMs;
    try {
      const columns = await Promise.all(this.#spec.lines.map((line) => this.#fetchLine(line, signal)));
      this.#lines = columns.map((column, index) => this.#keepLive(column, this.#lines[index]));
      this.#state = "ready";
    } catch (error) {
      if (signal.aborted) return;
      this.#state = "error";
      this.#error = error.message;
    }
    this.request = null;
    this.#draw();
  }

  async #fetchLine(line, signal) {
    const signals = line.derive?.signals ?? [line.signal];
    const start = Math.floor(this.#nowMs - this.#rangeMs);
    const query = { stream: line.stream, ...line.source, signals: signals.join(","), start, end: Math.ceil(this.#nowMs) + 1, points: POINTS_MAX };
    const { time_utc_ms: times, values } = await fetchJson(address("api/series", query), { signal });
    const compute = line.derive?.compute ?? ((value) => value);
    return new Map(times.map((time, i) => [time, compute(...signals.map((name) => values[name][i]))]));
  }

  // Live points may be newer than what the database has taken yet.
  #keepLive(column, before) {
    const last = Math.max(0, ...[...column.keys()].slice(-1));
    for (const [time, value] of before ?? []) if (time > last) column.set(time, value);
    return column;
  }

  #takeLive() {
    this.#spec.lines.forEach((line, index) => {
      const column = this.#lines[index];
      if (line.live && line.live.value !== undefined) column.set(line.live.time_utc_ms, line.live.value);
      if (column.size > LIVE_POINTS_MAX) column.delete(column.keys().next().value);
    });
  }

  // Rows come at least once in the stream's longest silence; a longer pause is a gap and not a line across it.
  #aligned() {
    const from = this.#nowMs - this.#rangeMs;
    const bucketMs = this.#rangeMs / POINTS_MAX;
    const tables = this.#lines.map((column, index) => {
      const gapMs = Math.max(2.5 * silenceMs(this.#spec.lines[index].stream), 4 * bucketMs);
      const times = [];
      const values = [];
      for (const time of [...column.keys()].sort((a, b) => a - b)) {
        if (time < from) continue;
        if (times.length && time - times.at(-1) * 1000 > gapMs) {
          times.push((times.at(-1) * 1000 + 1) / 1000);
          values.push(null);
        }
        times.push(time / 1000);
        values.push(column.get(time) ?? null);
      }
      // Rows are kept when something changed: until the longest silence is over, the last value still stands.
      const lastMs = times.length ? times.at(-1) * 1000 : 0;
      if (this.#spec.isHeld && lastMs && lastMs < this.#nowMs && this.#nowMs - lastMs < gapMs) {
        times.push(this.#nowMs / 1000);
        values.push(values.at(-1));
      }
      return [times, values];
    });
    return uPlot.join(tables, tables.map(() => [0, 2])); // 2: do not let nulls of the join break a line, only our own
  }

  #draw() {
    if (!this.#spec) return;
    const isEmpty = this.#lines.every((column) => column.size === 0);
    render(this.#frame(isEmpty), this);
    this.holder = this.querySelector(".plot");
    if (!this.plot && this.holder.clientWidth) this.#build();
    if (!this.plot) return;
    this.plot.setData(this.#aligned(), false);
    this.plot.setScale("x", { min: (this.#nowMs - this.#rangeMs) / 1000, max: this.#nowMs / 1000 });
  }

  #frame(isEmpty) {
    const { title, unit } = this.#spec;
    const notes = { loading: "Loading…", error: this.#error, ready: isEmpty ? "Nothing stored in this span." : "" };
    const note = this.#state === "error" || isEmpty ? notes[this.#state] : "";
    return html`<figure aria-label=${this.#summary()}>
      <figcaption><h3>${title}${unit ? html` <span class="unit">${unit}</span>` : nothing}</h3></figcaption>
      <div class="plot" aria-hidden="true"></div>
      ${note ? html`<p class="plot-note" data-state=${this.#state} role="status">${note}</p>` : nothing}
      <ul class="legend">${this.#spec.lines.map((line, index) => this.#legendItem(line, index))}</ul>
    </figure>`;
  }

  #legendItem(line, index) {
    return html`<li><i data-colour=${index % COLOURS} data-dashed=${String(index >= COLOURS)} aria-hidden="true"></i><span>${line.label}</span>
      <b class="number">${number(this.#shown(index), this.#spec.decimals)}</b></li>`;
  }

  #shown(index) {
    if (this.#hovered != null && this.plot) return this.plot.data[index + 1]?.[this.#hovered];
    return [...this.#lines[index]].reduce((last, entry) => (entry[0] >= last[0] ? entry : last), [0, null])[1];
  }

  #summary() {
    const lines = this.#spec.lines.map((line, index) => `${line.label} ${number(this.#shown(index), this.#spec.decimals)}`);
    return `${this.#spec.title}, newest values in ${this.#spec.unit || "counts"}: ${lines.join("; ")}`;
  }

  #rebuild() {
    this.plot?.destroy();
    this.plot = null;
    this.#hovered = null;
    if (this.#spec) this.#draw();
  }

  #fitWidth() {
    const width = this.holder?.clientWidth;
    if (!width) return;
    if (this.plot) this.plot.setSize({ width, height: HEIGHT });
    else this.#draw();
  }

  #build() {
    const style = getComputedStyle(this);
    const colour = (name) => style.getPropertyValue(name).trim();
    const { minimum, maximum, decimals } = this.#spec;
    this.plot = new uPlot(
      {
        width: this.holder.clientWidth,
        height: HEIGHT,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
        scales: { x: { time: true, auto: false }, y: { range: (_, low, high) => paddedRange(low, high, { minimum, maximum, decimals }) } },
        axes: axesOf(colour),
        series: [{}, ...this.#spec.lines.map((line, index) => lineStyle(line.label, colour(`--line-${index % COLOURS}`), index))],
        hooks: { setCursor: [(plot) => this.#hover(plot.cursor.idx)] },
      },
      this.#aligned(),
      this.holder,
    );
  }

  #hover(index) {
    if (index === this.#hovered) return;
    this.#hovered = index;
    render(this.#frame(this.#lines.every((column) => column.size === 0)), this);
  }
}

// A row between two gaps has no line; without a dot it would not be seen at all.
function lonePoints(plot, index) {
  const values = plot.data[index];
  const known = values.flatMap((value, at) => (value === undefined ? [] : [at])); // undefined: another line's time
  return known.filter((at, i) => values[at] !== null && values[known[i - 1]] == null && values[known[i + 1]] == null);
}

const lineStyle = (label, stroke, index) => ({
  label,
  stroke,
  width: 1.75,
  points: { show: true, size: 4, filter: lonePoints },
  spanGaps: false,
  dash: index < COLOURS ? [] : [6, 4], // more lines than colours: the second round is dashed
});

// As many decimals as the step between two labels needs, so that all labels of an axis agree.
const compact = (value, step) => number(value, String(Number(step.toPrecision(6))).split(".")[1]?.length ?? 0);

const hourFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const dateFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const timeLabels = (plot, splits) =>
  splits.map((split) => (plot.scales.x.max - plot.scales.x.min > 2 * 86_400 ? dateFormat : hourFormat).format(split * 1000));

export function axesOf(colour) {
  const axis = { stroke: colour("--text-muted"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: `11px ${colour("--font")}` };
  return [
    { ...axis, size: 26, space: 64, values: timeLabels },
    { ...axis, size: 48, values: (_plot, splits, _axis, _space, step) => splits.map((split) => compact(split, step)) },
  ];
}

// A flat line gets room around it instead of filling the picture with its noise.
export function paddedRange(low, high, { minimum, maximum, decimals }) {
  if (low == null || high == null) return [minimum ?? 0, maximum ?? 1];
  const pad = Math.max((high - low) * 0.1, Math.abs(high) * 0.005, 5 * 10 ** -decimals);
  return [minimum ?? low - pad, maximum ?? high + pad];
}

customElements.define("sl-chart", Chart);
