// The pane of rules: those in force and how often each matched, and further ones that are tried on stored calls. What a rule in force
// hides never reaches the store, so "before" is a call as it is stored.

import { post } from './api.js';
import { onCapture } from './capture.js';
import { $, button, make } from './dom.js';
import { methodText, statusBadge, thousands, urlParts } from './format.js';
import { marked, plain } from './marks.js';
import { onPane } from './panes.js';
import { view } from './view.js';

const EXAMPLES = [
  ['Remove cookies', '/request_header:cookie/ remove\n/response_header:set-cookie/ remove'],
  ['Mask card numbers', '/(request|response)_body/ replace /[0-9]{13,16}/, /xxxx/'],
  ['Hide a JSON member', '/request_body:$..password/ remove'],
  ['Only errors', '/response_code/ stop_unless /5[0-9]{2}/'],
];

/** The values on both sides of a change, as far as they are shown. */
function change({ key, before, after }) {
  const row = make('tr');
  const name = plain('th', '', key);
  name.scope = 'row';
  const old = make('td', 'before');
  old.append(...marked(before ?? ''));
  const now = make('td', after === null ? 'removed' : 'after');
  now.append(...(after === null ? ['removed'] : marked(after)));
  row.append(name, old, now);
  return row;
}

const OUTCOMES = { stopped: 'would not be sent', sampled: 'would be sampled out', emptied: 'nothing would be left of it' };

function call({ id, method, host, path, url, status, outcome, changes, more }) {
  const box = make('details');
  const summary = make('summary');
  const words = outcome === 'kept' ? `${thousands(changes.length + more)} ${changes.length + more === 1 ? 'change' : 'changes'}` : OUTCOMES[outcome];
  summary.append(methodText(method), ' ', ...urlParts({ host, path, url }), ' ', statusBadge(status), ' ', make('b', 'outcome', words));
  box.append(summary);
  if (changes.length) {
    const table = make('table', 'changes');
    const head = table.createTHead().insertRow();
    for (const title of ['detail', 'as it is stored', 'with these rules']) {
      const cell = make('th', '', title);
      cell.scope = 'col';
      head.append(cell);
    }
    table.createTBody().append(...changes.map(change));
    box.append(table);
  }
  if (more) box.append(make('p', 'dim', `${thousands(more)} further changes are not listed.`));
  const link = make('a', '', 'open the call');
  link.href = `/#call=${id}`;
  link.target = '_blank';
  box.append(link);
  return box;
}

let running = false;

async function run() {
  if (running) return;
  running = true;
  $('rules-run').disabled = true;
  $('rules-error').hidden = true;
  try {
    const request = { rules: $('rules-text').value, filter: view.filter };
    if (view.from) request.from = view.from;
    if (view.to) request.to = view.to;
    show(await post('/api/v1/rules/test', request));
  } catch (error) {
    showError(error);
  } finally {
    running = false;
    $('rules-run').disabled = false;
  }
}

function showError(error) {
  const { line, column, source } = error.answer ?? {};
  const box = $('rules-error');
  box.hidden = false;
  box.replaceChildren(make('p', '', error.message));
  if (line === undefined) return;
  const place = make('pre');
  const at = Math.max(0, column - 1);
  const characters = [...source];
  place.append(...marked(characters.slice(0, at).join('')), plain('mark', '', characters[at] ?? ' '), ...marked(characters.slice(at + 1).join('')));
  box.append(place);
}

function show({ tested, calls, rules, partial }) {
  const changed = calls.filter(({ outcome }) => outcome === 'kept').length;
  const gone = calls.length - changed;
  const parts = [
    `${thousands(tested)} stored ${tested === 1 ? 'call' : 'calls'} tried`,
    `${thousands(changed)} would be changed`, `${thousands(gone)} would not be sent`,
  ];
  if (partial) parts.push(partial);
  $('rules-state').textContent = `${parts.join(' · ')}. Nothing is changed by this test.`;
  $('rules-hits').replaceChildren(...rules.map(({ line, rule, hits }) => hitRow(line, rule, hits)));
  $('rules-hits-box').hidden = !rules.length;
  $('rules-calls').replaceChildren(...calls.map(call));
}

function hitRow(line, rule, hits) {
  const row = make('tr');
  row.append(make('td', 'num', String(line)), plain('td', 'mono', rule), make('td', hits ? 'num' : 'num dim', thousands(hits)));
  return row;
}

/** The rules in force. */
function showForce(status) {
  if (view.pane !== 'rules') return;
  const capture = status?.capture;
  $('rules-force').hidden = !capture;
  $('rules-alone').hidden = Boolean(capture);
  if (!capture) return;
  $('rules-name').textContent = capture.rules || 'none';
  $('rules-force-rows').replaceChildren(...capture.rule_hits.map(({ line, rule, hits }) => hitRow(line, rule, hits)));
}

for (const [name, text] of EXAMPLES) {
  $('rules-examples').append(button('', name, () => {
    $('rules-text').value = text;
    run();
  }));
}
$('rules-run').addEventListener('click', run);
$('rules-text').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    run();
  }
});
onCapture(showForce);
onPane('rules', () => showForce(view.capture));
