// Everything about one entry: bytes by the sixteen, frames with their rows in people's units.

function element(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
}

/** Fill the panel with what is known about one entry. */
function renderDetail(panel, model, i) {
  const track = model.tracks[model.track[i]];
  const details = model.details(i);
  const facts = [["time", `${formatSeconds(model.time[i], 6)} s`], ["UTC", utcText(model, i)]];
  if (model.end[i] > model.time[i]) facts.push(["lasted", formatSpan(model.end[i] - model.time[i])]);
  if (track.kind === "serial") facts.push(["direction", model.isFromNode(i) ? "node \u2192 device" : "device \u2192 node"]);
  if (details.topic) facts.push(["topic", details.topic]);
  const parts = [element("h3", "", badge(track)), factTable(facts)];
  const isJson = track.kind === "messages" && !details.frames && model.tone[i] !== "ack"; // shown whole below
  if (model.words(i) && !isJson) parts.push(element("p", "words", model.words(i)));
  if (track.kind === "serial") parts.push(hexDump(model.content(i)));
  else if (track.kind !== "messages") parts.push(element("pre", "", model.content(i)));
  for (const frame of details.frames ?? []) parts.push(frameTable(model, frame));
  if (track.kind === "messages") parts.push(payloadView(model.content(i), details));
  panel.replaceChildren(...parts);
}

function utcText(model, i) {
  return new Date((model.data.begin_utc_s + model.time[i]) * 1000).toISOString().replace("T", " ").slice(0, 23);
}

function factTable(facts) {
  const rows = facts.map(([name, value]) => element("tr", "", element("th", "", name), element("td", "", value)));
  return element("table", "facts", element("tbody", "", ...rows));
}

function hexDump(hex) {
  const bytes = bytesOf(hex);
  const lines = [];
  for (let start = 0; start < bytes.length; start += 16) {
    const part = bytesAsHex(hex.slice(2 * start, 2 * start + 32)).padEnd(47);
    const spaced = part.slice(0, 24) + " " + part.slice(24);
    lines.push(`${start.toString(16).padStart(4, "0")}  ${spaced}  ${bytesAsColumn(bytes.subarray(start, start + 16))}`);
  }
  return element("pre", "dump", lines.join("\n"));
}

/** A message's payload: indented where it is JSON, else its bytes, folded away under a frame's tables. */
function payloadView(hex, details) {
  const bytes = bytesOf(hex);
  if (isText(bytes)) {
    const text = new TextDecoder().decode(bytes);
    try {
      return element("pre", "", JSON.stringify(JSON.parse(text), null, 2));
    } catch {
      return element("pre", "", text || "(empty)");
    }
  }
  const folded = element("details", "", element("summary", "", `${bytes.length} bytes`), hexDump(hex));
  folded.open = !details.frames?.length;
  return folded;
}

function frameTable(model, frame) {
  const columns = model.data.streams[frame.stream] ?? [];
  const where = [frame.owner, frame.bay ? `bay ${frame.bay}` : ""].filter(Boolean).join(", ");
  const title = `#${frame.seq} ${frame.stream}${where ? ` \u2013 ${where}` : ""}`;
  const under = `boot ${frame.boot}, time ${frame.quality}, ${frame.rows.length} row${frame.rows.length > 1 ? "s" : ""}`;
  const heads = ["ms", ...columns.map((column) => column.name)];
  // Signals go down and rows go right: a stream has up to forty signals, a frame mostly a few rows.
  const lines = heads.map((head, place) => {
    const unit = place ? columns[place - 1].unit : "";
    const cells = frame.rows.slice(0, 12).map((row) => {
      const value = place < row.length ? (place ? signalText(columns[place - 1], row[place]) : String(row[0])) : "";
      return element("td", place && columns[place - 1].bits ? "bits" : "", value);
    });
    return element("tr", "", element("th", "", head), element("td", "unit", unit), ...cells);
  });
  return element(
    "section", "frame", element("h4", "", title), element("p", "muted", under),
    element("div", "scroll", element("table", "rows", element("tbody", "", ...lines))),
  );
}

/** A raw integer as people see it. */
function signalText(column, raw) {
  if (raw === column.not_available) return "\u2013";
  if (raw === column.abnormal) return "abnormal";
  if (column.values) return column.values[raw] ?? String(raw);
  if (column.bits) return bitText(column.bits, raw);
  return column.decimals ? (raw / 10 ** column.decimals).toFixed(column.decimals) : String(raw);
}

function bitText(bits, raw) {
  const names = [];
  for (let bit = 0; 2 ** bit <= raw; bit++) {
    if (Math.floor(raw / 2 ** bit) % 2) names.push(bits[bit] ?? `bit ${bit}`);
  }
  return names.join(", ") || "none";
}
