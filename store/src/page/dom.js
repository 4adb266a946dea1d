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

/** A button that does something. */
export function button(className, text, act) {
  const element = make('button', className, text);
  element.type = 'button';
  if (act) element.addEventListener('click', act);
  return element;
}

/** Has the browser save a file. */
export function save(blob, name) {
  const link = make('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** An element of SVG with its attributes. */
export function draw(tag, attributes, text) {
  const element = document.createElementNS($('svg').namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
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

/** What the browser keeps for this page; one without storage forgets it. */
export const kept = {
  get(name) {
    try { return localStorage.getItem(name); } catch { return null; }
  },
  set(name, value) {
    try { localStorage.setItem(name, value); } catch { /* forgotten */ }
  },
};
