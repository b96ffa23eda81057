// All modules: find one, see where it is.

import { html, nothing, repeat } from "./lit.js";
import { age, byName, number } from "./format.js";
import { SOC_LOW_PCT, temperatureTone } from "./fleet_model.js";
import { fromBook } from "./books.js";
import { hasBooks } from "./module_book.js";
import { chip, empty, holderLink, moduleLink, placeWord, section, socBar, value } from "./parts.js";
import { warningList } from "./warnings.js";

export const title = () => "Modules";
export const scope = () => ["modules", {}];

const ROWS_MAX = 300; // beyond, people search
const PLACES = {
  all: ["All", () => true],
  van: ["In vans", (module) => module.custody?.present && module.holder === "van"],
  station: ["In stations", (module) => module.custody?.present && module.holder === "station"],
  between: ["Between", (module) => !module.custody?.present],
  low: [`Below ${SOC_LOW_PCT} %`, (module) => module.soc_pct != null && module.soc_pct < SOC_LOW_PCT],
};

export function view(content, page) {
  const modules = Object.values(content.modules).sort((one, other) => byName(one.code, other.code));
  if (!modules.length) return empty("No module has been seen yet", "Modules appear when a van or a station reads their code.");
  return html`${hasBooks(page) ? section("Early warnings", fromBook("battery", "api/battery/warnings", {}, page, (data) => warningList(data.warnings, page))) : nothing}
    ${section("Modules", table(modules, page), controls(modules, page))}`;
}

const filterOf = (page) => (page.query.show in PLACES ? page.query.show : "all");

function controls(modules, page) {
  const filter = filterOf(page);
  return html`<div class="controls">
    <input type="search" placeholder="Find a code or holder" aria-label="Find a code or holder" .value=${page.query.find ?? ""}
      @input=${(event) => page.setQuery({ find: event.target.value || null })}>
    <div class="segments" role="group" aria-label="Show">
      ${Object.entries(PLACES).map(
        ([id, [label, test]]) => html`<button type="button" aria-pressed=${String(id === filter)}
          @click=${() => page.setQuery({ show: id === "all" ? null : id })}>${label} <span class="count">${modules.filter(test).length}</span></button>`,
      )}
    </div>
  </div>`;
}

function table(modules, page) {
  const find = (page.query.find ?? "").toLowerCase();
  const matches = modules.filter(
    (module) => PLACES[filterOf(page)][1](module) && `${module.code} ${module.custody?.node ?? ""}`.toLowerCase().includes(find),
  );
  if (!matches.length) return empty("No module matches", "Change the filter or the text to find.");
  return html`<table class="list modules">
      <thead><tr><th scope="col">Module</th><th scope="col">Place</th><th scope="col">Charge</th><th scope="col" class="right">Health</th>
        <th scope="col" class="right">Current</th><th scope="col" class="right">Warmest</th><th scope="col" class="right">Spread</th>
        <th scope="col" class="right">Last data</th></tr></thead>
      <tbody>${repeat(matches.slice(0, ROWS_MAX), (module) => module.code, (module) => row(module, page.nowMs))}</tbody>
    </table>
    ${matches.length > ROWS_MAX ? html`<p class="muted">${ROWS_MAX} of ${matches.length} shown; search to see the others.</p>` : nothing}`;
}

function row(module, nowMs) {
  const spread = module.cell_voltage_max_v == null || module.cell_voltage_min_v == null ? null : (module.cell_voltage_max_v - module.cell_voltage_min_v) * 1000;
  return html`<tr>
    <th scope="row"><a class="code" href=${moduleLink(module.code)}>${module.code}</a>${module.protections ? chip("bad", "Protection") : nothing}</th>
    <td data-label="Place">${placeOf(module)}</td>
    <td data-label="Charge">${socBar(module.soc_pct)}</td>
    <td data-label="Health" class="right">${value(number(module.soh_pct, 1), "%")}</td>
    <td data-label="Current" class="right">${value(number(module.current_a, 1), "A")}</td>
    <td data-label="Warmest" class="right" data-tone=${temperatureTone(module.temperature_max_c)}>${value(number(module.temperature_max_c, 1), "°C")}</td>
    <td data-label="Spread" class="right">${value(number(spread, 0), "mV")}</td>
    <td data-label="Last data" class="right age">${age(module.data_utc_ms == null ? null : nowMs - module.data_utc_ms)}</td>
  </tr>`;
}

function placeOf({ custody, holder }) {
  if (!custody) return html`<span class="muted">Unknown</span>`;
  const link = html`<a href=${holderLink(custody)}>${custody.node}</a> <span class="muted">${placeWord(holder)} ${custody.bay}</span>`;
  return custody.present ? link : html`<span class="muted">left</span> ${link}`;
}
