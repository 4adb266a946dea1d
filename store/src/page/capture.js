// The capture beside the store: whether it is on, a button for that, and its status for others.

import { complain } from './alerts.js';
import { get, post } from './api.js';
import { $ } from './dom.js';
import { percent } from './format.js';
import { redrawSoon } from './list.js';
import { view } from './view.js';

const STATUS_MS = 2000;

/** Time for the second click that turns the capture off. */
const CONFIRM_MS = 4000;

const listeners = [];

/** Until when a second click turns the capture off. */
let confirmed = -Infinity;

/** Registers what is called with each new status; null where no capture belongs to the store. */
export function onCapture(listener) {
  listeners.push(listener);
}

export async function watchCapture() {
  if (!document.hidden) {
    try {
      const { status } = await get('/api/v1/capture');
      view.capture = status;
      complain('capture', null);
    } catch (error) {
      // The status of the store states that it does not answer.
      if (error.answer) complain('capture', `The state of the capture is unknown: ${error.message}`);
    }
    show();
  }
  setTimeout(watchCapture, STATUS_MS);
}

const STATES = { RUNNING: ['on', 'capturing'], STOPPING: ['stopping', 'stopping'], STOPPED: ['off', 'capture is off'] };

function show() {
  const status = view.capture;
  $('capture').hidden = status === null;
  if (status !== null) {
    const [state, words] = STATES[status.state] ?? STATES.STOPPED;
    const names = status.capture?.interfaces ?? [];
    $('capture').dataset.state = state;
    $('capture-text').textContent = state === 'on' && names.length ? `capturing on ${names.length > 2 ? `${names.length} interfaces` : names.join(', ')}` : words;
    $('capture-text').title = state === 'on' ? (status.capture?.sentence ?? '') : (status.stopped?.reason ?? '');
    $('capture-switch').hidden = state === 'stopping';
    const off = performance.now() < confirmed ? 'Really turn off?' : 'Turn off';
    $('capture-switch').textContent = state === 'on' ? off : 'Turn on';
    showLosses(state === 'on' ? status.capture : null);
  }
  redrawSoon();
  listeners.forEach((listener) => listener(status));
}

function showLosses(capture) {
  const { captured_bytes: captured = 0, missing_bytes: missing = 0 } = capture?.completeness ?? {};
  $('total-complete-box').hidden = !capture || captured + missing === 0;
  $('total-complete').textContent = percent(captured, captured + missing);
  const dropped = Object.values(capture?.calls.dropped ?? {}).reduce((sum, count) => sum + count, 0);
  $('total-dropped-box').hidden = dropped === 0;
  $('total-dropped').textContent = String(dropped);
}

/** Turns the capture on or off; what became of it is in the next status. */
export async function switchCapture(on) {
  try {
    await post('/api/v1/capture', { on });
  } catch (error) {
    complain('capture', `The capture cannot be switched: ${error.message}`);
  }
}

$('capture-switch').addEventListener('click', async () => {
  const on = view.capture?.state !== 'RUNNING';
  if (!on && performance.now() > confirmed) {
    confirmed = performance.now() + CONFIRM_MS;
    show();
    setTimeout(show, CONFIRM_MS);
    return;
  }
  confirmed = -Infinity;
  $('capture-switch').disabled = true;
  await switchCapture(on);
  $('capture-switch').disabled = false;
});
