/** What was bought, to look at: the digit that the model read, the numbers of a row, the text of an answer. */

import { draw, make } from "./dom.js";
import { percent } from "./words.js";

const LONGEST = 4000; // characters of an answer that are shown
const SIDE = 8;

/** The probabilities in an Open Inference answer of one row, or null where it is something else. */
export function probabilities(text: string): readonly number[] | null {
  try {
    const { outputs } = JSON.parse(text) as { outputs: { data: unknown }[] };
    const data = outputs[0]!.data;
    return Array.isArray(data) && data.length > 1 && data.every((value) => typeof value === "number") ? data : null;
  } catch {
    return null;
  }
}

/** The likeliest class, and how likely. */
export function best(shares: readonly number[]): { digit: number; share: number } {
  const digit = shares.indexOf(Math.max(...shares));
  return { digit, share: shares[digit]! };
}

/** A large digit, and a bar for each class. */
export function verdict(shares: readonly number[]): Node {
  const { digit } = best(shares);
  const bars = make("ol");
  bars.className = "bars";
  shares.forEach((share, name) => {
    const bar = make("span");
    bar.className = "bar";
    bar.style.setProperty("--share", String(share));
    const item = make("li", make("b", String(name)), bar, make("span", percent(share)));
    if (name === digit) item.className = "best";
    bars.append(item);
  });
  const large = make("p", String(digit));
  large.className = "large";
  large.ariaHidden = "true";
  const both = make("div", large, bars);
  both.className = "verdict";
  return both;
}

/** An answer as it came. */
export function plain(text: string): Node {
  const shown = make(
    "pre",
    text.length > LONGEST ? `${text.slice(0, LONGEST)}\n… ${text.length} characters in all` : text,
  );
  shown.tabIndex = 0;
  return shown;
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
