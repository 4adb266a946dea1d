// What a client reports: one line of JSON for each call, with the details of it as a line of the sniffer has them.
"use strict";

/** A seeded generator of random numbers (mulberry32). */
function seeded(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  return {
    below: (limit) => Math.floor(next() * limit),
    chance: (share) => next() < share,
    of: (list) => list[Math.floor(next() * list.length)],
  };
}

/** Method, URL and parameters. */
function target(method, authority, path) {
  const [bare, query] = path.split("?", 2);
  const details = [["request_method", method], ["request_url", `http://${authority}${bare}`]];
  for (const [name, value] of new URLSearchParams(query ?? "")) details.push([`request_param:${name.toLowerCase()}`, value]);
  return details;
}

/** Headers of a side (`request` or `response`) from an object whose values are texts or lists of texts. */
function headers(side, object) {
  const details = [];
  for (const [name, value] of Object.entries(object)) {
    if (name.startsWith(":") || name === "host") continue;
    // Crumbs of a cookie are one field again.
    const values = Array.isArray(value) ? (name === "cookie" ? [value.join("; ")] : value) : [value];
    for (const each of values) details.push([`${side}_header:${name.toLowerCase()}`, String(each)]);
  }
  return details;
}

/** Reports a call. `more`: `absent`, keys that its line must not have; `begins`, details whose value begins so; `whole`,
 * sides whose headers are all known. */
function report(details, more = {}) {
  process.stdout.write(`${JSON.stringify({ details, ...more })}\n`);
}

module.exports = { seeded, target, headers, report };
