/** The files in vectors/ fix the wire format byte for byte: this client reads, solves and opens what Python made. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { createEvaluator, createHashWasmEvaluator } from "../build/argon2id.js";
import { resolveReference } from "../build/callerRequest.js";
import { sharedPool } from "../build/workerPool.js";
import { fromInteger } from "../build/bytes.js";
import { TollMalformed } from "../build/errors.js";
import { runTask } from "../build/task.js";
import { ARGON2ID_RATES, SHA256_RATE, SQUARING_RATE } from "../build/machineProfile.js";
import { openSeal, proofOf } from "../build/seal.js";
import { largestDigest, solve } from "../build/solve.js";
import { timelockBase, timelockValue } from "../build/timelock.js";
import {
  canonicalChallenge,
  decodeChallenge,
  encodeRedemption,
  encodeSettlement,
  findToll,
  formatAccept,
  formatSettle,
} from "../build/wire.js";

const ROOT = new URL("../../../", import.meta.url);
const SHA1 = "hashcash-sha1"; // the paper's puzzle, which this client does not support

const read = (path) => readFileSync(new URL(path, ROOT), "utf8");
const vectors = (name) => JSON.parse(read(`vectors/${name}.json`)).vectors;
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const unhex = (text) => Uint8Array.from(Buffer.from(text, "hex"));
const ascii = (text) => new TextEncoder().encode(text);

async function solveWith(challenge, cores = 1) {
  return solve(challenge, { cores, pool: sharedPool(), notice: assert.fail });
}

for (const row of vectors("challenge")) {
  test(`canonical bytes survive decoding and encoding: ${row.name}, ${row.mode}`, () => {
    const { mode, puzzle } = JSON.parse(row.canonical);
    assert.equal(mode, row.mode);
    if (puzzle.name === SHA1) {
      assert.throws(() => decodeChallenge(puzzle), TollMalformed);
      return;
    }
    assert.deepEqual(canonicalChallenge(decodeChallenge(puzzle), mode), ascii(row.canonical));
  });
}

const FUNCTIONS = {
  async argon2id(row) {
    for (const create of [createEvaluator, createHashWasmEvaluator]) {
      const evaluate = await create(row.m_kib);
      assert.equal(hex(await evaluate(unhex(row.seed), row.n)), row.value);
    }
  },
  async sha256(row) {
    const task = { puzzle: "sha256", seed: unhex(row.seed), target: unhex(row.check), memoryKib: 0, start: 0 };
    const { evaluations, hit } = await runTask({ ...task, from: row.n, count: 1 }, 1);
    assert.deepEqual(
      { evaluations, counter: hit.counter, secret: hex(hit.secret) },
      { evaluations: 1, counter: row.n, secret: row.secret },
    );
  },
  async hashcash(row) {
    assert.equal(hex(largestDigest(row.bound)), row.largest_digest);
  },
  async timelock(row) {
    const modulus = BigInt(`0x${row.modulus}`);
    const x = await timelockBase(unhex(row.seed), modulus);
    assert.equal(x.toString(16), row.base);
    const squared = await runTask({ puzzle: "timelock", x, modulus, count: row.squarings }, 1e6);
    assert.equal(hex(await timelockValue(squared.x)), row.value);
  },
};

for (const row of vectors("puzzle").filter(({ puzzle }) => puzzle !== SHA1)) {
  const which = row.n ?? row.bound ?? row.squarings;
  test(`functions have the values in vectors/: ${row.puzzle} ${row.m_kib ?? ""} ${which}`, () =>
    FUNCTIONS[row.puzzle](row));
}

for (const row of vectors("seal")) {
  test(`seals open to their answers: ${row.name}`, async () => {
    const solution = { counters: row.counters, secret: unhex(row.secret) };
    assert.equal(hex(await proofOf(solution)), row.proof);
    const { answer, receipt } = await openSeal(unhex(row.cargo), solution, ascii(row.associated));
    const { status, contentType, body } = answer;
    assert.deepEqual(
      { status, contentType, body: hex(body), receipt: hex(receipt) },
      { status: row.status, contentType: row.content_type, body: row.body, receipt: row.receipt },
    );
  });
}

for (const row of vectors("toll")) {
  test(`whole tolls can be solved and opened: ${row.name}, ${row.mode}`, async () => {
    const body = ascii(row.body);
    if (row.body.includes(SHA1)) {
      assert.throws(() => findToll(body), TollMalformed);
      return;
    }
    const toll = findToll(body);
    const solution = await solveWith(toll.challenge);
    const { redeem, settle = "" } = JSON.parse(row.body).toll;
    assert.deepEqual([toll.mode, toll.admission, toll.reference], [row.mode, row.admission ?? false, redeem ?? settle]);
    if (row.counters) assert.deepEqual([solution.counters, hex(solution.secret)], [row.counters, row.secret]);
    if (row.mode === "redeem") {
      assert.equal(hex(toll.cargo), row.token);
      const { counters, secret } = solution;
      const solved = secret.length > 0 ? { proof: await proofOf(solution) } : { counters };
      assert.equal(encodeRedemption(toll.cargo, solved), row.redemption);
      return;
    }
    const { answer, receipt } = await openSeal(toll.cargo, solution, canonicalChallenge(toll.challenge, toll.mode));
    assert.deepEqual([new TextDecoder().decode(answer.body), hex(receipt)], [row.answer, row.receipt]);
  });
}

const MESSAGES = {
  reference({ path, target, reference }) {
    const request = { url: `https://a.example/prefix${path}?query` };
    assert.equal(resolveReference({ reference }, request.url, request), `https://a.example/prefix${target}`);
  },
  accept({ memory_mib: memoryMib, accept }) {
    assert.equal(formatAccept(["argon2id", "sha256"], "sealed", memoryMib), accept);
  },
  settle({ returned, settle, settlement }) {
    const receipts = returned.map(unhex);
    assert.deepEqual([formatSettle(receipts), encodeSettlement(receipts)], [settle, settlement]);
  },
};

/** All messages but the announcement of a client that returns no receipts, which this client never is. */
const messages = vectors("message").filter(({ receipts }) => receipts !== false);
for (const [at, row] of messages.entries()) {
  const kind = Object.keys(MESSAGES).find((name) => name in row);
  test(`messages are those in vectors/: ${at}, ${kind}`, () => MESSAGES[kind](row));
}

test("two workers find the same solution as one", async () => {
  const { body } = vectors("toll").find(({ name, mode }) => name === "sha256, four parts, exact" && mode === "sealed");
  const { challenge } = findToll(ascii(body));
  assert.deepEqual(await solveWith(challenge, 2), await solveWith(challenge, 1));
});

test("a hashcash digest is below its target", async () => {
  const seed = new Uint8Array(16);
  const bound = 5000;
  const challenge = {
    puzzle: "hashcash",
    parts: [{ seed, bound, check: null, start: 0 }],
    memoryKib: 0,
    modulus: null,
  };
  const { counters, secret } = await solveWith(challenge);
  const digest = await crypto.subtle.digest("SHA-256", Buffer.concat([seed, fromInteger(BigInt(counters[0]), 8)]));
  assert.ok(BigInt(`0x${hex(digest)}`) * BigInt(bound) < 2n ** 256n);
  assert.equal(secret.length, 0);
});

test("the reference rates are those of the Python package", () => {
  const source = read("src/modeltoll/puzzle/machine_profile.py").replaceAll("_", "");
  const rateOf = (name) => Number(new RegExp(`\\b${name}=([\\d.]+),`).exec(source)[1]);
  const rates = [...source.matchAll(/^\s+(\d+): ([\d.]+),$/gm)].map(([, kib, rate]) => [kib, Number(rate)]);
  assert.deepEqual([rateOf("sha256"), rateOf("squarings")], [SHA256_RATE, SQUARING_RATE]);
  assert.deepEqual(Object.fromEntries(rates), { ...ARGON2ID_RATES });
});

test("if the engine has SIMD, Argon2id is this package's own", async () => {
  const evaluate = await createEvaluator(8);
  assert.ok(evaluate(new Uint8Array(16), 0) instanceof Uint8Array);
});

test("both implementations of Argon2id agree, also at unusual memory sizes and counters", async () => {
  const seed = crypto.getRandomValues(new Uint8Array(16));
  for (const memory of [8, 9, 11, 255, 513, 1000, 4096]) {
    const [own, hashWasm] = [await createEvaluator(memory), createHashWasmEvaluator(memory)];
    for (const n of [0, 2 ** 31, 2 ** 32 - 1, 2 ** 53 - 1]) {
      assert.deepEqual(await own(seed, n), new Uint8Array(await hashWasm(seed, n)));
    }
  }
});
