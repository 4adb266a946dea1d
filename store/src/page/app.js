// The page of the store: a live list, a filter, one call in full. Here: selection, keys, buttons, and the start.
//
// The modules, each using only those before it: dom, format, view, api, alerts, json, hex, address, search, stream, list, choose, section,
// text, timing, messages, tabs, status, detail, theme, app.

import { closeCall, openCall } from './detail.js';
import { takeClick } from './choose.js';
import { $ } from './dom.js';
import { body, moveTabStop, older, refetch, setFilter, setFollow, setPaused, setRange } from './list.js';
import { showExports } from './search.js';
import { totals } from './status.js';
import './theme.js';
import { view } from './view.js';

const TYPING_MS = 200;

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
}

const KEYS = {
  '/': () => $('filter').select(),
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  Enter: () => {
    const id = document.activeElement.closest('#calls tr')?.dataset.id ?? view.selected;
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
  if (at.closest('#own-range, #range')) return;
  if (at === $('filter')) {
    if (event.key !== 'Escape' && event.key !== 'Enter') return;
    // The browser would empty the field on Escape, and the list would not follow.
    event.preventDefault();
    at.blur();
    return;
  }
  // The element with the focus keeps the keys that it handles itself.
  if (at.closest('button, summary, a, select') && (event.key === 'Enter' || event.key === ' ')) return;
  if (at.closest('#detail') && event.key.startsWith('Arrow')) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

body.addEventListener('click', (event) => {
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
$('detail').addEventListener('click', takeClick);
$('filter-error').addEventListener('click', (event) => {
  const { meant } = event.target.dataset;
  if (meant === undefined) return;
  $('filter').value = meant;
  setFilter(meant);
  $('filter').focus();
});

/** Shows the range of the address: one of the list, else its two ends. */
function showRange() {
  const known = [...$('range').options].some((option) => option.value === view.from);
  const isOwn = view.to !== '' || !known;
  $('range').value = isOwn ? 'own' : view.from;
  $('own-range').hidden = !isOwn;
  if (isOwn) {
    $('from').value = view.from;
    $('to').value = view.to;
  }
}

$('range').addEventListener('change', () => {
  const chosen = $('range').value;
  $('own-range').hidden = chosen !== 'own';
  if (chosen === 'own') $('from').focus();
  else setRange(chosen, '');
});
$('own-range').addEventListener('change', () => setRange($('from').value.trim(), $('to').value.trim()));
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
$('help-open').addEventListener('click', () => $('help').showModal());
$('scroll').addEventListener('scroll', () => {
  const top = $('scroll').scrollTop < 4;
  if (!top && view.follow) setFollow(false);
  if (top && !view.follow && view.missed) setFollow(true);
}, { passive: true });

readAddress();
refetch();
totals();
