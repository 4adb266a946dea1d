// Numbers, times, statuses and URLs as people read them.

import { choosable, make } from './dom.js';
import { plain } from './marks.js';

export const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, '\u202f');

export function bytes(n) {
  if (n === null || n === undefined) return '–';
  if (n < 1000) return `${n} B`;
  for (const unit of ['kB', 'MB', 'GB']) {
    n /= 1000;
    if (n < 999.5 || unit === 'GB') return `${n < 9.95 ? n.toFixed(1) : Math.round(n)} ${unit}`;
  }
}

export function took(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

const two = (n) => String(n).padStart(2, '0');

/** A number for an axis or a bar: 12 300 as 12.3 k. */
export function compact(n) {
  if (Math.abs(n) < 1000) return n === 0 ? '0' : String(Number(n.toPrecision(3)));
  for (const unit of ['k', 'M', 'G']) {
    n /= 1000;
    if (Math.abs(n) < 999.5 || unit === 'G') return `${Number(n.toPrecision(3))} ${unit}`;
  }
}

/** A part of a whole. */
export const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(part < whole && part > 0.9 * whole ? 2 : 1)} %` : '–');

export function clock(ms) {
  const date = new Date(ms);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, '0')}`;
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${two(date.getMonth() + 1)}-${two(date.getDate())} ${time.slice(0, 8)}`;
}

export function fullTime(ms) {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString().replace('T', ' ').replace('Z', ' UTC');
}

export const moment = (call) => call.now_ms ?? call.received_ms;

export const REASONS = {
  200: 'OK', 201: 'Created', 202: 'Accepted', 204: 'No Content', 206: 'Partial Content', 301: 'Moved Permanently', 302: 'Found',
  303: 'See Other', 304: 'Not Modified', 307: 'Temporary Redirect', 308: 'Permanent Redirect', 400: 'Bad Request', 401: 'Unauthorized',
  403: 'Forbidden', 404: 'Not Found', 405: 'Method Not Allowed', 408: 'Request Timeout', 409: 'Conflict', 410: 'Gone',
  413: 'Content Too Large', 415: 'Unsupported Media Type', 422: 'Unprocessable Content', 429: 'Too Many Requests',
  500: 'Internal Server Error', 501: 'Not Implemented', 502: 'Bad Gateway', 503: 'Service Unavailable', 504: 'Gateway Timeout',
  101: 'Switching Protocols',
};
const CLASSES = { 1: 'information', 2: 'success', 3: 'redirection', 4: 'client error', 5: 'server error' };

export function statusBadge(status) {
  const badge = make('span', 'status', status === null ? 'none' : String(status));
  const kind = status === null ? 0 : Math.floor(status / 100);
  badge.dataset.class = String(kind);
  badge.title = status === null ? 'no status in this call' : [REASONS[status], CLASSES[kind]].filter(Boolean).join(', ');
  return badge;
}

export function methodText(method) {
  const span = plain('span', 'method', method || '–');
  span.dataset.method = method;
  return span;
}

export function urlParts(call) {
  if (!call.host && !call.path) return [plain('span', 'path', call.url || '(no URL)')];
  return [choosable(plain('span', 'host', call.host), 'host', call.host), plain('span', 'path', call.path || '/')];
}

/** A time as the API takes it, in the zone of the browser. */
export function localTime(ms) {
  const date = new Date(ms);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? '-' : '+'}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  return `${day}T${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}${zone}`;
}

/** A time on an axis whose ticks are `step` apart. */
export function tickTime(ms, step) {
  const date = new Date(ms);
  const day = `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  if (step >= 24 * 3_600_000) return day;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}`;
  if (step >= 3_600_000 && date.getHours() === 0) return day;
  return step < 60_000 ? `${time}:${two(date.getSeconds())}` : time;
}

/** How long ago or how long, in one unit. */
export function age(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}
