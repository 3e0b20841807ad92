/** A plot of what two callers were asked so far, on a logarithmic scale. */

import { draw } from "./dom.js";
import { time } from "./format.js";

/** Sums in seconds, one for each query so far. */
export interface Sums {
  readonly honest: readonly number[];
  readonly thief: readonly number[];
}

const HEIGHT = 280;
const MARGIN = { top: 16, right: 92, bottom: 34, left: 62 };
const LEAST = 0.01; // seconds: the bottom of the scale
const APART = 16; // of two labels at the lines' ends
const SAID = new Map([
  [0.001, "1 ms"],
  [0.01, "10 ms"],
  [0.1, "0.1 s"],
  [1, "1 s"],
  [10, "10 s"],
  [60, "1 min"],
  [600, "10 min"],
  [3600, "1 h"],
  [36_000, "10 h"],
  [86_400, "1 day"],
  [864_000, "10 days"],
  [8_640_000, "100 days"],
]);
const TICKS = [...SAID.keys()];

/** Where seconds and queries lie. */
interface Scale {
  readonly x: (queries: number) => number;
  readonly y: (seconds: number) => number;
  readonly width: number;
  readonly low: number;
  readonly high: number;
}

/** The plot, `width` pixels wide, with room for `queries`. */
export function plot(sums: Sums, queries: number, width: number): Element {
  const all = [...sums.honest, ...sums.thief].filter((seconds) => seconds > 0);
  const low = TICKS.findLast((tick) => tick <= Math.min(LEAST, ...all)) ?? TICKS[0]!;
  const high = TICKS.find((tick) => tick >= Math.max(10, ...all) * 1.2) ?? TICKS.at(-1)!;
  const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const scale: Scale = {
    x: (count) => MARGIN.left + (inner.width * count) / queries,
    y: (seconds) => MARGIN.top + (inner.height * Math.log(high / Math.max(seconds, low))) / Math.log(high / low),
    width,
    low,
    high,
  };
  const title = draw("title", {}, "Work asked for so far, on a logarithmic scale, by queries");
  return draw(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-labelledby": "plot-title" },
    Object.assign(title, { id: "plot-title" }),
    ...rules(scale),
    ...axis(scale, queries),
    ...line("honest", sums.honest, scale),
    ...line("thief", sums.thief, scale),
    ...labels(sums, scale),
  );
}

function rules({ y, width, low, high }: Scale): Element[] {
  return TICKS.filter((tick) => tick >= low && tick <= high).flatMap((tick) => [
    draw("line", { class: "rule", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }),
    draw("text", { class: "tick", x: MARGIN.left - 8, y: y(tick) + 4, "text-anchor": "end" }, SAID.get(tick)!),
  ]);
}

function axis({ x }: Scale, queries: number): Element[] {
  const bottom = HEIGHT - MARGIN.bottom + 18;
  const ticks = [0, queries / 2, queries].map((count) =>
    draw("text", { class: "tick", x: x(count), y: bottom, "text-anchor": "middle" }, String(count)),
  );
  return [...ticks, draw("text", { class: "tick", x: x(queries) + 20, y: bottom }, "queries")];
}

function line(name: string, sums: readonly number[], { x, y }: Scale): Element[] {
  if (sums.length === 0) return [];
  const points = sums.map((seconds, at) => `${x(at + 1).toFixed(1)},${y(seconds).toFixed(1)}`).join(" ");
  const end = { cx: x(sums.length), cy: y(sums.at(-1)!), r: 4 };
  return [draw("polyline", { class: `line ${name}`, points }), draw("circle", { class: `dot ${name}`, ...end })];
}

function labels({ honest, thief }: Sums, { x, y }: Scale): Element[] {
  const ends = [
    { name: "thief", sums: thief },
    { name: "honest", sums: honest },
  ].filter(({ sums }) => sums.length > 0);
  const heights = ends.map(({ sums }) => y(sums.at(-1)!) + 4);
  if (heights.length === 2 && heights[1]! - heights[0]! < 2 * APART) {
    const middle = (heights[0]! + heights[1]!) / 2;
    [heights[0], heights[1]] = [middle - APART, middle + APART];
  }
  return ends.flatMap(({ name, sums }, at) => {
    const place = { class: `label ${name}`, x: x(sums.length) + 10 };
    return [
      draw("text", { ...place, y: heights[at]! - 4 }, name === "thief" ? "thief" : "honest"),
      draw("text", { ...place, y: heights[at]! + 11 }, time(sums.at(-1)!)),
    ];
  });
}
