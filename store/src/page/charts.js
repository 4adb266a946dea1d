// The pane of charts: calls by the class of their status, their latency, what is missing, and the calls by a field. Dragging over a
// chart chooses the range of time.

import { get, wanted } from './api.js';
import { chart } from './chart.js';
import { $, choosable, make } from './dom.js';
import { bytes, compact, localTime, percent, thousands, took } from './format.js';
import { onList, setRange } from './list.js';
import { plain } from './marks.js';
import { onPane } from './panes.js';
import { showRange } from './range.js';
import { view } from './view.js';

/** Pixels of one point. */
const POINT_PIXELS = 8;

const REFRESH_MS = 5000;

/** Range of an empty one: as the API has it. */
const GROUPS = 25;

const CLASSES = ['no status', '1xx', '2xx', '3xx', '4xx', '5xx'];
const QUANTILES = ['p50', 'p95', 'p99'];

/** Times in milliseconds, also small ones. */
const duration = (ms) => (ms < 10 ? `${Number(ms.toPrecision(2))} ms` : took(Math.round(ms)));

const range = (from, to) => {
  setRange(localTime(from), localTime(to));
  showRange();
};
const calls = chart('Calls per second', { range });
const latency = chart('Time from request to response', { range });
const missing = chart('Missing calls per minute, by stage and reason', { range });
$('charts-time').append(calls.figure, latency.figure, missing.figure);

/** The stage of each reason of the ledger. */
const STAGES = {
  memory: 'capture', overload: 'capture', refused: 'delivery', too_large: 'delivery', queue_full: 'delivery', shutdown: 'delivery', closed: 'delivery',
  spool_full: 'spool', spool_age: 'spool', spool_damaged: 'spool', discarded: 'spool', expired: 'store',
};

/** Kinds of the style sheet for reasons, in turn. */
const KINDS = 6;

let mine = 0;
let next = 0;

async function refresh() {
  if (view.pane !== 'charts' || document.hidden) return;
  const round = ++mine;
  next = Infinity;
  const start = performance.now();
  try {
    const wants = await parameters();
    const [stats, losses] = await Promise.all([get(`/api/v1/stats?${wants}`), get(`/api/v1/losses?${ofLosses(wants)}`)]);
    if (round !== mine) return;
    showSeries(stats);
    showMissing(losses);
    showLosses(stats.coverage);
    showGroups(stats);
    $('charts-note').textContent = note(stats);
  } catch (error) {
    if (round !== mine) return;
    $('charts-note').textContent = `The statistics cannot be read: ${error.message}`;
  }
  next = performance.now() + Math.max(REFRESH_MS, 9 * (performance.now() - start));
}

/** Without a range the charts show what is held, from the oldest call on. */
async function parameters() {
  const all = wanted();
  if (!view.from && view.coverage?.held_from_ms) all.set('from', String(view.coverage.held_from_ms));
  const { from_ms: asked, to_ms: end, held_from_ms: held } = view.coverage ?? {};
  const length = (end ?? Date.now()) - (asked ?? held ?? Date.now() - 3_600_000);
  const points = Math.max(20, Math.floor($('charts').clientWidth / 2 / POINT_PIXELS));
  all.set('step', `${Math.max(1000, Math.round(length / points))}ms`);
  all.set('by', $('charts-by').value);
  all.set('limit', String(GROUPS));
  return all;
}

function showSeries({ series, start_ms: start, step_ms: step }) {
  const seconds = step / 1000;
  const of = (index) => series.map(({ classes }) => classes[index] / seconds);
  calls.set({
    start, step, isStacked: true, format: compact,
    series: [2, 3, 1, 0, 4, 5].map((index) => ({ name: CLASSES[index], kind: `class-${index}`, values: of(index) })),
  });
  latency.set({
    start, step, isStacked: false, format: duration,
    series: QUANTILES.map((name) => ({ name, kind: name, values: series.map(({ took: times }) => times[name]) })),
  });
}

/** Losses have no filter: what is not there matches nothing. */
function ofLosses(wants) {
  const own = new URLSearchParams();
  for (const name of ['from', 'to', 'step']) if (wants.has(name)) own.set(name, wants.get(name));
  return own;
}

/** Calls that are missing over the time. */
function showMissing({ series, start_ms: start, step_ms: step }) {
  const minutes = step / 60_000;
  missing.figure.hidden = series.length === 0;
  const points = Math.max(0, ...series.map((one) => one.points.length));
  missing.set({
    start, step, isStacked: true, format: compact,
    series: series.map(({ value, points: counts }, index) => ({
      name: `${STAGES[value] ?? 'other'}: ${value.replaceAll('_', ' ')}`, kind: `kind-${index % KINDS}`,
      values: Array.from({ length: points }, (_, point) => (counts[point] ?? 0) / minutes),
    })),
  });
}

/** Calls that are missing, by cause. */
function showLosses({ lost, seen, kept }) {
  const rows = Object.entries(lost).filter(([, count]) => count > 0).sort(([, a], [, b]) => b - a);
  const most = Math.max(1, ...rows.map(([, count]) => count));
  $('charts-losses').replaceChildren(...rows.map(([cause, count]) => {
    const item = make('li');
    const meter = make('i');
    meter.style.width = `${(100 * count) / most}%`;
    item.append(meter, plain('span', 'value', cause.replaceAll('_', ' ')), make('span', 'count', `${thousands(count)} · ${percent(count, seen)}`));
    return item;
  }));
  $('charts-complete').textContent = rows.length
    ? `${thousands(kept)} of ${thousands(seen)} calls of this range are held.`
    : `No loss is recorded: all ${thousands(seen)} calls of this range are held.`;
}

const HEADS = ['calls', 'errors', 'p50', 'p95', 'p99', 'response'];

function showGroups({ by, groups, other, total }) {
  const head = make('tr');
  for (const title of [by, ...HEADS]) {
    const cell = make('th', title === by ? '' : 'num', title);
    cell.scope = 'col';
    head.append(cell);
  }
  $('charts-groups').tHead.replaceChildren(head);
  const rows = groups.map((group) => row(choosable(plain('span', '', group.value || '(none)'), by, group.value), group));
  if (other.calls) rows.push(row('all others', other));
  if (rows.length > 1) rows.push(row('together', total, 'sum'));
  $('charts-groups').tBodies[0].replaceChildren(...rows);
}

function row(name, measures, className) {
  const line = make('tr', className);
  const first = make('th');
  first.scope = 'row';
  first.append(name);
  const errors = measures.classes[5];
  const values = [
    thousands(measures.calls), errors ? percent(errors, measures.calls) : '–',
    ...QUANTILES.map((quantile) => (measures.took[quantile] === null ? '–' : duration(measures.took[quantile]))),
    measures.response_size.p50 === null ? '–' : bytes(Math.round(measures.response_size.p50)),
  ];
  line.append(first, ...values.map((value, index) => make('td', index === 1 && errors ? 'num slow' : 'num', value)));
  return line;
}

function note({ coverage, quantile_error: error, step_ms: step }) {
  const parts = [`One bar is ${took(step)}.`, `Quantiles are exact to ${percent(error, 1)}.`];
  if (coverage.partial) parts.push(`Not all is counted: ${coverage.partial}.`);
  return parts.join(' ');
}

onPane('charts', refresh);
onList({ changed: refresh });
$('charts-by').addEventListener('change', refresh);
setInterval(() => {
  if (!view.to && !view.paused && performance.now() > next) refresh();
}, 1000);
