/** What was asked lately, and what it cost. */

import { byId, make, seen } from "./dom.js";
import { time } from "./format.js";

const KEPT = 8;

/** `price` and `worked` in seconds; `worked` is null where the answer stayed sealed. */
export interface Receipt {
  readonly what: Node;
  readonly price: number;
  readonly worked: number | null;
  readonly answer: string;
}

export function file({ what, price, worked, answer }: Receipt): void {
  seen("receipts", true);
  const head = make("th", what);
  head.scope = "row";
  const cells = [price > 0 ? seconds(price) : "nothing", worked === null ? "not paid" : seconds(worked), answer];
  const rows = byId("receipt-rows");
  rows.prepend(make("tr", head, ...cells.map((cell) => make("td", cell))));
  while (rows.children.length > KEPT) rows.lastElementChild!.remove();
}

function seconds(value: number): Node {
  return Object.assign(make("data", time(value)), { value: String(value) });
}
