// The pane of queries: SQL over the calls that filter and range choose, the rows as a table, and as files.

import { post } from './api.js';
import { remarks } from './coverage.js';
import { $, button, make, save } from './dom.js';
import { fullTime, thousands } from './format.js';
import { plain } from './marks.js';
import { onPane } from './panes.js';
import { view } from './view.js';

/** Rows of the table; the files have all. */
const ROWS_SHOWN = 1000;

/** Queries to begin with. */
const SAVED = [
  ['Errors by endpoint', `SELECT host, endpoint, count(*) AS calls, sum(status >= 500) AS errors,
  round(100.0 * sum(status >= 500) / count(*), 1) AS percent
FROM calls GROUP BY host, endpoint HAVING errors > 0 ORDER BY errors DESC LIMIT 50`],
  ['Slowest calls', `SELECT id, datetime(time / 1000, 'unixepoch') AS utc, took, method, url, status
FROM calls ORDER BY took DESC LIMIT 50`],
  ['Largest responses', `SELECT id, response_bytes, method, url, content_type
FROM calls ORDER BY response_bytes DESC LIMIT 50`],
  ['Endpoints that appeared last', `SELECT datetime(min(time) / 1000, 'unixepoch') AS first_seen_utc, method, host, endpoint, count(*) AS calls
FROM calls GROUP BY method, host, endpoint ORDER BY min(time) DESC LIMIT 50`],
  ['Calls with something left out', `SELECT note, count(*) AS calls, min(url) AS example
FROM calls WHERE note IS NOT NULL GROUP BY note ORDER BY calls DESC LIMIT 50`],
];

let result = null;
let running = false;

async function run() {
  if (running) return;
  running = true;
  $('query-run').disabled = true;
  $('query-state').textContent = 'running …';
  $('query-error').hidden = true;
  const start = performance.now();
  try {
    const request = { sql: $('sql').value, filter: view.filter };
    if (view.from) request.from = view.from;
    if (view.to) request.to = view.to;
    result = await post('/api/v1/query', request);
    show(performance.now() - start);
  } catch (error) {
    $('query-state').textContent = '';
    $('query-error').hidden = false;
    $('query-error').textContent = error.message;
  } finally {
    running = false;
    $('query-run').disabled = false;
  }
}

function show(ms) {
  const { columns, rows, truncated, calls, coverage } = result;
  const parts = [
    `${thousands(rows.length)} ${rows.length === 1 ? 'row' : 'rows'} of ${thousands(calls)} ${calls === 1 ? 'call' : 'calls'}`,
    `${Math.round(ms)} ms`,
  ];
  if (truncated) parts.push('there are more rows than an answer has');
  if (rows.length > ROWS_SHOWN) parts.push(`the first ${thousands(ROWS_SHOWN)} are shown, the files have all`);
  parts.push(...remarks(coverage));
  $('query-state').textContent = parts.join(' · ');
  const head = make('tr');
  const isNumber = (index) => typeof rows.find((row) => row[index] !== null)?.[index] === 'number';
  head.append(...columns.map((name, index) => {
    const cell = plain('th', isNumber(index) ? 'num' : '', name);
    cell.scope = 'col';
    return cell;
  }));
  $('query-rows').tHead.replaceChildren(head);
  $('query-rows').tBodies[0].replaceChildren(...rows.slice(0, ROWS_SHOWN).map((row) => {
    const line = make('tr');
    line.append(...row.map((value, index) => cell(columns[index], value)));
    return line;
  }));
  $('query-result').hidden = false;
}

function cell(column, value) {
  if (value === null) return make('td', 'dim', '–');
  const shown = make('td', typeof value === 'number' ? 'num' : '');
  if (column === 'id' && /^[\w-]+$/.test(value)) {
    const link = make('a', '', value);
    link.href = `/#call=${value}`;
    link.target = '_blank';
    shown.append(link);
  } else {
    shown.append(plain('span', '', String(value)));
  }
  if ((column === 'time' || column === 'received') && typeof value === 'number') shown.title = fullTime(value);
  return shown;
}

/** A field of CSV (RFC 4180); what a spreadsheet would take for a formula gets an apostrophe, as in the exports of the store. */
function field(value) {
  if (value === null) return '';
  const text = typeof value === 'string' && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const FILES = {
  csv: ({ columns, rows }) => [columns, ...rows].map((row) => `${row.map(field).join(',')}\r\n`).join(''),
  ndjson: ({ columns, rows }) => rows.map((row) => `${JSON.stringify(Object.fromEntries(row.map((value, index) => [columns[index], value])))}\n`).join(''),
};

function saveAs(format) {
  save(new Blob([FILES[format](result)], { type: 'text/plain' }), `query.${format}`);
}

for (const [name, sql] of SAVED) {
  $('query-saved').append(button('', name, () => {
    $('sql').value = sql;
    run();
  }));
}
$('sql').value = SAVED[0][1];
$('query-run').addEventListener('click', run);
$('query-csv').addEventListener('click', () => saveAs('csv'));
$('query-ndjson').addEventListener('click', () => saveAs('ndjson'));
$('sql').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    run();
  }
});
onPane('query', () => $('sql').focus({ preventScroll: true }));
