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
