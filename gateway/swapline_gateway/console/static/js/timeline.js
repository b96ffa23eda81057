// <sl-timeline>: who held a module, as bars over time by holder and bay, with contradictions as marks on them.
//
// config: {id, stays, contradictions, nowMs, endMs, isStation(place)}; it ends at `endMs`, or now. Drag moves it, Ctrl and wheel or + and - zoom, arrows move.

import { html, nothing, render, svg } from "./lit.js";
import { age, clock } from "./format.js";
import { EVIDENCE, kindLabel } from "./custody_words.js";
import { DAY_MS, HOUR_MS, layOut, ticks } from "./timeline_model.js";

const ROW = 26;
const BAR = 18;
const AXIS = 22;
const LABEL_WIDTH = 140;
const LABEL_WIDTH_NARROW = 100;
const NARROW = 520;
const TICK_PIXELS = 76;
const SPAN_MS_MIN = 10 * 60_000;
const SPAN_MS_DEFAULT = 30 * DAY_MS;
const ZOOM = 1.6;
const SPANS = [["1 day", DAY_MS], ["7 days", 7 * DAY_MS], ["30 days", 30 * DAY_MS], ["1 year", 365 * DAY_MS]];

const FORMATS = {
  time: new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false }),
  day: new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" }),
  month: new Intl.DateTimeFormat(undefined, { month: "short", year: "numeric" }),
};

class Timeline extends HTMLElement {
  #config = null;
  #window = null; // [from, to] once somebody chose one; until then the last days, going on with the time
  #followsNow = true;
  #width = 0;
  #told = null; // the bar or mark that the line below describes
  #drag = null;

  set config(config) {
    if (config.id !== this.#config?.id) this.#reset();
    this.#config = config;
    this.#draw();
  }

  connectedCallback() {
    this.resize = new ResizeObserver(() => {
      this.#width = this.clientWidth;
      this.#draw();
    });
    this.resize.observe(this);
    this.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false }); // it may take the wheel from the page
  }

  disconnectedCallback() {
    this.resize?.disconnect();
  }

  #reset() {
    this.#window = null;
    this.#followsNow = true;
    this.#told = null;
  }

  #extent() {
    const { stays, contradictions, nowMs, endMs } = this.#config;
    const last = endMs ?? nowMs;
    const first = [...stays.map((stay) => stay.from_utc_ms), ...contradictions.map((one) => one.time_utc_ms)].reduce((low, time) => Math.min(low, time), last - HOUR_MS);
    return [first, last];
  }

  #shown() {
    const [first, last] = this.#extent();
    if (!this.#window) return [Math.max(first, last - SPAN_MS_DEFAULT), last];
    const [from, to] = this.#window;
    return this.#followsNow ? [last - (to - from), last] : [from, to];
  }

  #show(from, to) {
    const [first, last] = this.#extent();
    const span = Math.max(SPAN_MS_MIN, Math.min(to - from, last - first));
    const start = Math.max(first, Math.min((from + to) / 2 - span / 2, last - span));
    this.#window = [start, start + span];
    this.#followsNow = start + span >= last - 1;
    this.#draw();
  }

  #zoom(factor, at = 0.5) {
    const [from, to] = this.#shown();
    const centre = from + (to - from) * at;
    const span = (to - from) * factor;
    this.#show(centre - span * at, centre + span * (1 - at));
  }

  #pan(share) {
    const [from, to] = this.#shown();
    this.#show(from + share * (to - from), to + share * (to - from));
  }

  #lastDays(spanMs) {
    const [, last] = this.#extent();
    this.#show(last - spanMs, last);
  }

  #plotWidth() {
    return Math.max(60, this.#width - this.#labelWidth());
  }

  #labelWidth() {
    return this.#width < NARROW ? LABEL_WIDTH_NARROW : LABEL_WIDTH;
  }

  #draw() {
    if (!this.#config || !this.#width) return;
    const [fromMs, toMs] = this.#shown();
    const rows = layOut({ ...this.#config, fromMs, toMs, width: this.#plotWidth(), isNarrow: this.#width < NARROW });
    render(html`${this.#buttons(fromMs, toMs)} ${this.#picture(rows, fromMs, toMs)} ${this.#legend()}`, this);
  }

  #buttons(fromMs, toMs) {
    const [first, last] = this.#extent();
    const isSpan = (spanMs) => this.#followsNow && Math.abs(toMs - fromMs - Math.min(spanMs, last - first)) < 60_000;
    const useful = SPANS.filter(([, spanMs]) => spanMs < last - first);
    const button = (label, spanMs) => html`<button type="button" aria-pressed=${String(isSpan(spanMs))} @click=${() => this.#lastDays(spanMs)}>${label}</button>`;
    return html`<div class="timeline-controls">
      <div class="segments" role="group" aria-label="Span of the timeline">${useful.map(([label, spanMs]) => button(label, spanMs))}${button("All", last - first)}</div>
      <div class="segments" role="group" aria-label="Zoom"><button type="button" aria-label="Zoom in" @click=${() => this.#zoom(1 / ZOOM)}>+</button>
        <button type="button" aria-label="Zoom out" @click=${() => this.#zoom(ZOOM)}>−</button></div>
      <span class="muted">${clock(fromMs, this.#config.nowMs)} to ${this.#followsNow && !this.#config.endMs ? "now" : clock(toMs, this.#config.nowMs)}</span>
    </div>`;
  }

  #picture(rows, fromMs, toMs) {
    const [left, width] = [this.#labelWidth(), this.#plotWidth()];
    const height = Math.max(1, rows.length) * ROW;
    const { unit, times } = ticks(fromMs, toMs, Math.max(2, Math.floor(width / TICK_PIXELS)));
    const x = (time) => left + ((time - fromMs) / (toMs - fromMs)) * width;
    return html`<div class="timeline-plot" tabindex="0" role="group" aria-label="Timeline of holders: arrow keys move it, plus and minus zoom; the list below says the same"
        @keydown=${(event) => this.#onKey(event)} @pointerdown=${(event) => this.#onDown(event)} @pointermove=${(event) => this.#onMove(event)}
        @pointerup=${() => this.#onUp()} @pointercancel=${() => this.#onUp()} @dblclick=${(event) => this.#zoom(1 / ZOOM, this.#shareAt(event))}>
      <svg width=${this.#width} height=${height + AXIS} role="img" aria-label=${this.#summary(rows)}>
        ${times.map((time) => svg`<g class="tick"><path d="M${x(time)} 0V${height}"></path><text x=${x(time)} y=${height + 15} text-anchor=${anchor(x(time), left, left + width)}>${FORMATS[unit].format(time)}</text></g>`)}
        ${rows.map((row, index) => svg`<text class="row-name" x="0" y=${index * ROW + ROW / 2}>${shorten(row.label, left)}<title>${row.label}</title></text>`)}
        <svg x=${left} width=${width} height=${height}>${rows.map((row, index) => this.#row(row, index))}</svg>
      </svg>
      ${rows.length ? nothing : html`<p class="plot-note">Nothing is known of this span.</p>`}
    </div><p class="timeline-told" role="status">${this.#told ? this.#tell(this.#told) : html`<span class="muted">Point at a bar or a mark to read what it says.</span>`}</p>`;
  }

  #row(row, index) {
    const y = index * ROW;
    return svg`<g class="timeline-row">${row.bars.map((bar) => this.#bar(bar, y + (ROW - BAR) / 2))}${row.marks.map((mark) => this.#mark(mark, y + ROW / 2))}</g>`;
  }

  #bar(bar, y) {
    const { start, end, seenEnd, stays } = bar;
    const [first, last] = [stays[0], stays.at(-1)];
    const text = stays.length > 1 ? `${stays.length} stays` : bar.text;
    const room = Math.min(end, this.#plotWidth()) - Math.max(start, 0);
    const edge = (at, evidence) => svg`<path class="edge" data-event=${String(evidence === "event")} d="M${at} ${y}v${BAR}"></path>`;
    return svg`<g class="stay" data-holder=${bar.isStation ? "station" : "van"} data-thin=${String(end - start < 8)}
        @pointerenter=${() => this.#describe(bar)} @click=${() => this.#describe(bar)}>
      <rect x=${start} y=${y} width=${seenEnd - start} height=${BAR} rx="2"></rect>
      ${seenEnd < end ? svg`<rect class="unseen" x=${seenEnd} y=${y} width=${end - seenEnd} height=${BAR}></rect>` : nothing}
      ${edge(start, first.from_evidence)}${last.until_utc_ms == null ? nothing : edge(end, last.until_evidence)}
      ${text && room > 7 * text.length + 8 ? svg`<text x=${Math.max(start, 0) + 5} y=${y + BAR / 2}>${text}</text>` : nothing}</g>`;
  }

  #mark(mark, y) {
    const { at, end } = mark;
    return svg`<g class="mark" @pointerenter=${() => this.#describe(mark)} @click=${() => this.#describe(mark)}>
      ${end > at ? svg`<path class="mark-span" d="M${at} ${y}H${end}"></path>` : nothing}
      <path class="mark-sign" d="M${at} ${y - 8}l7 8l-7 8l-7 -8z"></path><path class="mark-bang" d="M${at} ${y - 4}v4.500m0 2.500v1"></path></g>`;
  }

  #legend() {
    return html`<ul class="legend timeline-legend">
      <li><i data-kind="van" aria-hidden="true"></i>In a van</li><li><i data-kind="station" aria-hidden="true"></i>In a station</li>
      <li><i data-kind="unseen" aria-hidden="true"></i>Not seen, not known to have left</li>
      <li><i data-kind="event" aria-hidden="true"></i>Told by the node</li><li><i data-kind="inferred" aria-hidden="true"></i>Inferred</li>
      <li><i data-kind="mark" aria-hidden="true"></i>Contradiction</li></ul>`;
  }

  #describe(item) {
    if (this.#drag?.hasMoved) return;
    this.#told = item;
    this.#draw();
  }

  #tell(item) {
    const { nowMs, isStation } = this.#config;
    if (item.contradictions) return html`${item.contradictions.slice(0, 3).map((one) => html`<span><b>${kindLabel(one.kind)}</b> ${clock(one.time_utc_ms, nowMs)}: ${one.text} </span>`)}`;
    const [first, last] = [item.stays[0], item.stays.at(-1)];
    if (item.stays.length > 1) return html`<b>${item.stays.length} stays</b> between ${clock(first.from_utc_ms, nowMs)} and ${last.until_utc_ms == null ? "now" : clock(last.until_utc_ms, nowMs)}; zoom in to tell them apart.`;
    const until = first.until_utc_ms == null ? "until now" : `to ${clock(first.until_utc_ms, nowMs)} (${EVIDENCE[first.until_evidence] ?? "not known"})`;
    return html`<b>${first.node} ${isStation(first) ? "slot" : "bay"} ${first.bay}</b> from ${clock(first.from_utc_ms, nowMs)} (${EVIDENCE[first.from_evidence] ?? "not known"}) ${until},
      ${age((first.until_utc_ms ?? nowMs) - first.from_utc_ms)}`;
  }

  #summary(rows) {
    const bars = rows.reduce((count, row) => count + row.bars.reduce((sum, bar) => sum + bar.stays.length, 0), 0);
    const marks = rows.reduce((count, row) => count + row.marks.length, 0);
    return `${bars} stays in ${rows.length} rows, ${marks} marks of contradictions`;
  }

  #shareAt(event) {
    return Math.max(0, Math.min(1, (event.clientX - this.getBoundingClientRect().left - this.#labelWidth()) / this.#plotWidth()));
  }

  #onWheel(event) {
    if (!(event.ctrlKey || event.metaKey) || !event.target.closest?.(".timeline-plot")) return; // the page's own scrolling stays
    event.preventDefault();
    this.#zoom(event.deltaY > 0 ? ZOOM : 1 / ZOOM, this.#shareAt(event));
  }

  #onKey(event) {
    const actions = { ArrowLeft: () => this.#pan(-0.2), ArrowRight: () => this.#pan(0.2), "+": () => this.#zoom(1 / ZOOM), "=": () => this.#zoom(1 / ZOOM), "-": () => this.#zoom(ZOOM), Home: () => this.#pan(-1e6), End: () => this.#pan(1e6) };
    if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  }

  #onDown(event) {
    if (event.button !== 0) return;
    const [from, to] = this.#shown();
    this.#drag = { x: event.clientX, from, to, hasMoved: false };
  }

  #onMove(event) {
    if (!this.#drag) return;
    const pixels = event.clientX - this.#drag.x;
    if (!this.#drag.hasMoved && Math.abs(pixels) < 4) return;
    if (!this.#drag.hasMoved) event.currentTarget.setPointerCapture(event.pointerId);
    this.#drag.hasMoved = true;
    const shift = (-pixels / this.#plotWidth()) * (this.#drag.to - this.#drag.from);
    this.#show(this.#drag.from + shift, this.#drag.to + shift);
  }

  #onUp() {
    this.#drag = null;
  }
}

const anchor = (x, left, right) => (x - left < 20 ? "start" : right - x < 24 ? "end" : "middle");

// What is too long loses its middle: the bay at its end tells rows apart.
function shorten(label, width) {
  const count = Math.floor(width / 7.2);
  if (label.length <= count) return label;
  const end = label.slice(-Math.ceil(count / 2));
  return `${label.slice(0, count - end.length - 1)}…${end}`;
}

customElements.define("sl-timeline", Timeline);
