// Captured text as text: characters that have no shape, or that change the direction of others, are shown by their number.

import { make } from './dom.js';

/** Control characters, marks of direction, and what is invisible. */
const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]+/gu;

/** Marks of one text; what comes after them is replaced by one character each. */
const MARKS_MAX = 1000;

/** Characters of one mark that are spelt out. */
const RUN_MAX = 4;

const number = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}`;

/** The text in pieces, for `append`. */
export function marked(text) {
  if (text.search(HIDDEN) < 0) return [text];
  const pieces = [];
  let at = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (pieces.length >= 2 * MARKS_MAX) break;
    const run = [...match[0]];
    const spelt = run.slice(0, RUN_MAX).map(number).join(' ');
    const mark = make('span', 'mark', run.length > RUN_MAX ? `${spelt} … ×${run.length}` : spelt);
    mark.title = 'characters that have no shape of their own';
    pieces.push(text.slice(at, match.index), mark);
    at = match.index + match[0].length;
  }
  pieces.push(text.slice(at).replace(HIDDEN, '\ufffd'));
  return pieces;
}

/** An element with captured text. */
export function plain(tag, className, text) {
  const element = make(tag, className);
  element.append(...marked(text));
  return element;
}
