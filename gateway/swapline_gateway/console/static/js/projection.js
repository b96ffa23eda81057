// Web Mercator in the unit square, and what a map without tiles needs: a fitting view, a graticule, a scale bar.

const EARTH_M = 40_075_016.686;
const LATITUDE_MAX = 85;

export function project(latitude, longitude) {
  const phi = (Math.max(-LATITUDE_MAX, Math.min(LATITUDE_MAX, latitude)) * Math.PI) / 180;
  return { x: (longitude + 180) / 360, y: 0.5 - Math.log(Math.tan(Math.PI / 4 + phi / 2)) / (2 * Math.PI) };
}

export const longitudeAt = (x) => x * 360 - 180;
export const latitudeAt = (y) => (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI;

// Metres of one unit of the square at this height of it.
export const metresPerUnit = (y) => EARTH_M * Math.cos((latitudeAt(y) * Math.PI) / 180);

const SPAN_M_MIN = 1_500;

// A view is its centre and the width that it shows, in units of the square.
export function fit(points, width, height, padding) {
  const xs = points.map((point) => point.x);
  const ys = points.map((point) => point.y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const inner = { width: Math.max(40, width - 2 * padding), height: Math.max(40, height - 2 * padding) };
  const centre = { x: (left + right) / 2, y: (top + bottom) / 2 };
  const unitsPerPixel = Math.max(
    (right - left) / inner.width,
    (bottom - top) / inner.height,
    SPAN_M_MIN / metresPerUnit(centre.y) / inner.width,
  );
  return { ...centre, unitsPerPixel };
}

const STEPS_DEG = [30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005];

export function graticule(view, width, height) {
  const edge = {
    west: longitudeAt(view.x - (width / 2) * view.unitsPerPixel),
    east: longitudeAt(view.x + (width / 2) * view.unitsPerPixel),
    north: latitudeAt(view.y - (height / 2) * view.unitsPerPixel),
    south: latitudeAt(view.y + (height / 2) * view.unitsPerPixel),
  };
  const step = STEPS_DEG.find((deg) => (edge.east - edge.west) / deg >= 3) ?? STEPS_DEG.at(-1);
  const lines = (from, to) =>
    Array.from({ length: Math.max(0, Math.floor(to / step) - Math.ceil(from / step) + 1) }, (_, i) => (Math.ceil(from / step) + i) * step);
  const decimals = Math.max(0, Math.ceil(-Math.log10(step)));
  return { longitudes: lines(edge.west, edge.east), latitudes: lines(edge.south, edge.north), decimals };
}

// The longest round distance that fits into `pixelsMax`.
export function scaleBar(view, pixelsMax) {
  const metresPerPixel = view.unitsPerPixel * metresPerUnit(view.y);
  const limit = metresPerPixel * pixelsMax;
  const power = 10 ** Math.floor(Math.log10(limit));
  const metres = [5, 2, 1].map((n) => n * power).find((length) => length <= limit);
  return { pixels: metres / metresPerPixel, label: metres >= 1000 ? `${metres / 1000} km` : `${metres} m` };
}
