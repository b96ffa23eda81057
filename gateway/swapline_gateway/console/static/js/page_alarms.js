// All alarms: what stands, what was, who has seen it.

import { html, nothing } from "./lit.js";
import { ask, fromBook } from "./books.js";
import { choiceOf, form, keepChosen } from "./acknowledge.js";
import { alarmTable, isStanding, worstFirst } from "./alarm_parts.js";
import { empty, section, shortList } from "./parts.js";

export const title = () => "Alarms";
export const scope = () => ["books", {}];

const DAY_MS = 86_400_000;
const PAST_MAX = 1_000;
const SHOWN_STEP = 100;
const SPANS = { "1d": ["1 day", 1], "7d": ["7 days", 7], "30d": ["30 days", 30], "365d": ["1 year", 365] };
const SHOWS = {
  standing: ["Standing", isStanding],
  open: ["Not acknowledged", (alarm) => isStanding(alarm) && !alarm.acknowledgement],
  past: ["Past and standing", () => true],
};
const newestFirst = (one, other) => other.raised_utc_ms - one.raised_utc_ms;

const showOf = (page) => (page.query.show in SHOWS ? page.query.show : "standing");
const spanOf = (page) => (page.query.span in SPANS ? page.query.span : "7d");

function queryOf(page) {
  if (showOf(page) !== "past") return { standing: 1, limit: PAST_MAX };
  // Whole hours, so that the answer's address is the same from one drawing to the next.
  const since = Math.floor((page.nowMs - SPANS[spanOf(page)][1] * DAY_MS) / 3_600_000) * 3_600_000;
  return { since, limit: PAST_MAX };
}

export function view(_content, page) {
  const query = queryOf(page);
  const known = page.books.alarms && ask("api/alarms", query, page.books.alarms.revision, page).data;
  return section("Alarms", html`${form(page)}${fromBook("alarms", "api/alarms", query, page, (data) => list(data.alarms, page))}`, known ? controls(known.alarms, page) : nothing);
}

function controls(alarms, page) {
  const show = showOf(page);
  const count = (id) => (show === "past" || id === "past" ? nothing : html` <span class="count">${alarms.filter(SHOWS[id][1]).length}</span>`);
  return html`<div class="controls">
    <input type="search" placeholder="Find a holder, module or alarm" aria-label="Find a holder, module or alarm" .value=${page.query.find ?? ""}
      @input=${(event) => page.setQuery({ find: event.target.value || null, rows: null })}>
    <div class="segments" role="group" aria-label="Show">${Object.entries(SHOWS).map(
      ([id, [label]]) => html`<button type="button" aria-pressed=${String(id === show)} @click=${() => page.setQuery({ show: id === "standing" ? null : id, rows: null })}>${label}${count(id)}</button>`,
    )}</div>
    ${choose(page, "level", "Level", [["", "All levels"], ["2", "Level 2 and 3"], ["3", "Level 3"]])}
    ${show === "past" ? choose(page, "span", "Span", Object.entries(SPANS).map(([id, [label]]) => [id === "7d" ? "" : id, `Last ${label}`])) : nothing}
  </div>`;
}

const choose = (page, name, label, options) => html`<label class="select"><span class="visually-hidden">${label}</span>
  <select @change=${(event) => page.setQuery({ [name]: event.target.value || null, rows: null })}>
    ${options.map(([id, text]) => html`<option value=${id} ?selected=${id === (page.query[name] ?? "")}>${text}</option>`)}
  </select></label>`;

function list(alarms, page) {
  keepChosen(alarms);
  const show = showOf(page);
  if (!alarms.length) {
    return show === "past" ? empty("No alarm in this span", "Choose a longer one.") : empty("No alarm stands", "What was is under “Past and standing”.");
  }
  const find = (page.query.find ?? "").toLowerCase();
  const level = Number(page.query.level) || 1;
  const matches = alarms
    .filter((alarm) => SHOWS[show][1](alarm) && alarm.level_max >= level)
    .filter((alarm) => `${alarm.fleet}/${alarm.node} ${alarm.module ?? ""} ${alarm.name} ${alarm.acknowledgement?.by ?? ""}`.toLowerCase().includes(find))
    .sort(show === "past" ? newestFirst : worstFirst);
  if (!matches.length) return show === "open" && !find && level === 1 ? empty("Every standing alarm is acknowledged") : empty("No alarm matches", "Change the filter or the text to find.");
  return html`${shortList(matches, page, { name: "rows", step: SHOWN_STEP }, (shown) => alarmTable(shown, page, { choice: choiceOf(page) }))}
    ${alarms.length >= PAST_MAX ? html`<p class="muted">The newest ${PAST_MAX}; choose a shorter span, or ask <code>swapline alarms</code>.</p>` : nothing}`;
}
