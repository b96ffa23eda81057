// What the battery's books and the alarm book say: asked for when a page needs it, and again when their revision grew.

import { html, nothing } from "./lit.js";
import { ApiError, address, fetchJson, sentence } from "./api.js";
import { age, number } from "./format.js";
import { empty } from "./parts.js";

const REFETCH_MS_MIN = 3_000; // a busy fleet changes its books every second; people do not read that fast
const REFETCH_FACTOR = 5; // and an answer that takes long is asked for more rarely
const RETRY_MS = 5_000;
const BEHIND_S_MIN = 120; // rows of the running hour are always a little behind
const ANSWERS_MAX = 30;

const answers = new Map(); // address -> answer, the one asked for last at the end

const newAnswer = () => ({ data: null, error: null, isLoading: false, revision: undefined, askedAtMs: -Infinity, tookMs: 0 });

// Returns {data, error}: what was answered last, null before; an error keeps what was known.
export function ask(path, query, revision, page) {
  const key = address(path, query);
  const answer = answers.get(key) ?? newAnswer();
  answers.delete(key);
  answers.set(key, answer);
  if (answers.size > ANSWERS_MAX) answers.delete(answers.keys().next().value);
  if (isDue(answer, revision)) load(key, answer, revision, page);
  return answer;
}

function isDue(answer, revision) {
  if (answer.isLoading) return false;
  const ageMs = performance.now() - answer.askedAtMs;
  if (answer.error) return ageMs > RETRY_MS;
  return answer.revision !== revision && ageMs > Math.max(REFETCH_MS_MIN, REFETCH_FACTOR * answer.tookMs);
}

async function load(key, answer, revision, page) {
  Object.assign(answer, { isLoading: true, askedAtMs: performance.now() });
  try {
    Object.assign(answer, { data: await fetchJson(key), error: null, revision });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    answer.error = error.message;
  } finally {
    answer.isLoading = false;
    answer.tookMs = performance.now() - answer.askedAtMs;
    page.redraw();
  }
}

// After something was changed here: what begins with this path is asked for anew at once.
export function forget(path) {
  for (const [key, answer] of answers) if (key.startsWith(path)) Object.assign(answer, { revision: undefined, askedAtMs: -Infinity });
}

const ABSENT = {
  battery: ["This gateway keeps no books of the modules", "Custody, swaps, passports and warnings need a database that can be asked in InfluxQL, or DuckDB; see docs/gateway.md."],
  alarms: ["This gateway keeps no alarm book", "Past alarms and acknowledgements need a database that can be asked in InfluxQL, or DuckDB; see docs/gateway.md."],
};

// Draws what a book answered. `read` takes the answer's data; waiting, trouble and absence are said in words.
export function fromBook(name, path, query, page, read) {
  const figures = page.books[name];
  if (!figures) return empty(...ABSENT[name]);
  if (figures.off) return empty(ABSENT[name][0], sentence(figures.off));
  const { data, error } = ask(path, query, figures.revision, page);
  if (!data) return error ? empty("The books do not answer", `${error} Trying again by itself.`) : empty("Loading…");
  const note = error ? `${error} What you see is from before.` : data.problem && sentence(data.problem);
  return html`${note ? html`<p class="book-note" role="status">${note}</p>` : ""}${read(data)}`;
}

// Back-fill of weeks takes its time: what is shown meanwhile is not the last word.
export function behindNote({ due, behind_s: behindS } = {}) {
  if (!due || !(behindS >= BEHIND_S_MIN)) return nothing;
  return html`<p class="book-note" role="status">The books are ${age(behindS * 1000)} behind: ${number(due)} hour${due === 1 ? " waits" : "s wait"} to be taken in.</p>`;
}

export const isStation = (page, place) => Boolean(page.books.stations?.[`${place.fleet}/${place.node}`]);
