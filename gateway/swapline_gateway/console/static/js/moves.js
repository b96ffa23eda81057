// Modules that went from holder to holder.

import { html, nothing } from "./lit.js";
import { age, clock } from "./format.js";
import { empty, holderLink, moduleLink, placeWord } from "./parts.js";

const placeText = (place) => html`<a href=${holderLink(place)}>${place.node}</a> <span class="muted">${placeWord(place.holder)} ${place.bay}</span>`;

export function moveList(moves, nowMs, { isOfOneModule = false } = {}) {
  if (!moves.length) return empty(`${isOfOneModule ? "It" : "No module"} has${isOfOneModule ? " not" : ""} moved since the gateway started.`);
  return html`<ol class="moves">
    ${moves.map(
      (move) => html`<li>
        <time datetime=${new Date(move.time_utc_ms).toISOString()} title=${clock(move.time_utc_ms, nowMs)}>${age(nowMs - move.time_utc_ms)} ago</time>
        ${isOfOneModule ? nothing : html`<a class="code" href=${moduleLink(move.module)}>${move.module}</a>`}
        <span class="route">${placeText(move.origin)}<span class="arrow" role="img" aria-label="to">→</span>${placeText(move.destination)}</span>
      </li>`,
    )}
  </ol>`;
}
