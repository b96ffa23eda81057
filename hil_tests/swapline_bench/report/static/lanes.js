// The picture: an overview of the whole test, and under it one lane a track for the window that is looked at.

const OVERVIEW_PX = 26;
const AXIS_PX = 20;
const LABELS_PX = 150;
const LANE_PX = { serial: 30, power: 20, marks: 20, faults: 20, messages: 26, log: 26 };
const LABEL_PX_MIN = 70; // a shorter label says nothing
const SPAN_S_MIN = 0.0005;
const LABEL_FONT = "11px ui-monospace, 'DejaVu Sans Mono', monospace";

class Lanes {
  constructor(canvas, model, view) {
    this.canvas = canvas;
    this.model = model;
    this.view = view; // begin_s and end_s of the window, selected, and what to call on changes
    this.context = canvas.getContext("2d");
    this.hover = null;
    this.drag = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("wheel", (event) => this._onWheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this._onDown(event));
    canvas.addEventListener("pointermove", (event) => this._onMove(event));
    canvas.addEventListener("pointerup", (event) => this._onUp(event));
    canvas.addEventListener("pointerleave", () => this._setHover(null));
    canvas.addEventListener("dblclick", () => view.fit());
    this.height = OVERVIEW_PX + AXIS_PX + this.lanes().reduce((sum, lane) => sum + lane.height, 0) + 2;
    canvas.style.height = `${this.height}px`;
  }

  lanes() {
    let top = OVERVIEW_PX + AXIS_PX;
    return this.model.tracks.map((track, number) => {
      const lane = { track, number, top, height: LANE_PX[track.kind] };
      top += lane.height;
      return lane;
    });
  }

  get plotWidth() {
    return Math.max(50, this.canvas.clientWidth - LABELS_PX);
  }

  x(time_s) {
    return LABELS_PX + ((time_s - this.view.begin_s) / (this.view.end_s - this.view.begin_s)) * this.plotWidth;
  }

  timeAt(x) {
    return this.view.begin_s + ((x - LABELS_PX) / this.plotWidth) * (this.view.end_s - this.view.begin_s);
  }

  _overviewX(time_s) {
    const { begin_s, finish_s } = this.model;
    return LABELS_PX + ((time_s - begin_s) / (finish_s - begin_s)) * this.plotWidth;
  }

  _overviewTime(x) {
    const { begin_s, finish_s } = this.model;
    return begin_s + ((x - LABELS_PX) / this.plotWidth) * (finish_s - begin_s);
  }

  draw() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this._draw();
    });
  }

  _draw() {
    const scale = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(this.height * scale);
    this.colors = new Palette(this.canvas);
    const c = this.context;
    c.setTransform(scale, 0, 0, scale, 0, 0);
    c.clearRect(0, 0, width, this.height);
    c.font = LABEL_FONT;
    c.textBaseline = "middle";
    this._drawAxis();
    for (const lane of this.lanes()) this._drawLane(lane);
    this._drawAcross();
    this._drawOverview();
    this._drawCursor();
  }

  _drawAxis() {
    const c = this.context;
    const span_s = this.view.end_s - this.view.begin_s;
    const step_s = niceStep(span_s / Math.max(2, this.plotWidth / 110));
    const digits = Math.max(0, Math.ceil(-Math.log10(step_s) - 1e-9));
    c.textAlign = "center";
    for (let time_s = Math.ceil(this.view.begin_s / step_s) * step_s; time_s <= this.view.end_s; time_s += step_s) {
      const x = Math.round(this.x(time_s)) + 0.5;
      c.fillStyle = this.colors.get("--grid");
      c.fillRect(x, OVERVIEW_PX + AXIS_PX, 1, this.height);
      c.fillStyle = this.colors.get("--text-muted");
      if (x > LABELS_PX + 20 && x < this.canvas.clientWidth - 25) {
        c.fillText(`${time_s.toFixed(digits)} s`, x, OVERVIEW_PX + AXIS_PX / 2);
      }
    }
  }

  _drawLane(lane) {
    const c = this.context;
    const isHidden = this.model.hidden.has(lane.number);
    c.fillStyle = this.colors.get("--border");
    c.fillRect(0, lane.top + lane.height - 1, this.canvas.clientWidth, 1);
    c.save();
    c.globalAlpha = isHidden ? 0.25 : 1;
    c.fillStyle = this.colors.get(lane.track.color);
    c.fillRect(0, lane.top + 5, 4, lane.height - 11);
    c.fillStyle = this.colors.get("--text");
    c.textAlign = "left";
    const label = clip(c, lane.track.label, LABELS_PX - 22);
    c.fillText(label, 12, lane.top + lane.height / 2);
    const used = c.measureText(label).width + 22;
    c.fillStyle = this.colors.get("--text-muted");
    if (lane.track.protocol) c.fillText(clip(c, lane.track.protocol, LABELS_PX - used - 6), used, lane.top + lane.height / 2);
    c.beginPath();
    c.rect(LABELS_PX, lane.top, this.plotWidth, lane.height);
    c.clip();
    if (lane.track.kind === "power") this._drawPower(lane);
    else this._drawEntries(lane);
    c.restore();
  }

  /** Return the indices of a lane's entries in the window, with one before it that may reach into it. */
  _inWindow(lane) {
    const indices = this.model.byTrack[lane.number];
    const first = Math.max(0, this.model.place(indices, this.view.begin_s) - 1);
    return indices.slice(first, this.model.place(indices, this.view.end_s));
  }

  _drawEntries(lane) {
    const shown = this._inWindow(lane);
    if (shown.length > this.plotWidth * 2) return this._drawDensity(lane, shown);
    const labels = [];
    let edge = -Infinity;
    for (const i of shown) {
      const look = this._look(lane, i);
      const left = this.x(this.model.time[i]);
      const right = Math.max(left + 2, this.x(this.model.end[i]));
      this.context.fillStyle = look.color;
      this.context.fillRect(left, look.top, right - left, look.height);
      if (left - edge > 0) labels.push([i, right, left]);
      edge = left;
    }
    this._drawLabels(lane, labels);
  }

  /** Where many share a pixel, it is the darker the more there are; what is wrong is never paled by what is right. */
  _drawDensity(lane, shown) {
    const width = Math.ceil(this.plotWidth) + 1;
    const layers = new Map(); // by tone: how many entries begin at each pixel
    for (const i of shown) {
      let layer = layers.get(this.model.tone[i]);
      if (!layer) layers.set(this.model.tone[i], (layer = { ...this._look(lane, i), counts: new Uint32Array(width) }));
      layer.counts[Math.max(0, Math.min(width - 1, Math.floor(this.x(this.model.time[i]) - LABELS_PX)))]++;
    }
    const plain = this.colors.get(lane.track.color);
    const alpha = this.context.globalAlpha;
    for (const layer of [...layers.values()].sort((a, b) => (b.color === plain) - (a.color === plain))) {
      const most = layer.counts.reduce((a, b) => Math.max(a, b), 1);
      this.context.fillStyle = layer.color;
      layer.counts.forEach((count, x) => {
        if (!count) return;
        this.context.globalAlpha = alpha * (layer.color === plain ? 0.25 + 0.75 * (count / most) : 1);
        this.context.fillRect(LABELS_PX + x, layer.top, layer.color === plain ? 1 : 1.5, layer.height);
      });
    }
    this.context.globalAlpha = alpha;
  }

  _look(lane, i) {
    const tone = this.model.tone[i];
    const color = this.colors.tone(lane.track, tone);
    if (lane.track.kind !== "serial") return { top: lane.top + 5, height: lane.height - 11, color };
    const half = (lane.height - 6) / 2;
    return { top: lane.top + 2 + (tone.startsWith("from") ? 0 : half + 1), height: half - 1, color };
  }

  /** Write what entries say to their right, as far as there is room before the next one. */
  _drawLabels(lane, labels) {
    const c = this.context;
    let written = LABELS_PX; // how far the last label reaches
    for (let place = 0; place < labels.length; place++) {
      const [i, right] = labels[place];
      const room = (labels[place + 1]?.[2] ?? LABELS_PX + this.plotWidth) - right - 8;
      const text = this.model.line(i).slice(0, 200);
      const look = this._look(lane, i);
      const needed = Math.min(LABEL_PX_MIN, c.measureText(text).width);
      const isWrong = this.model.tone[i] === "failed";
      c.fillStyle = this.colors.get(isWrong ? "--bad" : "--text-muted");
      if (room >= needed) {
        const label = clip(c, text, room);
        c.fillText(label, right + 4, look.top + look.height / 2);
        written = right + 4 + c.measureText(label).width;
      } else if (place === labels.length - 1) {
        this._drawLabelBefore(text, labels[place][2], Math.max(written, labels[place - 1]?.[1] ?? 0), look);
      }
    }
  }

  /** Write what the last entry says to its left, where the window ends at its right. */
  _drawLabelBefore(text, left, written, look) {
    const c = this.context;
    const room = left - written - 16;
    if (room < LABEL_PX_MIN) return;
    c.textAlign = "right";
    c.fillText(clip(c, text, Math.min(room, 700)), left - 4, look.top + look.height / 2);
    c.textAlign = "left";
  }

  _drawPower(lane) {
    const c = this.context;
    const indices = this.model.byTrack[lane.number];
    indices.forEach((i, place) => {
      const state = this.model.content(i);
      const next = indices[place + 1];
      const left = this.x(this.model.time[i]);
      const right = next === undefined ? this.x(this.model.finish_s) : this.x(this.model.time[next]);
      const isOn = state !== "off" && state !== "cut";
      const isFailing = state === "browning out" || state === "warning";
      c.fillStyle = this.colors.get(isOn ? (isFailing ? "--fill-warn" : "--fill-good") : "--fill-off");
      c.globalAlpha *= isOn ? 0.75 : 0.25;
      c.fillRect(left, lane.top + 5, Math.max(1, right - left), lane.height - 11);
      c.globalAlpha = this.model.hidden.has(lane.number) ? 0.25 : 1;
      c.fillStyle = this.colors.get(state === "cut" ? "--fill-bad" : "--text");
      c.fillRect(left, lane.top + 2, 2, lane.height - 5);
      const from = Math.max(left, LABELS_PX);
      if (right - from > 24) c.fillText(clip(c, state, right - from - 8), from + 6, lane.top + lane.height / 2);
    });
  }

  /** Faults and failures cross all lanes: that is what one looks for. */
  _drawAcross() {
    const c = this.context;
    for (const lane of this.lanes()) {
      if (this.model.hidden.has(lane.number) || !["faults", "marks"].includes(lane.track.kind)) continue;
      for (const i of this._inWindow(lane).slice(0, 2000)) {
        const x = this.x(this.model.time[i]);
        if (x < LABELS_PX) continue;
        c.globalAlpha = this.model.tone[i] === "failed" ? 0.9 : 0.28;
        c.fillStyle = this.colors.tone(lane.track, this.model.tone[i]);
        c.fillRect(x, OVERVIEW_PX + AXIS_PX, this.model.tone[i] === "failed" ? 2 : 1, this.height);
      }
    }
    c.globalAlpha = 1;
  }

  _drawOverview() {
    const c = this.context;
    const bins = this._overviewBins();
    const most = Math.max(1, ...bins);
    c.fillStyle = this.colors.get("--sunken");
    c.fillRect(LABELS_PX, 2, this.plotWidth, OVERVIEW_PX - 4);
    c.fillStyle = this.colors.get("--fill-info");
    bins.forEach((count, x) => {
      const height = count ? 2 + (Math.sqrt(count / most) * (OVERVIEW_PX - 8)) : 0;
      c.fillRect(LABELS_PX + x, OVERVIEW_PX - 3 - height, 1, height);
    });
    this._drawOverviewTrouble();
    const left = this._overviewX(this.view.begin_s);
    const width = Math.max(3, this._overviewX(this.view.end_s) - left);
    c.fillStyle = this.colors.get("--surface");
    c.globalAlpha = 0.65;
    c.fillRect(LABELS_PX, 2, left - LABELS_PX, OVERVIEW_PX - 4);
    c.fillRect(left + width, 2, LABELS_PX + this.plotWidth - left - width, OVERVIEW_PX - 4);
    c.globalAlpha = 1;
    c.strokeStyle = this.colors.get("--accent");
    c.strokeRect(left + 0.5, 2.5, width - 1, OVERVIEW_PX - 5);
    c.fillStyle = this.colors.get("--text-muted");
    c.textAlign = "left";
    c.fillText("whole test", 12, OVERVIEW_PX / 2);
  }

  _drawOverviewTrouble() {
    const c = this.context;
    c.fillStyle = this.colors.get("--fill-bad");
    for (const lane of this.lanes()) {
      for (const i of this.model.byTrack[lane.number]) {
        if (isTrouble(this.model, i)) c.fillRect(this._overviewX(this.model.time[i]), OVERVIEW_PX - 7, 1.5, 4);
      }
    }
  }

  _overviewBins() {
    const width = Math.floor(this.plotWidth);
    if (this.binsOf === this.model.shown && this.bins?.length === width) return this.bins;
    const bins = new Array(width).fill(0);
    for (const i of this.model.shown) {
      const x = Math.floor(this._overviewX(this.model.time[i]) - LABELS_PX);
      bins[Math.max(0, Math.min(width - 1, x))]++;
    }
    [this.binsOf, this.bins] = [this.model.shown, bins];
    return bins;
  }

  _drawCursor() {
    const c = this.context;
    if (this.view.selected >= 0) {
      const x = this.x(this.model.time[this.view.selected]);
      if (x >= LABELS_PX) {
        c.fillStyle = this.colors.get("--accent");
        c.fillRect(x - 1, OVERVIEW_PX, 2, this.height);
      }
    }
    if (this.drag?.kind === "zoom" && this.drag.moved) {
      c.globalAlpha = 0.18;
      c.fillStyle = this.colors.get("--accent");
      c.fillRect(Math.min(this.drag.from, this.drag.to), OVERVIEW_PX, Math.abs(this.drag.to - this.drag.from), this.height);
      c.globalAlpha = 1;
    } else if (this.hover && this.hover.x > LABELS_PX && this.hover.y > OVERVIEW_PX) {
      c.fillStyle = this.colors.get("--border-strong");
      c.fillRect(this.hover.x, OVERVIEW_PX, 1, this.height);
    }
  }

  _laneAt(y) {
    return this.lanes().find((lane) => y >= lane.top && y < lane.top + lane.height);
  }

  _setHover(hover) {
    this.hover = hover;
    const lane = hover && hover.x > LABELS_PX ? this._laneAt(hover.y) : null;
    const index = lane ? this.model.nearest(this.timeAt(hover.x), lane.number) : -1;
    const isNear = index >= 0 && this.x(this.model.time[index]) - hover.x < 8 && hover.x - this.x(this.model.end[index]) < 8;
    this.view.hover(hover && hover.x > LABELS_PX ? this.timeAt(hover.x) : null, isNear ? index : -1, hover);
    this.draw();
  }

  _onWheel(event) {
    event.preventDefault();
    const span_s = this.view.end_s - this.view.begin_s;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.view.pan(((event.deltaX || event.deltaY) / this.plotWidth) * span_s);
    } else {
      this.view.zoom(Math.exp(event.deltaY * 0.002), this.timeAt(Math.max(LABELS_PX, event.offsetX)));
    }
  }

  _onDown(event) {
    if (event.offsetX < LABELS_PX) {
      const lane = this._laneAt(event.offsetY);
      if (lane) this.view.toggle(lane.number, event.altKey);
      return;
    }
    this.canvas.setPointerCapture(event.pointerId);
    const kind = event.offsetY < OVERVIEW_PX ? "move" : "zoom";
    this.drag = { kind, from: event.offsetX, to: event.offsetX, moved: false };
    if (kind === "move") this.view.center(this._overviewTime(event.offsetX));
  }

  _onMove(event) {
    if (this.drag) {
      this.drag.to = Math.max(LABELS_PX, event.offsetX);
      this.drag.moved ||= Math.abs(this.drag.to - this.drag.from) > 4;
      if (this.drag.kind === "move") this.view.center(this._overviewTime(event.offsetX));
    }
    this.canvas.style.cursor = event.offsetX < LABELS_PX ? "pointer" : "crosshair";
    this._setHover({ x: event.offsetX, y: event.offsetY, clientX: event.clientX, clientY: event.clientY });
  }

  _onUp(event) {
    const drag = this.drag;
    this.drag = null;
    if (drag?.kind !== "zoom") return;
    if (drag.moved) {
      this.view.setWindow(...[this.timeAt(drag.from), this.timeAt(drag.to)].sort((a, b) => a - b));
      return;
    }
    const lane = this._laneAt(event.offsetY);
    const index = this.model.nearest(this.timeAt(event.offsetX), lane ? lane.number : -1);
    if (index >= 0) this.view.select(index);
  }
}

/** Colours by role, read from the style sheet once a drawing. */
class Palette {
  constructor(element) {
    this.style = getComputedStyle(element);
    this.known = new Map();
  }

  get(name) {
    if (!this.known.has(name)) this.known.set(name, this.style.getPropertyValue(name).trim());
    return this.known.get(name);
  }

  tone(track, tone) {
    const special = {
      error: "--fill-bad", warning: "--fill-warn", failed: "--fill-bad", debug: "--fill-off",
      "from damaged": "--fill-bad", "to damaged": "--fill-bad",
      ack: "--fill-good", status: "--line-3", alarm: "--fill-bad", state: "--fill-off",
    };
    return this.get(special[tone] ?? track.color);
  }
}

function niceStep(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].find((factor) => factor * power >= step) * power;
}

function clip(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  const character = context.measureText("m").width;
  return `${text.slice(0, Math.max(0, Math.floor(width / character) - 1))}\u2026`;
}
