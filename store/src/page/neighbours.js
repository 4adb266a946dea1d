// The previous and the next call of a connection.

import { get } from './api.js';

/** Answers that are read to find the next one. */
const PAGES_MAX = 20;
const PAGE_CALLS = 1000;

/** Their ids, null where there is none. */
export async function neighbours({ id, time_ms: time }, connection) {
  const list = (more) => get(`/api/v1/calls?${new URLSearchParams({ filter: `connection=="${connection}"`, ...more })}`);
  const before = await list({ before: id, to: String(time + 1), limit: '1' });
  // The list has the newest first, so the next call is the last of those that are newer.
  let after = null;
  let parameters = { after: id, from: String(time), limit: String(PAGE_CALLS) };
  for (let pages = 0; pages < PAGES_MAX; pages++) {
    const page = await list(parameters);
    after = page.calls.at(-1)?.id ?? after;
    if (page.next === null) break;
    parameters = { ...parameters, before: page.next };
  }
  return { before: before.calls[0]?.id ?? null, after };
}
