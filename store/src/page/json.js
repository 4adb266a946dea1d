// JSON laid out and coloured.

import { marked, plain } from './marks.js';

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

/** Levels that are indented; what is nested deeper stays on one line, so that the text grows by a bounded factor. */
const INDENT_DEPTH_MAX = 20;

/** Indents JSON without touching its tokens: a number keeps all of its digits, a string its escapes. */
export function layout(json) {
  const out = [];
  let depth = 0;
  let last = '';
  const line = (level) => {
    if (level <= INDENT_DEPTH_MAX) out.push('\n', '  '.repeat(level));
  };
  for (const [token] of json.matchAll(TOKENS)) {
    if (token === '}' || token === ']') {
      if (last !== '{' && last !== '[' && depth <= INDENT_DEPTH_MAX) line(depth - 1);
      depth--;
      out.push(token);
    } else {
      if (last === '{' || last === '[' || last === ',') line(depth);
      out.push(token === ':' ? ': ' : token);
      if (token === '{' || token === '[') depth++;
    }
    last = token;
  }
  return out.join('');
}

/** The elements of a JSON array as they are written, or null if the text is none. Of one that was cut the last is as far as it goes. */
export function elements(json) {
  if (!/^\s*\[/.test(json)) return null;
  const found = [];
  let depth = 0;
  let start = -1;
  for (const match of json.matchAll(TOKENS)) {
    const [token] = match;
    if (depth === 1 && (token === ',' || token === ']')) {
      if (start >= 0) found.push(json.slice(start, match.index).trim());
      start = -1;
    } else if (depth === 1 && start < 0) {
      start = match.index;
    }
    if (token === '[' || token === '{') depth++;
    if (token === ']' || token === '}') depth--;
    if (depth === 0) break;
  }
  if (start >= 0) found.push(json.slice(start).trim());
  return found;
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
    nodes.push(...marked(json.slice(at, match.index)), plain('span', kind, token));
    at = end;
  }
  nodes.push(...marked(json.slice(at)));
  return nodes;
}
