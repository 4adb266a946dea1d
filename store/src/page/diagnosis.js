// Why there is no call yet: what the capture reports, and what can be done.

import { onCapture, switchCapture } from './capture.js';
import { $, make } from './dom.js';
import { age, thousands } from './format.js';
import { marked } from './marks.js';

/** Protocols that are recognised and not read. */
const UNREAD = ['tls', 'quic', 'http2_midstream', 'other'];

function findings(status) {
  const found = [];
  const { capture } = status;
  if (status.state !== 'RUNNING') {
    found.push(status.stopped?.reason || 'Capture is off, so nothing is recorded.');
    return found;
  }
  const { packets, ports, calls } = capture ?? {};
  if (!capture) return ['The capture starts.'];
  if (packets.received === 0) {
    found.push(`No packet has arrived on ${capture.interfaces.join(', ')} for ${age(status.uptime_seconds)}.`);
  } else if (calls.seen === 0) {
    found.push(`${thousands(packets.received)} packets have arrived, and no call was in them. Read: ${capture.reads}.`);
    for (const { port, ...connections } of ports.slice(0, 5)) {
      const unread = UNREAD.filter((name) => connections[name] > 0).map((name) => `${thousands(connections[name])} ${name}`);
      if (unread.length) found.push(`Port ${port}: connections that are not readable (${unread.join(', ')}).`);
    }
  } else if (calls.stopped + calls.sampled >= calls.seen) {
    found.push(`${thousands(calls.seen)} calls were captured, and the rules let none pass.`);
  } else {
    found.push(`${thousands(calls.seen)} calls were captured; they are delivered to ${capture.output.url}.`);
    if (capture.output.up === false) found.push(`That fails: ${capture.output.last_error ?? 'no answer'}.`);
  }
  return found;
}

onCapture((status) => {
  if ($('empty').hidden) return;
  $('empty-alone').hidden = status !== null;
  $('empty-capture').hidden = status === null;
  if (!status) return;
  const items = findings(status).map((text) => make('li', '', text));
  for (const { code, text } of status.warnings) {
    const item = make('li');
    item.append(make('b', '', code), ' ', ...marked(text), ' ', make('code', '', `sniffer help ${code}`));
    items.push(item);
  }
  $('empty-findings').replaceChildren(...items);
  $('empty-on').hidden = status.state !== 'STOPPED';
});
$('empty-on').addEventListener('click', () => switchCapture(true));
