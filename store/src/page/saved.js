// Filters that people keep under a name, in the browser.

import { $, button, kept, make } from './dom.js';
import { onList, setFilter } from './list.js';
import { plain } from './marks.js';
import { view } from './view.js';

const KEY = 'filters';

/** Filters that are kept, and characters of a name, at most. */
const FILTERS_MAX = 50;
const NAME_CHARS_MAX = 60;

/** Name and filter of each, the newest first; what the browser kept may be anything. */
function read() {
  try {
    const all = JSON.parse(kept.get(KEY) ?? '[]');
    const isOne = (one) => Array.isArray(one) && one.length === 2 && one.every((text) => typeof text === 'string');
    return Array.isArray(all) ? all.filter(isOne).slice(0, FILTERS_MAX) : [];
  } catch {
    return [];
  }
}

function write(all) {
  kept.set(KEY, JSON.stringify(all.slice(0, FILTERS_MAX)));
  show();
}

function use(filter) {
  $('filter').value = filter;
  setFilter(filter);
  $('saved').open = false;
  $('filter').focus();
}

function row([name, filter]) {
  const line = make('div', 'saved-one');
  const choose = button('quiet', '', () => use(filter));
  choose.append(plain('b', '', name), plain('code', '', filter));
  const remove = button('quiet small', '×', () => {
    write(read().filter((one) => one[0] !== name));
    $('saved-name').focus();
  });
  remove.setAttribute('aria-label', `Remove ${name}`);
  line.append(choose, remove);
  return line;
}

function show() {
  const all = read();
  $('saved-list').replaceChildren(...all.map(row));
  $('saved-nothing').hidden = all.length > 0;
  $('saved-form').hidden = view.filter === '';
}

$('saved-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = $('saved-name').value.trim().slice(0, NAME_CHARS_MAX) || view.filter.slice(0, NAME_CHARS_MAX);
  write([[name, view.filter], ...read().filter((one) => one[0] !== name)]);
  $('saved-name').value = '';
});
onList({ changed: () => $('saved').open && show() });
$('saved').addEventListener('toggle', () => {
  if ($('saved').open) show();
});
