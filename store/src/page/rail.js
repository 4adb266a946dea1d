// The scroll bar of the list, which stands for the time: the newest call is at its top, the oldest at its end, and in it the number of
// calls over the time. A click, dragging, or the keys move the list to another time.

import { get, wanted } from './api.js';
import { $, draw } from './dom.js';
import { clock, fullTime, moment, thousands } from './format.js';
import { inView } from './grid.js';
import { jump, onList, setFollow } from './list.js';
import { view } from './view.js';

/** Bars of the number of calls. */
const BARS = 80;

/** Least time between two moves of the list while the bar is dragged, and between two counts. */
const DRAG_MS = 120;
const COUNT_MS = 15_000;

/** A bar that is dragged so near to its top is at the newest call. */
const TOP_PART = 0.005;

const rail = $('rail');
const thumb = $('rail-thumb');

/** The time at both ends, and what is drawn for it. */
let range = { from: 0, to: 0 };
let bars = null;

const first = () => view.coverage?.from_ms ?? view.coverage?.held_from_ms ?? null;

function measure() {
  const oldest = view.calls.length ? moment(view.calls.at(-1)) : Date.now();
  const from = Math.min(first() ?? oldest, view.next === null ? Infinity : oldest);
  const to = view.coverage?.to_ms ?? Date.now();
  range = { from: Number.isFinite(from) ? from : oldest, to: Math.max(to, from + 1) };
}

const part = (time) => Math.min(1, Math.max(0, (range.to - time) / (range.to - range.from)));
const timeAt = (share) => range.to - share * (range.to - range.from);

function place() {
  measure();
  const [top, end] = inView();
  if (!view.calls.length) return;
  const newest = view.follow && !view.ahead && top === 0 ? range.to : moment(view.calls[top]);
  const oldest = moment(view.calls[Math.max(top, end - 1)]);
  const [start, stop] = [part(newest), part(oldest)];
  // Where all of the time is in view, a thumb would cover the bars and show nothing.
  thumb.hidden = stop - start > 0.98;
  thumb.style.top = `${100 * start}%`;
  thumb.style.height = `${100 * Math.max(0, stop - start)}%`;
  rail.setAttribute('aria-valuenow', String(Math.round(1000 * start)));
  rail.setAttribute('aria-valuetext', view.follow ? 'newest calls' : fullTime(newest));
  if (bars) showBars();
}

function showBars() {
  const most = Math.max(1, ...bars.series.map((point) => point.calls));
  const height = rail.clientHeight;
  const shapes = bars.series.filter((point) => point.calls).map((point) => {
    const top = part(point.time_ms + bars.step_ms) * height;
    const bottom = part(point.time_ms) * height;
    const errors = point.classes[5] / point.calls;
    const length = 10 + (90 * point.calls) / most;
    return draw('rect', {
      class: errors >= 0.05 ? 'errors' : '',
      x: `${100 - length}%`, width: `${length}%`, y: top.toFixed(1), height: Math.max(1, bottom - top - 0.5).toFixed(1),
    });
  });
  $('rail-calls').replaceChildren(...shapes);
}

let counted = -Infinity;
let counting = 0;

async function count() {
  if (document.hidden || !view.calls.length) return;
  counted = performance.now();
  const mine = ++counting;
  measure();
  const parameters = wanted();
  parameters.set('from', String(Math.floor(range.from)));
  parameters.set('to', String(Math.ceil(range.to) + 1));
  parameters.set('step', `${Math.max(1, Math.ceil((range.to - range.from) / BARS))}ms`);
  try {
    const stats = await get(`/api/v1/stats?${parameters}`);
    if (mine === counting) bars = stats;
  } catch {
    // A bar without numbers serves as well.
    if (mine === counting) bars = null;
  }
  place();
}

let moved = -Infinity;
let later = null;

/** Moves the list; of moves that follow each other fast the last one counts. */
function move(share) {
  clearTimeout(later);
  const wait = moved + DRAG_MS - performance.now();
  if (wait > 0) {
    later = setTimeout(() => move(share), wait);
    return;
  }
  moved = performance.now();
  if (share <= TOP_PART) setFollow(true);
  else jump(timeAt(Math.min(1, share)));
}

const shareOf = (event) => (event.clientY - rail.getBoundingClientRect().top) / rail.clientHeight;

function hint(share) {
  const time = timeAt(Math.min(1, Math.max(0, share)));
  const box = $('rail-time');
  box.hidden = false;
  box.style.top = `${100 * Math.min(0.97, Math.max(0.01, share))}%`;
  const bar = bars?.series.find((point) => time >= point.time_ms && time < point.time_ms + bars.step_ms);
  box.textContent = clock(time).replace(/\.\d+$/, '') + (bar ? ` · ${thousands(bar.calls)} ${bar.calls === 1 ? 'call' : 'calls'}` : '');
}

rail.addEventListener('pointerdown', (event) => {
  if (event.button !== 0) return;
  rail.setPointerCapture(event.pointerId);
  move(shareOf(event));
  event.preventDefault();
  rail.focus({ preventScroll: true });
});
rail.addEventListener('pointermove', (event) => {
  hint(shareOf(event));
  if (rail.hasPointerCapture(event.pointerId)) move(shareOf(event));
});
rail.addEventListener('pointerleave', () => { $('rail-time').hidden = true; });

/** How far a key moves, as a part of the bar. */
const STEPS = { ArrowDown: 0.01, ArrowUp: -0.01, PageDown: 0.1, PageUp: -0.1 };

rail.addEventListener('keydown', (event) => {
  const now = Number(rail.getAttribute('aria-valuenow')) / 1000;
  const to = { Home: 0, End: 1 }[event.key] ?? (event.key in STEPS ? Math.min(1, Math.max(0, now + STEPS[event.key])) : null);
  if (to === null) return;
  move(to);
  event.preventDefault();
  event.stopPropagation();
});

onList({ changed: count, scrolled: place });
setInterval(() => {
  if (performance.now() - counted > COUNT_MS && view.pane === 'calls') count();
}, 1000);
