// The parts of the page: the calls, charts, queries, health, rules. One is open; the others cost nothing.

import { writeAddress } from './address.js';
import { $ } from './dom.js';
import { view } from './view.js';

const PANES = ['calls', 'charts', 'query', 'health', 'rules'];

/** What a pane does when it opens. */
const opened = new Map();

export function onPane(name, open) {
  opened.set(name, open);
}

export function openPane(name) {
  view.pane = PANES.includes(name) ? name : 'calls';
  for (const link of $('panes').children) {
    if (link.dataset.pane === view.pane) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  for (const pane of PANES) $(pane === 'calls' ? 'main' : pane).hidden = pane !== view.pane;
  document.body.dataset.pane = view.pane;
  writeAddress();
  opened.get(view.pane)?.();
}

/** Steps to a neighbour of the pane that is open. */
export function openNumber(number) {
  if (PANES[number]) openPane(PANES[number]);
}

$('panes').addEventListener('click', (event) => {
  const { pane } = event.target.dataset;
  if (pane) openPane(pane);
});
