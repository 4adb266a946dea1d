// The columns of the list: what they show, which are chosen, and a menu for that.

import { $, choosable, kept, make } from './dom.js';
import { bytes, clock, fullTime, methodText, moment, statusBadge, took, urlParts } from './format.js';
import { plain } from './marks.js';

/** A call that takes as long is marked. */
const SLOW_MS = 1000;

const text = (field) => (call) => {
  const value = call[field];
  const shown = value === null || value === undefined || value === '' ? '–' : String(value);
  return { content: choosable(plain('span', '', shown), field, value), title: shown };
};

/** Name, title, whether it is shown at first, content of a cell. */
const COLUMNS = [
  ['time', 'time', true, (call) => ({ content: clock(moment(call)), title: fullTime(moment(call)) })],
  ['method', 'method', true, (call) => ({ content: choosable(methodText(call.method), 'method', call.method) })],
  ['url', 'url', true, (call) => ({ content: urlParts(call), title: call.url })],
  ['status', 'status', true, (call) => ({ content: choosable(statusBadge(call.status), 'status', call.status) })],
  ['took', 'took', true, (call) => ({ content: took(call.interval_ms), className: call.interval_ms >= SLOW_MS ? 'slow' : '' })],
  ['first', 'first byte', false, (call) => ({ content: took(call.first_byte_ms) })],
  ['sent', 'request', false, (call) => ({ content: bytes(call.request_bytes) })],
  ['size', 'response', true, (call) => ({ content: bytes(call.response_bytes) })],
  ['type', 'type', true, text('content_type')],
  ['endpoint', 'endpoint', false, text('endpoint')],
  ['operation', 'operation', false, text('operation')],
  ['protocol', 'protocol', false, text('protocol')],
  ['vni', 'vni', false, text('vni')],
  ['client', 'client', false, text('client')],
  ['server', 'server', false, text('server')],
  ['appliance', 'appliance', false, text('appliance')],
  ['note', 'note', true, (call) => ({ content: plain('span', '', call.note), title: call.note })],
].map(([name, title, isDefault, show]) => ({ name, title, isDefault, show }));

const NUMBERS = ['took', 'first', 'sent', 'size'];
const className = ({ name }) => `c-${name}${NUMBERS.includes(name) ? ' num' : ''}`;

/** So many fit beside the URL; with more the list is wider than its place. */
const FITTING = 8;

/** Pixels of a column, and of the URL, from there on. */
const COLUMN_PIXELS = 104;
const URL_PIXELS = 280;

/** Without the URL a row shows no call. */
const FIXED = ['url'];

let chosen = stored();

function stored() {
  const names = kept.get('columns')?.split(',') ?? [];
  const known = COLUMNS.filter(({ name }) => names.includes(name));
  return known.length ? known : COLUMNS.filter(({ isDefault }) => isDefault);
}

/** The cells of a call. */
export function cells(call) {
  return chosen.map((column) => {
    const { content, title, className: more } = column.show(call);
    const cell = make('td', more ? `${className(column)} ${more}` : className(column));
    cell.append(...[content].flat());
    if (title) cell.title = title;
    return cell;
  });
}

/** Writes the head of the table. */
export function head() {
  const row = make('tr');
  for (const column of chosen) {
    const cell = make('th', className(column), column.title);
    cell.scope = 'col';
    row.append(cell);
  }
  $('calls').tHead.replaceChildren(row);
  $('calls').style.minWidth = chosen.length > FITTING ? `${URL_PIXELS + COLUMN_PIXELS * (chosen.length - 1)}px` : '';
}

/** Fills the menu; `on.changed` is called after each choice. */
export function menu(on) {
  for (const column of COLUMNS) {
    const box = make('input');
    box.type = 'checkbox';
    box.checked = chosen.includes(column);
    box.disabled = FIXED.includes(column.name);
    box.addEventListener('change', () => {
      const wanted = (other) => (other === column ? box.checked : chosen.includes(other));
      chosen = COLUMNS.filter(wanted);
      kept.set('columns', chosen.map(({ name }) => name).join(','));
      head();
      on.changed();
    });
    const label = make('label');
    label.append(box, ` ${column.title}`);
    $('columns-menu').append(label);
  }
}
