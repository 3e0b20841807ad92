/** The files in vectors/ fix the wire byte for byte: what Python makes is read, solved and opened here. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { evaluator, plainEvaluator } from "../build/argon2id.js";
import { benchOf } from "../build/bench.js";
import { fromInteger } from "../build/bytes.js";
import { TollMalformed } from "../build/errors.js";
import { perform } from "../build/labour.js";
import { ARGON2ID_RATES, SHA256_RATE, SQUARING_RATE } from "../build/profile.js";
import { openSeal } from "../build/seal.js";
import { largestDigest, solve } from "../build/solve.js";
import { baseOf, valueOf } from "../build/squaring.js";
import { canonicalChallenge, decodeChallenge, encodeRedemption, findToll } from "../build/wire.js";

const ROOT = new URL("../../../", import.meta.url);
const SHA1 = "hashcash-sha1"; // of the paper, for comparison; not of this client

const read = (path) => readFileSync(new URL(path, ROOT), "utf8");
const vectors = (name) => JSON.parse(read(`vectors/${name}.json`)).vectors;
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const unhex = (text) => Uint8Array.from(Buffer.from(text, "hex"));
const ascii = (text) => new TextEncoder().encode(text);

async function solved(challenge, cores = 1) {
  return solve(challenge, { cores, bench: benchOf(), notice: assert.fail });
}

for (const row of vectors("challenge")) {
  test(`canonical bytes are read and written alike: ${row.name}, ${row.mode}`, () => {
    const { mode, puzzle } = JSON.parse(row.canonical);
    assert.equal(mode, row.mode);
    if (puzzle.name === SHA1) return assert.throws(() => decodeChallenge(puzzle), TollMalformed);
    assert.deepEqual(canonicalChallenge(decodeChallenge(puzzle), mode), ascii(row.canonical));
  });
}

const FUNCTIONS = {
  async argon2id(row) {
    for (const kind of [evaluator, plainEvaluator]) {
      const evaluate = await kind(row.m_kib);
      assert.equal(hex(await evaluate(unhex(row.seed), row.n)), row.value);
    }
  },
  async sha256(row) {
    const job = { puzzle: "sha256", seed: unhex(row.seed), goal: unhex(row.check), memoryKib: 0, start: 0 };
    const { tried, hit } = await perform({ ...job, from: row.n, count: 1 }, 1);
    assert.deepEqual(
      { tried, counter: hit.counter, secret: hex(hit.secret) },
      { tried: 1, counter: row.n, secret: row.secret },
    );
  },
  async hashcash(row) {
    assert.equal(hex(largestDigest(row.bound)), row.largest_digest);
  },
  async timelock(row) {
    const modulus = BigInt(`0x${row.modulus}`);
    const x = await baseOf(unhex(row.seed), modulus);
    assert.equal(x.toString(16), row.base);
    const squared = await perform({ puzzle: "timelock", x, modulus, count: row.squarings }, 1e6);
    assert.equal(hex(await valueOf(squared.x)), row.value);
  },
};

for (const row of vectors("puzzle").filter((row) => row.puzzle !== SHA1)) {
  const which = row.n ?? row.bound ?? row.squarings;
  test(`functions have their published values: ${row.puzzle} ${row.m_kib ?? ""} ${which}`, () =>
    FUNCTIONS[row.puzzle](row));
}

for (const row of vectors("seal")) {
  test(`seals open to their answers: ${row.name}`, async () => {
    const solution = { counters: row.counters, secret: unhex(row.secret) };
    const answer = await openSeal(unhex(row.cargo), solution, ascii(row.associated));
    const { status, contentType, body } = answer;
    assert.deepEqual(
      { status, contentType, body: hex(body) },
      { status: row.status, contentType: row.content_type, body: row.body },
    );
  });
}

for (const row of vectors("toll")) {
  test(`whole tolls can be paid: ${row.name}, ${row.mode}`, async () => {
    const body = ascii(row.body);
    if (row.body.includes(SHA1)) return assert.throws(() => findToll(body), TollMalformed);
    const toll = findToll(body);
    const solution = await solved(toll.challenge);
    assert.deepEqual([toll.mode, toll.entry], [row.mode, row.entry ?? false]);
    if (row.mode === "redeem") {
      assert.equal(hex(toll.cargo), row.token);
      const sent = JSON.parse(encodeRedemption(toll.cargo, solution.counters));
      assert.deepEqual(sent, { token: JSON.parse(row.body).toll.token, solution: solution.counters });
      return;
    }
    assert.deepEqual(solution.counters, row.counters);
    const answer = await openSeal(toll.cargo, solution, canonicalChallenge(toll.challenge, toll.mode));
    assert.equal(new TextDecoder().decode(answer.body), row.answer);
  });
}

test("two workers find what one finds", async () => {
  const row = vectors("toll").find((row) => row.name === "sha256, four parts, exact" && row.mode === "sealed");
  const { challenge } = findToll(ascii(row.body));
  assert.deepEqual(await solved(challenge, 2), await solved(challenge, 1));
});

test("a stamp's digest stays below its target", async () => {
  const seed = new Uint8Array(16);
  const bound = 5000;
  const challenge = {
    puzzle: "hashcash",
    parts: [{ seed, bound, check: null, start: 0 }],
    memoryKib: 0,
    modulus: null,
  };
  const { counters, secret } = await solved(challenge);
  const digest = await crypto.subtle.digest("SHA-256", Buffer.concat([seed, fromInteger(BigInt(counters[0]), 8)]));
  assert.ok(BigInt(`0x${hex(digest)}`) * BigInt(bound) < 2n ** 256n);
  assert.equal(secret.length, 0);
});

test("the reference machine is the Python package's own", () => {
  const source = read("src/modeltoll/puzzle/machine_profile.py").replaceAll("_", "");
  const said = (name) => Number(new RegExp(`\\b${name}=([\\d.]+),`).exec(source)[1]);
  const rungs = [...source.matchAll(/^\s+(\d+): ([\d.]+),$/gm)].map(([, kib, rate]) => [kib, Number(rate)]);
  assert.deepEqual([said("sha256"), said("squarings")], [SHA256_RATE, SQUARING_RATE]);
  assert.deepEqual(Object.fromEntries(rungs), { ...ARGON2ID_RATES });
});

test("where the engine has SIMD, Argon2id is the compiled one", async () => {
  const evaluate = await evaluator(8);
  assert.ok(evaluate(new Uint8Array(16), 0) instanceof Uint8Array);
});

test("both Argon2ids agree at every memory and counter, the odd ones too", async () => {
  const seed = crypto.getRandomValues(new Uint8Array(16));
  for (const memory of [8, 9, 11, 255, 513, 1000, 4096]) {
    const [one, other] = await Promise.all([evaluator(memory), plainEvaluator(memory)]);
    for (const n of [0, 2 ** 31, 2 ** 32 - 1, 2 ** 53 - 1]) assert.deepEqual(await one(seed, n), await other(seed, n));
  }
});
