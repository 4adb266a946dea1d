// What is proposed while a filter is typed: names of fields, and values that occur, as a list box below the filter.

import { get, wanted } from './api.js';
import { $, make } from './dom.js';
import { compact } from './format.js';
import { setFilter } from './list.js';
import { plain } from './marks.js';
import { view } from './view.js';

/** Fields and their kinds; of a text the values that occur are proposed. `docs/filter.md` has all names. */
const FIELDS = {
  status: 'status code', method: 'text', host: 'text', path: 'text', endpoint: 'text, ids as *', url: 'text', operation: 'text',
  took: 'duration, such as 1s', first_byte: 'duration', time: 'time', request_bytes: 'size, such as 4kB', response_bytes: 'size',
  content_type: 'text', protocol: 'text', vni: 'number', client: 'address', client_port: 'number', server: 'address', server_port: 'number',
  appliance: 'text', connection: 'text', note: 'text', sender: 'text', operation_kind: 'text',
  'request_header:': 'header of the request', 'response_header:': 'header of the response', 'request_param:': 'parameter', 'fact.': 'fact',
};
const COUNTED = ['status', 'method', 'host', 'endpoint', 'operation', 'operation_kind', 'content_type', 'protocol', 'vni', 'client', 'server', 'appliance', 'sender'];
const HEADERS = ['accept', 'authorization', 'content-length', 'content-type', 'cookie', 'host', 'location', 'origin', 'referer', 'set-cookie', 'user-agent', 'x-request-id'];

const SHOWN = 9;
const VALUES = 60;
const WAIT_MS = 150;
const KEEP_MS = 20_000;

const input = $('filter');
const box = $('suggestions');
const known = new Map();

let choices = [];
let current = -1;
let place = [0, 0];
let asked = 0;

const VALUE = /(?:^|[\s(])([A-Za-z_][\w.]*)\s*(==|!=|~|!~|\bin\s*\()\s*("[^"]*|[^\s"()]*)$/;
const NAME = /(?:^|[\s(])([A-Za-z_][\w.]*(?::[\w-]*)?)$/;
const quoted = (value) => (/^[\w./:*+@-]+$/.test(value) ? value : `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`);

/** Values of a field that occur in the range of time, the most frequent first. */
async function values(field) {
  const key = `${field} ${view.from} ${view.to}`;
  const kept = known.get(key);
  if (kept && performance.now() - kept.at < KEEP_MS) return kept.values;
  const parameters = wanted();
  parameters.delete('filter');
  parameters.set('by', field);
  parameters.set('limit', String(VALUES));
  const top = await get(`/api/v1/top?${parameters}`);
  const found = top.values.filter(({ value }) => value !== '');
  known.set(key, { at: performance.now(), values: found });
  return found;
}

async function propose() {
  const mine = ++asked;
  const before = input.value.slice(0, input.selectionStart ?? 0);
  const value = VALUE.exec(before);
  const name = value ? null : NAME.exec(before);
  let found = [];
  if (value && COUNTED.includes(value[1].toLowerCase())) {
    const typed = value[3].replace(/^"/, '').toLowerCase();
    try {
      const all = await values(value[1].toLowerCase());
      found = all.filter((one) => one.value.toLowerCase().includes(typed) && one.value.toLowerCase() !== typed)
        .map((one) => ({ text: quoted(one.value), shown: one.value, aside: compact(one.calls) }));
    } catch { /* nothing is proposed */ }
    place = [before.length - value[3].length, before.length];
  } else if (name) {
    found = names(name[1]);
    place = [before.length - name[1].length, before.length];
  }
  if (mine !== asked) return;
  show(found.slice(0, SHOWN));
}

function names(typed) {
  const [prefix, header] = typed.toLowerCase().split(':');
  if (header !== undefined) {
    const matching = HEADERS.filter((one) => one.startsWith(header) && one !== header);
    return matching.map((one) => ({ text: `${prefix}:${one}`, shown: `${prefix}:${one}`, aside: '' }));
  }
  const matching = Object.keys(FIELDS).filter((one) => one.startsWith(prefix) && one !== prefix);
  return matching.map((one) => ({ text: one, shown: one, aside: FIELDS[one] }));
}

function show(found) {
  choices = found;
  current = -1;
  box.hidden = !found.length || document.activeElement !== input;
  input.setAttribute('aria-expanded', String(!box.hidden));
  input.removeAttribute('aria-activedescendant');
  box.replaceChildren(...found.map((choice, index) => {
    const option = make('div', 'option');
    option.id = `suggestion-${index}`;
    option.setAttribute('role', 'option');
    option.setAttribute('aria-selected', 'false');
    option.append(plain('span', 'mono', choice.shown), make('span', 'dim', choice.aside));
    // Before the filter loses the focus.
    option.addEventListener('pointerdown', (event) => {
      event.preventDefault();
      take(index);
    });
    return option;
  }));
}

function step(by) {
  current = (current + by + choices.length + (current < 0 && by < 0 ? 1 : 0)) % choices.length;
  [...box.children].forEach((option, index) => option.setAttribute('aria-selected', String(index === current)));
  input.setAttribute('aria-activedescendant', `suggestion-${current}`);
  box.children[current].scrollIntoView({ block: 'nearest' });
}

function take(index) {
  const [start, end] = place;
  const { text } = choices[index];
  input.setRangeText(text, start, end, 'end');
  show([]);
  setFilter(input.value);
  if (text in FIELDS) propose();
}

/** Takes a key of the filter; false where it is not about the list. */
export function takeKey(event) {
  if (box.hidden) return false;
  if (event.key === 'ArrowDown' || event.key === 'ArrowUp') step(event.key === 'ArrowDown' ? 1 : -1);
  else if (event.key === 'Escape') show([]);
  else if ((event.key === 'Enter' && current >= 0) || (event.key === 'Tab' && !event.shiftKey)) take(Math.max(0, current));
  else return false;
  event.preventDefault();
  return true;
}

let typing = null;
input.addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(propose, WAIT_MS);
});
input.addEventListener('blur', () => {
  clearTimeout(typing);
  asked++;
  show([]);
});
