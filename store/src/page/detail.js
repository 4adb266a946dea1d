// One call in full.

import { writeAddress } from './address.js';
import { get } from './api.js';
import { $, make } from './dom.js';
import { REASONS, bytes, clock, fullTime, methodText, moment, statusBadge, thousands, took, urlParts } from './format.js';
import { setFilter } from './list.js';
import { fields, section } from './section.js';
import { text } from './text.js';
import { timing } from './timing.js';
import { view } from './view.js';

let detailing = 0;

export async function openCall(id, takeFocus) {
  const mine = ++detailing;
  view.open = id;
  writeAddress();
  document.body.classList.add('with-detail');
  $('detail').hidden = false;
  $('detail').dataset.id = id;
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
  view.rows.get(view.selected)?.scrollIntoView({ block: 'nearest' });
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
  parts.push(
    section('request', `${call.method} ${call.path || call.url}`, bytes(call.request_bytes), [
      fields('Parameters', of('request_param:')),
      fields('Headers', of('request_header:')),
      text('Body', one('request_body'), requestType),
    ]),
    section('response', call.status === null ? 'no status' : [call.status, REASONS[call.status]].filter(Boolean).join(' '), bytes(call.response_bytes), [
      fields('Headers', of('response_header:')),
      text('Body', one('response_body'), responseType),
    ]),
    section('timing', took(call.interval_ms), '', [timing(call, annotations)]),
  );
  if (annotations.size) parts.push(section('connection', connectionText(annotations), '', connection(annotations)));
  const session = of('session_field:');
  if (session.length) parts.push(section('session', `${session.length} fields`, '', [fields('Fields', session)]));
  parts.push(section('as-sent', `${thousands(call.line.length)} characters of NDJSON`, '', [text('Line', call.line, '', true)]));
  $('detail-body').replaceChildren(...parts);
  $('detail-body').scrollTop = 0;
}

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
  fact('logger', logger);
  fact('note', call.note);
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
  const rows = [...annotations].filter(([name]) => !/_(started|ended)$/.test(name)).map(([name, value]) => [name.replaceAll('_', ' '), value]);
  const parts = rows.length ? [fields('', rows)] : [];
  const id = annotations.get('connection_id');
  if (id) {
    const others = make('button', 'more', 'Show the calls of this connection');
    others.type = 'button';
    others.addEventListener('click', () => {
      $('filter').value = id;
      setFilter(id);
    });
    parts.push(others);
  }
  return parts;
}
