// Requests to the gateway. Addresses are relative: the console may live below a prefix.

export class ApiError extends Error {}

export const fetchJson = (path, { signal } = {}) => send(path, { signal, headers: { Accept: "application/json" } });

export const postJson = (path, body) =>
  send(path, { method: "POST", headers: { Accept: "application/json", "Content-Type": "application/json" }, body: JSON.stringify(body) });

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The gateway cannot be reached.");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(body.error ? sentence(body.error) : `The gateway answered ${response.status}.`);
  return body;
}

export function address(path, query) {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value != null)).toString();
  return text ? `${path}?${text}` : path;
}

export function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
