// The range of time: one of a list, or its two ends.

import { $ } from './dom.js';
import { setRange } from './list.js';
import { view } from './view.js';

/** Shows the range that is in force. */
export function showRange() {
  const known = [...$('range').options].some((option) => option.value === view.from);
  const isOwn = view.to !== '' || !known;
  $('range').value = isOwn ? 'own' : view.from;
  $('own-range').hidden = !isOwn;
  if (isOwn) {
    $('from').value = view.from;
    $('to').value = view.to;
  }
}

$('range').addEventListener('change', () => {
  const chosen = $('range').value;
  $('own-range').hidden = chosen !== 'own';
  if (chosen === 'own') $('from').focus();
  else setRange(chosen, '');
});
$('own-range').addEventListener('change', () => setRange($('from').value.trim(), $('to').value.trim()));
