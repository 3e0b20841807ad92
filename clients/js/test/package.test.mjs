/** The npm package. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as modeltoll from "modeltoll";
import { sizes } from "../scripts/size.mjs";

const read = (path) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");

test("the package exports its public interface and nothing else", () => {
  const names = [
    "Purse",
    "Receipts",
    "SealBroken",
    "SolveStopped",
    "TollError",
    "TollMalformed",
    "TollTooDear",
    "tollFetch",
  ];
  assert.deepEqual(Object.keys(modeltoll).toSorted(), names);
});

test("its own code stays below 25 kB gzipped", async () => {
  const { own, total } = await sizes();
  assert.ok(own < 25_000, `${own} bytes`);
  assert.ok(own < total);
});

test("its only dependency is hash-wasm, in one version", () => {
  assert.deepEqual(JSON.parse(read("package.json")).dependencies, { "hash-wasm": "4.13.0" });
});

test("it has the version of the Python package", () => {
  const [, version] = /"(.*)"/.exec(read("../../src/modeltoll/_version.py"));
  assert.equal(JSON.parse(read("package.json")).version, version);
});

test("the lock file names no registry", () => {
  assert.ok(!/https?:\/\/[^"]*registry/.test(read("package-lock.json")));
  assert.ok(!read("package-lock.json").includes('"resolved"'));
});

test("the script for pages without a bundler imports nothing", () => {
  assert.ok(!/\bimport\b[^(]*["']/.test(read("dist/modeltoll.js").replaceAll(/"(?:[^"\\]|\\.)*"/g, '""')));
});
