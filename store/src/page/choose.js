// Values that become part of the filter: a click chooses the calls that have one, with Shift those that have not.

import { $, choosable, make } from './dom.js';
import { setFilter } from './list.js';
import { view } from './view.js';

const quoted = (value) => `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;

/** Adds a comparison to the filter. */
export function choose(field, value, exclude) {
  const term = `${field}${exclude ? '!=' : '=='}${/^[\w./:-]+$/.test(value) ? value : quoted(value)}`;
  const before = view.filter;
  if (before.split(/\s+and\s+/).includes(term)) return;
  const kept = /(^|[\s)])or([\s("]|$)/i.test(before) ? `(${before})` : before;
  const filter = kept ? `${kept} and ${term}` : term;
  $('filter').value = filter;
  setFilter(filter);
}

/** Two buttons for the value of a field, for the keyboard as well. */
export function buttons(field, value) {
  const box = make('span', 'choose');
  for (const [sign, exclude, words] of [['+', false, 'Only calls with'], ['−', true, 'Only calls without']]) {
    const button = choosable(make('button', '', sign), field, value);
    if (!button.dataset.field) return box;
    button.type = 'button';
    button.dataset.exclude = String(exclude);
    button.title = `${words} this ${field}`;
    button.setAttribute('aria-label', `${words} ${field} ${value}`);
    box.append(button);
  }
  return box;
}

/** Takes a click on a value; false where it was on none. */
export function takeClick(event) {
  const value = event.target.closest('[data-field]');
  if (!value) return false;
  const exclude = event.shiftKey !== (value.dataset.exclude === 'true');
  choose(value.dataset.field, value.dataset.value, exclude);
  return true;
}
