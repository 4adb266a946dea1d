// The ledgers of all sniffers that post here, a row for each appliance and their sum, for the pane of health.

import { get } from './api.js';
import { choosable, make } from './dom.js';
import { age, percent, thousands } from './format.js';
import { plain } from './marks.js';
import { view } from './view.js';

const REFRESH_MS = 5000;

/** A sniffer posts once a minute; one that has missed three is behind. */
const LATE_MS = 200_000;

let fleet = null;
let shown = () => {};

/** Calls `listener` with each new state while the pane is open. */
export function onFleet(listener) {
  shown = listener;
}

export async function readFleet() {
  if (view.pane !== 'health' || document.hidden) return;
  try {
    fleet = await get('/api/v1/appliances');
  } catch {
    // The status of the store states that it does not answer; the last numbers stay, with their age.
  }
  shown();
}

const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

const HEADS = ['appliance', 'captured', 'delivered', 'stopped', 'sampled out', 'dropped', 'on disk', 'in flight', 'unaccounted', 'complete', 'last post'];

const came = ({ seen, stream_parts: parts, recovered }) => seen + parts + recovered;

function cells({ calls, unaccounted, capture }) {
  const { captured_bytes: captured, missing_bytes: missing } = capture;
  return [
    came(calls), calls.sent, calls.stopped, calls.sampled, sum(calls.dropped), calls.spooled, calls.in_flight, unaccounted,
  ].map(thousands).concat(captured + missing ? percent(captured, captured + missing) : '–');
}

function reasons({ dropped }) {
  return Object.entries(dropped).filter(([, count]) => count > 0).map(([reason, count]) => `${reason.replaceAll('_', ' ')} ${thousands(count)}`).join(', ');
}

function line(name, one, last) {
  const row = make('tr', last ? '' : 'sum');
  const first = make('th');
  first.scope = 'row';
  first.append(name);
  row.append(first);
  cells(one).forEach((text, index) => {
    const isBad = (index === 4 && sum(one.calls.dropped) > 0) || (index === 7 && one.unaccounted !== 0);
    const cell = make('td', isBad ? 'num slow' : 'num', text);
    if (index === 4) cell.title = reasons(one.calls);
    row.append(cell);
  });
  row.append(make('td', last?.isLate ? 'num slow' : 'num', last ? last.text : ''));
  return row;
}

/** The card; null before the first post of a sniffer. */
export function fleetCard() {
  if (!fleet?.appliances.length) return null;
  const table = make('table', 'numbers');
  const head = table.createTHead().insertRow();
  HEADS.forEach((name, index) => {
    const cell = make('th', index ? 'num' : '', name);
    cell.scope = 'col';
    head.append(cell);
  });
  const body = table.createTBody();
  for (const one of fleet.appliances) {
    const behind = Math.max(0, Date.now() - one.updated_ms);
    const name = choosable(plain('span', '', one.appliance || '(none)'), 'appliance', one.appliance);
    const row = line(name, one, { text: `${age(Math.round(behind / 1000))} ago`, isLate: behind > LATE_MS });
    row.firstChild.title = `${thousands(one.runs)} ${one.runs === 1 ? 'run' : 'runs'}, from ${one.senders.join(', ')}`;
    body.append(row);
  }
  if (fleet.appliances.length > 1) body.append(line('together', fleet.total, null));
  const { calls, unaccounted } = fleet.total;
  const equation = `${thousands(came(calls))} captured = ${thousands(calls.sent)} delivered + ${thousands(calls.stopped)} stopped + ${thousands(calls.sampled)} sampled out + `
    + `${thousands(sum(calls.dropped))} dropped + ${thousands(calls.spooled)} on disk + ${thousands(calls.in_flight)} in flight`;
  const verdict = make('p', unaccounted === 0 ? 'good' : 'bad', unaccounted === 0
    ? `Balanced: ${equation}.`
    : `${thousands(unaccounted)} calls are unaccounted for: ${equation}.`);
  const box = make('section', 'card wide');
  const scroll = make('div', 'scroll');
  scroll.tabIndex = 0;
  scroll.append(table);
  box.append(make('h3', '', 'Ledgers of all sniffers that post here'), scroll, verdict);
  return box;
}

setInterval(readFleet, REFRESH_MS);
