// One live view: a snapshot, then patches. Reconnects by itself, pauses while the page is hidden.

import { address } from "./api.js";

const SILENCE_MS_MAX = 12_000; // the gateway sends at least every 5 s
const BACKOFF_MS_MIN = 1_000;
const BACKOFF_MS_MAX = 15_000;
const REMEMBERED_MAX = 24;

const remembered = new Map(); // last content of views that were left, to show something at once on return

export class LiveView {
  constructor(scope, query, onChange) {
    this.address = address(`api/live/${scope}`, query);
    this.content = remembered.get(this.address) ?? null;
    this.status = "connecting"; // connecting | live | lost
    this.offsetMs = 0; // the gateway's clock minus ours
    this.onChange = onChange;
    this.backoffMs = BACKOFF_MS_MIN;
    this.onVisibility = () => (document.hidden ? this.#disconnect() : this.#connect());
    document.addEventListener("visibilitychange", this.onVisibility);
    this.watch = setInterval(() => this.#checkSilence(), 1_000);
    if (!document.hidden) this.#connect();
  }

  close() {
    document.removeEventListener("visibilitychange", this.onVisibility);
    clearInterval(this.watch);
    this.#disconnect();
    this.onChange = () => {};
    if (this.content) remember(this.address, this.content);
  }

  nowUtcMs() {
    return Date.now() + this.offsetMs;
  }

  #connect() {
    this.#disconnect();
    this.heardAtMs = Date.now();
    const source = new EventSource(this.address);
    source.addEventListener("snapshot", (event) => this.#take(event, (data) => data.content));
    source.addEventListener("patch", (event) => this.#take(event, (data) => applyPatch(this.content, data)));
    source.addEventListener("error", () => this.#lose());
    this.source = source;
  }

  #disconnect() {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  #take(event, change) {
    const data = JSON.parse(event.data);
    this.heardAtMs = Date.now();
    this.offsetMs = data.now - this.heardAtMs;
    this.content = change(data);
    this.status = "live";
    this.backoffMs = BACKOFF_MS_MIN;
    this.onChange();
  }

  // The browser's own reconnect gives up for good after some answers (503, for one), so ours does it all.
  #lose() {
    this.#disconnect();
    this.status = "lost";
    this.retry = setTimeout(() => this.#connect(), this.backoffMs * (0.75 + Math.random() / 2));
    this.backoffMs = Math.min(this.backoffMs * 2, BACKOFF_MS_MAX);
    this.onChange();
  }

  #checkSilence() {
    if (this.source && Date.now() - this.heardAtMs > SILENCE_MS_MAX) this.#lose();
  }
}

function remember(key, content) {
  remembered.delete(key);
  remembered.set(key, content);
  if (remembered.size > REMEMBERED_MAX) remembered.delete(remembered.keys().next().value);
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

export function applyPatch(content, patch) {
  if (patch.set) merge(content, patch.set);
  for (const path of patch.gone ?? []) {
    const parent = path.slice(0, -1).reduce((place, key) => place?.[key], content);
    if (isObject(parent)) delete parent[path.at(-1)];
  }
  return content;
}

function merge(target, changes) {
  for (const [key, value] of Object.entries(changes)) {
    if (key === "__proto__") continue; // names come from devices
    if (isObject(value) && isObject(target[key])) merge(target[key], value);
    else target[key] = value;
  }
}
