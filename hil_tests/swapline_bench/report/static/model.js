// The entries of a timeline in columns, what they say as text, and which of them a filter lets through.

const CONTROL_NAMES = (
  "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
).split(" ");

/** Return what a byte is called that no letter stands for: CR, or f3; nothing for letters. */
function byteName(byte) {
  if (byte >= 32 && byte < 127) return "";
  return CONTROL_NAMES[byte] ?? (byte === 127 ? "DEL" : byte.toString(16));
}

/** Return bytes as text in which nothing is invisible: <CR>, <f3>. */
function bytesAsText(bytes) {
  let text = "";
  for (const byte of bytes) {
    const name = byteName(byte);
    text += name ? `<${name}>` : String.fromCharCode(byte);
  }
  return text;
}

/** Return bytes one character each, for a column beside their hex. */
function bytesAsColumn(bytes) {
  return Array.from(bytes, (byte) => (byteName(byte) ? "\u00b7" : String.fromCharCode(byte))).join("");
}

function bytesOf(hex) {
  const bytes = new Uint8Array(hex.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(hex.substr(2 * i, 2), 16);
  return bytes;
}

function bytesAsHex(hex) {
  return hex.replace(/../g, "$& ").trimEnd();
}

/** Say whether bytes are text for people: nearly all of them printable, ends of lines aside. */
function isText(bytes) {
  let good = 0;
  for (const byte of bytes) good += (byte >= 32 && byte < 127) || byte === 10 || byte === 13;
  return good >= bytes.length * 0.9;
}

// In the picture these stay whatever the filter says: everything else is seen against them.
const CONTEXT_KINDS = new Set(["marks", "faults", "power"]);

function formatSeconds(seconds, digits = 3) {
  return seconds.toFixed(digits);
}

/** A duration in the unit that suits it. */
function formatSpan(seconds) {
  const size = Math.abs(seconds);
  if (size >= 120) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (size >= 1) return `${seconds.toFixed(2)} s`;
  if (size >= 0.001) return `${(seconds * 1000).toFixed(1)} ms`;
  return `${Math.round(seconds * 1e6)} \u00b5s`;
}

class Model {
  constructor(data) {
    this.data = data;
    this.tracks = data.tracks;
    this.count = data.entries.length;
    this.time = new Float64Array(this.count);
    this.end = new Float64Array(this.count);
    this.track = new Uint16Array(this.count);
    this.tone = new Array(this.count);
    this.searchable = new Array(this.count);
    let time_us = 0;
    data.entries.forEach((entry, i) => {
      time_us += entry[0];
      this.time[i] = time_us / 1e6;
      this.end[i] = (time_us + (entry[5] ?? 0)) / 1e6;
      this.track[i] = entry[1];
      this.tone[i] = entry[2];
    });
    // A margin at both ends: what came first or last is not on the edge, where nobody sees it.
    this.last_s = this.end.reduce((a, b) => Math.max(a, b), this.time[0] + 0.001);
    const margin_s = (this.last_s - this.time[0]) * 0.01;
    this.begin_s = this.time[0] - margin_s;
    this.finish_s = this.last_s + margin_s;
    this.hidden = new Set();
    this.query = "";
    this.byteView = "auto";
    this.refilter();
  }

  content(i) {
    return this.data.entries[i][3];
  }

  words(i) {
    return this.data.entries[i][4] ?? "";
  }

  details(i) {
    return this.data.entries[i][6] ?? {};
  }

  kind(i) {
    return this.tracks[this.track[i]].kind;
  }

  isFromNode(i) {
    return this.tone[i].startsWith("from");
  }

  /** Say whether the bytes of a telegram are shown as text, by the view that the reader chose. */
  isShownAsText(i) {
    return this.byteView === "text" || (this.byteView === "auto" && isText(bytesOf(this.content(i))));
  }

  bytesText(i) {
    return this.isShownAsText(i) ? bytesAsText(bytesOf(this.content(i))) : bytesAsHex(this.content(i));
  }

  /** What the list shows after the words: bytes of lines, text of logs; the topic of a message. */
  text(i) {
    const kind = this.kind(i);
    if (kind === "serial") return this.bytesText(i);
    return kind === "messages" ? (this.details(i).topic ?? "") : this.content(i);
  }

  /** One line without colours: for labels, tooltips and the clipboard. */
  line(i) {
    const words = this.words(i);
    const text = this.text(i);
    return words && text ? `${words}  ${text}` : words || text;
  }

  _search(i) {
    if (this.searchable[i] === undefined) {
      const hex = this.kind(i) === "serial" ? this.content(i) : "";
      const text = hex ? bytesAsText(bytesOf(hex)) : this.text(i);
      const place = this.tracks[this.track[i]].name;
      this.searchable[i] = `${place} ${this.tone[i]} ${this.words(i)} ${text} hex:${hex}`.toLowerCase();
    }
    return this.searchable[i];
  }

  /** Return a predicate over indices for a query: words that must all occur, -word that must not, /regular expression/. */
  _predicate(query) {
    const pattern = /^\/(.+)\/$/.exec(query.trim());
    if (pattern) {
      const expression = new RegExp(pattern[1], "i");
      return (i) => expression.test(this._search(i));
    }
    const terms = query.toLowerCase().split(/\s+/).filter((term) => term && term !== "-");
    const wanted = terms.filter((term) => !term.startsWith("-"));
    const unwanted = terms.filter((term) => term.startsWith("-")).map((term) => term.slice(1));
    return (i) => {
      const text = this._search(i);
      return wanted.every((term) => text.includes(term)) && !unwanted.some((term) => text.includes(term));
    };
  }

  /** Work out which entries are let through. Throws where the query is no regular expression. */
  refilter() {
    const matches = this.query.trim() ? this._predicate(this.query) : null;
    const shown = [];
    this.byTrack = this.tracks.map(() => []);
    for (let i = 0; i < this.count; i++) {
      const isMatch = !matches || matches(i);
      if (isMatch || CONTEXT_KINDS.has(this.kind(i))) this.byTrack[this.track[i]].push(i);
      if (isMatch && !this.hidden.has(this.track[i])) shown.push(i);
    }
    this.shown = shown;
  }

  /** Return the first place in a list of indices whose entry is at `time_s` or later. */
  place(indices, time_s) {
    let low = 0;
    let high = indices.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.time[indices[middle]] < time_s) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Return the shown entry nearest to a time, among those of one track if it is given; -1 if there is none. */
  nearest(time_s, track = -1) {
    const indices = track >= 0 ? this.byTrack[track] : this.shown;
    const place = this.place(indices, time_s);
    const candidates = [indices[place - 1], indices[place]].filter((i) => i !== undefined);
    if (!candidates.length) return -1;
    const distance = (i) => (time_s < this.time[i] ? this.time[i] - time_s : Math.max(0, time_s - this.end[i]));
    return candidates.reduce((a, b) => (distance(b) < distance(a) ? b : a));
  }
}

/** Say whether an entry tells of something wrong: a fault, a failure, an error, a damaged telegram, an alarm. */
function isTrouble(model, i) {
  return model.kind(i) === "faults" || /failed|error|damaged|alarm/.test(model.tone[i]);
}
