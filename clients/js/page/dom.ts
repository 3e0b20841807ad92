/** Finds, creates and changes the page's elements. */

export function byId(id: string): HTMLElement {
  return byIdAs(id, HTMLElement);
}

/** The element of that id, which must be of that class. */
export function byIdAs<E extends HTMLElement>(id: string, type: new () => E): E {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} with the id '${id}'`);
  return found;
}

export function setVisible(id: string, visible: boolean): void {
  byId(id).hidden = !visible;
}

export function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  ...content: (string | Node)[]
): HTMLElementTagNameMap[K] {
  const created = document.createElement(name);
  created.append(...content);
  return created;
}

const SVG = "http://www.w3.org/2000/svg";

export function svgElement(
  name: string,
  attributes: Record<string, string | number>,
  ...content: (string | Node)[]
): Element {
  const created = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) created.setAttribute(attribute, String(value));
  created.append(...content);
  return created;
}
