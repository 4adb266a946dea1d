// The messages of a body that has several: event streams, documents on lines, gRPC, WebSockets.

import { make } from './dom.js';
import { bytes, thousands } from './format.js';
import { coloured, elements, layout, looksLikeJson } from './json.js';
import { marked, plain } from './marks.js';
import { heading } from './section.js';

const MESSAGES_MAX = 500;
const PREVIEW_CHARS = 160;
const COLOUR_CHARS_MAX = 60_000;

const LINES = /^application\/(x-)?(ndjson|jsonl|jsonlines|json-lines|json-seq)|^application\/stream\+json/;
const RPC = /^application\/(grpc|connect)/;

/** The messages of a side in their order, or null where its body is one. */
export function split(body, type, annotations) {
  if (!body) return null;
  const media = type.toLowerCase();
  if (annotations.get('stream') === 'websocket' || RPC.test(media)) return elements(body);
  if (media.startsWith('text/event-stream')) return body.split(/\r\n\r\n|\n\n|\r\r/).filter((event) => event.trim());
  if (LINES.test(media)) return body.split('\n').filter((line) => line.trim());
  return null;
}

export function messages(title, found) {
  if (!found?.length) return null;
  const box = make('section', 'messages');
  box.append(heading(title, thousands(found.length)));
  const list = make('ol');
  found.slice(0, MESSAGES_MAX).forEach((message, index) => list.append(item(message, index)));
  box.append(list);
  if (found.length > MESSAGES_MAX) box.append(make('p', 'dim', `The first ${MESSAGES_MAX} are listed; the body has all of them.`));
  return box;
}

function item(message, index) {
  const row = make('li');
  const fold = make('details');
  const summary = make('summary');
  summary.append(
    make('span', 'dim num', String(index + 1)),
    plain('span', 'preview', message.slice(0, PREVIEW_CHARS).replace(/\s+/g, ' ')),
    make('span', 'dim', bytes(new Blob([message]).size)),
  );
  fold.append(summary);
  // What is folded costs nothing but its first characters.
  fold.addEventListener('toggle', () => {
    if (!fold.open || fold.childElementCount > 1) return;
    const pre = make('pre', 'text');
    pre.tabIndex = 0;
    pre.setAttribute('aria-label', `Message ${index + 1}`);
    const json = looksLikeJson(message);
    const shown = json ? layout(message) : message;
    if (json && shown.length <= COLOUR_CHARS_MAX) pre.append(...coloured(shown));
    else pre.append(...marked(shown));
    fold.append(pre);
  });
  row.append(fold);
  return row;
}
