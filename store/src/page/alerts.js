// The line of warnings above the list: one sentence for each subject.

import { $ } from './dom.js';

const complaints = new Map();

export function complain(what, text) {
  if (text) complaints.set(what, text);
  else complaints.delete(what);
  const joined = [...complaints.values()].join(' ');
  $('alert').hidden = !joined;
  if ($('alert').textContent !== joined) $('alert').textContent = joined;
}
