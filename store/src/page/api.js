// Requests to the API.

import { view } from './view.js';

async function answered(response) {
  const answer = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) throw Object.assign(new Error(answer.error || response.statusText), { answer });
  return answer;
}

/** The JSON of a path; an error carries the sentence of the answer. */
export async function get(path) {
  return answered(await fetch(path, { cache: 'no-store' }));
}

/** As `get`, for what is sent as JSON. */
export async function post(path, body) {
  const headers = { 'Content-Type': 'application/json' };
  return answered(await fetch(path, { method: 'POST', cache: 'no-store', headers, body: JSON.stringify(body) }));
}

/** The filter and the range of time as parameters. */
export function wanted() {
  const parameters = new URLSearchParams();
  if (view.filter) parameters.set('filter', view.filter);
  if (view.from) parameters.set('from', view.from);
  if (view.to) parameters.set('to', view.to);
  return parameters;
}
