// Custody: what does not fit together, and the swaps of the fleet.

import { html, nothing } from "./lit.js";
import { ask, behindNote, fromBook } from "./books.js";
import { contradictionList, swapTable } from "./custody_parts.js";
import { kindLabel } from "./custody_words.js";
import { empty, section, shortList } from "./parts.js";

export const title = () => "Custody";
export const scope = () => ["books", {}];

const CONTRADICTIONS_MAX = 500;
const SWAPS_MAX = 200;
const SHOWN_STEP = 50;
const SWAPS_STEP = 20;

export function view(_content, page) {
  const query = { limit: CONTRADICTIONS_MAX };
  const known = page.books.battery && !page.books.battery.off && ask("api/battery/contradictions", query, page.books.battery.revision, page).data;
  return html`
    ${behindNote(page.books.battery)}
    ${section("Contradictions", fromBook("battery", "api/battery/contradictions", query, page, (data) => contradictions(data.contradictions, page)), known ? controls(known.contradictions, page) : nothing)}
    ${section("Swaps", fromBook("battery", "api/battery/swaps", { limit: SWAPS_MAX }, page, (data) => swaps(data.swaps, page)))}
  `;
}

const newestFirst = (name) => (one, other) => other[name] - one[name];

function controls(all, page) {
  if (!all.length) return nothing;
  const counts = new Map();
  for (const { kind } of all) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const options = [["", "All", all.length], ...[...counts].sort((one, other) => other[1] - one[1]).map(([kind, count]) => [kind, kindLabel(kind), count])];
  return html`<div class="controls">
    <input type="search" placeholder="Find a module or holder" aria-label="Find a module or holder" .value=${page.query.find ?? ""}
      @input=${(event) => page.setQuery({ find: event.target.value || null, rows: null })}>
    <label class="select"><span class="visually-hidden">Kind</span>
      <select @change=${(event) => page.setQuery({ kind: event.target.value || null, rows: null })}>
        ${options.map(([kind, label, count]) => html`<option value=${kind} ?selected=${kind === (page.query.kind ?? "")}>${label} (${count})</option>`)}
      </select></label>
  </div>`;
}

function contradictions(all, page) {
  if (!all.length) return empty("Nothing contradicts itself", "Every module is in one place, and every departure has its arrival, as far as the stored rows tell.");
  const find = (page.query.find ?? "").toLowerCase();
  const matches = all
    .filter((one) => !page.query.kind || one.kind === page.query.kind)
    .filter((one) => [one.module, one.other_module, one.place?.node, one.other_place?.node].some((name) => name?.toLowerCase().includes(find)))
    .sort(newestFirst("time_utc_ms"));
  if (!matches.length) return empty("No contradiction matches", "Change the kind or the text to find.");
  return html`${shortList(matches, page, { name: "rows", step: SHOWN_STEP }, (shown) => contradictionList(shown, page))}
    ${all.length >= CONTRADICTIONS_MAX ? html`<p class="muted">The newest ${CONTRADICTIONS_MAX}; <code>swapline custody contradictions</code> lists them all.</p>` : nothing}`;
}

function swaps(all, page) {
  const sorted = [...all].sort(newestFirst("start_utc_ms"));
  return html`${shortList(sorted, page, { name: "swaps", step: SWAPS_STEP }, (shown) => swapTable(shown, page))}
    ${all.length >= SWAPS_MAX ? html`<p class="muted">The newest ${SWAPS_MAX}; a module's page has all of its own.</p>` : nothing}`;
}
