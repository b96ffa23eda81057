// <sl-history>: one chart of figures that the page already has, by hour or by day; sl-chart asks the database instead.
//
// spec: {id, title, unit, decimals, times, minimum?, lines: [{label, values, kind: "line" | "dots" | "bars"}]}

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { html, nothing, render } from "./lit.js";
import { number } from "./format.js";
import { axesOf, paddedRange } from "./chart.js";

const HEIGHT = 160;

class History extends HTMLElement {
  #spec = null;
  #hovered = null;

  set spec(spec) {
    const isNew = spec.id !== this.#spec?.id || spec.lines.length !== this.#spec.lines.length;
    this.#spec = spec;
    if (isNew) this.#rebuild();
    else this.#draw();
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
    this.plot?.destroy();
    this.plot = null;
  }

  #rebuild() {
    this.plot?.destroy();
    this.plot = null;
    this.#hovered = null;
    if (this.#spec) this.#draw();
  }

  #data() {
    return [this.#spec.times.map((time) => time / 1000), ...this.#spec.lines.map((line) => line.values)];
  }

  #draw() {
    render(this.#frame(), this);
    this.holder = this.querySelector(".plot");
    if (!this.plot && this.holder.clientWidth) this.#build();
    else this.plot?.setData(this.#data());
  }

  #frame() {
    const { title, unit, lines, decimals } = this.#spec;
    const isEmpty = lines.every((line) => line.values.every((value) => value == null));
    const shown = (line) => (this.#hovered == null ? line.values.findLast((value) => value != null) : line.values[this.#hovered]);
    const summary = `${title}, newest in ${unit}: ${lines.map((line) => `${line.label} ${number(shown(line), decimals)}`).join("; ")}`;
    return html`<figure aria-label=${summary}>
      <figcaption><h3>${title} <span class="unit">${unit}</span></h3></figcaption>
      <div class="plot short" aria-hidden="true"></div>
      ${isEmpty ? html`<p class="plot-note" role="status">Not known in this span.</p>` : nothing}
      <ul class="legend">${lines.map((line, index) => html`<li><i data-colour=${index} aria-hidden="true"></i><span>${line.label}</span> <b class="number">${number(shown(line), decimals)}</b></li>`)}</ul>
    </figure>`;
  }

  #fitWidth() {
    const width = this.holder?.clientWidth;
    if (!width) return;
    if (this.plot) this.plot.setSize({ width, height: HEIGHT });
    else if (this.#spec) this.#draw();
  }

  #build() {
    const style = getComputedStyle(this);
    const colour = (name) => style.getPropertyValue(name).trim();
    const { minimum, decimals, lines } = this.#spec;
    this.plot = new uPlot(
      {
        width: this.holder.clientWidth,
        height: HEIGHT,
        padding: [8, 20, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
        scales: { x: { time: true }, y: { range: (_, low, high) => paddedRange(low, high, { minimum, decimals }) } },
        axes: axesOf(colour),
        series: [{}, ...lines.map((line, index) => seriesOf(line, colour(`--line-${index}`)))],
        hooks: { setCursor: [(plot) => this.#hover(plot.cursor.idx)] },
      },
      this.#data(),
      this.holder,
    );
  }

  #hover(index) {
    if (index === this.#hovered) return;
    this.#hovered = index;
    render(this.#frame(), this);
  }
}

function seriesOf({ label, kind }, stroke) {
  if (kind === "bars") return { label, stroke, fill: stroke, width: 0, paths: uPlot.paths.bars({ size: [0.7, 14] }), points: { show: false } };
  if (kind === "dots") return { label, stroke, width: 0, paths: () => null, points: { show: true, size: 4, fill: stroke } };
  return { label, stroke, width: 1.75, spanGaps: false, points: { show: true, size: 4, filter: lonePoints } };
}

// A day between two gaps has no line; without a dot it would not be seen at all.
function lonePoints(plot, index) {
  const values = plot.data[index];
  return values.flatMap((value, at) => (value != null && values[at - 1] == null && values[at + 1] == null ? [at] : []));
}

customElements.define("sl-history", History);
