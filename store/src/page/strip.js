// The strip beside the list: the most frequent values of some fields, of the calls that the filter chooses. A click adds one to the
// filter, with Shift its opposite.

import { get, wanted } from './api.js';
import { remarks } from './coverage.js';
import { $, button, choosable, kept, make } from './dom.js';
import { compact, percent, thousands } from './format.js';
import { onList } from './list.js';
import { plain } from './marks.js';
import { view } from './view.js';

const FIELDS = [
  ['status', 'Status'], ['host', 'Host'], ['endpoint', 'Endpoint'], ['method', 'Method'], ['content_type', 'Type'],
  ['protocol', 'Protocol'], ['vni', 'VNI'], ['client', 'Client'], ['server', 'Server'], ['appliance', 'Appliance'],
];

/** Values of a field, and how many of them while all are shown. */
const VALUES = 5;
const VALUES_ALL = 50;

/** Least time between two rounds; a round that takes long is followed by a pause that is longer in proportion. */
const ROUND_MS = 5000;
const PAUSE_TIMES = 9;

const boxes = new Map();
let round = 0;
let next = 0;

/** At first it is open where there is room for it. */
let isOpen = (kept.get('strip') ?? String(matchMedia('(min-width: 1181px)').matches)) === 'true';

function box(field, title) {
  const section = make('section');
  section.hidden = true;
  const head = make('h3', '', title);
  const list = make('ul');
  const all = button('more', 'More', () => {
    box.isWhole = !box.isWhole;
    all.textContent = box.isWhole ? 'Fewer' : 'More';
    fill(field, boxes.get(field), round);
  });
  const box = { section, list, all, isWhole: false };
  section.append(head, list, all);
  $('strip-fields').append(section);
  boxes.set(field, box);
  return box;
}

async function fill(field, target, mine) {
  const parameters = wanted();
  parameters.set('by', field);
  parameters.set('limit', String(target.isWhole ? VALUES_ALL : VALUES));
  const top = await get(`/api/v1/top?${parameters}`);
  if (mine !== round) return;
  const sum = top.other + top.values.reduce((total, { calls }) => total + calls, 0);
  showCoverage(sum, top.coverage);
  const known = top.values.filter(({ value }) => value !== '');
  target.section.hidden = !known.length;
  target.section.classList.toggle('partial', top.coverage.partial !== null);
  target.section.title = top.coverage.partial ?? '';
  target.all.hidden = top.other === 0 && !target.isWhole;
  const most = Math.max(1, ...known.map(({ calls }) => calls));
  target.list.replaceChildren(...known.map(({ value, calls }) => row(field, value, calls, most, sum)));
}

/** States how many calls the values are of, and what is missing among them. */
function showCoverage(calls, coverage) {
  const missing = remarks(coverage);
  const parts = [`Of ${thousands(calls)} ${calls === 1 ? 'call' : 'calls'}`, ...missing];
  $('strip-coverage').textContent = parts.join(' · ');
  $('strip-coverage').classList.toggle('warn', missing.length > 0);
}

function row(field, value, calls, most, sum) {
  const item = make('li');
  const choice = choosable(button(''), field, value);
  choice.title = `${value}: ${thousands(calls)} ${calls === 1 ? 'call' : 'calls'}, ${percent(calls, sum)}. Click: only these; with Shift: all others`;
  const meter = make('i');
  meter.style.width = `${(100 * calls) / most}%`;
  if (field === 'status') meter.dataset.class = value.slice(0, 1);
  choice.append(meter, plain('span', 'value', value), make('span', 'count', compact(calls)));
  item.append(choice);
  return item;
}

async function refresh() {
  const mine = ++round;
  const start = performance.now();
  next = Infinity;
  try {
    // One after the other: the store has other things to do.
    for (const [field, title] of FIELDS) {
      if (mine !== round || !isShown()) break;
      await fill(field, boxes.get(field) ?? box(field, title), mine);
    }
    $('strip-note').hidden = true;
  } catch (error) {
    $('strip-note').hidden = false;
    $('strip-note').textContent = `The values cannot be counted: ${error.message}`;
  }
  if (mine === round) next = performance.now() + Math.max(ROUND_MS, PAUSE_TIMES * (performance.now() - start));
}

const isShown = () => isOpen && view.pane === 'calls' && !document.hidden;

export function toggleStrip(open = !isOpen) {
  isOpen = open;
  kept.set('strip', String(isOpen));
  show();
}

function show() {
  $('strip').hidden = !isOpen;
  $('strip-toggle').setAttribute('aria-pressed', String(isOpen));
  if (isOpen) refresh();
}

onList({ changed: () => isShown() && refresh() });
setInterval(() => {
  if (isShown() && !view.paused && !view.to && performance.now() > next) refresh();
}, 1000);
$('strip-toggle').addEventListener('click', () => toggleStrip());
show();
