// The entries as a list of which only the visible rows exist, so that 100,000 cost no more than 40.

const ROW_PX = 22;

class EntryList {
  constructor(element, model, onSelect) {
    this.element = element;
    this.model = model;
    this.onSelect = onSelect;
    this.indices = [];
    this.selected = -1;
    this.spacer = element.querySelector(".spacer");
    this.rows = element.querySelector(".rows");
    element.addEventListener("scroll", () => this._schedule());
    new ResizeObserver(() => this._schedule()).observe(element);
    this.rows.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) onSelect(Number(row.dataset.index));
    });
  }

  /** Show these entries, and keep the selected one in sight if it was. */
  show(indices) {
    const offset = this.indices.length ? this._offsetOf(this.selected) : null;
    this.indices = indices;
    this.spacer.style.height = `${indices.length * ROW_PX}px`;
    const place = this._placeOf(this.selected);
    if (place >= 0 && offset !== null) this.element.scrollTop = place * ROW_PX - offset;
    this._draw();
  }

  select(index, { reveal = true } = {}) {
    this.selected = index;
    const place = this._placeOf(index);
    if (reveal && place >= 0) {
      const top = place * ROW_PX;
      const height = this.element.clientHeight;
      if (top < this.element.scrollTop || top + 2 * ROW_PX > this.element.scrollTop + height) {
        this.element.scrollTop = top - height / 2;
      }
    }
    this._draw();
  }

  toEnd() {
    this.element.scrollTop = this.indices.length * ROW_PX;
    this._draw();
  }

  /** Return the entry `step` places after the selected one, or the first one in sight. */
  neighbour(step) {
    const place = this._placeOf(this.selected);
    const from = place < 0 ? Math.floor(this.element.scrollTop / ROW_PX) - Math.sign(step) : place;
    return this.indices[Math.max(0, Math.min(this.indices.length - 1, from + step))] ?? -1;
  }

  get rowsInSight() {
    return Math.max(1, Math.floor(this.element.clientHeight / ROW_PX) - 1);
  }

  _placeOf(index) {
    if (index < 0) return -1;
    let low = 0;
    let high = this.indices.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.indices[middle] < index) low = middle + 1;
      else high = middle;
    }
    return this.indices[low] === index ? low : -1;
  }

  _offsetOf(index) {
    const place = this._placeOf(index);
    const offset = place * ROW_PX - this.element.scrollTop;
    return place >= 0 && offset >= 0 && offset < this.element.clientHeight ? offset : null;
  }

  _schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this._draw();
    });
  }

  _draw() {
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW_PX) - 5);
    const last = Math.min(this.indices.length, first + Math.ceil(this.element.clientHeight / ROW_PX) + 10);
    this.rows.style.transform = `translateY(${first * ROW_PX}px)`;
    const rows = [];
    for (let place = first; place < last; place++) {
      const before = place > 0 ? this.model.time[this.indices[place - 1]] : null;
      rows.push(this._row(this.indices[place], before));
    }
    this.rows.replaceChildren(...rows);
    this.element.classList.toggle("empty", !this.indices.length);
  }

  _row(i, before_s) {
    const model = this.model;
    const track = model.tracks[model.track[i]];
    const row = document.createElement("div");
    row.className = `row kind-${track.kind} tone-${model.tone[i].replace(/ /g, "-")}`;
    row.classList.toggle("selected", i === this.selected);
    row.dataset.index = i;
    const step = before_s === null ? "" : `+${formatSpan(model.time[i] - before_s)}`;
    const arrow = track.kind === "serial" ? (model.isFromNode(i) ? "node \u2192" : "\u2192 node") : "";
    row.append(
      span("time", formatSeconds(model.time[i])), span("step", step), badge(track), span("arrow", arrow),
      span("words", model.words(i)), this._text(i),
    );
    return row;
  }

  _text(i) {
    const isSerial = this.model.kind(i) === "serial";
    if (!isSerial || !this.model.isShownAsText(i)) return span("text", this.model.text(i).slice(0, 600));
    const element = span("text", "");
    element.append(...visibleBytes(bytesOf(this.model.content(i)).subarray(0, 300)));
    return element;
  }
}

/** Return bytes as text, with a mark for each one that has no letter. */
function visibleBytes(bytes) {
  const parts = [];
  let text = "";
  for (const byte of bytes) {
    const name = byteName(byte);
    if (!name) {
      text += String.fromCharCode(byte);
      continue;
    }
    parts.push(text, span("control", name));
    text = "";
  }
  return [...parts, text];
}

function span(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

/** The name of a track with its colour. */
function badge(track) {
  const element = span("track", track.label);
  element.style.setProperty("--track", `var(${track.color})`);
  return element;
}
