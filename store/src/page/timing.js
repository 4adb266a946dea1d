// The phases of a call as a bar, and its times.

import { make } from './dom.js';
import { fullTime, took } from './format.js';
import { fields } from './section.js';

const PHASES = [
  ['request', 'request_started', 'request_ended', 'first to last packet of the request'],
  ['wait', 'request_ended', 'response_started', 'until the first packet of the response'],
  ['response', 'response_started', 'response_ended', 'first to last packet of the response'],
];

/** Nanoseconds since the epoch do not fit a number; differences do. */
function nanos(annotations, name) {
  const text = annotations.get(name);
  return text && /^\d+$/.test(text) ? BigInt(text) : null;
}

function span(ns) {
  if (ns < 1e6) return `${Math.round(ns / 1e3)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 1e7 ? 2 : 1)} ms`;
  return took(Math.round(ns / 1e6));
}

export function timing(call, annotations) {
  const box = make('section');
  const phases = PHASES.map(([name, from, to, title]) => ({ name, title, from: nanos(annotations, from), to: nanos(annotations, to) }));
  const known = phases.filter((phase) => phase.from !== null && phase.to !== null);
  if (known.length) {
    box.append(bar(known));
  } else if (call.interval_ms !== null) {
    box.append(make('p', 'dim', `${took(call.interval_ms)} from the first packet of the request to the first of the response.`));
  }
  const times = [['stored', fullTime(call.received_ms)]];
  if (call.now_ms !== null) times.unshift(['response began', fullTime(call.now_ms)]);
  if (call.now_ms !== null && call.interval_ms !== null) times.unshift(['request began', fullTime(call.now_ms - call.interval_ms)]);
  box.append(fields('', times));
  return box;
}

function bar(phases) {
  const start = phases.reduce((least, phase) => (phase.from < least ? phase.from : least), phases[0].from);
  const end = phases.reduce((most, phase) => (phase.to > most ? phase.to : most), phases[0].to);
  const whole = Math.max(1, Number(end - start));
  const box = make('div');
  const line = make('div', 'bar');
  const legend = make('dl', 'legend');
  for (const phase of phases) {
    const length = Math.max(0, Number(phase.to - phase.from));
    const part = make('i', phase.name);
    part.style.left = `${(100 * Number(phase.from - start)) / whole}%`;
    part.style.width = `${(100 * length) / whole}%`;
    line.append(part);
    const entry = make('div');
    entry.title = phase.title;
    entry.append(make('dt', phase.name, phase.name), make('dd', '', span(length)));
    legend.append(entry);
  }
  line.setAttribute('aria-hidden', 'true');
  box.append(line, legend);
  return box;
}
