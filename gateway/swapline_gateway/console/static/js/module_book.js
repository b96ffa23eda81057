// What the books know of one module: its code, its holders, its passport, swaps, alarms, warnings, contradictions.

import { html, nothing } from "./lit.js";
import { age, clock, number } from "./format.js";
import { ask, behindNote, fromBook, isStation } from "./books.js";
import { alarmTable } from "./alarm_parts.js";
import { codeSection } from "./code_parts.js";
import { contradictionList, placeLink, swapTable, timeOf } from "./custody_parts.js";
import { EVIDENCE } from "./custody_words.js";
import { chip, empty, section, shortList } from "./parts.js";
import { passport } from "./passport.js";
import { warningList } from "./warnings.js";

const PATH = "api/battery/module";
const ALARM_DAYS = 365;
const ALARMS_MAX = 200;
const LIST_STEP = 20;
const DAY_MS = 86_400_000;

export const hasBooks = (page) => Boolean(page.books.battery && !page.books.battery.off);

// The answer, or null while there is none; for what stands outside of the book's own sections.
export const bookOf = (code, page) => (hasBooks(page) ? ask(PATH, questionOf(code, page), page.books.battery.revision, page).data : null);

// A long life is told page by page: its newest stays, or those that began before a time.
const questionOf = (code, page) => ({ code, before: page.query.before });
const ofBook = (code, page, read) => fromBook("battery", PATH, questionOf(code, page), page, read);
const newestFirst = (name) => (one, other) => other[name] - one[name];

export function bookSections(code, page) {
  return html`
    ${behindNote(page.books.battery)} ${warningsAndContradictions(code, page)}
    ${section("Holders", ofBook(code, page, (book) => holders(code, book, page)), olderAndNewer(bookOf(code, page), page))}
    ${section("Health", ofBook(code, page, (book) => html`${passport(book.passport, page)}${histories(code, book)}`))}
    ${section("Alarms", alarms(code, page))}
    ${section("Swaps", ofBook(code, page, (book) => swaps(book.ledger.swaps, page)))}
  `;
}

// They come first, and only if there are any: a sound module does not need two empty boxes.
function warningsAndContradictions(code, page) {
  const book = bookOf(code, page);
  const { contradictions = [] } = book?.ledger ?? {};
  return html`
    ${book?.warnings.length ? section("Early warnings", warningList(book.warnings, page, { isOfOneModule: true })) : nothing}
    ${contradictions.length ? section("Contradictions", contradictionsOf(contradictions, page), html`<a href="custody">All contradictions</a>`) : nothing}`;
}

function contradictionsOf(all, page) {
  const sorted = [...all].sort(newestFirst("time_utc_ms"));
  return shortList(sorted, page, { name: "contradictions", step: 5 }, (shown) => contradictionList(shown, page, { isOfOneModule: true }));
}

const beforeOf = (page) => Number(page.query.before) || null;

function olderAndNewer(book, page) {
  const older = book?.ledger.older_utc_ms;
  const show = (before) => page.setQuery({ before, stays: null, swaps: null, contradictions: null });
  return html`${beforeOf(page) ? html`<button type="button" class="plain" @click=${() => show(null)}>Newest stays</button>` : nothing}
    ${older ? html`<button type="button" class="plain" @click=${() => show(older)}>Older stays</button>` : nothing}`;
}

function listName(ledger, page) {
  const count = `${number(ledger.stays.length)} stay${ledger.stays.length === 1 ? "" : "s"}`;
  if (beforeOf(page)) return `List of the ${count} before ${clock(beforeOf(page), page.nowMs)}`;
  return `List of the ${ledger.older_utc_ms ? "newest " : ""}${count}`;
}

function holders(code, { ledger }, page) {
  const { stays, contradictions } = ledger; // not all of a long life: a few hundred
  const before = beforeOf(page);
  if (!stays.length && before) return empty(`No stay began before ${clock(before, page.nowMs)}`);
  if (!stays.length) return empty("No holder is known yet", "A stay begins when a van or a station tells that the module came, or reads its code.");
  const sorted = [...stays].sort(newestFirst("from_utc_ms"));
  const id = before ? `${code}/${before}` : code;
  const config = { id, stays, contradictions, nowMs: page.nowMs, endMs: before, isStation: (place) => isStation(page, place) };
  return html`<sl-timeline .config=${config}></sl-timeline>
    <details class="stays"><summary>${listName(ledger, page)}</summary>${shortList(sorted, page, { name: "stays", step: LIST_STEP }, (shown) => stayTable(shown, page))}</details>`;
}

function stayTable(stays, page) {
  return html`<table class="list stay-list">
    <thead><tr><th scope="col">Holder</th><th scope="col">From</th><th scope="col">Until</th><th scope="col" class="right">Stayed</th><th scope="col" class="right">Charge</th></tr></thead>
    <tbody>${stays.map((stay) => html`<tr>
      <th scope="row">${placeLink(stay, page)}</th>
      <td data-label="From">${timeOf(stay.from_utc_ms, page)} <span class="muted">${evidence(stay.from_evidence)}</span></td>
      <td data-label="Until">${stay.until_utc_ms == null ? chip("good", "There now") : html`${timeOf(stay.until_utc_ms, page)} <span class="muted">${evidence(stay.until_evidence)}</span>`}</td>
      <td data-label="Stayed" class="right">${age((stay.until_utc_ms ?? page.nowMs) - stay.from_utc_ms)}</td>
      <td data-label="Charge" class="right">${charges(stay)}</td></tr>`)}</tbody></table>`;
}

const evidence = (name) => EVIDENCE[name] ?? name ?? "";

function charges({ came, went }) {
  if (came?.soc_pct == null && went?.soc_pct == null) return "–";
  const text = (half) => (half?.soc_pct == null ? "–" : number(half.soc_pct, 0));
  return html`<span class="number">${text(came)}</span> <span class="muted">to</span> <span class="number">${text(went)}</span><span class="unit">%</span>`;
}

function swaps(all, page) {
  return shortList([...all].sort(newestFirst("start_utc_ms")), page, { name: "swaps", step: 10 }, (shown) => swapTable(shown, page));
}

function alarms(code, page) {
  const since = Math.floor((page.nowMs - ALARM_DAYS * DAY_MS) / DAY_MS) * DAY_MS;
  return fromBook("alarms", "api/alarms", { module: code, since, limit: ALARMS_MAX }, page, ({ alarms: all }) => {
    if (!all.length) return empty("No alarm in the last year");
    return shortList([...all].sort(newestFirst("raised_utc_ms")), page, { name: "alarms", step: 10 }, (shown) => alarmTable(shown, page, { isOfOneModule: true }));
  });
}

// Ninety days of hours: by the day where a day's figure says more than an hour's.
function histories(code, { hours }) {
  if (!hours.length) return nothing;
  const days = byDay(hours);
  const of = (name, pick) => days.map((day) => pick(day.map((hour) => hour[name]).filter((value) => value != null)));
  const low = (values) => (values.length ? Math.min(...values) : null);
  const high = (values) => (values.length ? Math.max(...values) : null);
  const sum = (values) => (values.length ? values.reduce((total, value) => total + value, 0) : null);
  const times = days.map((day) => day.day);
  const atRest = hours.filter((hour) => hour.spread_mv != null);
  const specs = [
    { title: "Cell spread at rest", unit: "mV", decimals: 1, minimum: 0, times: atRest.map((hour) => hour.time_utc_ms), lines: [{ label: "Spread", kind: "dots", values: atRest.map((hour) => hour.spread_mv) }] },
    { title: "Warmest of the day", unit: "°C", decimals: 1, times, lines: [{ label: "Warmest", values: of("temperature_max_c", high) }] },
    { title: "Energy by day", unit: "kWh", decimals: 1, minimum: 0, times, lines: [{ label: "In", kind: "line", values: of("energy_in_kwh", sum) }, { label: "Out", kind: "line", values: of("energy_out_kwh", sum) }] },
    { title: "Charge by day", unit: "%", decimals: 0, minimum: 0, times, lines: [{ label: "Highest", values: of("soc_max_pct", high) }, { label: "Lowest", values: of("soc_min_pct", low) }] },
  ];
  return html`<h3 class="history-heading">Last 90 days</h3><div class="charts">${specs.map((spec) => html`<sl-history .spec=${{ ...spec, id: `${code}/${spec.title}` }}></sl-history>`)}</div>`;
}

function byDay(hours) {
  const days = new Map();
  for (const hour of hours) {
    const day = Math.floor(hour.time_utc_ms / DAY_MS) * DAY_MS;
    if (!days.has(day)) days.set(day, Object.assign([], { day }));
    days.get(day).push(hour);
  }
  const sorted = [...days.values()].sort((one, other) => one.day - other.day);
  // Days without any hour are gaps, not lines.
  return sorted.flatMap((day, i) => (i && day.day - sorted[i - 1].day > DAY_MS ? [Object.assign([], { day: day.day - DAY_MS }), day] : [day]));
}

export function codeParts(code, page) {
  const book = bookOf(code, page);
  return codeSection(book?.parts ?? book?.passport?.code);
}
