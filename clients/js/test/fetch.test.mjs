/** A drop-in `fetch` against a real server: answers arrive as the model server gave them. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { Purse, SealBroken, SolveStopped, TollMalformed, tollFetch, TollTooDear } from "modeltoll";
import { ANSWER, House, KEY, makeToll } from "./testGateway.mjs";

const REDEEM_PATH = "/.well-known/modeltoll/redeem";
const HUGE = 2 ** 53 - 1;
const key = { authorization: KEY };
let house;
let neighbour;

before(async () => ([house, neighbour] = await Promise.all([House.open(), House.open()])));
after(() => Promise.all([house.close(), neighbour.close()]));
beforeEach(() => [house.reset(), neighbour.reset()]);

const bytesOf = async (response) => Buffer.from(await response.arrayBuffer());

const ANSWERS = {
  json: ANSWER,
  binary: {
    status: 200,
    type: "application/octet-stream",
    body: Buffer.from(Array.from({ length: 256 }, (_, n) => n)),
  },
  empty: { status: 204, type: "", body: Buffer.alloc(0) },
  "a model's own error": {
    status: 422,
    type: "application/json; charset=utf-8",
    body: Buffer.from('{"error": "Zürich ☃"}'),
  },
};

for (const [name, answer] of Object.entries(ANSWERS)) {
  test(`a sealed answer arrives byte for byte: ${name}`, async () => {
    const response = await tollFetch()(house.sell(answer), { method: "POST", body: "[1]", headers: key });
    assert.equal(response.status, answer.status);
    assert.equal(response.headers.get("content-type"), answer.type || null);
    assert.equal(response.headers.get("x-served-by"), "toll house");
    assert.equal(response.headers.get("cache-control"), null);
    assert.equal(response.url, `${house.url}/infer`);
    assert.deepEqual(await bytesOf(response), answer.body);
    assert.deepEqual(house.paths(), ["/infer"]);
  });
}

for (const [type, plain, length] of [
  ["application/octet-stream; inference-header-content-length=12", "application/octet-stream", "12"],
  ["text/plain; inference-header-content-length=x", "text/plain; inference-header-content-length=x", null],
]) {
  test(`a raw answer says how long its JSON is, by a header of its own: ${type}`, async () => {
    const { headers } = await tollFetch()(house.sell({ ...ANSWER, type }), {
      method: "POST",
      body: "[1]",
      headers: key,
    });
    assert.equal(headers.get("content-type"), plain);
    assert.equal(headers.get("inference-header-content-length"), length);
  });
}

const SHAPES = {
  "sha256 in four parts": { counters: [900, 0, 1023, 5], bound: 1024 },
  argon2id: { memoryKib: 256, counters: [11], bound: 16 },
  "argon2id in four parts": { memoryKib: 256, counters: [3, 7, 0, 1], bound: 8 },
  "argon2id made ahead": { memoryKib: 256, counters: [5], bound: 8, start: 454176009850906 },
  "sha256, long enough for workers": { counters: [400_000], bound: 2 ** 20 },
  "argon2id, long enough for workers": { memoryKib: 256, counters: [900], bound: 1024 },
};

for (const [name, options] of Object.entries(SHAPES)) {
  for (const mode of ["sealed", "redeem"]) {
    test(`a toll is paid, ${mode}: ${name}`, async () => {
      const purse = new Purse();
      const response = await tollFetch(undefined, { purse, mode })(house.sell(ANSWER, options), { headers: key });
      assert.deepEqual(await bytesOf(response), ANSWER.body);
      assert.deepEqual(house.paths(), mode === "sealed" ? ["/infer"] : ["/infer", REDEEM_PATH]);
      assert.equal(purse.payments.length, 1);
      assert.equal(purse.payments[0].mode, mode);
    });
  }
}

test("the server is told what can be done, unless the caller says it or wishes silence", async () => {
  const url = house.sell();
  const told = async (options, headers = {}) => {
    await tollFetch(undefined, options)(url, { headers });
    return house.seen.at(-1).headers["toll-accept"];
  };
  assert.equal(await told({}), "argon2id, sha256, timelock; mode=sealed; memory=64MiB");
  assert.equal(await told({ puzzles: ["sha256"], memoryMib: 8 }), "sha256; mode=sealed; memory=8MiB");
  assert.equal(await told({}, { "toll-accept": "sha256" }), "sha256");
  assert.equal(await told({ announce: false }), undefined);
  house.handlers["/infer"] = (_, response) => response.end("free");
  assert.equal(await told({ mode: "redeem" }), "argon2id, sha256, hashcash; mode=redeem; memory=64MiB");
});

test("a redemption carries the request's own credentials, and nothing of its body", async () => {
  const request = new Request(house.sell(), {
    method: "POST",
    body: "[1]",
    headers: { ...key, "content-type": "text/x", range: "bytes=0-" },
  });
  const response = await tollFetch(undefined, { mode: "redeem" })(request);
  assert.deepEqual(await bytesOf(response), ANSWER.body);
  const { headers, method, body } = house.seen[1];
  assert.deepEqual(
    [method, headers.authorization, headers["content-type"], headers.range],
    ["POST", KEY, "application/json", undefined],
  );
  assert.deepEqual(Object.keys(JSON.parse(body)), ["token", "solution"]);
});

const STRANGERS = {
  "a 402 of somebody who asks for money": [402, "application/json", '{"error": "pay"}'],
  "a 402 that is no JSON": [402, "text/html", "<p>pay</p>"],
  "a 402 that says JSON and is none": [402, "application/json", "{"],
  "a 402 of many small values": [402, "application/json", `[${"[],".repeat(20_000)}0]`],
  "a deep 402": [402, "application/json", "[".repeat(9_999)],
  "NaN in a 402": [402, "application/json", '{"toll": {"v": NaN}}'],
  "a plain answer": [200, "application/json", '{"toll": {"v": 1}}'],
  "a failure": [500, "application/json", '{"toll": {"v": 1}}'],
};

for (const [name, [status, type, body]] of Object.entries(STRANGERS)) {
  test(`what is no toll comes through untouched: ${name}`, async () => {
    house.handlers["/infer"] = (_, response) =>
      response.writeHead(status, { "content-type": type, etag: "7" }).end(body);
    const response = await tollFetch()(`${house.url}/infer`);
    const { status: got, headers, url } = response;
    assert.deepEqual(
      [got, headers.get("content-type"), headers.get("etag"), url],
      [status, type, "7", `${house.url}/infer`],
    );
    assert.equal(await response.text(), body);
  });
}

test("a stream without a toll streams", async () => {
  let finish;
  house.handlers["/infer"] = (_, response) => {
    response.write("one");
    finish = () => response.end("two");
  };
  const reader = (await tollFetch()(`${house.url}/infer`)).body.getReader();
  assert.equal(Buffer.from((await reader.read()).value).toString(), "one");
  finish();
  assert.equal(Buffer.from((await reader.read()).value).toString(), "two");
});

for (const status of [301, 302, 303, 307, 308]) {
  test(`a redemption follows no redirect: ${status}`, async () => {
    const url = house.sell();
    house.handlers[REDEEM_PATH] = (_, response) =>
      response.writeHead(status, { location: neighbour.url + REDEEM_PATH }).end();
    await assert.rejects(tollFetch(undefined, { mode: "redeem" })(url, { headers: key }), SealBroken);
    assert.deepEqual([house.paths(), neighbour.paths()], [["/infer", REDEEM_PATH], []]);
  });
}

test("a redemption goes to its own origin wherever the toll points", async () => {
  const document = await makeToll(ANSWER, { mode: "redeem" });
  document.toll.redeem = neighbour.url + REDEEM_PATH;
  house.sell();
  const response = await tollFetch()(house.offer(document), { headers: key });
  assert.deepEqual(await bytesOf(response), ANSWER.body);
  assert.deepEqual(neighbour.paths(), []);
});

test("a token of another host, met through a redirect, is not redeemed and not worked for", async () => {
  const purse = new Purse();
  const elsewhere = neighbour.sell();
  house.handlers["/infer"] = (_, response) => response.writeHead(307, { location: elsewhere }).end();
  const paid = tollFetch(undefined, { purse, mode: "redeem" })(`${house.url}/infer`, { headers: key });
  await assert.rejects(paid, TollMalformed);
  assert.deepEqual([house.paths(), neighbour.paths()], [["/infer"], ["/infer"]]);
  assert.equal(neighbour.seen[0].headers.authorization, undefined);
  assert.equal(purse.payments.length, 0);
});

test("a sealed toll met through a redirect is opened without another request", async () => {
  const elsewhere = neighbour.sell();
  house.handlers["/infer"] = (_, response) => response.writeHead(307, { location: elsewhere }).end();
  assert.deepEqual(await bytesOf(await tollFetch()(`${house.url}/infer`, { headers: key })), ANSWER.body);
  assert.deepEqual([house.paths(), neighbour.paths()], [["/infer"], ["/infer"]]);
});

test("a toll on a toll is not paid", async () => {
  const purse = new Purse();
  const url = house.sell();
  house.offer(await makeToll(ANSWER, { mode: "redeem" }), REDEEM_PATH);
  await assert.rejects(tollFetch(undefined, { purse, mode: "redeem" })(url, { headers: key }), /a toll on a toll/);
  assert.deepEqual([house.paths(), purse.payments.length], [["/infer", REDEEM_PATH], 1]);
});

/** The URL of a request whose entry costs a toll; behind it stands another one. */
async function entered(behind) {
  const entry = await makeToll(ANSWER, { mode: "redeem" });
  entry.toll.entry = true;
  house.offer(behind, REDEEM_PATH);
  return house.offer(entry);
}

test("behind the toll of an entry stands the one for the answer", async () => {
  const purse = new Purse();
  const url = await entered(await makeToll(ANSWER));
  const response = await tollFetch(undefined, { purse })(url, { headers: key });
  assert.deepEqual(await bytesOf(response), ANSWER.body);
  assert.deepEqual([house.paths(), purse.payments.length], [["/infer", REDEEM_PATH], 2]);
});

test("behind the toll of an entry stands no second entry", async () => {
  const again = await makeToll(ANSWER, { mode: "redeem" });
  again.toll.entry = true;
  const paid = tollFetch()(await entered(again), { headers: key });
  await assert.rejects(paid, /a toll on a toll/);
  assert.deepEqual(house.paths(), ["/infer", REDEEM_PATH]);
});

for (const status of [301, 307, 402]) {
  test(`neither a redirect nor a toll may be in a seal: ${status}`, async () => {
    const url = house.sell({ status, type: "application/json", body: Buffer.from("{}") });
    await assert.rejects(tollFetch()(url), SealBroken);
    assert.deepEqual(house.paths(), ["/infer"]);
  });
}

test("a refused redemption is the caller's to read", async () => {
  const response = await tollFetch(undefined, { mode: "redeem" })(house.sell(), {
    headers: { authorization: "another" },
  });
  assert.deepEqual([response.status, await response.text()], [403, "refused"]);
});

test("a request that is aborted in the middle of the work ends with the signal's reason", async () => {
  const purse = new Purse({
    maxSeconds: HUGE,
    maxSecondsPerHour: HUGE,
    progress: () => stop.abort(new Error("enough")),
  });
  const stop = new AbortController();
  const url = house.sell(ANSWER, { counters: [2 ** 40], bound: 2 ** 41 });
  await assert.rejects(tollFetch(undefined, { purse })(url, { signal: stop.signal }), /enough/);
  assert.equal(purse.payments.length, 0);
  const free = await tollFetch()(house.sell());
  assert.deepEqual(await bytesOf(free), ANSWER.body);
});

test("a request that is aborted before its work does none", async () => {
  const stop = new AbortController();
  const progress = () => assert.fail("work was done");
  const document = await makeToll(ANSWER, { counters: [2 ** 40], bound: 2 ** 41 });
  const fetch = tollFetch(
    async () => {
      stop.abort();
      return Response.json(document, { status: 402 });
    },
    { maxSeconds: HUGE, progress },
  );
  await assert.rejects(fetch(new Request(house.url, { signal: stop.signal })), { name: "AbortError" });
});

test("work that is not done before its deadline stops", async () => {
  const url = house.sell(ANSWER, { counters: [2 ** 40], bound: 2 ** 41 });
  await assert.rejects(tollFetch(undefined, { maxSeconds: HUGE, deadlineSeconds: 0.02 })(url), SolveStopped);
});

test("an SDK may be given a 402 that says why, instead of an error that it would try again after", async () => {
  const response = await tollFetch(undefined, { maxSeconds: 0, refusal: "respond" })(house.sell());
  const { error, detail } = await response.json();
  assert.deepEqual([response.status, error.type, error.message], [402, "TollTooDear", detail]);
  assert.match(detail, /maxSeconds/);
});

test("eight requests at once are all paid", async () => {
  const url = house.sell(ANSWER, { counters: [150_000], bound: 2 ** 18 });
  const fetch = tollFetch();
  const bodies = await Promise.all(Array.from({ length: 8 }, async () => bytesOf(await fetch(url))));
  assert.deepEqual(bodies, Array(8).fill(ANSWER.body));
});

test("progress is told, up to the most that can be needed", async () => {
  const heard = [];
  const url = house.sell(ANSWER, { counters: [300_000], bound: 2 ** 19 });
  await tollFetch(undefined, { progress: (done, most) => heard.push([done, most]) })(url);
  assert.ok(heard.length > 1);
  assert.ok(heard.every(([done, most], at) => most === 2 ** 19 && done <= most && done > (heard[at - 1]?.[0] ?? 0)));
});

test("a dear toll is refused before it starts, and tells no key", async () => {
  const url = house.offer(await makeToll(ANSWER, { bound: HUGE }));
  await assert.rejects(tollFetch()(url, { headers: key }), (error) => {
    assert.ok(error instanceof TollTooDear && error.seconds > error.limit);
    assert.ok(!`${error.message}${error.stack}${JSON.stringify(error)}`.includes(KEY));
    return true;
  });
  assert.deepEqual(house.paths(), ["/infer"]);
});

test("a compressed toll is read", async () => {
  const { gzipSync } = await import("node:zlib");
  const body = gzipSync(JSON.stringify(await makeToll()));
  house.handlers["/infer"] = (_, response) => {
    response.writeHead(402, { "content-type": "application/json", "content-encoding": "gzip" }).end(body);
  };
  const response = await tollFetch()(`${house.url}/infer`);
  assert.equal(response.headers.get("content-encoding"), null);
  assert.deepEqual(await bytesOf(response), ANSWER.body);
});
