// Alarms as a list: the alarms page shows all, a module's page its own.

import { html, nothing, repeat } from "./lit.js";
import { age, clock, number, unitName } from "./format.js";
import { chip, holderLink, moduleLink } from "./parts.js";
import { isStation } from "./books.js";
import { timeOf } from "./custody_parts.js";

export const alarmKey = (alarm) => [alarm.fleet, alarm.node, alarm.bay, alarm.module, alarm.code, alarm.raised_utc_ms].join("|");

export const isStanding = (alarm) => alarm.cleared_utc_ms == null;

// The worst first, of one level the newest.
export const worstFirst = (one, other) => other.level_max - one.level_max || other.raised_utc_ms - one.raised_utc_ms;

const ENDINGS = { restart: "until its node was started again", answered: "until a module answered there", unknown: "raised again without having been cleared" };

// choice: {isChosen(alarm), toggle(alarms, isOn)} where rows can be chosen and acknowledged.
export function alarmTable(alarms, page, { choice = null, isOfOneModule = false, caption = "" } = {}) {
  return html`<table class="list alarm-list" data-choice=${String(Boolean(choice))} data-module=${String(!isOfOneModule)}>
    ${caption ? html`<caption class="muted">${caption}</caption>` : nothing}
    <thead><tr>${choice ? html`<th scope="col">${chooseAll(alarms, choice)}</th>` : nothing}
      <th scope="col">Level</th><th scope="col">Alarm</th><th scope="col">Where</th>${isOfOneModule ? nothing : html`<th scope="col">Module</th>`}
      <th scope="col">Raised</th><th scope="col">State</th><th scope="col">Acknowledged</th></tr></thead>
    <tbody>${repeat(alarms, alarmKey, (alarm) => alarmRow(alarm, page, { choice, isOfOneModule }))}</tbody>
  </table>`;
}

function chooseAll(alarms, choice) {
  const open = alarms.filter((alarm) => !alarm.acknowledgement);
  if (!open.length) return nothing;
  const count = open.filter(choice.isChosen).length;
  return html`<label class="choose-all"><input type="checkbox" aria-label="Choose all that are not acknowledged" .checked=${count === open.length}
    .indeterminate=${count > 0 && count < open.length} @change=${(event) => choice.toggle(open, event.target.checked)}><span>Choose all</span></label>`;
}

function alarmRow(alarm, page, { choice, isOfOneModule }) {
  const place = placeText(alarm, page);
  return html`<tr data-standing=${String(isStanding(alarm))}>
    ${choice ? html`<td class="choose">${alarm.acknowledgement ? nothing : html`<input type="checkbox" aria-label="Choose ${alarm.name} of ${alarm.node}"
      .checked=${choice.isChosen(alarm)} @change=${(event) => choice.toggle([alarm], event.target.checked)}>`}</td>` : nothing}
    <td data-label="Level">${levelChip(alarm)}</td>
    <th scope="row">${alarm.name.charAt(0).toUpperCase()}${alarm.name.slice(1)}<span class="alarm-text">${detailOf(alarm)}</span></th>
    <td data-label="Where"><a href=${holderLink(alarm)}>${alarm.node}</a> <span class="muted">${place}</span></td>
    ${isOfOneModule ? nothing : html`<td data-label="Module">${alarm.module ? html`<a class="code" href=${moduleLink(alarm.module)}>${alarm.module}</a>` : html`<span class="muted">–</span>`}</td>`}
    <td data-label="Raised">${timeOf(alarm.raised_utc_ms, page)}</td>
    <td data-label="State" title=${ENDINGS[alarm.ending] ?? ""}>${stateOf(alarm, page.nowMs)}</td>
    <td data-label="Acknowledged">${acknowledged(alarm, page, choice)}</td>
  </tr>`;
}

const placeText = (alarm, page) => (alarm.bay ? `${isStation(page, alarm) ? "slot" : "bay"} ${alarm.bay}` : "");

function levelChip(alarm) {
  const tone = !isStanding(alarm) ? "off" : alarm.level_max >= 2 ? "bad" : "warn";
  return chip(tone, `Level ${alarm.level_max}`);
}

// What a limit was passed by and where; the words of bits say everything already.
function detailOf({ signal, value, unit, threshold, position }) {
  if (value == null || !unit) return "";
  const where = position == null ? "" : `${signal?.startsWith("temperature") ? "sensor" : "cell"} ${position}, `;
  const text = (amount) => `${number(amount, decimalsIn(amount))}\u00a0${unitName(unit)}`;
  return `${where}${text(value)}${threshold == null ? "" : `, limit ${text(threshold)}`}`;
}

// The book's figures are what the signal's own resolution leaves: no digit is made up here, and none is taken.
const decimalsIn = (amount) => Math.min(4, String(amount).split(".")[1]?.length ?? 0);

function stateOf(alarm, nowMs) {
  if (isStanding(alarm)) return html`<b>Stands</b> <span class="muted">for ${age(nowMs - alarm.raised_utc_ms)}</span>`;
  return html`<span class="muted">Over, after ${age(alarm.cleared_utc_ms - alarm.raised_utc_ms)}</span>`;
}

function acknowledged(alarm, page, choice) {
  const said = alarm.acknowledgement;
  if (said) {
    return html`<span class="said" title=${clock(said.time_utc_ms, page.nowMs)}>${said.by}, ${age(page.nowMs - said.time_utc_ms)} ago${said.note ? html`<q>${said.note}</q>` : nothing}</span>`;
  }
  if (!choice) return html`<span class="muted">No</span>`;
  return html`<button type="button" class="plain" aria-label="Acknowledge ${alarm.name} of ${alarm.node}" @click=${() => choice.only(alarm)}>Acknowledge</button>`;
}
