// One call in full.

import { writeAddress } from './address.js';
import { get } from './api.js';
import { onCapture } from './capture.js';
import { $, button, make } from './dom.js';
import { REASONS, bytes, clock, fullTime, methodText, moment, statusBadge, thousands, took, urlParts } from './format.js';
import { select, setFilter } from './list.js';
import { plain } from './marks.js';
import { messages, split } from './messages.js';
import { neighbours } from './neighbours.js';
import { keptPackets, offerPackets, packets } from './packets.js';
import { fields } from './section.js';
import { tabs } from './tabs.js';
import { text } from './text.js';
import { timing } from './timing.js';
import { view } from './view.js';

let detailing = 0;

/** Whether the call was shown while packets are kept. */
let hadPackets = false;

export async function openCall(id, takeFocus) {
  const mine = ++detailing;
  view.open = id;
  writeAddress();
  document.body.classList.add('with-detail');
  $('detail').hidden = false;
  $('detail').dataset.id = id;
  $('detail-curl').href = `/api/v1/calls/${id}/curl`;
  $('detail-har').href = `/api/v1/calls/${id}/har`;
  offerPackets(id);
  try {
    const call = await get(`/api/v1/calls/${id}`);
    if (mine !== detailing) return;
    showCall(call);
  } catch (error) {
    if (mine !== detailing) return;
    $('detail-title').replaceChildren(`Call ${id}`);
    $('detail-body').replaceChildren(make('p', 'facts dim', `It cannot be shown: ${error.message}`));
  }
  if (takeFocus) $('detail').focus({ preventScroll: true });
  select(view.selected, false);
}

export function closeCall() {
  if (view.open === null) return;
  detailing++;
  view.open = null;
  writeAddress();
  document.body.classList.remove('with-detail');
  $('detail').hidden = true;
  view.rows.get(view.selected)?.focus();
}

function showCall(call) {
  const of = (prefix) => call.details.filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key.slice(prefix.length), value]);
  const one = (key) => call.details.find(([name]) => name === key)?.[1];
  const requestType = of('request_header:').find(([name]) => name === 'content-type')?.[1] ?? '';
  const responseType = of('response_header:').find(([name]) => name === 'content-type')?.[1] ?? '';

  $('detail-title').replaceChildren(methodText(call.method), ' ', ...urlParts(call));
  const parts = [facts(call, one('host'))];
  const annotations = new Map(of('custom_field:'));
  const named = (prefix) => (name) => `${prefix}${name}`;
  const session = of('session_field:');
  parts.push(tabs([
    { name: 'request', title: 'Request', aside: `${call.method} ${call.path || call.url}`, children: [
      fields('Parameters', of('request_param:'), named('request_param:')),
      fields('Headers', of('request_header:'), named('request_header:')),
      fields('Session', session, named('session_field:')),
      text('Body', one('request_body'), requestType) ?? make('p', 'dim', 'No request body is in the line.'),
    ] },
    { name: 'response', title: 'Response', aside: call.status === null ? 'no status' : [call.status, REASONS[call.status]].filter(Boolean).join(' '), children: [
      fields('Headers', of('response_header:'), named('response_header:')),
      text('Body', one('response_body'), responseType) ?? make('p', 'dim', 'No response body is in the line.'),
    ] },
    { name: 'messages', title: 'Messages', children: [
      messages('Sent by the client', split(one('request_body'), requestType, annotations)),
      messages('Sent by the server', split(one('response_body'), responseType, annotations)),
    ] },
    { name: 'timing', title: 'Timing', children: [timing(call, annotations)] },
    { name: 'connection', title: 'Connection', aside: connectionText(annotations), children: annotations.size ? connection(annotations) : [] },
    { name: 'packets', title: 'Packets', children: packets(call) },
    { name: 'as-sent', title: 'As sent', children: [text(`${thousands(call.line.length)} characters of NDJSON`, call.line, '', true)] },
  ]));
  hadPackets = keptPackets() > 0;
  $('detail-body').replaceChildren(...parts);
  showNeighbours(call, annotations.get('connection_id'));
  $('detail-body').scrollTop = 0;
}

/** Buttons to the other calls of the connection, once it is known which they are. */
async function showNeighbours(call, connection) {
  const mine = detailing;
  const buttons = [$('detail-before'), $('detail-after')];
  for (const one of buttons) {
    one.hidden = !connection;
    one.disabled = true;
    delete one.dataset.id;
  }
  if (!connection || !/^[\w-]+$/.test(connection)) return;
  try {
    const { before, after } = await neighbours(call, connection);
    if (mine !== detailing) return;
    [before, after].forEach((id, index) => {
      buttons[index].disabled = id === null;
      if (id !== null) buttons[index].dataset.id = id;
    });
  } catch { /* they stay disabled */ }
}

/** Opens the call before or after this one on its connection. */
export function openNeighbour(isAfter) {
  const { id } = $(isAfter ? 'detail-after' : 'detail-before').dataset;
  if (id === undefined) return;
  select(id, false);
  openCall(id, false);
}

// The status of the capture may come after the call.
onCapture(() => {
  if (view.open !== null && keptPackets() > 0 !== hadPackets) openCall(view.open, false);
});

function facts(call, logger) {
  const list = make('dl', 'facts');
  const fact = (name, content, title) => {
    if (content === undefined || content === '') return;
    const box = make('div');
    const value = make('dd');
    value.append(content);
    if (title) value.title = title;
    box.append(make('dt', '', name), value);
    list.append(box);
  };
  fact('status', statusBadge(call.status));
  fact('took', took(call.interval_ms));
  fact('time', clock(moment(call)), fullTime(moment(call)));
  fact('request', bytes(call.request_bytes));
  fact('response', bytes(call.response_bytes));
  fact('logger', logger && plain('span', '', logger));
  fact('note', call.note && plain('span', '', call.note));
  fact('call', `#${call.id}`);
  return list;
}

function connectionText(annotations) {
  const end = (side) => {
    const address = annotations.get(`${side}_address`);
    if (!address) return '?';
    return `${address.includes(':') ? `[${address}]` : address}:${annotations.get(`${side}_port`) ?? '?'}`;
  };
  return annotations.has('client_address') || annotations.has('server_address') ? `${end('client')} → ${end('server')}` : '';
}

/** Every annotation as it was sent, and a button that shows the other calls of the connection. */
function connection(annotations) {
  const rows = [...annotations].filter(([name]) => !/_(started|ended)$/.test(name));
  const parts = rows.length ? [fields('', rows, (name) => `fact.${name}`)] : [];
  const id = annotations.get('connection_id');
  if (id) {
    parts.push(button('more', 'Show the calls of this connection', () => {
      const filter = `connection==${id}`;
      $('filter').value = filter;
      setFilter(filter);
    }));
  }
  return parts;
}
