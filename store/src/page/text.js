// A body or a line as text: raw as it was sent, as bytes, JSON also laid out, with a button to copy it.

import { make } from './dom.js';
import { thousands } from './format.js';
import { hex } from './hex.js';
import { coloured, layout, looksLikeJson } from './json.js';
import { marked } from './marks.js';
import { heading } from './section.js';

const TEXT_CHARS_MAX = 200_000;
const COLOUR_CHARS_MAX = 60_000;

/** A body or the line: raw as it was sent, as bytes, JSON also laid out. */
export function text(title, value, type, rawFirst) {
  if (value === undefined) return null;
  const box = make('section');
  const head = heading(title, type);
  const pre = make('pre', 'text');
  pre.tabIndex = 0;
  pre.setAttribute('aria-label', title);
  box.append(head, pre);

  const json = looksLikeJson(value);
  let form = json && !rawFirst ? 'pretty' : 'raw';
  let all = false;
  const written = { pretty: layout, raw: (text) => text, hex };
  const show = () => {
    const chosen = written[form](value);
    const shown = all ? chosen : chosen.slice(0, TEXT_CHARS_MAX);
    if (json && form !== 'hex' && shown.length <= COLOUR_CHARS_MAX) pre.replaceChildren(...coloured(shown));
    else pre.replaceChildren(...marked(shown));
    pre.classList.toggle('hex', form === 'hex');
    more.hidden = shown.length === chosen.length;
    more.textContent = `Show all ${thousands(chosen.length)} characters`;
  };
  const more = make('button', 'more');
  more.type = 'button';
  more.addEventListener('click', () => { all = true; show(); });
  const group = make('span', 'switch');
  group.setAttribute('role', 'group');
  group.setAttribute('aria-label', `${title}: how it is laid out`);
  const forms = [['Pretty', 'pretty'], ['Raw', 'raw'], ['Hex', 'hex']].slice(json ? 0 : 1);
  const buttons = forms.map(([name, value]) => {
    const button = make('button', '', name);
    button.type = 'button';
    button.dataset.layout = value;
    button.addEventListener('click', () => { form = value; press(); show(); });
    group.append(button);
    return button;
  });
  const press = () => buttons.forEach((button) => button.setAttribute('aria-pressed', String(button.dataset.layout === form)));
  press();
  head.append(group);
  const copy = make('button', 'copy', 'Copy');
  copy.type = 'button';
  copy.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(value);
      copy.textContent = 'Copied';
    } catch {
      copy.textContent = 'Not allowed here';
    }
    setTimeout(() => (copy.textContent = 'Copy'), 1500);
  });
  head.append(copy);
  box.append(more);
  show();
  return box;
}
