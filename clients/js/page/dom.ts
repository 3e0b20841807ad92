/** The page's elements. */

export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element '${id}'`);
  return element as E;
}

/** Show an element, or hide it. */
export function seen(id: string, is: boolean): void {
  byId(id).hidden = !is;
}

export function make<K extends keyof HTMLElementTagNameMap>(
  name: K,
  ...content: (string | Node)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  element.append(...content);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function draw(
  name: string,
  attributes: Record<string, string | number>,
  ...content: (string | Node)[]
): Element {
  const element = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, String(value));
  element.append(...content);
  return element;
}
