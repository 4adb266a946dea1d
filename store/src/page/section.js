// The parts that the detail of a call is made of: folding sections, tables of names and values, headings.

import { make } from './dom.js';

const TITLES = { request: 'Request', response: 'Response', timing: 'Timing', connection: 'Connection', session: 'Session', 'as-sent': 'As sent' };
const folded = new Set(['as-sent']);

export function section(name, subtitle, size, children) {
  const box = make('details');
  box.id = `detail-${name}`;
  box.open = !folded.has(name);
  // A section stays open or folded for the next call too.
  box.addEventListener('toggle', () => (box.open ? folded.delete(name) : folded.add(name)));
  const summary = make('summary');
  summary.append(TITLES[name], make('span', 'dim mono', subtitle));
  if (size && size !== '–') summary.append(make('span', 'dim', size));
  box.append(summary, ...children.filter(Boolean));
  if (box.childElementCount === 1) box.append(make('p', 'dim', 'The line has nothing about it.'));
  return box;
}

export function fields(title, pairs) {
  if (!pairs.length) return null;
  const box = make('section');
  const table = make('table', 'fields');
  const rows = table.createTBody();
  for (const [name, value] of pairs) {
    const row = rows.insertRow();
    const head = make('th', '', name);
    head.scope = 'row';
    row.append(head, make('td', '', value));
  }
  if (title) box.append(heading(title, String(pairs.length)));
  box.append(table);
  return box;
}

export function heading(title, aside) {
  const h3 = make('h3', '', title);
  if (aside) h3.append(make('span', 'dim', aside));
  h3.append(make('span', 'spring'));
  return h3;
}
