// Light, dark, or as the system has it.

import { $, kept } from './dom.js';

const THEMES = ['auto', 'light', 'dark'];

function setTheme(theme) {
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $('theme').textContent = theme[0].toUpperCase() + theme.slice(1);
  kept.set('theme', theme);
}

function storedTheme() {
  const theme = kept.get('theme');
  return THEMES.includes(theme) ? theme : 'auto';
}

$('theme').addEventListener('click', () => setTheme(THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length]));

setTheme(storedTheme());
