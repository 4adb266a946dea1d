// The parts that the detail of a call is made of: tables of names and values, headings.

import { buttons } from './choose.js';
import { make } from './dom.js';
import { plain } from './marks.js';

/** Names and values; with `field`, the name of each in a filter, its values can be chosen. */
export function fields(title, pairs, field) {
  if (!pairs.length) return null;
  const box = make('section');
  const table = make('table', 'fields');
  const rows = table.createTBody();
  for (const [name, value] of pairs) {
    const row = rows.insertRow();
    const head = plain('th', '', name);
    head.scope = 'row';
    const cell = plain('td', '', value);
    if (field) cell.append(buttons(field(name), value));
    row.append(head, cell);
  }
  if (title) box.append(heading(title, String(pairs.length)));
  box.append(table);
  return box;
}

export function heading(title, aside) {
  const h3 = make('h3', '', title);
  if (aside) h3.append(plain('span', 'dim', aside));
  h3.append(make('span', 'spring'));
  return h3;
}
