// The list of calls: at most ROWS_MAX of them, redrawn at most every REDRAW_MS.

import { writeAddress } from './address.js';
import { complain } from './alerts.js';
import { get, wanted } from './api.js';
import { $, choosable, make } from './dom.js';
import { bytes, clock, fullTime, methodText, moment, statusBadge, thousands, took, urlParts } from './format.js';
import { showCoverage, showExports, showFilterError } from './search.js';
import { connect, disconnect, setLink, showState } from './stream.js';
import { ROWS_MAX, view } from './view.js';

const PAGE_ROWS = 200;
const FLASH_ROWS = 20;
const REDRAW_MS = 100;
const RETRY_MS = 3000;
const LAGGED_MS = 500;
const ANNOUNCE_MS = 5000;

export const body = $('calls').tBodies[0];

function cell(className, content, title) {
  const td = make('td', className);
  if (typeof content === 'string') td.textContent = content;
  else td.append(...[content].flat());
  if (title) td.title = title;
  return td;
}

function makeRow(call) {
  const row = make('tr');
  row.dataset.id = call.id;
  row.tabIndex = -1;
  if (call.id === view.selected) row.setAttribute('aria-current', 'true');
  const time = cell('c-time', clock(moment(call)), fullTime(moment(call)));
  const slow = call.interval_ms !== null && call.interval_ms >= 1000 ? ' slow' : '';
  row.append(
    time,
    cell('c-method', choosable(methodText(call.method), 'method', call.method)),
    cell('c-url', urlParts(call), call.url),
    cell('c-status', choosable(statusBadge(call.status), 'status', call.status)),
    cell(`c-took num${slow}`, took(call.interval_ms)),
    cell('c-size num', bytes(call.response_bytes)),
    cell('c-type', choosable(make('span', '', call.content_type || '–'), 'content_type', call.content_type), call.content_type),
    cell('c-note', call.note, call.note),
  );
  view.rows.set(call.id, row);
  return row;
}

function dropRow(call) {
  view.rows.get(call.id)?.remove();
  view.rows.delete(call.id);
}

/** Puts calls (newest first) on top and removes the oldest ones past ROWS_MAX. */
function prepend(calls, fresh) {
  const known = calls.filter((call) => !view.rows.has(call.id)).slice(0, ROWS_MAX);
  if (!known.length) return;
  const scroll = $('scroll');
  const before = scroll.scrollHeight;
  const rows = document.createDocumentFragment();
  for (const call of known) {
    const row = makeRow(call);
    if (fresh) row.classList.add('new');
    rows.append(row);
  }
  body.prepend(rows);
  view.calls.unshift(...known);
  // A reader further down keeps the same calls in view.
  if (!view.follow && scroll.scrollTop > 0) scroll.scrollTop += scroll.scrollHeight - before;
  if (view.follow) scroll.scrollTop = 0;
  for (const call of view.calls.splice(ROWS_MAX)) {
    dropRow(call);
    view.next = null;
  }
}

function append(calls) {
  const known = calls.filter((call) => !view.rows.has(call.id)).slice(0, ROWS_MAX - view.calls.length);
  const rows = document.createDocumentFragment();
  for (const call of known) rows.append(makeRow(call));
  body.append(rows);
  view.calls.push(...known);
}

function replace(calls) {
  view.rows.clear();
  view.calls = [];
  body.replaceChildren();
  append(calls);
  if (view.follow) $('scroll').scrollTop = 0;
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
  $('calls').hidden = none;
  $('tail').hidden = none && view.next === null;
  $('older').hidden = view.next === null || view.calls.length >= ROWS_MAX;
  $('older').textContent = view.timedOut ? 'Search further back' : 'Older calls';
  $('tail-text').textContent = tailText();
  $('found').textContent = searching ? foundText() : '';
  $('fresh').hidden = !view.missed || (view.follow && !view.paused);
  moveTabStop();
  $('fresh').textContent = view.stale && searching ? '↑ new calls' : `↑ ${thousands(view.missed)} new ${view.missed === 1 ? 'call' : 'calls'}`;
  showState();
}

/** The Tab key reaches the list at one row: the selected one, else the newest. */
export function moveTabStop() {
  const row = view.rows.get(view.selected) ?? body.rows[0];
  if (row === view.tabStop) return;
  if (view.tabStop) view.tabStop.tabIndex = -1;
  if (row) row.tabIndex = 0;
  view.tabStop = row;
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
  if (arrived.length < PAGE_ROWS) {
    prepend(arrived, arrived.length < FLASH_ROWS);
  } else if (view.follow) {
    // More than anybody reads between two redraws: a new list costs less than a long one that scrolls by.
    replace(arrived.slice(0, PAGE_ROWS));
    view.next = view.calls.at(-1).id;
  } else {
    view.stale = true;
  }
}

function foundText() {
  const more = view.next !== null || view.calls.length >= ROWS_MAX ? '+' : '';
  return `${thousands(view.calls.length)}${more} found`;
}

function tailText() {
  if (view.calls.length >= ROWS_MAX) return `The newest ${thousands(ROWS_MAX)} are shown; the filter searches all.`;
  if (view.timedOut) return 'The search takes long; not all calls were examined yet.';
  return view.next === null ? 'End of the list.' : '';
}

let listing = 0;

/** Fetches the newest calls that match the filter, then follows the stream behind them. */
export async function refetch() {
  const mine = ++listing;
  disconnect();
  try {
    const parameters = wanted();
    parameters.set('limit', PAGE_ROWS);
    const page = await get(`/api/v1/calls?${parameters}`);
    if (mine !== listing) return;
    showFilterError(null);
    showCoverage(page.coverage);
    view.arrived = [];
    view.missed = 0;
    view.stale = false;
    view.newest = page.newest;
    view.next = page.next;
    view.timedOut = page.timed_out;
    replace(page.calls);
    if (view.stored === null || view.calls.length) view.stored = Math.max(view.stored ?? 0, page.calls.length);
    complain('list', null);
    openStream();
    redraw();
  } catch (error) {
    if (mine !== listing) return;
    if (error.answer?.position !== undefined) {
      // The list stays as it was, and the stream too, until the filter can be read.
      showFilterError(error.answer);
      return;
    }
    complain('list', `The list cannot be read: ${error.message}`);
    setLink('lost');
    setTimeout(() => mine === listing && refetch(), RETRY_MS);
  }
}

let refetchTimer = null;

/** During a flood each list is outdated at once; a new one every LAGGED_MS is as many as anybody can read. */
function refetchSoon() {
  refetchTimer ??= setTimeout(() => {
    refetchTimer = null;
    if (!view.paused && view.follow) refetch();
  }, LAGGED_MS);
}

export async function older() {
  const mine = listing;
  $('older').disabled = true;
  try {
    const parameters = wanted();
    parameters.set('limit', PAGE_ROWS);
    parameters.set('before', view.next);
    const page = await get(`/api/v1/calls?${parameters}`);
    if (mine !== listing) return;
    view.next = page.next;
    view.timedOut = page.timed_out;
    append(page.calls);
  } catch (error) {
    complain('list', `Older calls cannot be read: ${error.message}`);
  } finally {
    $('older').disabled = false;
    redraw();
  }
}

/** Opens the stream behind the list. */
function openStream() {
  connect({ calls: takeCalls, lagged: takeLagged, refused: refetch });
}

function takeCalls(calls) {
  if (view.paused || view.stale) {
    view.missed += calls.length;
  } else {
    view.arrived = calls.concat(view.arrived).slice(0, ROWS_MAX);
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
  else if (view.paused) openStream();
  else refetch();
});

export function setFollow(follow) {
  view.follow = follow;
  $('follow').setAttribute('aria-pressed', String(follow));
  if (follow) toTop();
}

function toTop() {
  $('scroll').scrollTop = 0;
  if (view.paused) return;
  if (view.stale) {
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
