/** Mutated tolls and seals: they are read, or refused with the one error that says so. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { SealBroken, TollMalformed } from "../build/errors.js";
import { openSeal } from "../build/seal.js";
import { canonicalChallenge, findToll } from "../build/wire.js";
import { ANSWER, makeToll, plaintextOf, seal } from "./testGateway.mjs";

const TOLL_MUTATIONS = 20_000; // of each toll
const SEAL_MUTATIONS = 2_000;
const INTERESTING = ["0", "-1", "1e9", "9007199254740993", "null", "true", "[]", "{}", '""', '"../"', ",", "}", '"'];

/** A generator of numbers in [0, 1), the same in every run (mulberry32). */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** One to four changes: a byte, a piece that is removed, doubled, or replaced by an interesting value. */
function mutate(bytes, random) {
  let result = bytes;
  const below = (bound) => Math.floor(random() * bound);
  for (let changes = 1 + below(4); changes > 0; changes--) {
    const at = below(result.length);
    const end = Math.min(result.length, at + 1 + below(8));
    const piece = [
      () => Buffer.from([below(256)]),
      () => Buffer.alloc(0),
      () => Buffer.concat([result.subarray(at, end), result.subarray(at, end)]),
      () => Buffer.from(INTERESTING[below(INTERESTING.length)]),
    ][below(4)]();
    result = Buffer.concat([result.subarray(0, at), piece, result.subarray(end)]);
  }
  return result;
}

const wrap = (toll) => Buffer.concat([Buffer.from('{"toll":'), toll, Buffer.from("}")]);
const isReadable = (toll) => toll.cargo instanceof Uint8Array && /^((\.\.\/)*\.well-known|$)/.test(toll.reference);

for (const [name, options] of Object.entries({
  sealed: { receipt: Buffer.alloc(110, 7), memoryKib: 256, counters: [2], bound: 3 },
  "in redeem mode": { mode: "redeem", counters: [2, 1], bound: 3 },
  "for admission": { mode: "redeem", admission: true },
})) {
  test(`a mutated toll ${name} is read, is none, or is malformed`, async () => {
    const body = Buffer.from(JSON.stringify((await makeToll(ANSWER, options)).toll));
    assert.ok(isReadable(findToll(wrap(body))));
    const random = generator(1);
    const counts = { read: 0, none: 0, malformed: 0 };
    for (let mutation = 0; mutation < TOLL_MUTATIONS; mutation++) {
      try {
        const toll = findToll(wrap(mutate(body, random)));
        if (toll) assert.ok(isReadable(toll));
        counts[toll ? "read" : "none"]++;
      } catch (error) {
        if (!(error instanceof TollMalformed)) throw error;
        counts.malformed++;
      }
    }
    assert.ok(
      Object.values(counts).every((count) => count > 0),
      JSON.stringify(counts),
    );
  });
}

test("a seal with mutated content holds an answer, or is broken", async () => {
  const { toll } = await makeToll();
  const { challenge, mode } = findToll(Buffer.from(JSON.stringify({ toll })));
  const associated = canonicalChallenge(challenge, mode);
  const solution = { counters: [0], secret: new Uint8Array(16) };
  const content = plaintextOf(ANSWER, { receipt: Buffer.alloc(20, 1), length: 128 });
  const random = generator(2);
  const counts = { opened: 0, broken: 0 };
  for (let mutation = 0; mutation < SEAL_MUTATIONS; mutation++) {
    const plaintext = mutate(content, random);
    try {
      const { answer, receipt } = await openSeal(
        await seal(solution.secret, associated, plaintext),
        solution,
        associated,
      );
      const { status, contentType: type, body } = answer;
      assert.deepEqual(plaintextOf({ status, type, body }, { receipt, length: plaintext.length }), plaintext);
      counts.opened++;
    } catch (error) {
      if (!(error instanceof SealBroken)) throw error;
      counts.broken++;
    }
  }
  assert.ok(counts.opened > 0 && counts.broken > 0, JSON.stringify(counts));
});
