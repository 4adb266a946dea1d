// Totals in the header.

import { complain } from './alerts.js';
import { get } from './api.js';
import { $ } from './dom.js';
import { bytes, fullTime, thousands } from './format.js';
import { redrawSoon } from './list.js';
import { view } from './view.js';

const STATUS_MS = 2000;

let lastTotals = null;
const listeners = [];

/** Registers what is called with each status of the store. */
export function onTotals(listener) {
  listeners.push(listener);
}

export async function totals() {
  if (!document.hidden) {
    try {
      const status = await get('/api/v1/status');
      showTotals(status);
      listeners.forEach((listener) => listener(status));
      complain('status', null);
    } catch {
      complain('status', 'The store does not answer. Calls that it acknowledged are committed and not lost.');
    }
  }
  setTimeout(totals, STATUS_MS);
}

function showTotals(status) {
  const now = performance.now();
  if (lastTotals && status.calls_received >= lastTotals.received) {
    const rate = (status.calls_received - lastTotals.received) / ((now - lastTotals.at) / 1000);
    $('total-rate').textContent = rate > 0 && rate < 10 ? `${rate.toFixed(1)} calls/s` : `${thousands(Math.round(rate))} calls/s`;
  }
  lastTotals = { received: status.calls_received, at: now };
  $('total-calls').textContent = `${thousands(status.calls)} ${status.calls === 1 ? 'call' : 'calls'}`;
  $('total-calls').title = `since ${fullTime(status.since_ms)}; the newest ${thousands(status.calls_max)} are kept`;
  $('total-bytes').textContent = bytes(status.database_bytes);
  $('total-bytes').title = `of ${bytes(status.database_bytes_max)}; past that the oldest calls are deleted`;
  $('total-bad-box').hidden = status.bad_lines === 0;
  $('total-bad').textContent = `${thousands(status.bad_lines)} ${status.bad_lines === 1 ? 'line' : 'lines'}`;
  $('total-bad').title = 'lines of bundles that were not a JSON array of pairs';
  $('total-expired-box').hidden = status.calls_expired === 0;
  $('total-expired').textContent = thousands(status.calls_expired);
  $('total-expired').title = 'calls deleted because the store was full';
  $('empty-url').textContent = status.capture_url;
  complain('write', status.write_error && `The database cannot be written: ${status.write_error}. Senders try again.`);
  if (view.stored !== status.calls) {
    view.stored = status.calls;
    redrawSoon();
  }
}
