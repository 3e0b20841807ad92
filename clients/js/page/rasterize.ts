/** Turns the strokes of a drawing into the 8 x 8 numbers of the digits data. */

/** A point on the drawing pad, both coordinates in 0..1, from the top left. */
export interface Point {
  readonly x: number;
  readonly y: number;
}

export type Stroke = readonly Point[];

/** 64 numbers of 0..16, row by row. */
export type Cells = readonly number[];

export const SIDE = 8;
export const MAX_INK = 16;
export const BLANK: Cells = Array<number>(SIDE * SIDE).fill(0);

/** As the data was made (Alpaydin and Kaynak 1998): a bitmap of 32 x 32, and the ink in each block of 4 x 4 counted. */
const BITMAP = 32;
const BLOCK = BITMAP / SIDE;
const PEN_RADIUS = 2.8; // pixels of the bitmap: a digit then has as much ink as one of the data, some 310 of 1024
const MAX_WIDTH = 21; // pixels of the bitmap: digits of the data fill its height, with a margin at both sides
const MIN_SPAN = 0.15; // share of the pad: a dot is not enlarged to a disk

/** The cells of a drawing, which is centred and scaled to the full height. */
export function rasterize(strokes: readonly Stroke[]): Cells {
  const points = strokes.flat();
  if (points.length === 0) return BLANK;
  const across = spanOf(points.map(({ x }) => x));
  const down = spanOf(points.map(({ y }) => y));
  const scale = Math.min((BITMAP - 2 * PEN_RADIUS) / down.size, (MAX_WIDTH - 2 * PEN_RADIUS) / across.size);
  const scaled = strokes.map((stroke) =>
    stroke.map(({ x, y }) => ({
      x: BITMAP / 2 + (x - across.middle) * scale,
      y: BITMAP / 2 + (y - down.middle) * scale,
    })),
  );
  return BLANK.map((_, at) => countInk((at % SIDE) * BLOCK, Math.floor(at / SIDE) * BLOCK, scaled));
}

/** The number of pixels with ink in the block whose top left pixel is (`left`, `top`). */
function countInk(left: number, top: number, strokes: readonly Stroke[]): number {
  let ink = 0;
  for (let y = top; y < top + BLOCK; y++) {
    for (let x = left; x < left + BLOCK; x++) {
      if (hasInk({ x: x + 0.5, y: y + 0.5 }, strokes)) ink++;
    }
  }
  return ink;
}

function spanOf(values: readonly number[]): { size: number; middle: number } {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return { size: Math.max(high - low, MIN_SPAN), middle: (low + high) / 2 };
}

function hasInk(pixel: Point, strokes: readonly Stroke[]): boolean {
  return strokes.some((stroke) =>
    stroke.some((end, at) => segmentDistance(pixel, stroke[at - 1] ?? end, end) <= PEN_RADIUS),
  );
}

/** The distance between a point and the line from `from` to `to`. */
function segmentDistance(point: Point, from: Point, to: Point): number {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = dx * dx + dy * dy;
  const along = length === 0 ? 0 : ((point.x - from.x) * dx + (point.y - from.y) * dy) / length;
  const t = Math.min(Math.max(along, 0), 1);
  return Math.hypot(point.x - from.x - t * dx, point.y - from.y - t * dy);
}

/** The model's input: the same numbers in 0..1. */
export function toModelRow(cells: Cells): number[] {
  return cells.map((ink) => ink / MAX_INK);
}
