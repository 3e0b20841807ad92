/** A plot of the work that two callers were asked for, on a logarithmic scale. */

import { svgElement } from "./dom.js";
import { formatSeconds } from "./format.js";

/** Cumulative sums of the prices in seconds, one for each query. */
export interface PriceSums {
  readonly honest: readonly number[];
  readonly thief: readonly number[];
}

type CallerName = keyof PriceSums;

const HEIGHT = 280;
const MARGIN = { top: 16, right: 92, bottom: 34, left: 62 };
const LOWEST = 0.01; // seconds: the scale begins there, or below the smallest sum
const LABEL_DISTANCE = 16; // half the least distance of the two labels at the lines' ends
const TICKS = [
  { seconds: 0.001, label: "1 ms" },
  { seconds: 0.01, label: "10 ms" },
  { seconds: 0.1, label: "0.1 s" },
  { seconds: 1, label: "1 s" },
  { seconds: 10, label: "10 s" },
  { seconds: 60, label: "1 min" },
  { seconds: 600, label: "10 min" },
  { seconds: 3600, label: "1 h" },
  { seconds: 36_000, label: "10 h" },
  { seconds: 86_400, label: "1 day" },
  { seconds: 864_000, label: "10 days" },
  { seconds: 8_640_000, label: "100 days" },
];
const FIRST_TICK = 0.001;
const LAST_TICK = 8_640_000;

/** The coordinates of seconds and queries, for a plot `width` pixels wide and ticks from `low` to `high`. */
interface Scale {
  readonly x: (queries: number) => number;
  readonly y: (seconds: number) => number;
  readonly width: number;
  readonly low: number;
  readonly high: number;
}

/** The plot, `width` pixels wide, with space for `queries`. */
export function plot(sums: PriceSums, queries: number, width: number): Element {
  const scale = scaleOf(sums, queries, width);
  const title = svgElement("title", {}, "Work asked for so far, on a logarithmic scale, by queries");
  return svgElement(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-labelledby": "plot-title" },
    Object.assign(title, { id: "plot-title" }),
    ...secondsAxis(scale),
    ...queriesAxis(scale, queries),
    ...line("honest", sums.honest, scale),
    ...line("thief", sums.thief, scale),
    ...endLabels(sums, scale),
  );
}

function scaleOf(sums: PriceSums, queries: number, width: number): Scale {
  const positive = [...sums.honest, ...sums.thief].filter((seconds) => seconds > 0);
  const low = TICKS.findLast(({ seconds }) => seconds <= Math.min(LOWEST, ...positive))?.seconds ?? FIRST_TICK;
  const high = TICKS.find(({ seconds }) => seconds >= Math.max(10, ...positive) * 1.2)?.seconds ?? LAST_TICK;
  const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  return {
    x: (count) => MARGIN.left + (inner.width * count) / queries,
    y: (seconds) => MARGIN.top + (inner.height * Math.log(high / Math.max(seconds, low))) / Math.log(high / low),
    width,
    low,
    high,
  };
}

function secondsAxis({ y, width, low, high }: Scale): Element[] {
  return TICKS.flatMap(({ seconds, label }) => {
    if (seconds < low || seconds > high) return [];
    const height = y(seconds);
    return [
      svgElement("line", { class: "rule", x1: MARGIN.left, x2: width - MARGIN.right, y1: height, y2: height }),
      svgElement("text", { class: "tick", x: MARGIN.left - 8, y: height + 4, "text-anchor": "end" }, label),
    ];
  });
}

function queriesAxis({ x }: Scale, queries: number): Element[] {
  const y = HEIGHT - MARGIN.bottom + 18;
  const ticks = [0, queries / 2, queries].map((count) =>
    svgElement("text", { class: "tick", x: x(count), y, "text-anchor": "middle" }, String(count)),
  );
  return [...ticks, svgElement("text", { class: "tick", x: x(queries) + 20, y }, "queries")];
}

function line(name: CallerName, sums: readonly number[], { x, y }: Scale): Element[] {
  const last = sums.at(-1);
  if (last === undefined) return [];
  const points = sums.map((seconds, at) => `${x(at + 1).toFixed(1)},${y(seconds).toFixed(1)}`).join(" ");
  const dot = { class: `dot ${name}`, cx: x(sums.length), cy: y(last), r: 4 };
  return [svgElement("polyline", { class: `line ${name}`, points }), svgElement("circle", dot)];
}

/** A label at the end of each line, moved apart where both would overlap. */
function endLabels({ honest, thief }: PriceSums, { x, y }: Scale): Element[] {
  const [honestEnd, thiefEnd] = [honest.at(-1), thief.at(-1)];
  let honestY = y(honestEnd ?? 0) + 4;
  let thiefY = y(thiefEnd ?? 0) + 4;
  if (honestEnd !== undefined && thiefEnd !== undefined && honestY - thiefY < 2 * LABEL_DISTANCE) {
    const middle = (honestY + thiefY) / 2;
    [thiefY, honestY] = [middle - LABEL_DISTANCE, middle + LABEL_DISTANCE];
  }
  return [
    ...endLabel("thief", thiefEnd, x(thief.length), thiefY),
    ...endLabel("honest", honestEnd, x(honest.length), honestY),
  ];
}

function endLabel(name: CallerName, seconds: number | undefined, x: number, y: number): Element[] {
  if (seconds === undefined) return [];
  const attributes = { class: `label ${name}`, x: x + 10 };
  return [
    svgElement("text", { ...attributes, y: y - 4 }, name),
    svgElement("text", { ...attributes, y: y + 11 }, formatSeconds(seconds)),
  ];
}
