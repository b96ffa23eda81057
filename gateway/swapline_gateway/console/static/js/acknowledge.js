// What is chosen on the alarms page, and the form that acknowledges it.

import { html, nothing } from "./lit.js";
import { ApiError, postJson, sentence } from "./api.js";
import { alarmKey } from "./alarm_parts.js";
import { forget } from "./books.js";

const NAME_KEY = "swapline.name";
const BY_CHARACTERS_MAX = 64;
const NOTE_CHARACTERS_MAX = 500;
const AT_ONCE = 4; // requests; a browser has six connections to a host, and the page's own stream takes one

const chosen = new Map(); // key -> alarm
let state = { isSending: false, message: "", isError: false };

function rememberedName() {
  try {
    return localStorage.getItem(NAME_KEY) ?? "";
  } catch {
    return ""; // storage may be forbidden; then people type their name again
  }
}

function rememberName(name) {
  try {
    localStorage.setItem(NAME_KEY, name);
  } catch {
    // as above
  }
}

// What was acknowledged elsewhere meanwhile, or is not listed any more, is not chosen any more.
export function keepChosen(alarms) {
  const open = new Map(alarms.filter((alarm) => !alarm.acknowledgement).map((alarm) => [alarmKey(alarm), alarm]));
  for (const key of chosen.keys()) {
    if (open.has(key)) chosen.set(key, open.get(key));
    else if (!state.isSending) chosen.delete(key);
  }
}

export function choiceOf(page) {
  return {
    isChosen: (alarm) => chosen.has(alarmKey(alarm)),
    toggle: (alarms, isOn) => {
      for (const alarm of alarms) isOn ? chosen.set(alarmKey(alarm), alarm) : chosen.delete(alarmKey(alarm));
      state = { ...state, message: "" };
      page.redraw();
    },
    only: (alarm) => {
      chosen.clear();
      chosen.set(alarmKey(alarm), alarm);
      state = { ...state, message: "" };
      page.redraw();
      requestAnimationFrame(() => requestAnimationFrame(focusForm)); // after it was drawn
    },
  };
}

function focusForm() {
  const form = document.querySelector(".acknowledge");
  (form?.elements.by.value ? form.elements.note : form?.elements.by)?.focus();
}

export function form(page) {
  const note = state.message ? html`<p class="acknowledge-result" role=${state.isError ? "alert" : "status"} data-error=${String(state.isError)}>${state.message}</p>` : nothing;
  if (!chosen.size) return note;
  const what = chosen.size === 1 ? "1 alarm" : `${chosen.size} alarms`;
  return html`${note}<form class="acknowledge" aria-label="Acknowledge" @submit=${(event) => submit(event, page)} @keydown=${(event) => event.key === "Escape" && clear(page)}>
    <label>Your name <input name="by" required maxlength=${BY_CHARACTERS_MAX} autocomplete="name" .defaultValue=${rememberedName()}></label>
    <label class="grow">Note <input name="note" maxlength=${NOTE_CHARACTERS_MAX} autocomplete="off" placeholder="What was seen or done; may stay empty"></label>
    <button type="submit" class="main" ?disabled=${state.isSending}>${state.isSending ? "Acknowledging…" : `Acknowledge ${what}`}</button>
    <button type="button" class="plain" ?disabled=${state.isSending} @click=${() => clear(page)}>Cancel</button>
  </form>`;
}

function clear(page) {
  chosen.clear();
  page.redraw();
}

async function submit(event, page) {
  event.preventDefault();
  const { by, note } = event.target.elements;
  const name = by.value.trim();
  by.setCustomValidity(name ? "" : "Say who you are.");
  if (!by.reportValidity() || state.isSending) return;
  rememberName(name);
  state = { isSending: true, message: "", isError: false };
  page.redraw();
  const result = await sendAll([...chosen], { by: name, note: note.value.trim() });
  state = { isSending: false, ...result };
  forget("api/alarms");
  page.redraw();
}

// One by one: each is kept by itself, and what could not be kept stays chosen for another try.
async function sendAll(alarms, said) {
  const errors = new Map();
  const problems = new Set(); // kept, but not everybody knows of it yet
  const queue = [...alarms];
  const work = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [key, { fleet, node, bay, code, raised_utc_ms }] = next;
      try {
        const { problem } = await postJson("api/alarms/acknowledge", { fleet, node, bay, code, raised_utc_ms, ...said });
        if (problem) problems.add(sentence(problem));
        chosen.delete(key);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        errors.set(error.message, (errors.get(error.message) ?? 0) + 1);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  const failed = [...errors.values()].reduce((sum, count) => sum + count, 0);
  const done = alarms.length - failed;
  const count = (n) => `${n} alarm${n === 1 ? "" : "s"}`;
  const also = [...problems].join(" ");
  if (!failed) return { message: `${count(done)} acknowledged. ${also}`, isError: problems.size > 0 };
  const still = failed === 1 ? "It is still chosen" : "They are still chosen";
  return { message: `${done ? `${count(done)} acknowledged, ` : ""}${count(failed)} not: ${[...errors.keys()].join(" ")} ${still}; try again. ${also}`, isError: true };
}
