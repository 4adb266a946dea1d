// Elements of the document.
//
// Everything captured reaches the document through textContent and attributes set on elements made here; the policy of the
// page (trusted types) makes the browser refuse anything else.

export const $ = (id) => document.getElementById(id);

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Values that are longer make no filter that anybody reads. */
const VALUE_CHARS_MAX = 200;

/** Marks an element as a value of a field, which a click adds to the filter. */
export function choosable(element, field, value) {
  if (value === '' || value === undefined || value === null || String(value).length > VALUE_CHARS_MAX) return element;
  element.dataset.field = field;
  element.dataset.value = String(value);
  return element;
}
