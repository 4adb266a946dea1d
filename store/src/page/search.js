// What stands beside the filter: what is wrong with it, what the list is based on, exports.

import { wanted } from './api.js';
import { remarks } from './coverage.js';
import { $, make } from './dom.js';
import { view } from './view.js';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Shows an error of the filter with its place, whose offsets count bytes. */
export function showFilterError(answer) {
  const box = $('filter-error');
  box.hidden = answer === null;
  $('filter').setAttribute('aria-invalid', String(answer !== null));
  if (answer === null) {
    box.replaceChildren();
    return;
  }
  const bytes = encoder.encode(view.filter);
  const part = (from, to) => decoder.decode(bytes.subarray(from, to));
  const end = Math.max(answer.end ?? answer.position, answer.position);
  const place = make('code', 'place');
  place.append(part(0, answer.position), make('mark', '', part(answer.position, end) || '\u00a0'), part(end));
  box.replaceChildren(place, make('span', '', answer.error));
  if (answer.guess) {
    const meant = `${part(0, answer.position)}${answer.guess}${part(end)}`;
    const button = make('button', '', `Use ${answer.guess}`);
    button.type = 'button';
    button.dataset.meant = meant;
    box.append(button);
  }
}

/** States what the list is based on. */
export function showCoverage(coverage) {
  const text = remarks(coverage).join(' · ');
  $('coverage').hidden = !text;
  $('coverage').textContent = text;
}

/** The links of the exports have the filter and the range. */
export function showExports() {
  for (const link of document.querySelectorAll('#exports a')) {
    const parameters = wanted();
    parameters.set('format', link.dataset.format);
    link.href = `/api/v1/export?${parameters}`;
  }
}
