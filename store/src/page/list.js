// The calls of the list, as long as it may be: a part of it without a hole is in memory, CALLS_HELD at most. It grows at either end as
// it is scrolled, and begins anew where another time is wanted. Redrawn at most every REDRAW_MS.

import { writeAddress } from './address.js';
import { complain } from './alerts.js';
import { get, wanted } from './api.js';
import { $ } from './dom.js';
import { thousands } from './format.js';
import { clear, inView, mark, reveal, rowHeight, show } from './grid.js';
import { showCoverage, showExports, showFilterError } from './search.js';
import { connect, disconnect, setLink, showState } from './stream.js';
import { CALLS_HELD, view } from './view.js';

const PAGE_CALLS = 200;
const FLASH_CALLS = 20;
const REDRAW_MS = 100;
const RETRY_MS = 3000;
const LAGGED_MS = 500;
const ANNOUNCE_MS = 5000;

/** Calls between the view and an end of what is in memory, from which on more are fetched. */
const SPARE_CALLS = 80;

/** Calls of one answer when those before the first are looked for, and how often. */
const NEWER_CALLS = 1000;
const NEWER_TRIES = 24;

/** A fresh answer for `refetch`, `older`, `newer` and `jump` makes those before outdated. */
let listing = 0;

/** Another list in memory makes answers for the ends of the one before outdated, also of those that were asked for since `listing`. */
let held = 0;
let growing = false;
let failed = -Infinity;

const listeners = { changed: [], scrolled: [] };

/** Registers what is called when the list is another one, and when another part of it is in view. */
export function onList(on) {
  for (const name of Object.keys(on)) listeners[name].push(on[name]);
}

const report = (name) => listeners[name].forEach((listener) => listener());

function unknown(calls) {
  return calls.filter((call) => !view.ids.has(call.id) && view.ids.add(call.id));
}

function forget(calls) {
  for (const call of calls) view.ids.delete(call.id);
}

/** Puts calls (newest first) on top; a reader further down keeps the same calls in view. */
function prepend(calls) {
  const more = unknown(calls);
  if (!more.length) return 0;
  const scroll = $('scroll');
  view.calls.unshift(...more);
  const dropped = view.calls.splice(CALLS_HELD);
  forget(dropped);
  if (dropped.length) {
    view.next = view.calls.at(-1).id;
    view.timedOut = false;
  }
  const isAtTop = view.follow && !view.ahead;
  // The rows have to be as high as the calls before the list can be scrolled that far.
  show(isAtTop && more.length < FLASH_CALLS ? more.length : 0);
  if (isAtTop) scroll.scrollTop = 0;
  else scroll.scrollTop += more.length * rowHeight();
  show();
  return more.length;
}

function append(calls) {
  view.calls.push(...unknown(calls));
  const extra = view.calls.length - CALLS_HELD;
  if (extra > 0) {
    forget(view.calls.splice(0, extra));
    view.ahead = true;
    $('scroll').scrollTop -= extra * rowHeight();
  }
  show();
}

function replace(calls) {
  held += 1;
  clear();
  view.calls = [];
  view.ids.clear();
  $('scroll').scrollTop = 0;
  append(calls);
}

let lastRedraw = 0;
let redrawTimer = null;

export function redrawSoon() {
  if (redrawTimer !== null) return;
  const wait = Math.max(0, lastRedraw + REDRAW_MS - performance.now());
  redrawTimer = setTimeout(() => {
    redrawTimer = null;
    lastRedraw = performance.now();
    redraw();
  }, wait);
}

export function redraw() {
  const arrived = view.arrived.splice(0);
  if (arrived.length) showArrived(arrived);
  const none = !view.calls.length;
  const searching = wanted().size > 0;
  $('empty').hidden = !(none && !searching && view.stored === 0);
  $('none').hidden = !(none && searching && !view.timedOut && view.next === null);
  $('none-range').hidden = !view.from && !view.to;
  document.body.classList.toggle('no-calls', none && !searching);
  $('calls').hidden = none;
  $('rail').hidden = none;
  $('tail').hidden = none && view.next === null;
  $('older').hidden = !view.timedOut;
  $('tail-text').textContent = tailText();
  $('found').textContent = searching ? foundText() : '';
  $('fresh').hidden = !(view.ahead || view.missed) || (view.follow && !view.paused && !view.ahead);
  const known = view.missed && !(view.stale && searching);
  $('fresh').textContent = known ? `↑ ${thousands(view.missed)} new ${view.missed === 1 ? 'call' : 'calls'}` : '↑ newest calls';
  showState();
  show();
  report('scrolled');
  growNearEnds();
}

let announced = 0;

/** Announces to screen readers that the list grew, at most every ANNOUNCE_MS. */
function announce(count) {
  view.unannounced += count;
  if (performance.now() - announced < ANNOUNCE_MS) return;
  announced = performance.now();
  $('announce').textContent = `${view.unannounced} new ${view.unannounced === 1 ? 'call' : 'calls'}`;
  view.unannounced = 0;
}

function showArrived(arrived) {
  announce(arrived.length);
  if (!view.follow) view.missed += arrived.length;
  if (arrived.length < PAGE_CALLS) {
    prepend(arrived);
  } else if (view.follow) {
    // More than anybody reads between two redraws: a new list costs less than a long one that scrolls by.
    replace(arrived.slice(0, PAGE_CALLS));
    view.next = view.calls.at(-1).id;
  } else {
    view.stale = true;
  }
}

function foundText() {
  const more = view.next !== null || view.ahead ? '+' : '';
  return `${thousands(view.calls.length)}${more} found`;
}

function tailText() {
  if (view.timedOut) return 'The search takes long; not all calls were examined yet.';
  return view.next === null ? 'End of the list.' : 'Older calls follow.';
}

function take(page) {
  view.next = page.next;
  view.timedOut = page.timed_out;
}

/** Fetches the calls of the list that are the newest, or those before a time, and follows the stream. */
async function list(before) {
  const mine = ++listing;
  disconnect();
  try {
    const parameters = wanted();
    parameters.set('limit', PAGE_CALLS);
    if (before !== undefined) parameters.set('to', String(before));
    const page = await get(`/api/v1/calls?${parameters}`);
    if (mine !== listing) return;
    showFilterError(null);
    view.ahead = before !== undefined;
    view.arrived = [];
    view.missed = 0;
    view.stale = false;
    view.newest = page.newest;
    take(page);
    if (!view.ahead) {
      view.coverage = page.coverage;
      showCoverage(page.coverage);
    }
    replace(page.calls);
    if (view.stored === null || view.calls.length) view.stored = Math.max(view.stored ?? 0, page.calls.length);
    complain('list', null);
    openStream();
    redraw();
    report('changed');
  } catch (error) {
    if (mine !== listing) return;
    if (error.answer?.position !== undefined) {
      // The list stays as it was, and the stream too, until the filter can be read.
      showFilterError(error.answer);
      return;
    }
    complain('list', `The list cannot be read: ${error.message}`);
    setLink('lost');
    setTimeout(() => mine === listing && list(before), RETRY_MS);
  }
}

/** The newest calls that match. */
export const refetch = () => list();

/** The calls at a time and before it. */
export function jump(time) {
  follow(false);
  return list(Math.round(time) + 1);
}

let refetchTimer = null;

/** During a flood each list is outdated at once; a new one every LAGGED_MS is as many as anybody can read. */
function refetchSoon() {
  refetchTimer ??= setTimeout(() => {
    refetchTimer = null;
    if (!view.paused && view.follow) refetch();
  }, LAGGED_MS);
}

/** Lets one request at a time enlarge the list. */
async function grow(fetched) {
  if (growing) return;
  const mine = listing;
  const ends = held;
  const isOutdated = () => mine !== listing || ends !== held;
  growing = true;
  $('older').disabled = true;
  try {
    await fetched(isOutdated);
    complain('list', null);
  } catch (error) {
    failed = performance.now();
    complain('list', `Further calls cannot be read: ${error.message}`);
  } finally {
    growing = false;
    $('older').disabled = false;
  }
  if (!isOutdated()) redraw();
}

export const older = () => grow(async (isOutdated) => {
  const parameters = wanted();
  parameters.set('limit', PAGE_CALLS);
  parameters.set('before', view.next);
  const page = await get(`/api/v1/calls?${parameters}`);
  if (isOutdated()) return;
  take(page);
  append(page.calls);
});

/**
 * The calls directly before the first one. The API lists the newest first, so they are looked for in a slice of time behind it, which
 * becomes shorter where it has more calls than one answer, and longer where it has none.
 */
const newer = () => grow(async (isOutdated) => {
  const first = view.calls[0];
  const last = view.calls.at(-1);
  const limit = view.coverage?.to_ms ?? Infinity;
  let span = Math.max(1, ((first.time_ms - last.time_ms) * PAGE_CALLS) / view.calls.length);
  for (let tries = 0; tries < NEWER_TRIES; tries++) {
    const end = first.time_ms + 1 + Math.round(span);
    const isLast = end > Math.min(Date.now(), limit);
    const parameters = wanted();
    parameters.set('limit', NEWER_CALLS);
    parameters.set('after', first.id);
    if (!isLast) parameters.set('to', String(end));
    const page = await get(`/api/v1/calls?${parameters}`);
    if (isOutdated()) return;
    if (page.next !== null) {
      span /= 4;
    } else if (!page.calls.length && !isLast) {
      span *= 8;
    } else {
      view.ahead = !isLast;
      if (isLast) {
        view.newest = page.newest;
        view.missed = 0;
        view.stale = false;
        openStream();
      }
      prepend(page.calls);
      return;
    }
  }
  // So many calls at one time are not stepped through.
  refetch();
});

/** Fetches more where an end of what is in memory comes into view. */
export function growNearEnds() {
  if (!view.calls.length || growing || performance.now() < failed + RETRY_MS) return;
  const [first, last] = inView();
  if (view.ahead && first < SPARE_CALLS) newer();
  else if (view.next !== null && !view.timedOut && last > view.calls.length - SPARE_CALLS) older();
}

/** Opens the stream behind the list. */
function openStream() {
  connect({ calls: takeCalls, lagged: takeLagged, refused: refetch });
}

function takeCalls(calls) {
  if (view.paused || view.stale || view.ahead) {
    view.missed += calls.length;
  } else {
    view.arrived = calls.concat(view.arrived).slice(0, CALLS_HELD);
    view.stored = Math.max(view.stored ?? 0, 1);
  }
  redrawSoon();
}

/** Calls are missing on top of the list now. A reader who follows gets a new list; others keep the old one until they want a new one. */
function takeLagged(count) {
  view.missed += count;
  view.stale = true;
  view.arrived = [];
  if (!view.paused && view.follow) refetchSoon();
  redrawSoon();
}

// A browser opens at most six connections to a host; tabs out of sight must not hold them.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) disconnect();
  else if (view.paused || !view.follow) openStream();
  else refetch();
});

function follow(isOn) {
  view.follow = isOn;
  $('follow').setAttribute('aria-pressed', String(isOn));
}

export function setFollow(isOn) {
  follow(isOn);
  if (isOn) toTop();
}

function toTop() {
  $('scroll').scrollTop = 0;
  if (view.paused && !view.ahead) return;
  if (view.stale || view.ahead) {
    refetch();
    return;
  }
  view.missed = 0;
  redraw();
}

export function setPaused(paused) {
  view.paused = paused;
  $('pause').setAttribute('aria-pressed', String(paused));
  $('pause-text').textContent = paused ? 'Resume' : 'Pause';
  if (paused) redraw();
  else refetch();
}

export function setFilter(filter) {
  view.filter = filter.trim();
  writeAddress();
  showExports();
  refetch();
}

export function setRange(from, to) {
  view.from = from;
  view.to = to;
  writeAddress();
  showExports();
  refetch();
}

/** Selects a call of the list, which comes into view. */
export function select(id, takeFocus = true) {
  const index = view.calls.findIndex((call) => call.id === id);
  if (index >= 0) reveal(index);
  const row = mark(id);
  if (takeFocus) row?.focus({ preventScroll: true });
}

/** Selects the call so many rows further down. */
export function move(by) {
  if (!view.calls.length) return;
  const at = view.calls.findIndex((call) => call.id === view.selected);
  const to = at < 0 ? inView()[0] : Math.min(view.calls.length - 1, Math.max(0, at + by));
  if (to > 0) follow(false);
  select(view.calls[to].id);
  growNearEnds();
}

let scrolling = false;

$('scroll').addEventListener('scroll', () => {
  const top = $('scroll').scrollTop < 4;
  if (!top && view.follow) follow(false);
  if (top && !view.follow && view.missed && !view.ahead && !view.paused) setFollow(true);
  if (scrolling) return;
  scrolling = true;
  requestAnimationFrame(() => {
    scrolling = false;
    show();
    report('scrolled');
    growNearEnds();
  });
}, { passive: true });

new ResizeObserver(() => redrawSoon()).observe($('scroll'));
