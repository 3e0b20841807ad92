/** A server that lies, shouts or asks for the impossible: a clear error, and nothing is spent. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { gzipSync } from "node:zlib";
import { Purse, SealBroken, TollError, TollMalformed, tollFetch, TollTooDear } from "modeltoll";
import { ANSWER, House, makeToll } from "./testGateway.mjs";

const HUGE = 2 ** 53 - 1;
const MIB = 2 ** 20;
let house;
let document;

before(async () => {
  house = await House.open();
  document = JSON.stringify(await makeToll(ANSWER, { memoryKib: 256, counters: [2], bound: 3 }));
});
after(() => house.close());
beforeEach(() => house.reset());

const idle = () =>
  tollFetch(undefined, { progress: () => assert.fail("work was done"), paid: () => assert.fail("paid") });

function spoilt(change) {
  const copy = JSON.parse(document);
  change(copy.toll);
  return copy;
}

const member = (name, value) => (toll) => void (toll[name] = value);
const puzzle = (name, value) => (toll) => void (toll.puzzle[name] = value);
const part = (name, value) => (toll) => void (toll.puzzle.parts[0][name] = value);
const lost =
  (...path) =>
  (toll) => {
    const last = path.pop();
    delete path.reduce((inner, name) => inner[name], toll)[last];
  };

const NOT_INTEGERS = [null, -1, 0, 1.5, true, "5", [], {}, 1e30, 1e300];
const VALUES = [
  [member, "v", [null, 0, 2, true, "1"]],
  [member, "mode", [null, "free", 1, ["sealed"]]],
  [member, "rows", NOT_INTEGERS],
  [member, "typical_seconds", [null, -1, true, "1", 1e10]],
  [member, "sealed", [null, 7, "?", "AA==", "AB", "A", "Zoë"]],
  [member, "puzzle", [null, [], "argon2id", {}]],
  [puzzle, "name", [null, "scrypt", "", 3, "SHA256", "hashcash-sha1", "constructor"]],
  [puzzle, "parts", [null, [], {}, [null], ["seed"]]],
  [puzzle, "m_kib", [...NOT_INTEGERS, 2 ** 20, 7]],
  [puzzle, "t", [...NOT_INTEGERS, 2]],
  [puzzle, "p", [...NOT_INTEGERS, 2]],
  [part, "n", [...NOT_INTEGERS, HUGE + 1]],
  [part, "start", [...NOT_INTEGERS, HUGE]],
  [part, "seed", [null, "", "AA", "A".repeat(23), 5]],
  [part, "check", [null, "", "AA", 5]],
];
const MALFORMED = {
  ...Object.fromEntries(
    VALUES.flatMap(([where, name, values]) =>
      values.map((value) => [`${name} ${JSON.stringify(value)}`, where(name, value)]),
    ),
  ),
  ...Object.fromEntries(
    ["v", "mode", "puzzle", "rows", "sealed", "typical_seconds"].map((name) => [`no ${name}`, lost(name)]),
  ),
  ...Object.fromEntries(
    ["name", "parts", "m_kib", "t", "p"].map((name) => [`no puzzle ${name}`, lost("puzzle", name)]),
  ),
  ...Object.fromEntries(["seed", "n", "check"].map((name) => [`no part ${name}`, lost("puzzle", "parts", 0, name)])),
  "a part twice": (toll) => void toll.puzzle.parts.push(toll.puzzle.parts[0]),
  "seventeen parts": (toll) => void (toll.puzzle.parts = Array(17).fill(toll.puzzle.parts[0])),
  "hashcash, sealed": (toll) => void (toll.puzzle = { name: "hashcash", parts: [{ seed: "A".repeat(22), n: 1 }] }),
  "a time lock of an even number": (toll) => {
    toll.puzzle = {
      name: "timelock",
      modulus: Buffer.alloc(256, 0xfe).toString("base64url"),
      parts: toll.puzzle.parts,
    };
  },
  "a time lock to redeem": (toll) => {
    toll.puzzle = {
      name: "timelock",
      modulus: Buffer.alloc(256, 0xff).toString("base64url"),
      parts: toll.puzzle.parts,
    };
    toll.mode = "redeem";
  },
};

for (const [name, change] of Object.entries(MALFORMED)) {
  test(`a malformed toll costs nothing: ${name}`, async () => {
    await assert.rejects(idle()(house.offer(spoilt(change))), TollMalformed);
    assert.deepEqual(house.paths(), ["/infer"]);
  });
}

const ABSURD = [
  ["absurd work", part("n", HUGE), /maxSeconds/],
  ["absurd memory", puzzle("m_kib", 256 * 1024), /memoryMib/],
];
for (const [name, change, words] of ABSURD) {
  test(`${name} is refused in words that name the setting`, async () => {
    await assert.rejects(
      idle()(house.offer(spoilt(change))),
      (error) => error instanceof TollTooDear && words.test(error.message),
    );
  });
}

test("a puzzle without solution ends, and counts what was worked", async () => {
  const purse = new Purse({ maxSecondsPerHour: 1 });
  const url = house.offer(spoilt(part("check", "A".repeat(22))));
  await assert.rejects(tollFetch(undefined, { purse })(url), /no counter below/);
  assert.equal(purse.payments.length, 0);
});

for (const [name, change] of [
  ["another bound", part("n", 4)],
  ["another cargo", member("sealed", "A".repeat(64))],
  ["a short cargo", member("sealed", "AAAA")],
  ["no cargo", member("sealed", "")],
]) {
  test(`a seal that does not open: ${name}`, async () => {
    await assert.rejects(tollFetch()(house.offer(spoilt(change))), SealBroken);
    assert.deepEqual(house.paths(), ["/infer"]);
  });
}

const SHOUTS = {
  "said without end": [Buffer.alloc(MIB, "A"), 100, {}],
  announced: [Buffer.from("0"), 1, { "content-length": String(100 * MIB) }],
  packed: [gzipSync(Buffer.alloc(100 * MIB)), 1, { "content-encoding": "gzip" }],
};

for (const [name, [chunk, times, headers]] of Object.entries(SHOUTS)) {
  test(`a toll that is too large is refused within bounds: ${name}`, async () => {
    let broke;
    const ended = new Promise((resolve) => (broke = resolve));
    house.handlers["/infer"] = async (_, response) => {
      response.on("close", broke);
      response.writeHead(402, { "content-type": "application/json", ...headers });
      for (let sent = 0; sent < times && !response.destroyed; sent++) {
        if (!response.write(chunk))
          await Promise.race([new Promise((resolve) => response.once("drain", resolve)), ended]);
      }
      if (!("content-length" in headers)) response.end();
    };
    await assert.rejects(idle()(`${house.url}/infer`), /larger than 92274688 bytes/);
    await ended;
  });
}

test("an answer that is no answer, once it is opened, is refused", async () => {
  for (const answer of [
    { ...ANSWER, status: 99 },
    { ...ANSWER, status: 600 },
    { ...ANSWER, type: "a\u0001b" },
    { ...ANSWER, status: 101 },
  ]) {
    await assert.rejects(tollFetch()(house.sell(answer)), SealBroken);
  }
});

test("a server that dies during the redemption is the network's error", async () => {
  const url = house.sell();
  house.handlers["/.well-known/modeltoll/redeem"] = (request) => request.socket.destroy();
  await assert.rejects(tollFetch(undefined, { mode: "redeem" })(url), (error) => !(error instanceof TollError));
});
