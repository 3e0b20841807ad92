/** From the strokes of a pen to the 8 x 8 numbers of the digits data. */

/** A place on the pad, both in 0..1, from the top left. */
export interface Point {
  readonly x: number;
  readonly y: number;
}

export type Stroke = readonly Point[];

/** 64 numbers of 0..16, row by row. */
export type Cells = readonly number[];

export const SIDE = 8;
export const FULL = 16;
export const BLANK: Cells = Array<number>(SIDE * SIDE).fill(0);

/** As the data was made (Alpaydin and Kaynak 1998): a bitmap of 32 x 32, and the ink in each block of 4 x 4 counted. */
const BITMAP = 32;
const BLOCK = BITMAP / SIDE;
const PEN = 2.8; // its radius, in pixels of the bitmap: a digit then has as much ink as the data's, some 310 of 1024
const WIDTH = 21; // of the bitmap: digits of the data fill its height, and leave room at both sides
const SMALLEST = 0.15; // of the pad: a dot is not blown up to a disk

/** What the model sees of a drawing: moved to the middle, and made to fill the height. */
export function cellsOf(strokes: readonly Stroke[]): Cells {
  const points = strokes.flat();
  if (points.length === 0) return BLANK;
  const across = span(points.map(({ x }) => x));
  const down = span(points.map(({ y }) => y));
  const scale = Math.min((BITMAP - 2 * PEN) / down.size, (WIDTH - 2 * PEN) / across.size);
  const placed = strokes.map((stroke) =>
    stroke.map(({ x, y }) => ({
      x: BITMAP / 2 + (x - across.middle) * scale,
      y: BITMAP / 2 + (y - down.middle) * scale,
    })),
  );
  const cells = [...BLANK];
  for (let y = 0; y < BITMAP; y++) {
    for (let x = 0; x < BITMAP; x++) {
      if (isInk({ x: x + 0.5, y: y + 0.5 }, placed)) cells[Math.floor(y / BLOCK) * SIDE + Math.floor(x / BLOCK)]! += 1;
    }
  }
  return cells;
}

function span(values: readonly number[]): { size: number; middle: number } {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return { size: Math.max(high - low, SMALLEST), middle: (low + high) / 2 };
}

function isInk(pixel: Point, strokes: readonly Stroke[]): boolean {
  return strokes.some((stroke) => stroke.some((end, at) => distance(pixel, stroke[Math.max(at - 1, 0)]!, end) <= PEN));
}

/** From a point to the nearest one between two others. */
function distance(point: Point, from: Point, to: Point): number {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = dx * dx + dy * dy;
  const along = length === 0 ? 0 : ((point.x - from.x) * dx + (point.y - from.y) * dy) / length;
  const t = Math.min(Math.max(along, 0), 1);
  return Math.hypot(point.x - from.x - t * dx, point.y - from.y - t * dy);
}

/** As the model's rows have it: 0..1. */
export function rowOf(cells: Cells): number[] {
  return cells.map((ink) => ink / FULL);
}
