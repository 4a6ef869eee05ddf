// Elements from data. Text is always text: markup cannot be written.

/**
 * Make an element.
 *
 * @param {string} tag
 * @param {object} options attributes; `on` holds listeners; `false`, `null` and `undefined` are left out
 * @param {...(Node|string|number|null|false)} children
 */
export function h(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  const { on = {}, ...attributes } = options;
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...kept(children));
  return element;
}

function kept(children) {
  return children.flat().filter((child) => child !== null && child !== undefined && child !== false);
}

/** Replace the children of an element, if they differ. */
export function fill(element, ...children) {
  const next = kept(children);
  if (next.length === 1 && typeof next[0] === "string" && element.textContent === next[0] && !element.children.length) return;
  element.replaceChildren(...next);
}

/** An icon of our own, drawn with lines. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

const ICONS = {
  play: "M5 3v10l8-5z",
  pause: "M4.5 3h2.5v10H4.5zM9 3h2.5v10H9z",
  copy: "M5.5 5.5V2.5h8v8h-3M2.5 5.5h8v8h-8z",
  save: "M8 2.5v7.5M4.5 7L8 10.500 11.500 7M2.500 13.500h11",
  log: "M2.500 4h11M2.500 8h11M2.500 12h7",
};

/**
 * Keep children of an element in step with items, each by its key, so that focus and playing audio survive an update.
 *
 * @param {Element} parent
 * @param {Array} items
 * @param {(item) => string} keyOf
 * @param {(item) => {element: Element, update: (item) => void}} make
 */
export function keyed(parent, items, keyOf, make) {
  const before = parent.parts ?? new Map();
  const after = new Map();
  for (const item of items) {
    const key = keyOf(item);
    const part = before.get(key) ?? make(item);
    part.update(item);
    after.set(key, part);
  }
  for (const [key, part] of before) if (!after.has(key)) part.element.remove();
  let next = parent.firstElementChild;
  for (const part of after.values()) {
    if (part.element === next) next = next.nextElementSibling;
    else parent.insertBefore(part.element, next);
  }
  parent.parts = after;
}
