// The pane of health: the ledger of calls, losses over the time, packets, delivery, ports, warnings, and the store.

import { onCapture } from './capture.js';
import { chart } from './chart.js';
import { $, make } from './dom.js';
import { fleetCard, onFleet, readFleet } from './fleet.js';
import { age, bytes, compact, fullTime, percent, thousands } from './format.js';
import { marked, plain } from './marks.js';
import { onPane } from './panes.js';
import { onTotals } from './status.js';
import { view } from './view.js';

/** Statuses that are kept for the chart: ten minutes. */
const SAMPLES = 300;

/** Fewer make no chart. */
const SAMPLES_LEAST = 4;

/** Kinds of the style sheet for the reasons of losses, in turn. */
const KINDS = 6;

const samples = [];
let totals = null;

const losses = chart('Losses per second, by stage and reason, while this page is open', {});
const flow = chart('Calls per second: captured and delivered', {});
$('health-charts').append(flow.figure, losses.figure);

const sum = (counts) => Object.values(counts ?? {}).reduce((total, count) => total + count, 0);

/** Losses by `stage: reason`, as the counters have them. */
function lost({ packets, calls, halves }) {
  const all = {};
  const add = (name, count) => { if (count > 0) all[name] = count; };
  add('ring: full (packets)', packets.dropped);
  for (const [reason, count] of Object.entries(calls.dropped)) add(`calls: ${reason.replaceAll('_', ' ')}`, count);
  for (const [reason, count] of Object.entries(halves)) add(`half calls: ${reason.replaceAll('_', ' ')}`, count);
  return all;
}

function sample(status) {
  const capture = status?.state === 'RUNNING' ? status.capture : null;
  const last = samples.at(-1);
  // Another capture counts from 0.
  if (capture && last && status.pid !== last.pid) samples.length = 0;
  if (!capture) return;
  samples.push({ at: Date.now(), pid: status.pid, seen: capture.calls.seen, sent: capture.calls.sent, lost: lost(capture) });
  if (samples.length > SAMPLES) samples.shift();
}

function showCharts() {
  if (samples.length < SAMPLES_LEAST) return;
  const names = [...new Set(samples.flatMap((one) => Object.keys(one.lost)))];
  const pairs = samples.slice(1).map((now, index) => [samples[index], now]);
  const rate = (of) => pairs.map(([before, now]) => (1000 * Math.max(0, of(now) - of(before))) / Math.max(1, now.at - before.at));
  const step = (samples.at(-1).at - samples[0].at) / pairs.length;
  const start = samples[0].at;
  flow.set({ start, step, isStacked: false, format: compact, series: [
    { name: 'captured', kind: 'p50', values: rate((one) => one.seen) }, { name: 'delivered', kind: 'p95', values: rate((one) => one.sent) },
  ] });
  losses.set({ start, step, isStacked: true, format: compact, series: names.map((name, index) => ({
    name, kind: `kind-${index % KINDS}`, values: rate((one) => one.lost[name] ?? 0),
  })) });
}

/** A list of names and values; a value that is null is left out. */
function list(rows) {
  const box = make('dl', 'pairs');
  for (const [name, value, title, kind] of rows) {
    if (value === null || value === undefined || value === '') continue;
    const row = make('div', kind ?? '');
    const shown = make('dd');
    shown.append(...marked(String(value)));
    if (title) shown.title = title;
    row.append(make('dt', '', name), shown);
    box.append(row);
  }
  return box;
}

function card(title, ...children) {
  const box = make('section', 'card');
  box.append(make('h3', '', title), ...children.filter(Boolean));
  return box;
}

/** Where every call went; the sums on both sides are the same, or it is a bug, which is shown as one. */
function ledger({ calls }) {
  const came = calls.seen + calls.stream_parts + calls.recovered;
  const rows = [
    ['captured', thousands(calls.seen)],
    ['parts of streams', calls.stream_parts || null], ['left by earlier processes', calls.recovered || null],
    ['delivered', thousands(calls.sent)], ['stopped by rules', thousands(calls.stopped)], ['sampled out', thousands(calls.sampled)],
    ...Object.entries(calls.dropped).filter(([, count]) => count > 0)
      .map(([reason, count]) => [`dropped: ${reason.replaceAll('_', ' ')}`, thousands(count), '', 'bad']),
    ['on disk, to be delivered', calls.spooled ? thousands(calls.spooled) : null], ['in flight', thousands(calls.in_flight)],
  ];
  const isBalanced = calls.unaccounted === 0;
  const verdict = make('p', isBalanced ? 'good' : 'bad', isBalanced
    ? `Balanced: ${thousands(came)} ${came === 1 ? 'call is' : 'calls are'} counted, each exactly once.`
    : `${thousands(calls.unaccounted)} calls are unaccounted for. That is a bug of the sniffer.`);
  return card('Ledger of calls', list(rows), verdict);
}

function packets({ packets: counts, completeness, halves, shards, reads, steering, interfaces }) {
  const { captured_bytes: captured, missing_bytes: missing } = completeness;
  return card('Packets', list([
    ['interfaces', interfaces.join(', ')], ['reads', reads], ['threads', `${shards}, ${steering}`],
    ['received', thousands(counts.received), `${bytes(counts.bytes)}`], ['bytes', bytes(counts.bytes)],
    ['dropped in the ring', thousands(counts.dropped), '', counts.dropped ? 'bad' : ''],
    ['complete', captured + missing ? percent(captured, captured + missing) : null, `${bytes(missing)} were sent and not captured`],
    ...Object.entries(halves).filter(([, count]) => count > 0).map(([reason, count]) => [`half calls: ${reason.replaceAll('_', ' ')}`, thousands(count)]),
  ]));
}

function delivery({ output, sinks, memory_bytes: memory, memory_limit_bytes: limit, overload }) {
  const step = overload.step === 'none' ? null : overload.step.replaceAll('_', ' ');
  return card('Delivery', list([
    ['to', output.url], ['state', output.up === null ? 'nothing sent yet' : output.up ? 'up' : `down: ${output.last_error ?? ''}`, '', output.up === false ? 'bad' : ''],
    ['last answer', output.last_code || null], ['retries', output.retries || null],
    ['waiting', `${thousands(output.queue_calls)} calls, ${bytes(output.queue_bytes)}`],
    ['on disk', output.spool ? `${thousands(output.spool.calls)} calls, ${bytes(output.spool.bytes)}` : null],
    ['further sinks', sinks.length > 1 ? sinks.slice(1).map(({ name }) => name).join(', ') : null],
    ['memory', `${bytes(memory)} of ${bytes(limit)}`], ['overload', step, '', 'bad'],
  ]));
}

function table(title, heads, rows) {
  const shown = make('table', 'numbers');
  const head = shown.createTHead().insertRow();
  heads.forEach((name, index) => {
    const cell = make('th', index ? 'num' : '', name);
    cell.scope = 'col';
    head.append(cell);
  });
  const body = shown.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((value, index) => line.append(plain('td', index ? 'num' : '', String(value))));
  }
  return card(title, shown);
}

function ports({ ports: all }) {
  if (!all.length) return null;
  const rows = all.map(({ port, ...connections }) => [port, Object.entries(connections).filter(([, count]) => count > 0)
    .map(([name, count]) => `${name.replaceAll('_', ' ')} ${thousands(count)}`).join(' · ') || '–']);
  return table('Connections by port', ['port', 'protocols'], rows);
}

function warnings({ warnings: all }) {
  if (!all.length) return null;
  const box = make('ul', 'warnings');
  for (const { code, text } of all) {
    const item = make('li');
    item.append(make('b', '', code), ' ', ...marked(text), ' ', make('code', '', `sniffer help ${code}`));
    box.append(item);
  }
  return card('Warnings', box);
}

/** Counters of all stages that are not 0, folded. */
function counters({ stages }) {
  const fold = make('details');
  fold.append(make('summary', '', 'All counters that are not 0'));
  fold.addEventListener('toggle', () => {
    if (!fold.open || fold.childElementCount > 1) return;
    for (const [stage, counts] of Object.entries(stages)) {
      const rows = Object.entries(counts).filter(([, count]) => count !== 0);
      if (rows.length) fold.append(make('h4', '', stage), list(rows.map(([name, count]) => [name, thousands(count)])));
    }
  });
  return card('Counters', fold);
}

function store(status) {
  if (!status) return null;
  const senders = status.senders.map(({ sender, calls }) => `${sender} ${thousands(calls)}`).join(' · ');
  return card('Store', list([
    ['calls', `${thousands(status.calls)} of at most ${thousands(status.calls_max)}`],
    ['on disk', `${bytes(status.database_bytes)} of at most ${bytes(status.database_bytes_max)}`],
    ['kept for', status.age_max_seconds ? age(status.age_max_seconds) : null],
    ['received', thousands(status.calls_received)], ['expired', status.calls_expired ? thousands(status.calls_expired) : null],
    ['deleted', status.calls_deleted ? thousands(status.calls_deleted) : null],
    ['lines that are none', status.bad_lines ? thousands(status.bad_lines) : null, '', 'bad'],
    ['bundles refused', status.posts_refused ? thousands(status.posts_refused) : null, '', 'bad'],
    ['connections refused', status.connections_refused ? thousands(status.connections_refused) : null, '', 'bad'],
    ['cannot write', status.write_error, '', 'bad'], ['calls from', senders], ['capture URL', status.capture_url],
    ['running since', fullTime(status.started_ms)], ['version', status.version],
  ]));
}

let counterCard = null;

function show() {
  if (view.pane !== 'health') return;
  const status = view.capture;
  const capture = status?.capture;
  $('health-state').textContent = state(status);
  // What was unfolded stays so.
  const keepsOpen = counterCard?.querySelector('details')?.open;
  if (capture && !keepsOpen) counterCard = counters(capture);
  const cards = [
    status && warnings(status), fleetCard(), capture && ledger(capture), capture && packets(capture), capture && delivery(capture), store(totals),
    capture && ports(capture), capture && counterCard,
  ];
  $('health-cards').replaceChildren(...cards.filter(Boolean));
  $('health-charts').hidden = samples.length < SAMPLES_LEAST;
  showCharts();
}

function state(status) {
  if (!status) return 'This store runs alone. The sniffers that post here show their health in their own status, and those with --post-ledger their ledger below.';
  if (status.state === 'RUNNING') return `On for ${age(status.uptime_seconds)}: ${(status.capture?.sentence || 'the capture starts').replace(/ Ctrl-C .*$/, '')}`;
  if (status.state === 'STOPPING') return 'The capture stops; what was captured is being delivered.';
  const { by = '', seconds = 0, reason = '' } = status.stopped ?? {};
  const ended = by ? `The capture was stopped by ${by} ${age(seconds)} ago.` : 'The capture was not turned on yet.';
  return [reason || ended, sum(status.capture?.calls.dropped) || status.capture ? 'The numbers are of the last capture.' : ''].filter(Boolean).join(' ');
}

onCapture((status) => {
  sample(status);
  show();
});
onTotals((status) => { totals = status; });
onFleet(show);
onPane('health', () => {
  show();
  readFleet();
});
