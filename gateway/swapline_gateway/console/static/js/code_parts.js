// A module's code taken apart as GB/T 34014 builds it, and what is unusual about it.

import { html, nothing } from "./lit.js";
import { chip, section } from "./parts.js";
import { sentence } from "./api.js";

// name -> [what it is called, where it stands in the code, the word that says what it means]
const PARTS = [
  ["maker", "Maker", [0, 3], null],
  ["product_type", "Product", [3, 4], "product"],
  ["battery_type", "Chemistry", [4, 5], "chemistry"],
  ["specification", "Specification", [5, 7], null],
  ["traceability", "Traceability", [7, 14], null],
  ["production_date", "Made", [14, 17], "production_date"],
  ["serial", "Serial number", [17, 24], null],
];

export function codeSection(parts) {
  if (!parts) return nothing;
  const problems = parts.problems ?? [];
  if (parts.maker == null && !problems.length) return nothing;
  return section("Code", html`${problems.length ? html`<ul class="code-problems">${problems.map((problem) => html`<li>${chip("warn", "Unusual")}<span>${sentence(problem)}</span></li>`)}</ul>` : nothing}
    ${parts.maker == null ? nothing : html`<dl class="code-parts">${PARTS.map((part) => codePart(parts, part))}</dl>`}`);
}

function codePart(parts, [name, label, [from, to], meaning]) {
  const word = meaning && parts[meaning];
  return html`<div><dt>${label}</dt><dd><span class="code">${parts.text?.slice(from, to) ?? parts[name] ?? "–"}</span>${word ? html`<span>${word}</span>` : nothing}</dd></div>`;
}
