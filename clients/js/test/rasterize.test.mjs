/** What the page makes of a drawing. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { pageModule } from "../scripts/bundle.mjs";

const script = Buffer.from(await pageModule("rasterize")).toString("base64");
const { BLANK, cellsOf, FULL, SIDE } = await import(`data:text/javascript;base64,${script}`);

const LINE = [
  { x: 0.5, y: 0.1 },
  { x: 0.5, y: 0.9 },
];
const column = (cells, at) => Array.from({ length: SIDE }, (_, row) => cells[row * SIDE + at]);
const sum = (cells) => cells.reduce((all, ink) => all + ink, 0);

test("nothing drawn is nothing seen", () => {
  assert.deepEqual(cellsOf([]), BLANK);
  assert.deepEqual(cellsOf([[]]), BLANK);
});

test("cells count the ink of their 16 pixels", () => {
  const cells = cellsOf([LINE]);
  assert.equal(cells.length, SIDE * SIDE);
  assert.ok(cells.every((ink) => Number.isInteger(ink) && ink >= 0 && ink <= FULL));
});

test("a line down the middle fills the height, and the two columns in the middle alike", () => {
  const cells = cellsOf([LINE]);
  assert.deepEqual(column(cells, 3), column(cells, 4));
  assert.ok(column(cells, 3).every((ink) => ink > 0));
  assert.equal(sum(column(cells, 0)) + sum(column(cells, 7)), 0);
});

test("where and how large a drawing is makes no difference", () => {
  const hook = [...LINE, { x: 0.8, y: 0.9 }];
  const small = hook.map(({ x, y }) => ({ x: 0.05 + x / 2, y: 0.4 + y / 2 }));
  assert.deepEqual(cellsOf([small]), cellsOf([hook]));
});

test("a dot is not blown up", () => {
  assert.ok(sum(cellsOf([[{ x: 0.2, y: 0.7 }]])) < 32);
});

test("a pen that was lifted draws no line between its strokes", () => {
  const [top, bottom] = [
    { x: 0.2, y: 0.1 },
    { x: 0.8, y: 0.9 },
  ];
  assert.ok(sum(cellsOf([[top], [bottom]])) < sum(cellsOf([[top, bottom]])) / 2);
});
