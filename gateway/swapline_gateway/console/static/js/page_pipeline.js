// The pipeline's own health: is everything that was sealed stored, and where is the rest.

import { html, nothing, repeat } from "./lit.js";
import { age, byName, bytes, number, word } from "./format.js";
import { dataAge, nodeStatus } from "./fleet_model.js";
import { chip, empty, holderLink, section, tile, value } from "./parts.js";

export const title = () => "Pipeline";
export const scope = () => ["pipeline", {}];

const RATE_WINDOW_S = 10;
const COLUMNS_NOTE = "Sealed counts the life of the node's journal; received and stored count since this gateway started.";
const DELAY_WARN_MS = 15_000; // sealing takes up to 5 s, the rest is the link

export function view(content, page) {
  const nodes = Object.values(content.nodes).sort((one, other) => byName(one.node, other.node));
  return html`
    ${verdict(content.gateway)}
    ${section("From node to database", flow(content.gateway, nodes))}
    <div class="reasons">
      ${section("Lost", reasonList(content.gateway.lost, "No frame was declared lost.", "frames"))}
      ${section("Quarantine", reasonList(content.gateway.quarantined, "Everything could be read.", "frames"))}
      ${section("Refused for now", reasonList(content.gateway.refused, "Nothing had to wait in the nodes.", "frames"))}
    </div>
    ${section("Nodes", nodes.length ? nodeTable(nodes, page.nowMs) : empty("No node has reported yet"))}
  `;
}

function verdict(gateway) {
  const problems = gateway.problems ?? [];
  if (!problems.length) return html`<p class="verdict" data-tone="good" role="status">${chip("good", "All well")} Frames are received, acknowledged and stored.</p>`;
  return html`<ul class="verdict" data-tone="bad" role="alert">${problems.map((problem) => html`<li>${chip("bad", "Problem")} ${problem}</li>`)}</ul>`;
}

const total = (counts) => Object.values(counts ?? {}).reduce((sum, count) => sum + count, 0);
const sum = (nodes, name) => nodes.reduce((result, node) => result + (node.values?.[name] ?? 0), 0);

function median(values) {
  const sorted = values.filter((value) => value != null).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
}

function flow(gateway, nodes) {
  const rates = measureRates(gateway);
  const delays = nodes.filter((node) => node.online !== false).map((node) => node.delay_ms);
  const { spool = {}, sink = {}, broker = {} } = gateway;
  return html`<dl class="tiles">
    ${tile("Sealed by nodes", number(nodes.reduce((all, node) => all + node.seq_max, 0)), { note: `by ${nodes.length} nodes` })}
    ${tile("In the nodes", number(sum(nodes, "backlog_frames")), { unit: "frames" })}
    ${tile("Received", number(gateway.frames_received), { note: rateNote(rates?.received) })}
    ${tile("In the spool", number(spool.frames), { unit: "frames", note: spoolNote(spool), tone: spool.full ? "bad" : "" })}
    ${tile("Stored", number(gateway.frames_stored), { note: rateNote(rates?.stored) })}
    ${tile("Values stored", number(gateway.values_stored), { note: `${number(gateway.rows_stored)} rows` })}
    ${tile("Lost", number(total(gateway.lost)), { unit: "frames", tone: total(gateway.lost) ? "bad" : "" })}
    ${tile("Repeats ignored", number((gateway.duplicates ?? 0) + (gateway.duplicates_in_sink ?? 0)), { unit: "frames" })}
    ${tile("Delay, median", number(seconds(median(delays)), 1), { unit: "s", note: `longest ${number(seconds(longest(delays)), 1)} s` })}
    ${tile("Broker", broker.connected ? "Connected" : "Away", { tone: broker.connected ? "" : "bad", note: `${broker.failures ?? 0} failures` })}
    ${tile("Database", sink.error ? "Failing" : "Taking", { tone: sink.error ? "bad" : "", note: `${sink.name ?? ""}, ${sink.failures ?? 0} failures` })}
    ${tile("Running for", gateway.uptime_s == null ? "–" : age(gateway.uptime_s * 1000))}
  </dl>`;
}

const seconds = (ms) => (ms == null ? null : ms / 1000);
const longest = (values) => values.reduce((result, value) => (value == null || value < result ? result : value), null);
const rateNote = (rate) => (rate == null ? "" : `${number(rate, 1)} frames/s`);
const spoolNote = (spool) => `${bytes(spool.bytes)}, oldest ${age(spool.oldest_age_ms ?? 0)}`;

let samples = [];

// Over a window, so that the figure is calm. A gateway that began anew begins a new window.
function measureRates(gateway) {
  const sample = { s: gateway.uptime_s, received: gateway.frames_received, stored: gateway.frames_stored };
  if (samples.length && sample.s < samples.at(-1).s) samples = [];
  if (samples.at(-1)?.s !== sample.s) samples.push(sample);
  while (samples.length > 2 && sample.s - samples[1].s >= RATE_WINDOW_S) samples.shift();
  const first = samples[0];
  if (!(sample.s - first.s >= 1)) return null;
  const rate = (name) => (sample[name] - first[name]) / (sample.s - first.s);
  return { received: rate("received"), stored: rate("stored") };
}

const reasonText = (reason) => reason.charAt(0).toUpperCase() + reason.slice(1).replaceAll("_", " ");

function reasonList(counts, allWell, unit) {
  const entries = Object.entries(counts ?? {}).filter(([, count]) => count > 0).sort((one, other) => other[1] - one[1]);
  if (!entries.length) return html`<p class="muted">${allWell}</p>`;
  return html`<dl class="reason-list">${entries.map(([reason, count]) => html`<div><dt>${reasonText(reason)}</dt><dd>${value(number(count), unit)}</dd></div>`)}</dl>`;
}

function nodeTable(nodes, nowMs) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Nodes, scrolls sideways"><table class="list nodes">
    <caption class="muted">${COLUMNS_NOTE}</caption>
    <thead><tr><th scope="col">Node</th><th scope="col" class="right">Sealed</th><th scope="col" class="right">Received</th>
      <th scope="col" class="right">Stored</th><th scope="col" class="right">Waiting</th><th scope="col" class="right">Lost</th><th scope="col" class="right">Sent again</th>
      <th scope="col" class="right">Delay</th><th scope="col" class="right">Bus errors</th><th scope="col">Clock</th>
      <th scope="col" class="right">Heap peak</th><th scope="col" class="right">Last data</th></tr></thead>
    <tbody>${repeat(nodes, (node) => `${node.fleet}/${node.node}`, (node) => nodeRow(node, nowMs))}</tbody>
  </table></div>`;
}

function nodeRow(node, nowMs) {
  const status = nodeStatus(node, nowMs);
  const { values, flow } = node;
  const errors = values ? ["bus_timeouts", "bus_checksum_errors", "bus_protocol_errors"].reduce((count, name) => count + (values[name] ?? 0), 0) : null;
  const lost = Math.max(values?.frames_dropped ?? 0, total(flow?.lost));
  const cell = (label, content, tone = "") => html`<td data-label=${label} class="right" data-tone=${tone}>${content}</td>`;
  return html`<tr>
    <th scope="row"><a href=${holderLink(node)}>${node.node}</a>${chip(status.tone, status.label)}</th>
    ${cell("Sealed", number(node.seq_max))} ${cell("Received", number(flow?.frames_received))}
    ${cell("Stored", number(flow?.frames_stored))} ${cell("Waiting", number(values?.backlog_frames), values?.backlog_frames > 100 ? "warn" : "")}
    ${cell("Lost", number(lost), lost ? "bad" : "")} ${cell("Sent again", number(values?.frames_sent_again))}
    ${cell("Delay", html`${value(number(seconds(node.delay_ms), 1), "s")}`, node.delay_ms > DELAY_WARN_MS ? "warn" : "")}
    ${cell("Bus errors", number(errors))}
    <td data-label="Clock">${values ? word("node", "clock_quality", values.clock_quality) : nothing}</td>
    ${cell("Heap peak", bytes(values?.heap_peak_bytes))}
    <td data-label="Last data" class="right age">${dataAge(node, nowMs)}</td>
  </tr>`;
}
