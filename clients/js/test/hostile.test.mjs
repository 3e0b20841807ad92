/** Malformed, oversized and unsolvable tolls: a clear error, and no work is done. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { gzipSync } from "node:zlib";
import { Purse, SealBroken, TollError, TollMalformed, tollFetch, TollTooDear } from "modeltoll";
import { proofOf } from "../build/seal.js";
import { ANSWER, makeToll, TestGateway } from "./testGateway.mjs";

const HUGE = 2 ** 53 - 1;
const MIB = 2 ** 20;
let gateway;
let document;

before(async () => {
  gateway = await TestGateway.open();
  document = JSON.stringify(await makeToll(ANSWER, { memoryKib: 256, counters: [2], bound: 3 }));
});
after(() => gateway.close());
beforeEach(() => gateway.reset());

const fetchWithoutWork = (options = {}) =>
  tollFetch(undefined, {
    ...options,
    memoryMib: 64,
    progress: () => assert.fail("work was done"),
    paid: () => assert.fail("paid"),
  });

function withChange(change) {
  const copy = JSON.parse(document);
  change(copy.toll);
  return copy;
}

const setMember = (name, value) => (toll) => void (toll[name] = value);
const setPuzzle = (name, value) => (toll) => void (toll.puzzle[name] = value);
const setPart = (name, value) => (toll) => void (toll.puzzle.parts[0][name] = value);
const remove =
  (...path) =>
  (toll) => {
    const last = path.pop();
    delete path.reduce((inner, name) => inner[name], toll)[last];
  };

/** The same toll in redeem mode, with a further change. */
const asRedeemable = (change) => (toll) => {
  Object.assign(toll, { mode: "redeem", token: toll.sealed, redeem: ".well-known/modeltoll/redeem" });
  change(toll);
};

const PATH = ".well-known/modeltoll";
const REFERENCES = [
  null,
  7,
  true,
  [],
  {},
  "",
  "/",
  "../",
  `${"../".repeat(65)}${PATH}/redeem`,
  ...["https://other.example/", "//other.example/", "/", "./", "..", "\\\\other.example\\", " "].flatMap((start) => [
    `${start}${PATH}/redeem`,
    `${start}${PATH}/settle`,
  ]),
  ...["/", "?a=b", "#a", "/..", "\n", "%2f", "s"].flatMap((end) => [`${PATH}/redeem${end}`, `${PATH}/settle${end}`]),
  ...["..%2f", "%2e%2e/", "../a/../", ".../", "..//"].flatMap((step) => [
    `${step}${PATH}/redeem`,
    `${step}${PATH}/settle`,
  ]),
];
const NOT_INTEGERS = [null, -1, 0, 1.5, true, "5", [], {}, 1e30, 1e300];
const VALUES = [
  { set: setMember, name: "v", values: [null, 0, 1, 3, true, "2"] },
  { set: setMember, name: "mode", values: [null, "free", 1, ["sealed"]] },
  { set: setMember, name: "rows", values: NOT_INTEGERS },
  { set: setMember, name: "typical_seconds", values: [null, -1, true, "1", 1e10] },
  { set: setMember, name: "sealed", values: [null, 7, "?", "AA==", "AB", "A", "Zoë"] },
  { set: setMember, name: "puzzle", values: [null, [], "argon2id", {}] },
  { set: setPuzzle, name: "name", values: [null, "scrypt", "", 3, "SHA256", "hashcash-sha1", "constructor"] },
  { set: setPuzzle, name: "parts", values: [null, [], {}, [null], ["seed"]] },
  { set: setPuzzle, name: "m_kib", values: [...NOT_INTEGERS, 2 ** 20, 7] },
  { set: setPuzzle, name: "t", values: [...NOT_INTEGERS, 2] },
  { set: setPuzzle, name: "p", values: [...NOT_INTEGERS, 2] },
  { set: setPart, name: "n", values: [...NOT_INTEGERS, HUGE + 1] },
  { set: setPart, name: "start", values: [...NOT_INTEGERS, HUGE] },
  { set: setPart, name: "seed", values: [null, "", "AA", "A".repeat(23), 5] },
  { set: setPart, name: "check", values: [null, "", "AA", 5] },
];
const MALFORMED = {
  ...Object.fromEntries(
    VALUES.flatMap(({ set, name, values }) =>
      values.map((value) => [`${name} ${JSON.stringify(value)}`, set(name, value)]),
    ),
  ),
  ...Object.fromEntries(
    ["v", "mode", "puzzle", "rows", "sealed", "typical_seconds"].map((name) => [`no ${name}`, remove(name)]),
  ),
  ...Object.fromEntries(
    ["name", "parts", "m_kib", "t", "p"].map((name) => [`no puzzle ${name}`, remove("puzzle", name)]),
  ),
  ...Object.fromEntries(["seed", "n", "check"].map((name) => [`no part ${name}`, remove("puzzle", "parts", 0, name)])),
  "a part twice": (toll) => void toll.puzzle.parts.push(toll.puzzle.parts[0]),
  "seventeen parts": (toll) => void (toll.puzzle.parts = Array(17).fill(toll.puzzle.parts[0])),
  "hashcash in sealed mode": (toll) =>
    void (toll.puzzle = { name: "hashcash", parts: [{ seed: "A".repeat(22), n: 1 }] }),
  "a time lock with an even modulus": (toll) => {
    toll.puzzle = {
      name: "timelock",
      modulus: Buffer.alloc(256, 0xfe).toString("base64url"),
      parts: toll.puzzle.parts,
    };
  },
  ...Object.fromEntries(
    REFERENCES.flatMap((reference) => [
      [`redeem ${JSON.stringify(reference)}`, asRedeemable((toll) => void (toll.redeem = reference))],
      [`settle ${JSON.stringify(reference)}`, setMember("settle", reference)],
    ]),
  ),
  "redeem of the settle path": asRedeemable((toll) => void (toll.redeem = ".well-known/modeltoll/settle")),
  "settle of the redeem path": setMember("settle", ".well-known/modeltoll/redeem"),
  "redeem mode without redeem": asRedeemable((toll) => void delete toll.redeem),
};

for (const [name, change] of Object.entries(MALFORMED)) {
  test(`a malformed toll costs nothing: ${name}`, async () => {
    await assert.rejects(fetchWithoutWork()(gateway.serve402(withChange(change))), TollMalformed);
    assert.deepEqual(gateway.paths(), ["/infer"]);
  });
}

const TOO_EXPENSIVE = {
  "work far above the limit": { change: setPart("n", HUGE), words: /maxSeconds/ },
  "memory above the limit": { change: setPuzzle("m_kib", 256 * 1024), words: /memoryMib/ },
};
for (const [name, { change, words }] of Object.entries(TOO_EXPENSIVE)) {
  test(`${name} is refused with an error that names the option`, async () => {
    await assert.rejects(
      fetchWithoutWork()(gateway.serve402(withChange(change))),
      (error) => error instanceof TollTooDear && words.test(error.message),
    );
  });
}

test("a puzzle without a solution rejects, and is no payment", async () => {
  const purse = new Purse({ maxSecondsPerHour: 1 });
  const url = gateway.serve402(withChange(setPart("check", "A".repeat(22))));
  await assert.rejects(tollFetch(undefined, { purse })(url), /no counter below/);
  assert.equal(purse.payments.length, 0);
});

const UNOPENABLE = {
  "another bound": setPart("n", 4),
  "other sealed bytes": setMember("sealed", "A".repeat(64)),
  "too few sealed bytes": setMember("sealed", "AAAA"),
  "no sealed bytes": setMember("sealed", ""),
};
for (const [name, change] of Object.entries(UNOPENABLE)) {
  test(`a seal that does not open: ${name}`, async () => {
    await assert.rejects(tollFetch()(gateway.serve402(withChange(change))), SealBroken);
    assert.deepEqual(gateway.paths(), ["/infer"]);
  });
}

test("a toll that is compressed twice is refused unread", async () => {
  const bomb = gzipSync(gzipSync(Buffer.alloc(100 * MIB)));
  for (const codings of ["gzip, gzip", "gzip,identity , br"]) {
    gateway.handlers["/infer"] = (_, response) => {
      response.writeHead(402, { "content-type": "application/json", "content-encoding": codings }).end(bomb);
    };
    await assert.rejects(fetchWithoutWork()(`${gateway.url}/infer`), /compressed more than once/);
  }
});

/** Run `task` where there is no WebCrypto, as in a page over http. */
async function withoutWebCrypto(value, task) {
  const crypto = Object.getOwnPropertyDescriptor(globalThis, "crypto");
  Object.defineProperty(globalThis, "crypto", { value, configurable: true });
  try {
    return await task();
  } finally {
    Object.defineProperty(globalThis, "crypto", crypto);
  }
}

test("without WebCrypto, as in a page over http, no work is done for a seal, which could not be opened", async () => {
  for (const value of [{}, undefined]) {
    const url = gateway.serve402(document);
    await withoutWebCrypto(value, () =>
      assert.rejects(fetchWithoutWork()(url), (error) => error instanceof TollError && /https/.test(error.message)),
    );
  }
});

test("without WebCrypto the client asks for tokens, and its proofs are the same", async () => {
  const secret = new Uint8Array(64).map((_, index) => index);
  const expected = await proofOf({ secret });
  for (const value of [{}, undefined]) {
    const accepts = [];
    gateway.handlers["/infer"] = (request, response) => {
      accepts.push(request.headers["toll-accept"]);
      response.end("free");
    };
    await withoutWebCrypto(value, async () => {
      assert.deepEqual(await proofOf({ secret }), expected);
      await tollFetch()(`${gateway.url}/infer`);
      await tollFetch(undefined, { mode: "sealed" })(`${gateway.url}/infer`);
    });
    assert.match(accepts[0], /mode=redeem/);
    assert.match(accepts[1], /mode=sealed/);
  }
});

test("a redeem path that leads to no gateway is noticed before work is done", async () => {
  const dear = withChange(asRedeemable((toll) => (toll.puzzle.parts[0].n = 2 ** 24)));
  for (const status of [200, 302, 403, 404, 405]) {
    const url = gateway.serve402(dear);
    gateway.probeStatus = status;
    await assert.rejects(fetchWithoutWork({ maxSeconds: 1e6 })(url), new RegExp(`no work was done.*${status}`));
  }
});

const OVERSIZED = {
  streamed: [Buffer.alloc(MIB, "A"), 100, {}],
  announced: [Buffer.from("0"), 1, { "content-length": String(100 * MIB) }],
  compressed: [gzipSync(Buffer.alloc(100 * MIB)), 1, { "content-encoding": "gzip" }],
};

for (const [name, [chunk, times, headers]] of Object.entries(OVERSIZED)) {
  test(`a toll that is too large is refused before it is read: ${name}`, async () => {
    let onClose;
    const ended = new Promise((resolve) => (onClose = resolve));
    gateway.handlers["/infer"] = async (_, response) => {
      response.on("close", onClose);
      response.writeHead(402, { "content-type": "application/json", ...headers });
      for (let sent = 0; sent < times && !response.destroyed; sent++) {
        if (!response.write(chunk))
          await Promise.race([new Promise((resolve) => response.once("drain", resolve)), ended]);
      }
      if (!("content-length" in headers)) response.end();
    };
    await assert.rejects(fetchWithoutWork()(`${gateway.url}/infer`), /larger than 92274688 bytes/);
    await ended;
  });
}

test("a seal whose content is not an answer is refused", async () => {
  for (const answer of [
    { ...ANSWER, status: 99 },
    { ...ANSWER, status: 600 },
    { ...ANSWER, type: "a\u0001b" },
    { ...ANSWER, status: 101 },
  ]) {
    await assert.rejects(tollFetch()(gateway.serveToll(answer)), SealBroken);
  }
});

test("a seal with another padding than zeros is refused, and one with zeros is opened", async () => {
  const response = await tollFetch()(gateway.serveToll(ANSWER, { length: 4096, padding: 0 }));
  assert.deepEqual(Buffer.from(await response.arrayBuffer()), ANSWER.body);
  await assert.rejects(tollFetch()(gateway.serveToll(ANSWER, { length: 4096, padding: 1 })), SealBroken);
});

test("a connection that breaks during the redemption is the network's error", async () => {
  const url = gateway.serveToll();
  gateway.handlers["/.well-known/modeltoll/redeem"] = (request) => request.socket.destroy();
  await assert.rejects(tollFetch(undefined, { mode: "redeem" })(url), (error) => !(error instanceof TollError));
});
