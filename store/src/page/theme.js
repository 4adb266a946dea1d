// Light, dark, or as the system has it.

import { $ } from './dom.js';

const THEMES = ['auto', 'light', 'dark'];

function setTheme(theme) {
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $('theme').textContent = theme[0].toUpperCase() + theme.slice(1);
  try { localStorage.setItem('theme', theme); } catch { /* a browser without storage forgets the choice */ }
}

function storedTheme() {
  try { return THEMES.includes(localStorage.getItem('theme')) ? localStorage.getItem('theme') : 'auto'; } catch { return 'auto'; }
}

$('theme').addEventListener('click', () => setTheme(THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length]));

setTheme(storedTheme());
