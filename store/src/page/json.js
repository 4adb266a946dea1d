// JSON laid out and coloured.

import { make } from './dom.js';

export function looksLikeJson(value) {
  if (!/^\s*[[{]/.test(value)) return false;
  try {
    JSON.parse(value);
    return true;
  } catch {
    return false;
  }
}

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** Indents JSON without touching its tokens: a number keeps all of its digits, a string its escapes. */
export function layout(json) {
  const out = [];
  let depth = 0;
  let last = '';
  const line = () => out.push('\n', '  '.repeat(depth));
  for (const [token] of json.matchAll(TOKENS)) {
    if (token === '}' || token === ']') {
      depth--;
      if (last !== '{' && last !== '[') line();
      out.push(token);
    } else {
      if (last === '{' || last === '[' || last === ',') line();
      out.push(token === ':' ? ': ' : token);
      if (token === '{' || token === '[') depth++;
    }
    last = token;
  }
  return out.join('');
}

/** The same text in pieces with a class each. */
export function coloured(json) {
  const nodes = [];
  let at = 0;
  for (const match of json.matchAll(TOKENS)) {
    const [token] = match;
    if ('{}[],:'.includes(token)) continue;
    const end = match.index + token.length;
    const isKey = token.startsWith('"') && /^\s*:/.test(json.slice(end, end + 8));
    const kind = isKey ? 'j-key' : token.startsWith('"') ? 'j-string' : /^[-\d]/.test(token) ? 'j-number' : 'j-word';
    nodes.push(json.slice(at, match.index), make('span', kind, token));
    at = end;
  }
  nodes.push(json.slice(at));
  return nodes;
}
