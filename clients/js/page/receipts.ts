/** The table of the last requests and their costs. */

import { byId, element, setVisible } from "./dom.js";
import { formatSeconds } from "./format.js";

const MAX_ROWS = 8;

/** `price` and `workSeconds` in seconds; `workSeconds` is null if the answer stayed sealed. */
export interface Receipt {
  readonly subject: Node;
  readonly price: number;
  readonly workSeconds: number | null;
  readonly answer: string;
}

export function addReceipt({ subject, price, workSeconds, answer }: Receipt): void {
  setVisible("receipts", true);
  const head = element("th", subject);
  head.scope = "row";
  const work = workSeconds === null ? "not paid" : secondsElement(workSeconds);
  const cells = [price > 0 ? secondsElement(price) : "nothing", work, answer];
  const rows = byId("receipt-rows");
  rows.prepend(element("tr", head, ...cells.map((cell) => element("td", cell))));
  while (rows.children.length > MAX_ROWS) rows.lastElementChild?.remove();
}

function secondsElement(seconds: number): Node {
  return Object.assign(element("data", formatSeconds(seconds)), { value: String(seconds) });
}
