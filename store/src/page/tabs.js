// Tabs of a call. The one that was chosen stays chosen for the next call, if that has it.

import { make } from './dom.js';
import { plain } from './marks.js';

let chosen = 'request';

/** `parts` are `{ name, title, aside, children }`; one without children has nothing to show and no tab. */
export function tabs(parts) {
  const present = parts.map((part) => ({ ...part, children: part.children.filter(Boolean) })).filter((part) => part.children.length);
  const box = make('div', 'tabs');
  const list = make('div', 'tab-list');
  list.setAttribute('role', 'tablist');
  list.setAttribute('aria-label', 'Parts of the call');
  box.append(list);
  for (const { name, title, aside, children } of present) {
    const tab = make('button', '', title);
    tab.type = 'button';
    tab.id = `tab-${name}`;
    tab.setAttribute('role', 'tab');
    tab.setAttribute('aria-controls', `detail-${name}`);
    tab.addEventListener('click', () => show(name));
    list.append(tab);
    const panel = make('section', 'panel');
    panel.id = `detail-${name}`;
    panel.tabIndex = 0;
    panel.setAttribute('role', 'tabpanel');
    panel.setAttribute('aria-labelledby', tab.id);
    if (aside) panel.append(plain('p', 'start-line', aside));
    panel.append(...children);
    box.append(panel);
  }
  const names = present.map((part) => part.name);
  const open = (name) => {
    for (const tab of list.children) {
      const isOpen = tab.id === `tab-${name}`;
      tab.setAttribute('aria-selected', String(isOpen));
      tab.tabIndex = isOpen ? 0 : -1;
    }
    for (const panel of box.querySelectorAll(':scope > .panel')) panel.hidden = panel.id !== `detail-${name}`;
  };
  const show = (name) => {
    chosen = name;
    open(name);
  };
  list.addEventListener('keydown', (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const at = [...list.children].findIndex((tab) => tab.getAttribute('aria-selected') === 'true');
    const to = (at + by + names.length) % names.length;
    show(names[to]);
    list.children[to].focus();
    event.preventDefault();
    event.stopPropagation();
  });
  open(names.includes(chosen) ? chosen : names[0]);
  return box;
}
