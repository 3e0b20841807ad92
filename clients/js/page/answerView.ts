/** Shows an answer: the digit that the model predicts, or the answer's text. */

import { element, svgElement } from "./dom.js";
import { formatCount, formatPercent } from "./format.js";
import { isNumberArray, memberOf } from "./json.js";

const MAX_CHARACTERS = 4000; // of an answer's text that are shown
const SIDE = 8;

/** An answer as a `sentence`, as a `summary` for a receipt, and as a `picture`. */
export interface AnswerView {
  readonly sentence: string;
  readonly summary: string;
  readonly picture: Node;
}

/** The answer's text, unchanged. */
export function rawText(text: string): AnswerView {
  const picture = element("pre", text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS)}…` : text);
  picture.tabIndex = 0;
  const length = formatCount(text.length, "character");
  return { sentence: `An answer of ${length}.`, summary: length, picture };
}

/** The demo's answer: the probability of each digit. */
export function digitView(text: string): AnswerView {
  const probabilities = readProbabilities(text);
  if (!probabilities) return rawText(text);
  const highest = Math.max(...probabilities);
  const digit = probabilities.indexOf(highest);
  const percent = formatPercent(highest);
  return {
    sentence: `The model predicts a ${digit}, with probability ${percent}.`,
    summary: `${digit}, ${percent}`,
    picture: probabilityChart(probabilities, digit),
  };
}

/** The numbers in an Open Inference answer of one row, or null if it is something else. */
function readProbabilities(text: string): readonly number[] | null {
  try {
    const outputs = memberOf(JSON.parse(text), "outputs");
    const data = memberOf(Array.isArray(outputs) ? outputs[0] : undefined, "data");
    return isNumberArray(data) ? data : null;
  } catch {
    return null;
  }
}

/** The digit in large, and a bar for each digit's probability. */
function probabilityChart(probabilities: readonly number[], digit: number): Node {
  const list = element("ol");
  list.className = "bars";
  probabilities.forEach((probability, name) => {
    const bar = element("span");
    bar.className = "bar";
    bar.style.setProperty("--share", String(probability));
    const item = element("li", element("b", String(name)), bar, element("span", formatPercent(probability)));
    if (name === digit) item.className = "best";
    list.append(item);
  });
  const large = element("p", String(digit));
  large.className = "large";
  large.setAttribute("aria-hidden", "true");
  const chart = element("div", large, list);
  chart.className = "prediction";
  return chart;
}

/** A row of 64 numbers in 0..1 as a small picture; text beside it must say what it is. */
export function thumbnail(row: readonly number[]): Node {
  const squares = row.flatMap((ink, at) =>
    ink > 0
      ? [
          svgElement("rect", {
            x: at % SIDE,
            y: Math.floor(at / SIDE),
            width: 1.02,
            height: 1.02,
            "fill-opacity": ink.toFixed(2),
          }),
        ]
      : [],
  );
  const attributes = { viewBox: `0 0 ${SIDE} ${SIDE}`, class: "thumbnail", "aria-hidden": "true" };
  return svgElement("svg", attributes, ...squares);
}
