/** What was bought, to look at: the digit that the model read, the numbers of a row, the text of an answer. */

import { draw, make } from "./dom.js";
import { count, percent } from "./format.js";

const LONGEST = 4000; // characters of an answer that are shown
const SIDE = 8;

/** An answer for people: `words` in a sentence, `brief` for a receipt, `picture` to look at. */
export interface Reading {
  readonly words: string;
  readonly brief: string;
  readonly picture: Node;
}

/** An answer as it came. */
export function asItCame(text: string): Reading {
  const shown = make("pre", text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);
  shown.tabIndex = 0;
  const length = count(text.length, "character");
  return { words: `An answer of ${length}.`, brief: length, picture: shown };
}

/** The demo's answer: how likely each digit is. */
export function asDigit(text: string): Reading {
  const shares = probabilities(text);
  if (!shares) return asItCame(text);
  const digit = shares.indexOf(Math.max(...shares));
  const sure = `${percent(shares[digit]!)} sure`;
  return {
    words: `The model reads a ${digit}, and is ${sure}.`,
    brief: `${digit}, ${sure}`,
    picture: bars(shares, digit),
  };
}

/** The numbers in an Open Inference answer of one row, or null where it is something else. */
function probabilities(text: string): readonly number[] | null {
  try {
    const { outputs } = JSON.parse(text) as { outputs: { data: unknown }[] };
    const data = outputs[0]!.data;
    return Array.isArray(data) && data.every((share) => typeof share === "number") ? data : null;
  } catch {
    return null;
  }
}

/** A large digit, and a bar for each. */
function bars(shares: readonly number[], digit: number): Node {
  const list = make("ol");
  list.className = "bars";
  shares.forEach((share, name) => {
    const bar = make("span");
    bar.className = "bar";
    bar.style.setProperty("--share", String(share));
    const item = make("li", make("b", String(name)), bar, make("span", percent(share)));
    if (name === digit) item.className = "best";
    list.append(item);
  });
  const large = make("p", String(digit));
  large.className = "large";
  large.setAttribute("aria-hidden", "true");
  const both = make("div", large, list);
  both.className = "verdict";
  return both;
}

/** A row of 64 numbers in 0..1 as a small picture, beside words that say what it is. */
export function thumbnail(row: readonly number[]): Node {
  const squares = row.flatMap((ink, at) =>
    ink > 0
      ? [
          draw("rect", {
            x: at % SIDE,
            y: Math.floor(at / SIDE),
            width: 1.02,
            height: 1.02,
            "fill-opacity": ink.toFixed(2),
          }),
        ]
      : [],
  );
  return draw("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, class: "thumbnail", "aria-hidden": "true" }, ...squares);
}
