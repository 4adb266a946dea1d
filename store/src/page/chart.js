// Charts of values over the time, in SVG: stacked bars or lines, axes, the values under the pointer, and a range of time that is chosen
// by dragging, or by the arrow keys with Shift and then Enter.

import { draw, make } from './dom.js';
import { clock, compact, tickTime } from './format.js';

const HEIGHT = 150;
const LEFT = 46;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;

/** Pixels between two labels of the axis of time, and below which a drag is a click. */
const LABEL_PIXELS = 90;
const DRAG_PIXELS = 5;

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  1, 2, 5, 10, 15, 30].map((n) => n * SECOND).concat([1, 2, 5, 10, 15, 30].map((n) => n * MINUTE), [1, 2, 3, 6, 12].map((n) => n * HOUR),
  [1, 2, 7, 14, 30, 90, 365].map((n) => n * DAY));

/** A round number that is no less. */
function round(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value * 0.999);
}

/**
 * A chart under a title. `on.range(from, to)` gets the times that were chosen. `set({ start, step, series, isStacked, format })` shows
 * values: `series` are `{ name, kind, values }`, of which `kind` is a class of the style sheet; null is no value.
 */
export function chart(title, on) {
  const figure = make('figure', 'chart');
  const caption = make('figcaption');
  const readout = make('span', 'readout');
  caption.append(make('b', '', title), readout);
  const picture = draw('svg', { height: HEIGHT, role: 'img', tabindex: 0, 'aria-label': title });
  figure.append(caption, picture);
  const nothing = make('p', 'dim nothing', 'No call in this range.');
  nothing.hidden = true;
  figure.append(nothing);

  let data = null;
  let cursor = null;
  let anchor = null;
  const shade = draw('rect', { class: 'shade', y: TOP, height: HEIGHT - TOP - BOTTOM });
  const rule = draw('line', { class: 'rule', y1: TOP, y2: HEIGHT - BOTTOM });

  const width = () => Math.max(120, picture.clientWidth) - LEFT - RIGHT;
  const count = () => Math.max(1, ...data.series.map(({ values }) => values.length));
  const x = (index) => LEFT + (index / count()) * width();
  const indexAt = (event) => {
    const at = (event.clientX - picture.getBoundingClientRect().left - LEFT) / width();
    return Math.min(count() - 1, Math.max(0, Math.floor(at * count())));
  };

  function show() {
    if (!data || !figure.offsetParent) return;
    const sums = Array.from({ length: count() }, (_, index) =>
      data.series.reduce((sum, { values }) => (data.isStacked ? sum + (values[index] ?? 0) : Math.max(sum, values[index] ?? 0)), 0));
    const tick = round(Math.max(...sums) / 3);
    const most = Math.max(tick, Math.ceil(Math.max(...sums) / tick) * tick);
    const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
    const shapes = [];
    for (let value = 0; value <= most; value += tick) {
      shapes.push(draw('line', { class: 'grid', x1: LEFT, x2: LEFT + width(), y1: y(value), y2: y(value) }));
      shapes.push(draw('text', { class: 'label', x: LEFT - 6, y: y(value) + 4, 'text-anchor': 'end' }, (data.format ?? compact)(value)));
    }
    shapes.push(...times());
    const below = new Array(count()).fill(0);
    for (const { kind, values } of data.series) shapes.push(...(data.isStacked ? bars(kind, values, below, y) : lines(kind, values, y)));
    picture.replaceChildren(...shapes, shade, rule);
    picture.setAttribute('aria-label', `${title}: ${summary()}`);
    nothing.hidden = sums.some((sum) => sum > 0);
    point();
  }

  function times() {
    const { start, step } = data;
    const span = step * count();
    const least = (span * LABEL_PIXELS) / width();
    const gap = STEPS.find((one) => one >= least) ?? STEPS.at(-1);
    const offset = new Date(start).getTimezoneOffset() * MINUTE;
    const found = [];
    for (let at = Math.ceil((start - offset) / gap) * gap + offset; at <= start + span; at += gap) {
      const left = LEFT + ((at - start) / span) * width();
      if (left > LEFT + width() - 20) break;
      found.push(draw('line', { class: 'tick', x1: left, x2: left, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }));
      found.push(draw('text', { class: 'label', x: left, y: HEIGHT - 4, 'text-anchor': left < LEFT + 20 ? 'start' : 'middle' }, tickTime(at, gap)));
    }
    return found;
  }

  function bars(kind, values, below, y) {
    const gap = width() / count() > 4 ? 1 : 0;
    const found = [];
    values.forEach((value, index) => {
      if (!value) return;
      const [top, bottom] = [y(below[index] + value), y(below[index])];
      below[index] += value;
      // What is little is seen as well.
      const height = Math.max(1, bottom - top);
      found.push(draw('rect', { class: kind, x: x(index).toFixed(2), width: Math.max(0.5, x(index + 1) - x(index) - gap).toFixed(2),
        y: (bottom - height).toFixed(2), height: height.toFixed(2) }));
    });
    return found;
  }

  function lines(kind, values, y) {
    let path = '';
    const dots = [];
    values.forEach((value, index) => {
      if (value === null || value === undefined) return;
      const at = `${((x(index) + x(index + 1)) / 2).toFixed(1)} ${y(value).toFixed(1)}`;
      const isAlone = [index - 1, index + 1].every((near) => values[near] === null || values[near] === undefined);
      const continues = index > 0 && values[index - 1] !== null && values[index - 1] !== undefined;
      path += `${continues ? 'L' : 'M'}${at}`;
      if (isAlone) dots.push(draw('circle', { class: kind, cx: at.split(' ')[0], cy: at.split(' ')[1], r: 2 }));
    });
    return [draw('path', { class: `line ${kind}`, d: path || 'M0 0' }), ...dots];
  }

  const written = (index) => data.series
    .filter(({ values }) => values[index] !== null && values[index] !== undefined && (values[index] > 0 || !data.isStacked))
    .map(({ name, values }) => `${name} ${(data.format ?? compact)(values[index])}`)
    .join(' · ');

  function summary() {
    const parts = data.series.map(({ name, values }) => {
      const most = values.reduce((max, value) => Math.max(max, value ?? 0), 0);
      return most > 0 ? `${name} up to ${(data.format ?? compact)(most)}` : '';
    });
    return parts.filter(Boolean).join(', ') || 'nothing';
  }

  /** Shows the cursor, and the range from the anchor to it. */
  function point() {
    const isShown = cursor !== null && data && cursor < count();
    rule.style.display = isShown && anchor === null ? '' : 'none';
    shade.style.display = isShown && anchor !== null ? '' : 'none';
    readout.replaceChildren();
    if (!isShown) {
      legend();
      return;
    }
    const middle = (x(cursor) + x(cursor + 1)) / 2;
    for (const side of ['x1', 'x2']) rule.setAttribute(side, middle);
    const [from, to] = chosen();
    const short = (time) => clock(time).replace(/\.\d+$/, '');
    if (anchor !== null) {
      const [first, last] = [Math.min(anchor, cursor), Math.max(anchor, cursor) + 1];
      shade.setAttribute('x', x(first));
      shade.setAttribute('width', x(last) - x(first));
      readout.textContent = `${short(from)} to ${short(to)}`;
    } else {
      readout.textContent = `${short(from)}  ${written(cursor) || '–'}`;
    }
  }

  function legend() {
    for (const { name, kind, values } of data?.series ?? []) {
      if (!values.some((value) => value > 0)) continue;
      const entry = make('span', `key ${kind}`, name);
      readout.append(entry);
    }
  }

  function chosen() {
    const [first, last] = [Math.min(anchor ?? cursor, cursor), Math.max(anchor ?? cursor, cursor) + 1];
    return [data.start + first * data.step, data.start + last * data.step];
  }

  function choose() {
    const [from, to] = chosen();
    anchor = null;
    point();
    on.range?.(from, to);
  }

  let pressed = null;
  picture.addEventListener('pointerdown', (event) => {
    if (!data || event.button !== 0 || !on.range) return;
    picture.setPointerCapture(event.pointerId);
    pressed = event.clientX;
    anchor = null;
    cursor = indexAt(event);
  });
  picture.addEventListener('pointermove', (event) => {
    if (!data) return;
    if (pressed !== null && anchor === null && Math.abs(event.clientX - pressed) > DRAG_PIXELS) anchor = cursor;
    cursor = indexAt(event);
    point();
  });
  picture.addEventListener('pointerup', () => {
    pressed = null;
    if (anchor !== null) choose();
  });
  picture.addEventListener('pointerleave', () => {
    if (pressed !== null) return;
    cursor = null;
    anchor = null;
    point();
  });
  picture.addEventListener('keydown', (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!data) return;
    if (by) {
      const before = cursor ?? count() - 1;
      if (event.shiftKey && on.range) anchor ??= before;
      else anchor = null;
      cursor = Math.min(count() - 1, Math.max(0, before + by));
      point();
    } else if (event.key === 'Enter' && cursor !== null && on.range) {
      choose();
    } else if (event.key === 'Escape' && cursor !== null) {
      cursor = null;
      anchor = null;
      point();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });
  new ResizeObserver(show).observe(picture);

  return {
    figure,
    set(next) {
      data = next;
      if (cursor !== null && cursor >= count()) cursor = null;
      show();
    },
  };
}
