// What summaries mean to an operator: status, thresholds, the figures on top. One place, so that all pages agree.

import { age, silenceMs } from "./format.js";

export const SOC_LOW_PCT = 20; // time to swap
export const SOC_CRITICAL_PCT = 10;
export const TEMPERATURE_HIGH_C = 45;
export const TEMPERATURE_CRITICAL_C = 55;
const CHARGING = 2;
const CHARGER_FAULT = 4;

// A node repeats its own figures after 30 s at the latest; three times that is more than a tunnel of the link's retries.
const silentAfterMs = () => 3 * silenceMs("node");

export function nodeStatus(node, nowMs) {
  const dataAgeMs = node.data_utc_ms == null ? null : nowMs - node.data_utc_ms;
  if (node.online === false) return { id: "offline", label: "Offline", tone: "off" };
  if (dataAgeMs == null) return { id: "waiting", label: "No data yet", tone: "off" };
  if (dataAgeMs > silentAfterMs()) return { id: "silent", label: "Silent", tone: "warn" };
  if (node.safe_mode) return { id: "safe", label: "Safe mode", tone: "warn" };
  return { id: "online", label: "Online", tone: "good" };
}

export const isMoving = (van, nowMs) => nodeStatus(van, nowMs).id === "online" && (van.speed_kmh ?? 0) > 1;

export const dataAge = (node, nowMs) => age(node.data_utc_ms == null ? null : nowMs - node.data_utc_ms);

export function socTone(soc) {
  if (soc == null) return "off";
  if (soc < SOC_CRITICAL_PCT) return "bad";
  return soc < SOC_LOW_PCT ? "warn" : "good";
}

export function socNote(soc) {
  if (soc == null || soc >= SOC_LOW_PCT) return "";
  return soc < SOC_CRITICAL_PCT ? "Critical" : "Low";
}

export function temperatureTone(value) {
  if (value == null) return "";
  if (value >= TEMPERATURE_CRITICAL_C) return "bad";
  return value >= TEMPERATURE_HIGH_C ? "warn" : "";
}

const MODE_TONES = { 3: "info", 4: "info", 5: "info", 6: "bad", 7: "bad" };
export const modeTone = (mode) => MODE_TONES[mode] ?? "off";

export const baysOf = (node) => Object.values(node.bays ?? {}).sort((one, other) => one.bay - other.bay);

export function slotState(slot) {
  const state = slot?.charger_state;
  if (slot?.faults || state === CHARGER_FAULT) return { label: "Fault", tone: "bad" };
  if (state === CHARGING) return { label: "Charging", tone: "info" };
  if (state === 3) return { label: "Full", tone: "good" };
  if (state === 5) return { label: "Reserved", tone: "warn" };
  if (state === 1) return { label: "Connected", tone: "off" };
  if (!slot) return { label: "Unknown", tone: "off" };
  return slot.occupied ? { label: "Idle", tone: "off" } : { label: "Empty", tone: "off" };
}

export function stationFigures(station) {
  const slots = baysOf(station);
  return {
    slots: slots.length,
    modules: slots.filter((bay) => bay.module).length,
    ready: slots.filter((bay) => bay.ready).length,
    charging: slots.filter((bay) => bay.slot?.charger_state === CHARGING).length,
    faults: slots.filter((bay) => slotState(bay.slot).label === "Fault").length,
    chargerKw: slots.reduce((sum, bay) => sum + (bay.slot?.charger_power_kw ?? 0), 0),
  };
}

export function fleetFigures(nodes, nowMs) {
  const vans = nodes.filter((node) => node.holder === "van");
  const stations = nodes.filter((node) => node.holder === "station");
  const isOnline = (node) => nodeStatus(node, nowMs).id === "online";
  const socs = vans.map((van) => van.soc_pct).filter((soc) => soc != null);
  const totals = stations.map(stationFigures);
  const sum = (name) => totals.reduce((total, station) => total + station[name], 0);
  return {
    vans: vans.length,
    vansOnline: vans.filter(isOnline).length,
    driving: vans.filter((van) => isMoving(van, nowMs)).length,
    low: vans.filter((van) => van.soc_pct != null && van.soc_pct < SOC_LOW_PCT).length,
    socMean: socs.length ? socs.reduce((total, soc) => total + soc, 0) / socs.length : null,
    stations: stations.length,
    stationsOnline: stations.filter(isOnline).length,
    ready: sum("ready"),
    slots: sum("slots"),
    charging: sum("charging"),
    chargerKw: sum("chargerKw"),
    alarms: nodes.filter((node) => node.alarm_level > 0).length,
  };
}
