/** `tollFetch` against a real server: answers arrive as the model server gave them. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { Purse, SealBroken, SolveStopped, TollMalformed, tollFetch, TollTooDear } from "modeltoll";
import { ANSWER, KEY, makeToll, REDEEM_PATH, TestGateway } from "./testGateway.mjs";

const HUGE = 2 ** 53 - 1;
const key = { authorization: KEY };
let gateway;
let otherGateway;

before(async () => ([gateway, otherGateway] = await Promise.all([TestGateway.open(), TestGateway.open()])));
after(() => Promise.all([gateway.close(), otherGateway.close()]));
beforeEach(() => [gateway.reset(), otherGateway.reset()]);

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
    const response = await tollFetch()(gateway.serveToll(answer), { method: "POST", body: "[1]", headers: key });
    assert.equal(response.status, answer.status);
    assert.equal(response.headers.get("content-type"), answer.type || null);
    assert.equal(response.headers.get("x-served-by"), "test gateway");
    assert.equal(response.headers.get("cache-control"), null);
    assert.equal(response.url, `${gateway.url}/infer`);
    assert.deepEqual(await bytesOf(response), answer.body);
    assert.deepEqual(gateway.paths(), ["/infer"]);
  });
}

for (const [type, plain, length] of [
  ["application/octet-stream; inference-header-content-length=12", "application/octet-stream", "12"],
  ["text/plain; inference-header-content-length=x", "text/plain; inference-header-content-length=x", null],
]) {
  test(`the length of a binary answer's JSON becomes a header: ${type}`, async () => {
    const { headers } = await tollFetch()(gateway.serveToll({ ...ANSWER, type }), {
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
  "argon2id with a start offset": { memoryKib: 256, counters: [5], bound: 8, start: 454176009850906 },
  "sha256, long enough for workers": { counters: [400_000], bound: 2 ** 20 },
  "argon2id, long enough for workers": { memoryKib: 256, counters: [900], bound: 1024 },
};

for (const [name, options] of Object.entries(SHAPES)) {
  for (const mode of ["sealed", "redeem"]) {
    test(`a toll is paid, ${mode}: ${name}`, async () => {
      const purse = new Purse();
      const response = await tollFetch(undefined, { purse, mode })(gateway.serveToll(ANSWER, options), {
        headers: key,
      });
      assert.deepEqual(await bytesOf(response), ANSWER.body);
      assert.deepEqual(gateway.paths(), mode === "sealed" ? ["/infer"] : ["/infer", REDEEM_PATH]);
      assert.equal(purse.payments.length, 1);
      assert.equal(purse.payments[0].mode, mode);
    });
  }
}

test("Toll-Accept announces the client's abilities, unless the caller sets it or turns it off", async () => {
  const url = gateway.serveToll();
  const announced = async (options, headers = {}) => {
    await tollFetch(undefined, options)(url, { headers });
    return gateway.requests.at(-1).headers["toll-accept"];
  };
  assert.equal(await announced({ memoryMib: 64 }), "argon2id, sha256, timelock; mode=sealed; memory=64MiB; receipts");
  assert.equal(await announced({ puzzles: ["sha256"], memoryMib: 8 }), "sha256; mode=sealed; memory=8MiB; receipts");
  assert.match(await announced({}), /; memory=(64|256)MiB; receipts$/);
  assert.equal(await announced({}, { "toll-accept": "sha256" }), "sha256");
  assert.equal(await announced({ announce: false }), undefined);
  gateway.handlers["/infer"] = (_, response) => response.end("free");
  assert.equal(
    await announced({ mode: "redeem", memoryMib: 64 }),
    "argon2id, sha256, hashcash, timelock; mode=redeem; memory=64MiB; receipts",
  );
});

test("a redemption carries the request's own credentials, and nothing of its body", async () => {
  const request = new Request(gateway.serveToll(), {
    method: "POST",
    body: "[1]",
    headers: { ...key, "content-type": "text/x", range: "bytes=0-" },
  });
  const response = await tollFetch(undefined, { mode: "redeem" })(request);
  assert.deepEqual(await bytesOf(response), ANSWER.body);
  const { headers, method, body } = gateway.requests[1];
  assert.deepEqual(
    [method, headers.authorization, headers["content-type"], headers.range],
    ["POST", KEY, "application/json", undefined],
  );
  assert.deepEqual(Object.keys(JSON.parse(body)), ["token", "proof"]);
});

const OTHER_RESPONSES = {
  "a 402 that asks for money": [402, "application/json", '{"error": "pay"}'],
  "a 402 that is not JSON": [402, "text/html", "<p>pay</p>"],
  "a 402 with broken JSON": [402, "application/json", "{"],
  "a 402 of many small values": [402, "application/json", `[${"[],".repeat(20_000)}0]`],
  "a deeply nested 402": [402, "application/json", "[".repeat(9_999)],
  "NaN in a 402": [402, "application/json", '{"toll": {"v": NaN}}'],
  "a plain answer": [200, "application/json", '{"toll": {"v": 1}}'],
  "a failure": [500, "application/json", '{"toll": {"v": 1}}'],
};

for (const [name, [status, type, body]] of Object.entries(OTHER_RESPONSES)) {
  test(`a response without a toll is returned unchanged: ${name}`, async () => {
    gateway.handlers["/infer"] = (_, response) =>
      response.writeHead(status, { "content-type": type, etag: "7" }).end(body);
    const response = await tollFetch()(`${gateway.url}/infer`);
    const { status: got, headers, url } = response;
    assert.deepEqual(
      [got, headers.get("content-type"), headers.get("etag"), url],
      [status, type, "7", `${gateway.url}/infer`],
    );
    assert.equal(await response.text(), body);
  });
}

test("a stream without a toll streams", async () => {
  let finish;
  gateway.handlers["/infer"] = (_, response) => {
    response.write("one");
    finish = () => response.end("two");
  };
  const reader = (await tollFetch()(`${gateway.url}/infer`)).body.getReader();
  assert.equal(Buffer.from((await reader.read()).value).toString(), "one");
  finish();
  assert.equal(Buffer.from((await reader.read()).value).toString(), "two");
});

for (const status of [301, 302, 303, 307, 308]) {
  test(`a redemption follows no redirect: ${status}`, async () => {
    const url = gateway.serveToll();
    gateway.handlers[REDEEM_PATH] = (_, response) =>
      response.writeHead(status, { location: otherGateway.url + REDEEM_PATH }).end();
    await assert.rejects(tollFetch(undefined, { mode: "redeem" })(url, { headers: key }), SealBroken);
    assert.deepEqual([gateway.paths(), otherGateway.paths()], [["/infer", REDEEM_PATH], []]);
  });
}

test("a redemption goes to the gateway below whose prefix the request went", async () => {
  const prefix = "/models/v1";
  gateway.serveToll();
  gateway.handlers[prefix + REDEEM_PATH] = gateway.handlers[REDEEM_PATH];
  const document = await makeToll(ANSWER, { mode: "redeem", path: "/v2/models/m/infer" });
  assert.equal(document.toll.redeem, "../../../.well-known/modeltoll/redeem");
  const url = gateway.serve402(document, `${prefix}/v2/models/m/infer`);
  const response = await tollFetch()(`${url}?version=1`, { headers: key });
  assert.deepEqual(await bytesOf(response), ANSWER.body);
  assert.deepEqual(gateway.paths(), [`${prefix}/v2/models/m/infer`, prefix + REDEEM_PATH]);
});

test("a token that came through a redirect to another host is neither solved nor redeemed", async () => {
  const purse = new Purse();
  const otherUrl = otherGateway.serveToll();
  gateway.handlers["/infer"] = (_, response) => response.writeHead(307, { location: otherUrl }).end();
  const paid = tollFetch(undefined, { purse, mode: "redeem" })(`${gateway.url}/infer`, { headers: key });
  await assert.rejects(paid, TollMalformed);
  assert.deepEqual([gateway.paths(), otherGateway.paths()], [["/infer"], ["/infer"]]);
  assert.equal(otherGateway.requests[0].headers.authorization, undefined);
  assert.equal(purse.payments.length, 0);
});

test("a sealed toll that came through a redirect is opened without another request", async () => {
  const otherUrl = otherGateway.serveToll();
  gateway.handlers["/infer"] = (_, response) => response.writeHead(307, { location: otherUrl }).end();
  assert.deepEqual(await bytesOf(await tollFetch()(`${gateway.url}/infer`, { headers: key })), ANSWER.body);
  assert.deepEqual([gateway.paths(), otherGateway.paths()], [["/infer"], ["/infer"]]);
});

test("a toll on a toll is not paid", async () => {
  const purse = new Purse();
  const url = gateway.serveToll();
  gateway.serve402(await makeToll(ANSWER, { mode: "redeem" }), REDEEM_PATH);
  await assert.rejects(tollFetch(undefined, { purse, mode: "redeem" })(url, { headers: key }), /a toll on a toll/);
  assert.deepEqual([gateway.paths(), purse.payments.length], [["/infer", REDEEM_PATH], 1]);
});

for (const status of [301, 307, 402]) {
  test(`a seal may hold neither a redirect nor a toll: ${status}`, async () => {
    const url = gateway.serveToll({ status, type: "application/json", body: Buffer.from("{}") });
    await assert.rejects(tollFetch()(url), SealBroken);
    assert.deepEqual(gateway.paths(), ["/infer"]);
  });
}

test("the refusal of a redemption is returned to the caller", async () => {
  const response = await tollFetch(undefined, { mode: "redeem" })(gateway.serveToll(), {
    headers: { authorization: "another" },
  });
  assert.deepEqual([response.status, await response.text()], [403, "refused"]);
});

test("aborting a request during the work rejects with the signal's reason", async () => {
  const purse = new Purse({
    maxSeconds: HUGE,
    maxSecondsPerHour: HUGE,
    progress: () => stop.abort(new Error("enough")),
  });
  const stop = new AbortController();
  const url = gateway.serveToll(ANSWER, { counters: [2 ** 40], bound: 2 ** 41 });
  await assert.rejects(tollFetch(undefined, { purse })(url, { signal: stop.signal }), /enough/);
  assert.equal(purse.payments.length, 0);
  const free = await tollFetch()(gateway.serveToll());
  assert.deepEqual(await bytesOf(free), ANSWER.body);
});

test("aborting a request before the work starts prevents it", async () => {
  const stop = new AbortController();
  const document = await makeToll(ANSWER, { counters: [2 ** 40], bound: 2 ** 41 });
  const fetch = tollFetch(
    async () => {
      stop.abort();
      return Response.json(document, { status: 402 });
    },
    { maxSeconds: HUGE, progress: () => assert.fail("work was done") },
  );
  await assert.rejects(fetch(new Request(gateway.url, { signal: stop.signal })), { name: "AbortError" });
});

test("work that is not done before its deadline stops", async () => {
  const url = gateway.serveToll(ANSWER, { counters: [2 ** 40], bound: 2 ** 41 });
  await assert.rejects(tollFetch(undefined, { maxSeconds: HUGE, deadlineSeconds: 0.02 })(url), SolveStopped);
});

test("refusal: respond returns a 402 with the reason, which an SDK does not retry", async () => {
  const response = await tollFetch(undefined, { maxSeconds: 0, refusal: "respond" })(gateway.serveToll());
  const { error, detail } = await response.json();
  assert.deepEqual([response.status, error.type, error.message], [402, "TollTooDear", detail]);
  assert.match(detail, /maxSeconds/);
});

test("eight concurrent requests are all paid", async () => {
  const url = gateway.serveToll(ANSWER, { counters: [150_000], bound: 2 ** 18 });
  const fetch = tollFetch();
  const bodies = await Promise.all(Array.from({ length: 8 }, async () => bytesOf(await fetch(url))));
  assert.deepEqual(bodies, Array(8).fill(ANSWER.body));
});

test("progress is reported, up to the most that can be needed", async () => {
  const reports = [];
  const url = gateway.serveToll(ANSWER, { counters: [300_000], bound: 2 ** 19 });
  await tollFetch(undefined, { progress: (done, most) => reports.push([done, most]) })(url);
  assert.ok(reports.length > 1);
  assert.ok(
    reports.every(([done, most], at) => most === 2 ** 19 && done <= most && done > (reports[at - 1]?.[0] ?? 0)),
  );
});

test("a toll above the limit is refused before any work, and the error holds no API key", async () => {
  const url = gateway.serve402(await makeToll(ANSWER, { bound: HUGE }));
  await assert.rejects(tollFetch()(url, { headers: key }), (error) => {
    assert.ok(error instanceof TollTooDear && error.seconds > error.limit);
    assert.ok(!`${error.message}${error.stack}${JSON.stringify(error)}`.includes(KEY));
    return true;
  });
  assert.deepEqual(gateway.paths(), ["/infer"]);
});

test("a compressed toll is read", async () => {
  const { gzipSync } = await import("node:zlib");
  const body = gzipSync(JSON.stringify(await makeToll()));
  gateway.handlers["/infer"] = (_, response) => {
    response.writeHead(402, { "content-type": "application/json", "content-encoding": "gzip" }).end(body);
  };
  const response = await tollFetch()(`${gateway.url}/infer`);
  assert.equal(response.headers.get("content-encoding"), null);
  assert.deepEqual(await bytesOf(response), ANSWER.body);
});
