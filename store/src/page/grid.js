// The rows of the list: of all calls in memory only those in view are elements, between two rows that are as high as the others.

import { cells, head } from './columns.js';
import { $, make } from './dom.js';
import { view } from './view.js';

/** Rows above and below those in view. */
const SPARE_ROWS = 12;

const body = $('calls').tBodies[0];
let tabStop = null;
const above = make('tr', 'pad');
const below = make('tr', 'pad');
for (const pad of [above, below]) {
  pad.setAttribute('aria-hidden', 'true');
  pad.append(make('td'));
}
body.append(above, below);
head();

export const rows = body;

/** Height of a row, which the style sheet has. */
export const rowHeight = () => Number.parseInt(getComputedStyle($('calls')).getPropertyValue('--row'), 10) || 30;

const headHeight = () => $('calls').tHead.offsetHeight;

/** Indexes of the calls in view: from the first, to behind the last. */
export function inView() {
  const height = rowHeight();
  const scroll = $('scroll');
  const first = Math.max(0, Math.floor(scroll.scrollTop / height));
  const fits = Math.max(1, Math.floor((scroll.clientHeight - headHeight()) / height));
  return [Math.min(first, Math.max(0, view.calls.length - 1)), Math.min(view.calls.length, first + fits)];
}

function makeRow(call, fresh) {
  const row = make('tr', fresh ? 'new' : '');
  row.dataset.id = call.id;
  row.tabIndex = -1;
  if (call.id === view.selected) row.setAttribute('aria-current', 'true');
  row.append(...cells(call));
  view.rows.set(call.id, row);
  return row;
}

/** Shows the rows in view; `fresh` is the number of calls at the top that have just arrived. */
export function show(fresh = 0) {
  const height = rowHeight();
  const [from, to] = inView();
  const first = Math.max(0, from - SPARE_ROWS);
  const last = Math.min(view.calls.length, to + SPARE_ROWS);
  const wanted = view.calls.slice(first, last);
  const ids = new Set(wanted.map((call) => call.id));
  for (const [id, row] of view.rows) {
    if (ids.has(id)) continue;
    // The keys go on to work when the row that has the focus is scrolled away.
    if (row === document.activeElement) $('scroll').focus({ preventScroll: true });
    row.remove();
    view.rows.delete(id);
  }
  let at = above.nextSibling;
  wanted.forEach((call, index) => {
    const row = view.rows.get(call.id) ?? makeRow(call, first + index < fresh);
    if (row === at) at = at.nextSibling;
    else body.insertBefore(row, at);
  });
  for (const [pad, calls] of [[above, first], [below, view.calls.length - last]]) {
    pad.hidden = calls === 0;
    pad.firstChild.style.height = `${calls * height}px`;
  }
  moveTabStop();
}

/** Makes all rows again, since the columns have changed or the calls are others. */
export function clear() {
  for (const row of view.rows.values()) row.remove();
  view.rows.clear();
}

/** Scrolls as far as needed for a call to be in view. */
export function reveal(index) {
  const height = rowHeight();
  const scroll = $('scroll');
  const top = index * height;
  const room = scroll.clientHeight - headHeight();
  if (top < scroll.scrollTop) scroll.scrollTop = top;
  else if (top + height > scroll.scrollTop + room) scroll.scrollTop = top + height - room;
  show();
}

/** The Tab key reaches the list at one row: the selected one, else the first in view. */
function moveTabStop() {
  const row = view.rows.get(view.selected) ?? above.nextSibling;
  if (row === tabStop || row === below) return;
  if (tabStop) tabStop.tabIndex = -1;
  row.tabIndex = 0;
  tabStop = row;
}

/** Marks the call that is selected. */
export function mark(id) {
  view.rows.get(view.selected)?.removeAttribute('aria-current');
  view.selected = id;
  const row = view.rows.get(id);
  row?.setAttribute('aria-current', 'true');
  moveTabStop();
  return row;
}
