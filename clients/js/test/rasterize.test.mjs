/** The numbers that the page makes of a drawing. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { pageModule } from "../scripts/bundle.mjs";

const script = Buffer.from(await pageModule("rasterize")).toString("base64");
const { BLANK, rasterize, MAX_INK, SIDE } = await import(`data:text/javascript;base64,${script}`);

const LINE = [
  { x: 0.5, y: 0.1 },
  { x: 0.5, y: 0.9 },
];
const column = (cells, at) => Array.from({ length: SIDE }, (_, row) => cells[row * SIDE + at]);
const sum = (cells) => cells.reduce((all, ink) => all + ink, 0);

test("an empty drawing gives empty cells", () => {
  assert.deepEqual(rasterize([]), BLANK);
  assert.deepEqual(rasterize([[]]), BLANK);
});

test("a cell counts the ink in its 16 pixels", () => {
  const cells = rasterize([LINE]);
  assert.equal(cells.length, SIDE * SIDE);
  assert.ok(cells.every((ink) => Number.isInteger(ink) && ink >= 0 && ink <= MAX_INK));
});

test("a vertical line fills the height, and the two middle columns equally", () => {
  const cells = rasterize([LINE]);
  assert.deepEqual(column(cells, 3), column(cells, 4));
  assert.ok(column(cells, 3).every((ink) => ink > 0));
  assert.equal(sum(column(cells, 0)) + sum(column(cells, 7)), 0);
});

test("the position and size of a drawing make no difference", () => {
  const hook = [...LINE, { x: 0.8, y: 0.9 }];
  const small = hook.map(({ x, y }) => ({ x: 0.05 + x / 2, y: 0.4 + y / 2 }));
  assert.deepEqual(rasterize([small]), rasterize([hook]));
});

test("a dot is not enlarged", () => {
  assert.ok(sum(rasterize([[{ x: 0.2, y: 0.7 }]])) < 32);
});

test("there is no line between two strokes", () => {
  const [top, bottom] = [
    { x: 0.2, y: 0.1 },
    { x: 0.8, y: 0.9 },
  ];
  assert.ok(sum(rasterize([[top], [bottom]])) < sum(rasterize([[top, bottom]])) / 2);
});
