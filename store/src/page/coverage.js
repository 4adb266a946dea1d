// What an answer is based on, in words: calls that are missing in its range by cause, and why it may lack calls that are there.

import { fullTime, thousands } from './format.js';

/** The remarks about an answer; none where nothing is missing. */
export function remarks(coverage) {
  if (!coverage) return [];
  const parts = [];
  const lost = Object.entries(coverage.lost ?? {}).filter(([, count]) => count > 0);
  if (lost.length) parts.push(`missing: ${lost.map(([cause, count]) => `${thousands(count)} ${cause.replaceAll('_', ' ')}`).join(', ')}`);
  if (coverage.partial) parts.push(coverage.partial);
  if (lost.length && coverage.held_from_ms !== null) parts.push(`held from ${fullTime(coverage.held_from_ms)}`);
  return parts;
}
