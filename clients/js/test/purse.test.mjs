/** The purse: a toll above a limit is refused before any work is done, and interrupted work is charged. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Purse, TollTooDear } from "modeltoll";
import { decodeChallenge, findToll } from "../build/wire.js";
import { makeToll } from "./testGateway.mjs";

const RATE = 2_012_000; // SHA-256 a second on the reference machine

/** A sha256 toll of that many expected seconds, whose solution is found at once. */
async function tollOf(seconds, options = {}) {
  const document = await makeToll(undefined, { counters: [3], bound: Math.round(2 * RATE * seconds - 1), ...options });
  return findToll(new TextEncoder().encode(JSON.stringify(document)));
}

test("the expected seconds are those of the reference machine", async () => {
  const purse = new Purse();
  assert.ok(Math.abs(purse.decide(await tollOf(2)) - 2) < 1e-6);
  const argon = await tollOf(0, { memoryKib: 256, bound: 99 });
  assert.equal(purse.decide(argon), 50 / 5917.1);
});

test("a toll above the limit is refused, and the error has both numbers", async () => {
  const purse = new Purse({ maxSeconds: 1 });
  await assert.rejects(purse.pay(await tollOf(3)), (error) => {
    assert.ok(error instanceof TollTooDear);
    assert.deepEqual([Math.round(error.seconds), error.limit], [3, 1]);
    return true;
  });
  assert.deepEqual(purse.payments, []);
});

test("a toll above the limit is paid if allow, which may be asynchronous, returns true", async () => {
  const asked = [];
  const allow = async (toll, seconds) => {
    asked.push(Math.round(seconds));
    return seconds < 4;
  };
  const purse = new Purse({ maxSeconds: 1, allow });
  await purse.pay(await tollOf(3));
  await assert.rejects(purse.pay(await tollOf(5)), /allow\(\) refused/);
  await purse.pay(await tollOf(0.5));
  assert.deepEqual([asked, purse.payments.length], [[3, 5], 2]);
});

test("the hourly limit counts the tolls of the last hour only", async () => {
  let now = 0;
  const purse = new Purse({ maxSecondsPerHour: 5, clock: () => now });
  await purse.pay(await tollOf(3));
  await assert.rejects(purse.pay(await tollOf(3)), /maxSecondsPerHour/);
  await purse.pay(await tollOf(1.5));
  now = 3601;
  await purse.pay(await tollOf(3));
  assert.equal(purse.payments.length, 3);
});

test("concurrent tolls together do not exceed the hourly limit", async () => {
  const purse = new Purse({ maxSecondsPerHour: 5 });
  const tolls = await Promise.all(Array.from({ length: 4 }, () => tollOf(2)));
  const paid = await Promise.allSettled(tolls.map((toll) => purse.pay(toll)));
  assert.equal(paid.filter(({ status }) => status === "fulfilled").length, 2);
});

test("interrupted work is charged with the time that it took", async () => {
  let now = 0;
  const stop = new AbortController();
  const purse = new Purse({ maxSecondsPerHour: 5, cores: 1, clock: () => now++, progress: () => stop.abort() });
  await assert.rejects(purse.pay(await tollOf(4, { counters: [1e7] }), stop.signal), { name: "AbortError" });
  await purse.pay(await tollOf(3));
});

test("a payment has the expected and the spent seconds, rows, puzzle and mode", async () => {
  const reports = [];
  const purse = new Purse({ paid: (payment) => reports.push(payment) });
  await purse.pay(await tollOf(1));
  assert.deepEqual(reports, purse.payments);
  const { expected, seconds, ...rest } = reports[0];
  assert.deepEqual(rest, { rows: 1, puzzle: "sha256", mode: "sealed" });
  assert.ok(Math.abs(expected - 1) < 1e-6 && seconds >= 0);
});

test("a puzzle that is not among the puzzles of the purse is refused", async () => {
  const purse = new Purse({ puzzles: ["argon2id"] });
  await assert.rejects(purse.pay(await tollOf(0.001)), /needs the puzzle sha256/);
});

for (const options of [
  { maxSeconds: -1 },
  { maxSeconds: Number.NaN },
  { maxSeconds: "30" },
  { maxSecondsPerHour: -1 },
  { deadlineSeconds: -0.1 },
  { cores: 0 },
  { memoryMib: 0 },
  { puzzles: [] },
  { puzzles: ["scrypt"] },
]) {
  test(`invalid options are refused: ${JSON.stringify(options)}`, () =>
    assert.throws(() => new Purse(options), RangeError));
}

test("a start offset changes the evaluated counters, not those of the solution", async () => {
  const document = await makeToll(undefined, { memoryKib: 256, counters: [6], bound: 8, start: 2 ** 52 });
  const challenge = decodeChallenge(document.toll.puzzle);
  assert.equal(challenge.parts[0].start, 2 ** 52);
  const toll = findToll(new TextEncoder().encode(JSON.stringify(document)));
  assert.deepEqual((await new Purse().pay(toll)).counters, [6]);
});
