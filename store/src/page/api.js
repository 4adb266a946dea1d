// Requests to the API.

/** The JSON of a path; an error carries the sentence of the answer. */
export async function get(path) {
  const response = await fetch(path, { cache: 'no-store' });
  const answer = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) throw new Error(answer.error || response.statusText);
  return answer;
}
