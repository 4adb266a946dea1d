// The page of the store: a live list, a filter, one call in full.
//
// Everything captured reaches the document through textContent and attributes set on elements made here; the page's
// policy (trusted types) forbids the browser anything else. The list holds ROWS_MAX calls and is redrawn at most every
// REDRAW_MS.
'use strict';

const ROWS_MAX = 1000;
const PAGE_ROWS = 200;
const FLASH_ROWS = 20;
const REDRAW_MS = 100;
const STATUS_MS = 2000;
const TYPING_MS = 200;
const RETRY_MS = 3000;
const LAGGED_MS = 500;
const ANNOUNCE_MS = 5000;
const TEXT_CHARS_MAX = 200_000;
const COLOUR_CHARS_MAX = 60_000;

const $ = (id) => document.getElementById(id);
const body = $('calls').tBodies[0];

const view = {
  calls: [], // newest first, as in the table
  rows: new Map(), // id → row
  arrived: [], // newest first, waiting for the next redraw
  stale: false, // calls are missing between the list and the newest
  unannounced: 0,
  tabStop: null,
  missed: 0, // calls that came while paused or out of sight
  newest: 0, // id up to which the list is complete
  next: null, // where older calls begin
  timedOut: false,
  selected: null,
  open: null,
  filter: '',
  paused: false,
  follow: true,
  stored: null,
  captureUrl: null,
};

// ---- small parts -------------------------------------------------------------------------------------------------

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, '\u202f');

function bytes(n) {
  if (n === null || n === undefined) return '–';
  if (n < 1000) return `${n} B`;
  for (const unit of ['kB', 'MB', 'GB']) {
    n /= 1000;
    if (n < 999.5 || unit === 'GB') return `${n < 9.95 ? n.toFixed(1) : Math.round(n)} ${unit}`;
  }
}

function took(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

const two = (n) => String(n).padStart(2, '0');

function clock(ms) {
  const date = new Date(ms);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, '0')}`;
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${two(date.getMonth() + 1)}-${two(date.getDate())} ${time.slice(0, 8)}`;
}

function fullTime(ms) {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString().replace('T', ' ').replace('Z', ' UTC');
}

const moment = (call) => call.now_ms ?? call.received_ms;

const REASONS = {
  200: 'OK', 201: 'Created', 202: 'Accepted', 204: 'No Content', 206: 'Partial Content', 301: 'Moved Permanently', 302: 'Found',
  303: 'See Other', 304: 'Not Modified', 307: 'Temporary Redirect', 308: 'Permanent Redirect', 400: 'Bad Request', 401: 'Unauthorized',
  403: 'Forbidden', 404: 'Not Found', 405: 'Method Not Allowed', 408: 'Request Timeout', 409: 'Conflict', 410: 'Gone',
  413: 'Content Too Large', 415: 'Unsupported Media Type', 422: 'Unprocessable Content', 429: 'Too Many Requests',
  500: 'Internal Server Error', 501: 'Not Implemented', 502: 'Bad Gateway', 503: 'Service Unavailable', 504: 'Gateway Timeout',
  101: 'Switching Protocols',
};
const CLASSES = { 1: 'information', 2: 'success', 3: 'redirection', 4: 'client error', 5: 'server error' };

function statusBadge(status) {
  const badge = make('span', 'status', status === null ? 'none' : String(status));
  const kind = status === null ? 0 : Math.floor(status / 100);
  badge.dataset.class = String(kind);
  badge.title = status === null ? 'no status in this call' : [REASONS[status], CLASSES[kind]].filter(Boolean).join(', ');
  return badge;
}

function methodText(method) {
  const span = make('span', 'method', method || '–');
  span.dataset.method = method;
  return span;
}

function urlParts(call) {
  if (!call.host && !call.path) return [make('span', 'path', call.url || '(no URL)')];
  return [make('span', 'host', call.host), make('span', 'path', call.path || '/')];
}

async function get(path) {
  const response = await fetch(path, { cache: 'no-store' });
  const answer = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) throw new Error(answer.error || response.statusText);
  return answer;
}

// ---- list --------------------------------------------------------------------------------------------------------

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
    cell('c-method', methodText(call.method)),
    cell('c-url', urlParts(call), call.url),
    cell('c-status', statusBadge(call.status)),
    cell(`c-took num${slow}`, took(call.interval_ms)),
    cell('c-size num', bytes(call.response_bytes)),
    cell('c-type', call.content_type || '–', call.content_type),
    cell('c-note', call.note, call.note),
  );
  view.rows.set(call.id, row);
  return row;
}

function dropRow(call) {
  view.rows.get(call.id)?.remove();
  view.rows.delete(call.id);
}

/** Puts calls (newest first) on top, and lets the oldest go. */
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
  // Who reads further down keeps the same calls before the eyes.
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

function redrawSoon() {
  if (redrawTimer !== null) return;
  const wait = Math.max(0, lastRedraw + REDRAW_MS - performance.now());
  redrawTimer = setTimeout(() => {
    redrawTimer = null;
    lastRedraw = performance.now();
    redraw();
  }, wait);
}

function redraw() {
  const arrived = view.arrived.splice(0);
  if (arrived.length) showArrived(arrived);
  const none = !view.calls.length;
  const searching = view.filter !== '';
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

/** The Tab key reaches the list at one row: the chosen one, else the newest. */
function moveTabStop() {
  const row = view.rows.get(view.selected) ?? body.rows[0];
  if (row === view.tabStop) return;
  if (view.tabStop) view.tabStop.tabIndex = -1;
  if (row) row.tabIndex = 0;
  view.tabStop = row;
}

let announced = 0;

/** Tells who cannot see the list that it grew, at most every ANNOUNCE_MS. */
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
    // More than anybody reads in between: a new list costs less than a long one that scrolls by.
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
  if (view.timedOut) return 'The search takes long; not everything was looked at yet.';
  return view.next === null ? 'These are all.' : '';
}

let listing = 0;

/** Fetches the newest calls of the filter, then listens from there on. */
async function refetch() {
  const mine = ++listing;
  disconnect();
  try {
    const page = await get(`/api/v1/calls?limit=${PAGE_ROWS}&filter=${encodeURIComponent(view.filter)}`);
    if (mine !== listing) return;
    view.arrived = [];
    view.missed = 0;
    view.stale = false;
    view.newest = page.newest;
    view.next = page.next;
    view.timedOut = page.timed_out;
    replace(page.calls);
    if (view.stored === null || view.calls.length) view.stored = Math.max(view.stored ?? 0, page.calls.length);
    complain('list', null);
    connect();
    redraw();
  } catch (error) {
    if (mine !== listing) return;
    complain('list', `The list cannot be read: ${error.message}`);
    setLink('lost');
    setTimeout(() => mine === listing && refetch(), RETRY_MS);
  }
}

let refetchTimer = null;

/** Under a flood every list is old at once; a new one every LAGGED_MS is as much as an eye can use. */
function refetchSoon() {
  refetchTimer ??= setTimeout(() => {
    refetchTimer = null;
    if (!view.paused && view.follow) refetch();
  }, LAGGED_MS);
}

async function older() {
  const mine = listing;
  $('older').disabled = true;
  try {
    const page = await get(`/api/v1/calls?limit=${PAGE_ROWS}&before=${view.next}&filter=${encodeURIComponent(view.filter)}`);
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

// ---- stream ------------------------------------------------------------------------------------------------------

let source = null;
let link = 'connecting';

function disconnect() {
  source?.close();
  source = null;
}

function connect() {
  disconnect();
  if (document.hidden) return;
  const mine = new EventSource(`/api/v1/stream?after=${view.newest}&filter=${encodeURIComponent(view.filter)}`);
  source = mine;
  mine.onopen = () => setLink('live');
  mine.addEventListener('calls', (event) => {
    view.newest = Number(event.lastEventId);
    const { calls } = JSON.parse(event.data);
    if (view.paused || view.stale) {
      view.missed += calls.length;
    } else {
      view.arrived = calls.concat(view.arrived).slice(0, ROWS_MAX);
      view.stored = Math.max(view.stored ?? 0, 1);
    }
    redrawSoon();
  });
  mine.addEventListener('lagged', (event) => {
    // There is a hole above the list now. Who follows gets a new list; who reads keeps the old one until asked.
    const newest = Number(event.lastEventId);
    view.missed += Math.max(0, newest - view.newest);
    view.newest = newest;
    view.stale = true;
    view.arrived = [];
    if (!view.paused && view.follow) refetchSoon();
    redrawSoon();
  });
  mine.onerror = () => {
    setLink('lost');
    // The browser comes again by itself unless it was sent away.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => source === mine && refetch(), RETRY_MS);
  };
}

function setLink(state) {
  link = state;
  showState();
}

function showState() {
  const state = link === 'live' && view.paused ? 'paused' : link;
  const text = { live: 'live', paused: 'paused', lost: 'reconnecting', connecting: 'connecting' }[state];
  $('state').dataset.state = state;
  if ($('state-text').textContent !== text) $('state-text').textContent = text;
}

// A browser opens six connections to a host; tabs out of sight must not hold them.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) disconnect();
  else if (view.paused) connect();
  else refetch();
});

// ---- totals ------------------------------------------------------------------------------------------------------

let lastTotals = null;

async function totals() {
  if (!document.hidden) {
    try {
      showTotals(await get('/api/v1/status'));
      complain('status', null);
    } catch {
      complain('status', 'The store does not answer. It commits before it acknowledges, so nothing it took is lost.');
    }
  }
  setTimeout(totals, STATUS_MS);
}

function showTotals(status) {
  const now = performance.now();
  if (lastTotals && status.calls_received >= lastTotals.received) {
    const rate = (status.calls_received - lastTotals.received) / ((now - lastTotals.at) / 1000);
    $('total-rate').textContent = rate > 0 && rate < 10 ? `${rate.toFixed(1)} calls/s` : `${thousands(Math.round(rate))} calls/s`;
  }
  lastTotals = { received: status.calls_received, at: now };
  $('total-calls').textContent = `${thousands(status.calls)} ${status.calls === 1 ? 'call' : 'calls'}`;
  $('total-calls').title = `since ${fullTime(status.since_ms)}; the newest ${thousands(status.calls_max)} are kept`;
  $('total-bytes').textContent = bytes(status.database_bytes);
  $('total-bytes').title = `of ${bytes(status.database_bytes_max)}; past that the oldest calls make room`;
  $('total-bad-box').hidden = status.bad_lines === 0;
  $('total-bad').textContent = `${thousands(status.bad_lines)} ${status.bad_lines === 1 ? 'line' : 'lines'}`;
  $('total-bad').title = 'lines of bundles that were no JSON array of pairs';
  $('total-expired-box').hidden = status.calls_expired === 0;
  $('total-expired').textContent = thousands(status.calls_expired);
  $('total-expired').title = 'calls that made room for newer ones';
  $('empty-url').textContent = status.capture_url;
  complain('write', status.write_error && `The database cannot be written: ${status.write_error}. Senders are told to try again.`);
  if (view.stored !== status.calls) {
    view.stored = status.calls;
    redrawSoon();
  }
}

const complaints = new Map();

function complain(what, text) {
  if (text) complaints.set(what, text);
  else complaints.delete(what);
  const joined = [...complaints.values()].join(' ');
  $('alert').hidden = !joined;
  if ($('alert').textContent !== joined) $('alert').textContent = joined;
}

// ---- detail ------------------------------------------------------------------------------------------------------

let detailing = 0;

async function openCall(id, takeFocus) {
  const mine = ++detailing;
  view.open = id;
  writeAddress();
  document.body.classList.add('with-detail');
  $('detail').hidden = false;
  $('detail').dataset.id = id;
  try {
    const call = await get(`/api/v1/calls/${id}`);
    if (mine !== detailing) return;
    showCall(call);
  } catch (error) {
    if (mine !== detailing) return;
    $('detail-title').replaceChildren(`Call ${id}`);
    $('detail-body').replaceChildren(make('p', 'facts dim', `It cannot be shown: ${error.message}`));
  }
  if (takeFocus) $('detail').focus({ preventScroll: true });
  view.rows.get(view.selected)?.scrollIntoView({ block: 'nearest' });
}

function closeCall() {
  if (view.open === null) return;
  detailing++;
  view.open = null;
  writeAddress();
  document.body.classList.remove('with-detail');
  $('detail').hidden = true;
  view.rows.get(view.selected)?.focus();
}

function showCall(call) {
  const of = (prefix) => call.details.filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key.slice(prefix.length), value]);
  const one = (key) => call.details.find(([name]) => name === key)?.[1];
  const requestType = of('request_header:').find(([name]) => name === 'content-type')?.[1] ?? '';
  const responseType = of('response_header:').find(([name]) => name === 'content-type')?.[1] ?? '';

  $('detail-title').replaceChildren(methodText(call.method), ' ', ...urlParts(call));
  const parts = [facts(call, one('host'))];
  const annotations = new Map(of('custom_field:'));
  parts.push(
    section('request', `${call.method} ${call.path || call.url}`, bytes(call.request_bytes), [
      fields('Parameters', of('request_param:')),
      fields('Headers', of('request_header:')),
      text('Body', one('request_body'), requestType),
    ]),
    section('response', call.status === null ? 'no status' : [call.status, REASONS[call.status]].filter(Boolean).join(' '), bytes(call.response_bytes), [
      fields('Headers', of('response_header:')),
      text('Body', one('response_body'), responseType),
    ]),
    section('timing', took(call.interval_ms), '', [timing(call, annotations)]),
  );
  if (annotations.size) parts.push(section('connection', connectionText(annotations), '', connection(annotations)));
  const session = of('session_field:');
  if (session.length) parts.push(section('session', `${session.length} fields`, '', [fields('Fields', session)]));
  parts.push(section('as-sent', `${thousands(call.line.length)} characters of NDJSON`, '', [text('Line', call.line, '', true)]));
  $('detail-body').replaceChildren(...parts);
  $('detail-body').scrollTop = 0;
}

function facts(call, logger) {
  const list = make('dl', 'facts');
  const fact = (name, content, title) => {
    if (content === undefined || content === '') return;
    const box = make('div');
    const value = make('dd');
    value.append(content);
    if (title) value.title = title;
    box.append(make('dt', '', name), value);
    list.append(box);
  };
  fact('status', statusBadge(call.status));
  fact('took', took(call.interval_ms));
  fact('time', clock(moment(call)), fullTime(moment(call)));
  fact('request', bytes(call.request_bytes));
  fact('response', bytes(call.response_bytes));
  fact('logger', logger);
  fact('note', call.note);
  fact('call', `#${call.id}`);
  return list;
}

const TITLES = { request: 'Request', response: 'Response', timing: 'Timing', connection: 'Connection', session: 'Session', 'as-sent': 'As sent' };
const folded = new Set(['as-sent']);

function section(name, subtitle, size, children) {
  const box = make('details');
  box.id = `detail-${name}`;
  box.open = !folded.has(name);
  // A section stays as the reader left it, for the next call too.
  box.addEventListener('toggle', () => (box.open ? folded.delete(name) : folded.add(name)));
  const summary = make('summary');
  summary.append(TITLES[name], make('span', 'dim mono', subtitle));
  if (size && size !== '–') summary.append(make('span', 'dim', size));
  box.append(summary, ...children.filter(Boolean));
  if (box.childElementCount === 1) box.append(make('p', 'dim', 'Nothing was sent about it.'));
  return box;
}

function fields(title, pairs) {
  if (!pairs.length) return null;
  const box = make('section');
  const table = make('table', 'fields');
  const rows = table.createTBody();
  for (const [name, value] of pairs) {
    const row = rows.insertRow();
    const head = make('th', '', name);
    head.scope = 'row';
    row.append(head, make('td', '', value));
  }
  if (title) box.append(heading(title, String(pairs.length)));
  box.append(table);
  return box;
}

function heading(title, aside) {
  const h3 = make('h3', '', title);
  if (aside) h3.append(make('span', 'dim', aside));
  h3.append(make('span', 'spring'));
  return h3;
}

const PHASES = [
  ['request', 'request_started', 'request_ended', 'first to last packet of the request'],
  ['wait', 'request_ended', 'response_started', 'until the first packet of the response'],
  ['response', 'response_started', 'response_ended', 'first to last packet of the response'],
];

/** Nanoseconds since the epoch do not fit a number; differences do. */
function nanos(annotations, name) {
  const text = annotations.get(name);
  return text && /^\d+$/.test(text) ? BigInt(text) : null;
}

function span(ns) {
  if (ns < 1e6) return `${Math.round(ns / 1e3)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 1e7 ? 2 : 1)} ms`;
  return took(Math.round(ns / 1e6));
}

function timing(call, annotations) {
  const box = make('section');
  const phases = PHASES.map(([name, from, to, title]) => ({ name, title, from: nanos(annotations, from), to: nanos(annotations, to) }));
  const known = phases.filter((phase) => phase.from !== null && phase.to !== null);
  if (known.length) {
    box.append(bar(known));
  } else if (call.interval_ms !== null) {
    box.append(make('p', 'dim', `${took(call.interval_ms)} from the first packet of the request to the first of the response.`));
  }
  const times = [['stored', fullTime(call.received_ms)]];
  if (call.now_ms !== null) times.unshift(['response began', fullTime(call.now_ms)]);
  if (call.now_ms !== null && call.interval_ms !== null) times.unshift(['request began', fullTime(call.now_ms - call.interval_ms)]);
  box.append(fields('', times));
  return box;
}

function bar(phases) {
  const start = phases.reduce((least, phase) => (phase.from < least ? phase.from : least), phases[0].from);
  const end = phases.reduce((most, phase) => (phase.to > most ? phase.to : most), phases[0].to);
  const whole = Math.max(1, Number(end - start));
  const box = make('div');
  const line = make('div', 'bar');
  const legend = make('dl', 'legend');
  for (const phase of phases) {
    const length = Math.max(0, Number(phase.to - phase.from));
    const part = make('i', phase.name);
    part.style.left = `${(100 * Number(phase.from - start)) / whole}%`;
    part.style.width = `${(100 * length) / whole}%`;
    line.append(part);
    const entry = make('div');
    entry.title = phase.title;
    entry.append(make('dt', phase.name, phase.name), make('dd', '', span(length)));
    legend.append(entry);
  }
  line.setAttribute('aria-hidden', 'true');
  box.append(line, legend);
  return box;
}

function connectionText(annotations) {
  const end = (side) => {
    const address = annotations.get(`${side}_address`);
    if (!address) return '?';
    return `${address.includes(':') ? `[${address}]` : address}:${annotations.get(`${side}_port`) ?? '?'}`;
  };
  return annotations.has('client_address') || annotations.has('server_address') ? `${end('client')} → ${end('server')}` : '';
}

/** Every annotation as it was sent, and the way to the other calls of the connection. */
function connection(annotations) {
  const rows = [...annotations].filter(([name]) => !/_(started|ended)$/.test(name)).map(([name, value]) => [name.replaceAll('_', ' '), value]);
  const parts = rows.length ? [fields('', rows)] : [];
  const id = annotations.get('connection_id');
  if (id) {
    const others = make('button', 'more', 'Show the calls of this connection');
    others.type = 'button';
    others.addEventListener('click', () => {
      $('filter').value = id;
      setFilter(id);
    });
    parts.push(others);
  }
  return parts;
}

/** A body or the line: raw as it was sent, JSON also laid out. */
function text(title, value, type, rawFirst) {
  if (value === undefined) return null;
  const box = make('section');
  const head = heading(title, type);
  const pre = make('pre', 'text');
  pre.tabIndex = 0;
  pre.setAttribute('aria-label', title);
  box.append(head, pre);

  let pretty = !rawFirst;
  let all = false;
  const json = looksLikeJson(value);
  const show = () => {
    const chosen = json && pretty ? layout(value) : value;
    const shown = all ? chosen : chosen.slice(0, TEXT_CHARS_MAX);
    if (json && shown.length <= COLOUR_CHARS_MAX) pre.replaceChildren(...coloured(shown));
    else pre.textContent = shown;
    more.hidden = shown.length === chosen.length;
    more.textContent = `Show all ${thousands(chosen.length)} characters`;
  };
  const more = make('button', 'more');
  more.type = 'button';
  more.addEventListener('click', () => { all = true; show(); });
  if (json) {
    const group = make('span', 'switch');
    group.setAttribute('role', 'group');
    group.setAttribute('aria-label', `${title}: how it is laid out`);
    const buttons = [['Pretty', true], ['Raw', false]].map(([name, value]) => {
      const button = make('button', '', name);
      button.type = 'button';
      button.dataset.layout = name.toLowerCase();
      button.addEventListener('click', () => { pretty = value; press(); show(); });
      group.append(button);
      return [button, value];
    });
    const press = () => buttons.forEach(([button, value]) => button.setAttribute('aria-pressed', String(pretty === value)));
    press();
    head.append(group);
  }
  const copy = make('button', 'copy', 'Copy');
  copy.type = 'button';
  copy.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(value);
      copy.textContent = 'Copied';
    } catch {
      copy.textContent = 'Not allowed here';
    }
    setTimeout(() => (copy.textContent = 'Copy'), 1500);
  });
  head.append(copy);
  box.append(more);
  show();
  return box;
}

function looksLikeJson(value) {
  if (!/^\s*[[{]/.test(value)) return false;
  try {
    JSON.parse(value);
    return true;
  } catch {
    return false;
  }
}

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** Indents JSON without touching its tokens: a number keeps all of its digits, a string its escapes. */
function layout(json) {
  const out = [];
  let depth = 0;
  let last = '';
  const line = () => out.push('\n', '  '.repeat(depth));
  for (const [token] of json.matchAll(TOKENS)) {
    if (token === '}' || token === ']') {
      depth--;
      if (last !== '{' && last !== '[') line();
      out.push(token);
    } else {
      if (last === '{' || last === '[' || last === ',') line();
      out.push(token === ':' ? ': ' : token);
      if (token === '{' || token === '[') depth++;
    }
    last = token;
  }
  return out.join('');
}

/** The same text in pieces with a class each. */
function coloured(json) {
  const nodes = [];
  let at = 0;
  for (const match of json.matchAll(TOKENS)) {
    const [token] = match;
    if ('{}[],:'.includes(token)) continue;
    const end = match.index + token.length;
    const isKey = token.startsWith('"') && /^\s*:/.test(json.slice(end, end + 8));
    const kind = isKey ? 'j-key' : token.startsWith('"') ? 'j-string' : /^[-\d]/.test(token) ? 'j-number' : 'j-word';
    nodes.push(json.slice(at, match.index), make('span', kind, token));
    at = end;
  }
  nodes.push(json.slice(at));
  return nodes;
}

// ---- selection, keys, address ------------------------------------------------------------------------------------

function select(id) {
  view.rows.get(view.selected)?.removeAttribute('aria-current');
  view.selected = id;
  const row = view.rows.get(id);
  row?.setAttribute('aria-current', 'true');
  row?.focus({ preventScroll: true });
  row?.scrollIntoView({ block: 'nearest' });
  moveTabStop();
}

function move(by) {
  if (!view.calls.length) return;
  const at = view.calls.findIndex((call) => call.id === view.selected);
  const to = at < 0 ? 0 : Math.min(view.calls.length - 1, Math.max(0, at + by));
  if (to > 0) setFollow(false);
  select(view.calls[to].id);
  if (view.open !== null) openCall(view.selected, false);
}

function setFollow(follow) {
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

function setPaused(paused) {
  view.paused = paused;
  $('pause').setAttribute('aria-pressed', String(paused));
  $('pause-text').textContent = paused ? 'Resume' : 'Pause';
  if (paused) redraw();
  else refetch();
}

function setFilter(filter) {
  view.filter = filter.trim();
  writeAddress();
  refetch();
}

function writeAddress() {
  const query = view.filter ? `?filter=${encodeURIComponent(view.filter)}` : '';
  history.replaceState(null, '', `${location.pathname}${query}${view.open === null ? '' : `#call=${view.open}`}`);
  document.title = view.filter ? `${view.filter} – sniffer` : 'sniffer';
}

function readAddress() {
  view.filter = (new URLSearchParams(location.search).get('filter') ?? '').trim();
  $('filter').value = view.filter;
  const call = Number(/^#call=(\d+)$/.exec(location.hash)?.[1]);
  if (call) {
    view.selected = call;
    openCall(call, false);
  }
}

const KEYS = {
  '/': () => $('filter').select(),
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  Enter: () => {
    const id = Number(document.activeElement.closest('#calls tr')?.dataset.id) || view.selected;
    if (id === null) return;
    select(id);
    openCall(id, true);
  },
  Escape: closeCall,
  p: () => setPaused(!view.paused),
  f: () => setFollow(!view.follow),
  g: () => { if (view.calls.length) { setFollow(true); select(view.calls[0].id); } },
  '?': () => $('help').showModal(),
};

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $('help').open) return;
  const at = event.target;
  if (at === $('filter')) {
    if (event.key !== 'Escape' && event.key !== 'Enter') return;
    // The browser would empty the field on Escape, and the list would not follow.
    event.preventDefault();
    at.blur();
    return;
  }
  // What has the focus keeps the keys that it understands itself.
  if (at.closest('button, summary, a') && (event.key === 'Enter' || event.key === ' ')) return;
  if (at.closest('#detail') && event.key.startsWith('Arrow')) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

body.addEventListener('click', (event) => {
  const id = Number(event.target.closest('tr')?.dataset.id);
  if (!id) return;
  select(id);
  openCall(id, false);
});

let typing = null;
$('filter').addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(() => setFilter($('filter').value), TYPING_MS);
});
$('clear').addEventListener('click', () => { $('filter').value = ''; setFilter(''); $('filter').focus(); });
$('pause').addEventListener('click', () => setPaused(!view.paused));
$('follow').addEventListener('click', () => setFollow(!view.follow));
$('older').addEventListener('click', older);
$('fresh').addEventListener('click', () => (view.paused ? setPaused(false) : setFollow(true)));
$('detail-close').addEventListener('click', closeCall);
$('help-open').addEventListener('click', () => $('help').showModal());
$('scroll').addEventListener('scroll', () => {
  const top = $('scroll').scrollTop < 4;
  if (!top && view.follow) setFollow(false);
  if (top && !view.follow && view.missed) setFollow(true);
}, { passive: true });

const THEMES = ['auto', 'light', 'dark'];

function setTheme(theme) {
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $('theme').textContent = theme[0].toUpperCase() + theme.slice(1);
  try { localStorage.setItem('theme', theme); } catch { /* a browser without storage forgets the choice */ }
}

function storedTheme() {
  try { return THEMES.includes(localStorage.getItem('theme')) ? localStorage.getItem('theme') : 'auto'; } catch { return 'auto'; }
}

$('theme').addEventListener('click', () => setTheme(THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length]));

setTheme(storedTheme());
readAddress();
refetch();
totals();
