// <sl-map>: vans and stations on a plain projection. `places`: [{id, name, holder, latitude, longitude, heading, tone,
// status, href, detail}], `trail`: [[latitude, longitude], ...]. Follows them until someone drags or zooms.

import { html, nothing, render, repeat, svg } from "./lit.js";
import { fit, graticule, latitudeAt, longitudeAt, project, scaleBar } from "./projection.js";

const PADDING = 48;
const LABEL_WIDTH = 90;
const LABELS_MAX = 24; // more names than this only cover each other
const ZOOM_STEP = 1.6;
const UNITS_PER_PIXEL_MIN = 1e-9;
const UNITS_PER_PIXEL_MAX = 1 / 256;

const LETTER_WIDTH = 7.2;
const LABEL_SIDES = [
  { x: 17, y: 4, anchor: "start" },
  { x: -17, y: 4, anchor: "end" },
  { x: 0, y: 27, anchor: "middle" },
  { x: 0, y: -19, anchor: "middle" },
];

function boxAround(at, shift, width, height = width) {
  const centre = { x: at.x + shift.x, y: at.y + shift.y };
  return { left: centre.x - width / 2, right: centre.x + width / 2, top: centre.y - height / 2, bottom: centre.y + height / 2 };
}

const overlaps = (one, other) => one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;

class MapView extends HTMLElement {
  #places = [];
  #trail = [];
  #view = null;
  #isFollowing = true;
  #size = { width: 0, height: 0 };
  #drag = null;

  set places(places) {
    this.#places = places.map((place) => ({ ...place, ...project(place.latitude, place.longitude) }));
    this.#draw();
  }

  set trail(points) {
    this.#trail = points.map(([latitude, longitude]) => project(latitude, longitude));
    this.#draw();
  }

  connectedCallback() {
    this.resize = new ResizeObserver(([entry]) => {
      this.#size = { width: Math.round(entry.contentRect.width), height: Math.round(entry.contentRect.height) };
      if (this.#isFollowing) this.#view = null;
      this.#draw();
    });
    this.resize.observe(this);
    this.addEventListener("pointerdown", this.#onPointerDown);
    this.addEventListener("pointermove", this.#onPointerMove);
    this.addEventListener("pointerup", this.#onPointerUp);
    this.addEventListener("pointercancel", this.#onPointerUp);
    this.addEventListener("wheel", this.#onWheel, { passive: false });
  }

  disconnectedCallback() {
    this.resize?.disconnect();
  }

  // Refit only when something left the picture or the picture became far too wide: a map that breathes is unreadable.
  #follow() {
    const points = [...this.#places, ...this.#trail];
    if (!points.length) return;
    const { width, height } = this.#size;
    const wanted = fit(points, width, height, PADDING);
    const isOutside = this.#view && points.some((point) => !this.#isInside(point));
    if (!this.#view || isOutside || wanted.unitsPerPixel < this.#view.unitsPerPixel / 2.5) this.#view = wanted;
  }

  #isInside(point) {
    const at = this.#toPixel(point);
    return at.x > 12 && at.y > 12 && at.x < this.#size.width - 12 && at.y < this.#size.height - 12;
  }

  #toPixel(point) {
    const view = this.#view;
    return {
      x: this.#size.width / 2 + (point.x - view.x) / view.unitsPerPixel,
      y: this.#size.height / 2 + (point.y - view.y) / view.unitsPerPixel,
    };
  }

  #zoom(factor, at = { x: this.#size.width / 2, y: this.#size.height / 2 }) {
    if (!this.#view) return;
    const before = this.#view.unitsPerPixel;
    const after = Math.max(UNITS_PER_PIXEL_MIN, Math.min(UNITS_PER_PIXEL_MAX, before / factor));
    const shift = { x: at.x - this.#size.width / 2, y: at.y - this.#size.height / 2 };
    this.#view = {
      x: this.#view.x + shift.x * (before - after),
      y: this.#view.y + shift.y * (before - after),
      unitsPerPixel: after,
    };
    this.#isFollowing = false;
    this.#draw();
  }

  #fit() {
    this.#isFollowing = true;
    this.#view = null;
    this.#draw();
  }

  #onPointerDown = (event) => {
    if (event.button !== 0 || event.target.closest("button")) return;
    this.#drag = { id: event.pointerId, x: event.clientX, y: event.clientY, isMoved: false };
  };

  #onPointerMove = (event) => {
    const drag = this.#drag;
    if (!drag || drag.id !== event.pointerId || !this.#view) return;
    const by = { x: event.clientX - drag.x, y: event.clientY - drag.y };
    if (!drag.isMoved && Math.hypot(by.x, by.y) < 4) return;
    if (!drag.isMoved) this.setPointerCapture(event.pointerId);
    this.#drag = { ...drag, x: event.clientX, y: event.clientY, isMoved: true };
    this.#view = {
      ...this.#view,
      x: this.#view.x - by.x * this.#view.unitsPerPixel,
      y: this.#view.y - by.y * this.#view.unitsPerPixel,
    };
    this.#isFollowing = false;
    this.#draw();
  };

  #onPointerUp = () => {
    this.#drag = null;
  };

  #onWheel = (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the wheel alone scrolls the page
    event.preventDefault();
    const box = this.getBoundingClientRect();
    this.#zoom(event.deltaY < 0 ? ZOOM_STEP : 1 / ZOOM_STEP, { x: event.clientX - box.left, y: event.clientY - box.top });
  };

  #draw() {
    const { width, height } = this.#size;
    if (!width || !height) return;
    if (this.#isFollowing) this.#follow();
    if (!this.#view) {
      render(html`<p class="map-empty">No position known yet.</p>`, this);
      return;
    }
    render(this.#template(width, height), this);
  }

  // Greedy and stable: each name takes the first side on which it covers neither a name nor a marker, or stays away.
  #placeLabels() {
    const shown = this.#places.filter((place) => this.#isInside(place));
    const labels = new Map();
    if (shown.length > LABELS_MAX) return labels;
    const taken = shown.map((place) => boxAround(this.#toPixel(place), { x: 0, y: 0 }, 20));
    shown.forEach((place, index) => {
      const at = this.#toPixel(place);
      const width = place.name.length * LETTER_WIDTH;
      for (const side of LABEL_SIDES) {
        const box = boxAround(at, { x: side.x + (side.anchor === "start" ? width / 2 : side.anchor === "end" ? -width / 2 : 0), y: side.y - 4 }, width, 14);
        const isFree = taken.every((other, i) => i === index || !overlaps(box, other));
        if (!isFree || box.left < 0 || box.right > this.#size.width) continue;
        labels.set(place.id, side);
        taken.push(box);
        break;
      }
    });
    return labels;
  }

  #template(width, height) {
    const labels = this.#placeLabels();
    return html`
      <svg width=${width} height=${height} viewBox="0 0 ${width} ${height}" role="group" aria-label="Map of vans and stations">
        ${this.#grid(width, height)} ${this.#trailLine()}
        ${repeat(
          this.#places,
          (place) => place.id,
          (place) => this.#marker(place, labels.get(place.id)),
        )}
        ${this.#scale(height)}
      </svg>
      <div class="map-buttons">
        <button type="button" aria-label="Zoom in" @click=${() => this.#zoom(ZOOM_STEP)}>+</button>
        <button type="button" aria-label="Zoom out" @click=${() => this.#zoom(1 / ZOOM_STEP)}>−</button>
        ${this.#isFollowing ? nothing : html`<button type="button" class="wide" @click=${() => this.#fit()}>Fit</button>`}
      </div>`;
  }

  #grid(width, height) {
    const { longitudes, latitudes, decimals } = graticule(this.#view, width, height);
    const label = (value, letters) => `${Math.abs(value).toFixed(decimals)}° ${letters[value < 0 ? 1 : 0]}`;
    return svg`<g class="grid" aria-hidden="true">
      ${longitudes.map((longitude) => {
        const { x } = this.#toPixel({ x: project(0, longitude).x, y: 0 });
        return svg`<path d="M${x} 0V${height}"/>${x < width - LABEL_WIDTH ? svg`<text x=${x + 4} y="12">${label(longitude, "EW")}</text>` : nothing}`;
      })}
      ${latitudes.map((latitude) => {
        const { y } = this.#toPixel({ x: 0, y: project(latitude, 0).y });
        return svg`<path d="M0 ${y}H${width}"/>${y > 30 && y < height - 36 ? svg`<text x="6" y=${y - 4}>${label(latitude, "NS")}</text>` : nothing}`;
      })}
    </g>`;
  }

  #trailLine() {
    if (this.#trail.length < 2) return nothing;
    const points = this.#trail.map((point) => this.#toPixel(point));
    return svg`<polyline class="trail" points=${points.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ")}/>`;
  }

  #marker(place, side) {
    const { x, y } = this.#toPixel(place);
    const name = `${place.name}: ${place.status}${place.detail ? `, ${place.detail}` : ""}`;
    const shape =
      place.holder === "station"
        ? svg`<rect class="body" x="-8" y="-8" width="16" height="16" rx="4"/><path class="sign" d="m1-5-4 6h3l-1 4 4-6h-3z"/>`
        : place.heading == null
          ? svg`<circle class="body" r="7.500"/>`
          : svg`<path class="body" d="M0-15C3-9 8-5.500 8 .5A8 8 0 1 1-8 .5C-8-5.500-3-9 0-15z" transform="rotate(${place.heading})"/>`;
    return svg`<a class="marker" href=${place.href} data-tone=${place.tone} data-estimated=${String(Boolean(place.isEstimated))} aria-label=${name}
        transform="translate(${x.toFixed(1)} ${y.toFixed(1)})">
      <title>${name}</title><circle class="reach" r="18"/>${shape}
      ${side ? svg`<text x=${side.x} y=${side.y} text-anchor=${side.anchor}>${place.name}</text>` : nothing}
    </a>`;
  }

  #scale(height) {
    const bar = scaleBar(this.#view, 110);
    return svg`<g class="scale" transform="translate(12 ${height - 14})">
      <path d="M0-5V0H${bar.pixels}V-5"/><text x=${bar.pixels + 6} y="1">${bar.label}</text>
    </g>`;
  }

  // For tests and for the curious: what the middle of the picture shows.
  get centre() {
    return this.#view && { latitude: latitudeAt(this.#view.y), longitude: longitudeAt(this.#view.x) };
  }
}

customElements.define("sl-map", MapView);
