// The live stream of the store, and the state of the connection in the header.

import { $ } from './dom.js';
import { view } from './view.js';

const RETRY_MS = 3000;

let source = null;
let link = 'connecting';

export function disconnect() {
  source?.close();
  source = null;
}

/**
 * Opens the stream behind `view.newest`, with the filter. `on.calls(calls)` gets new calls, newest first; `on.lagged(count)` means
 * that the list has a hole on top of it and has to be fetched again, `on.refused()` that the store ended the stream for good.
 */
export function connect(on) {
  disconnect();
  // Nothing new comes into a range that has ended.
  if (document.hidden || view.to) return;
  const parameters = new URLSearchParams({ filter: view.filter });
  if (view.newest !== null) parameters.set('after', view.newest);
  const mine = new EventSource(`/api/v1/stream?${parameters}`);
  source = mine;
  mine.onopen = () => setLink('live');
  mine.addEventListener('calls', (event) => {
    view.newest = event.lastEventId;
    on.calls(JSON.parse(event.data).calls);
  });
  mine.addEventListener('lagged', (event) => {
    view.newest = event.lastEventId;
    on.lagged(JSON.parse(event.data).arrived ?? 0);
  });
  mine.onerror = () => {
    setLink('lost');
    // The browser connects again by itself unless the store refused.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => source === mine && on.refused(), RETRY_MS);
  };
}

export function setLink(state) {
  link = state;
  showState();
}

export function showState() {
  const shown = link === 'live' && view.paused ? 'paused' : link;
  // A range that has ended has no stream.
  const state = view.to && shown !== 'lost' ? 'past' : shown;
  const text = { live: 'live', paused: 'paused', past: 'past', lost: 'reconnecting', connecting: 'connecting' }[state];
  $('state').dataset.state = state;
  if ($('state-text').textContent !== text) $('state-text').textContent = text;
}
