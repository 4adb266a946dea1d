// The page of the store: a live list, a filter, one call in full, charts, queries, health, rules. Here: keys, buttons, and the start.
//
// The modules, each using only those before it: dom, marks, view, format, api, alerts, json, hex, address, columns, grid, search, stream,
// list, rail, range, choose, suggest, saved, section, text, timing, messages, tabs, neighbours, detail, status, capture, diagnosis, panes, strip,
// chart, charts, query, fleet, health, rules, theme, app.

import { watchCapture } from './capture.js';
import './charts.js';
import { takeClick } from './choose.js';
import { clear, rows, show } from './grid.js';
import { menu } from './columns.js';
import { closeCall, openCall, openNeighbour } from './detail.js';
import './diagnosis.js';
import { $ } from './dom.js';
import './health.js';
import { move, older, redraw, refetch, select, setFilter, setFollow, setPaused, setRange } from './list.js';
import { saveOffered } from './packets.js';
import { onPane, openNumber, openPane } from './panes.js';
import './query.js';
import './rail.js';
import { showRange } from './range.js';
import './rules.js';
import { showExports } from './search.js';
import './saved.js';
import { totals } from './status.js';
import { toggleStrip } from './strip.js';
import { takeKey } from './suggest.js';
import './theme.js';
import { view } from './view.js';

const TYPING_MS = 200;

function step(by) {
  move(by);
  if (view.open !== null && view.selected !== null) openCall(view.selected, false);
}

function readAddress() {
  const parameters = new URLSearchParams(location.search);
  view.filter = (parameters.get('filter') ?? '').trim();
  view.from = parameters.get('from') ?? '';
  view.to = parameters.get('to') ?? '';
  $('filter').value = view.filter;
  showRange();
  showExports();
  const call = /^#call=([\w-]+)$/.exec(location.hash)?.[1];
  if (call) {
    view.selected = call;
    openCall(call, false);
  }
  openPane(parameters.get('pane') ?? 'calls');
}

/** Copies the command line of the call that is open or selected. */
async function copyCommand() {
  const id = view.open ?? view.selected;
  if (id === null) return;
  const said = (text) => { $('announce').textContent = text; };
  try {
    const answer = await fetch(`/api/v1/calls/${id}/curl`);
    await navigator.clipboard.writeText(await answer.text());
    said('The command is in the clipboard');
    $('detail-curl').textContent = 'copied';
    setTimeout(() => { $('detail-curl').textContent = 'curl'; }, 1500);
  } catch {
    said('The command cannot be copied here');
  }
}

/** Keys everywhere, and those of the list. */
const KEYS = {
  '/': () => $('filter').select(),
  '?': () => $('help').showModal(),
  1: () => openNumber(0),
  2: () => openNumber(1),
  3: () => openNumber(2),
  4: () => openNumber(3),
  5: () => openNumber(4),
};
const LIST_KEYS = {
  j: () => step(1),
  k: () => step(-1),
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  Enter: () => {
    const id = document.activeElement.closest('#calls tr')?.dataset.id ?? view.selected;
    if (id === null) return;
    select(id);
    openCall(id, true);
  },
  Escape: closeCall,
  '[': () => openNeighbour(false),
  ']': () => openNeighbour(true),
  c: copyCommand,
  p: () => setPaused(!view.paused),
  f: () => setFollow(!view.follow),
  s: () => toggleStrip(),
  g: () => {
    setFollow(true);
    if (view.calls.length) select(view.calls[0].id);
  },
};

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $('help').open) return;
  const at = event.target;
  if (at === $('filter')) {
    if (takeKey(event)) return;
    if (event.key !== 'Escape' && event.key !== 'Enter') return;
    // The browser would empty the field on Escape, and the list would not follow.
    event.preventDefault();
    at.blur();
    return;
  }
  if (at.closest('.drop[open]') && event.key === 'Escape') {
    const menu = at.closest('.drop');
    menu.open = false;
    menu.firstElementChild.focus();
    return;
  }
  // The element with the focus keeps the keys that it handles itself.
  if (at.closest('input, textarea, select')) return;
  if (at.closest('button, summary, a') && (event.key === 'Enter' || event.key === ' ')) return;
  if (at.closest('#detail, .wide-table') && event.key.startsWith('Arrow')) return;
  const act = KEYS[event.key] ?? (view.pane === 'calls' ? LIST_KEYS[event.key] : undefined);
  if (!act) return;
  event.preventDefault();
  act();
});

rows.addEventListener('click', (event) => {
  if (takeClick(event)) return;
  const id = event.target.closest('tr')?.dataset.id;
  if (!id) return;
  select(id);
  openCall(id, false);
});

let typing = null;
$('filter').addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(() => setFilter($('filter').value), TYPING_MS);
});
for (const place of ['detail', 'strip', 'charts-groups']) $(place).addEventListener('click', takeClick);
$('filter-error').addEventListener('click', (event) => {
  const { meant } = event.target.dataset;
  if (meant === undefined) return;
  $('filter').value = meant;
  setFilter(meant);
  $('filter').focus();
});
$('clear').addEventListener('click', () => {
  $('filter').value = '';
  setFilter('');
  setRange('', '');
  showRange();
  $('filter').focus();
});
$('pause').addEventListener('click', () => setPaused(!view.paused));
$('follow').addEventListener('click', () => setFollow(!view.follow));
$('older').addEventListener('click', older);
$('fresh').addEventListener('click', () => (view.paused ? setPaused(false) : setFollow(true)));
$('detail-close').addEventListener('click', closeCall);
$('detail-pcap').addEventListener('click', saveOffered);
$('detail-before').addEventListener('click', () => openNeighbour(false));
$('detail-after').addEventListener('click', () => openNeighbour(true));
$('help-open').addEventListener('click', () => $('help').showModal());
// A menu closes with a click elsewhere.
document.addEventListener('click', (event) => {
  for (const drop of document.querySelectorAll('.drop[open]')) if (!drop.contains(event.target)) drop.open = false;
});

onPane('calls', redraw);
menu({ changed: () => { clear(); show(); } });
readAddress();
refetch();
totals();
watchCapture();
