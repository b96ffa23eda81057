// Put the parts together: window, filter, tracks, keyboard, theme.

const KEYS = [
  ["/", "filter"], ["j k", "next, previous entry"], ["PgUp PgDn", "a screen of entries"], ["n N", "next, previous fault or failure"],
  ["+ -", "zoom in, out"], ["\u2190 \u2192", "move the window"], ["0", "the whole test"], ["z", "zoom to the entry"],
  ["x", "bytes: automatic, hex, text"], ["l", "last second before the end"], ["Esc", "close, clear"], ["t", "dark or light"], ["?", "this help"],
];
const BYTE_VIEWS = { auto: "bytes: automatic", hex: "bytes: hex", text: "bytes: text" };

class Page {
  constructor(model) {
    this.model = model;
    this.begin_s = model.begin_s;
    this.end_s = model.finish_s;
    this.selected = -1;
    this.detail = document.getElementById("detail");
    this.tooltip = document.getElementById("tooltip");
    this.query = document.getElementById("query");
    this.list = new EntryList(document.getElementById("list"), model, (i) => this.select(i, { reveal: false }));
    this.lanes = new Lanes(document.getElementById("lanes"), model, this);
    this.query.addEventListener("input", () => this.setQuery(this.query.value));
    document.getElementById("bytes").addEventListener("click", () => this.nextByteView());
    document.getElementById("fit").addEventListener("click", () => this.fit());
    document.getElementById("last").addEventListener("click", () => this.lastSecond());
    document.addEventListener("keydown", (event) => this.onKey(event));
    this.update();
    this.showNumbers();
    const failed = model.shown.find((i) => model.tone[i] === "failed");
    if (failed !== undefined) this.select(failed, { opens: false });
  }

  setWindow(begin_s, end_s) {
    const { begin_s: first_s, finish_s } = this.model;
    const span_s = Math.min(Math.max(end_s - begin_s, SPAN_S_MIN), finish_s - first_s);
    this.begin_s = Math.min(Math.max(begin_s, first_s), finish_s - span_s);
    this.end_s = this.begin_s + span_s;
    this.update();
  }

  zoom(factor, around_s = (this.begin_s + this.end_s) / 2) {
    this.setWindow(around_s - (around_s - this.begin_s) * factor, around_s + (this.end_s - around_s) * factor);
  }

  pan(by_s) {
    this.setWindow(this.begin_s + by_s, this.end_s + by_s);
  }

  center(at_s) {
    const half_s = (this.end_s - this.begin_s) / 2;
    this.setWindow(at_s - half_s, at_s + half_s);
  }

  fit() {
    this.setWindow(this.model.begin_s, this.model.finish_s);
  }

  lastSecond() {
    this.setWindow(this.model.last_s - 1, this.model.last_s + 0.001);
    this.list.toEnd();
  }

  setQuery(query) {
    const before = this.model.query;
    this.model.query = query;
    try {
      this.model.refilter();
      this.query.classList.remove("wrong");
    } catch {
      this.model.query = before;
      this.query.classList.add("wrong");
      return;
    }
    this.update();
  }

  toggle(track, isSolo) {
    const hidden = this.model.hidden;
    const others = this.model.tracks.map((_, number) => number).filter((number) => number !== track);
    if (isSolo) {
      const isAlone = !hidden.has(track) && others.every((number) => hidden.has(number));
      hidden.clear();
      if (!isAlone) others.forEach((number) => hidden.add(number));
    } else if (!hidden.delete(track)) hidden.add(track);
    this.model.refilter();
    this.update();
  }

  nextByteView() {
    const views = Object.keys(BYTE_VIEWS);
    this.model.byteView = views[(views.indexOf(this.model.byteView) + 1) % views.length];
    document.getElementById("bytes").textContent = BYTE_VIEWS[this.model.byteView];
    this.update();
  }

  select(index, { reveal = true, opens = true } = {}) {
    this.selected = index;
    if (index >= 0 && opens) {
      const time_s = this.model.time[index];
      if (time_s < this.begin_s || time_s > this.end_s) this.center(time_s);
      renderDetail(this.detail.querySelector(".content"), this.model, index);
    }
    this.detail.hidden = index < 0 || !opens;
    this.list.select(index, { reveal });
    this.lanes.draw();
  }

  update() {
    const shown = this.model.shown;
    const first = this.model.place(shown, this.begin_s);
    const last = this.end_s >= this.model.finish_s ? shown.length : this.model.place(shown, this.end_s);
    this.list.show(shown.slice(first, last));
    this.lanes.draw();
    const window_text = `${formatSeconds(this.begin_s)} \u2013 ${formatSeconds(this.end_s)} s (${formatSpan(this.end_s - this.begin_s)})`;
    document.getElementById("window").textContent = window_text;
    document.getElementById("count").textContent = `${(last - first).toLocaleString("en")} of ${this.model.count.toLocaleString("en")} entries`;
  }

  hover(time_s, index, place) {
    this.tooltip.hidden = time_s === null;
    if (time_s === null) return;
    const text = index >= 0 ? `${formatSeconds(this.model.time[index], 4)} s  ${this.model.line(index).slice(0, 300)}` : `${formatSeconds(time_s, 4)} s`;
    this.tooltip.textContent = text;
    const left = Math.min(place.clientX + 14, window.innerWidth - this.tooltip.offsetWidth - 8);
    this.tooltip.style.transform = `translate(${left}px, ${place.clientY + 18}px)`;
  }

  /** Go to the next entry that tells of something wrong: a fault, a failure, an error, a damaged telegram. */
  nextTrouble(step) {
    const shown = this.model.shown;
    for (let place = shown.indexOf(this.selected) + (this.selected < 0 && step < 0 ? shown.length : step); shown[place] !== undefined; place += step) {
      if (isTrouble(this.model, shown[place])) return this.select(shown[place]);
    }
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === this.query) {
      if (event.key === "Escape") this.clear();
      else if (event.key !== "Enter") return;
      this.query.blur();
      return;
    }
    const action = this.action(event.key);
    if (!action) return;
    event.preventDefault();
    action();
  }

  action(key) {
    const span_s = this.end_s - this.begin_s;
    const around = this.selected >= 0 ? this.model.time[this.selected] : undefined;
    const inWindow = around >= this.begin_s && around <= this.end_s ? around : undefined;
    const screen = this.list.rowsInSight;
    return {
      "/": () => this.query.focus(), j: () => this.step(1), k: () => this.step(-1), ArrowDown: () => this.step(1), ArrowUp: () => this.step(-1),
      PageDown: () => this.step(screen), PageUp: () => this.step(-screen), n: () => this.nextTrouble(1), N: () => this.nextTrouble(-1),
      "+": () => this.zoom(0.5, inWindow), "=": () => this.zoom(0.5, inWindow), "-": () => this.zoom(2, inWindow),
      ArrowLeft: () => this.pan(-span_s / 4), ArrowRight: () => this.pan(span_s / 4), 0: () => this.fit(), l: () => this.lastSecond(),
      z: () => this.selected >= 0 && this.setWindow(around - 0.25, around + 0.25), x: () => this.nextByteView(),
      Escape: () => this.clear(), t: toggleTheme, "?": () => document.getElementById("help").showModal(),
    }[key];
  }

  step(by) {
    const index = this.list.neighbour(by);
    if (index >= 0) this.select(index);
  }

  clear() {
    if (this.selected >= 0) return this.select(-1);
    this.query.value = "";
    this.setQuery("");
  }

  showNumbers() {
    const notes = [];
    for (const track of this.model.tracks) {
      if (track.discarded) notes.push(`${track.label}: the oldest ${track.discarded.toLocaleString("en")} entries were discarded`);
    }
    document.getElementById("discarded").textContent = notes.join("; ");
  }
}

async function inflate(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

async function start() {
  const source = document.getElementById("timeline-data");
  for (const [keys, text] of KEYS) {
    document.getElementById("keys").append(element("tr", "", element("td", "", element("kbd", "", keys)), element("td", "", text)));
  }
  if (source) window.page = new Page(new Model(await inflate(source.textContent.trim())));
}

start();
