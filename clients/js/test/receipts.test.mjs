/** Receipts of opened seals go back to their gateway: with later requests, by POST when there are none, or at the end. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, afterEach, before, beforeEach, mock, test } from "node:test";
import { Purse, Receipts, SealBroken, tollFetch } from "modeltoll";
import { Pocket } from "../build/receipts.js";
import { ANSWER, KEY, makeToll, REDEEM_PATH, send402, SETTLE_PATH, TestGateway } from "./testGateway.mjs";

const key = { authorization: KEY };
const WORK = { counters: [400_000], bound: 2 ** 20 }; // long enough for a second request to come meanwhile
let gateway;
let otherGateway;
const clients = [];

before(async () => ([gateway, otherGateway] = await Promise.all([TestGateway.open(), TestGateway.open()])));
after(() => Promise.all([gateway.close(), otherGateway.close()]));
beforeEach(() => [gateway.reset(), otherGateway.reset()]);

/** A client whose receipts are returned at the end of the test. */
function openWith(fetch, options = {}) {
  const client = tollFetch(fetch, options);
  clients.push(client);
  return client;
}
const open = (options) => openWith(undefined, options);
afterEach(() => Promise.all(clients.splice(0).map((client) => client.close())));

const bytesOf = async (response) => Buffer.from(await response.arrayBuffer());

test("a receipt goes back with the next request, once", async () => {
  const { url, issued, headers } = gateway.serveSettling();
  const fetch = open();
  for (let request = 0; request < 3; request++) {
    const response = await fetch(url, { method: "POST", body: "[1]", headers: key });
    assert.deepEqual(await bytesOf(response), ANSWER.body);
  }
  assert.deepEqual(headers, [[], [issued[0]], [issued[1]]]);
  assert.deepEqual(gateway.paths(), ["/infer", "/infer", "/infer"]);
});

test("a receipt goes back only to its gateway, and only with its caller's credentials", async () => {
  const settling = ["/a", "/b", "/c/d"].map((prefix) => gateway.serveSettling({ prefix }));
  const elsewhere = otherGateway.serveSettling();
  const fetch = open();
  const callers = [{}, key, { authorization: "Bearer other" }, { "x-api-key": "1" }, { "x-api-key": "2" }];
  for (const { url } of [...settling, elsewhere]) for (const headers of callers) await fetch(url, { headers });
  for (const { headers } of [...settling, elsewhere]) assert.ok(headers.every((returned) => returned.length === 0));
  for (const { url, issued, headers } of [...settling, elsewhere]) {
    await fetch(url, { headers: callers[1] });
    assert.deepEqual(headers.at(-1), [issued[1]]);
  }
});

test("of two gateways, one below the other's prefix, the inner one gets the receipts of its own tolls", () => {
  const receipts = new Receipts();
  const [outer, inner] = ["https://a.example/", "https://a.example/b/"].map((prefix) =>
    receipts.open(prefix, "", async () => true),
  );
  assert.equal(receipts.find("https://a.example/b/infer", ""), inner);
  assert.equal(receipts.find("https://a.example/b", ""), outer);
  assert.equal(receipts.find("https://a.example.org/b/", ""), undefined);
});

test("a path that only begins like a gateway's prefix is not of this gateway", async () => {
  const { url } = gateway.serveSettling({ prefix: "/a" });
  const other = gateway.serveSettling({ prefix: "/ab" });
  const fetch = open();
  await fetch(url);
  await fetch(other.url);
  assert.deepEqual(other.headers, [[]]);
});

test("a request returns at most 16 receipts, the oldest first", async () => {
  const { url, issued, headers, settled } = gateway.serveSettling();
  const fetch = open();
  await Promise.all(Array.from({ length: 20 }, () => fetch(url)));
  await fetch(url);
  await fetch(url);
  assert.deepEqual([headers.at(-2).length, headers.at(-1).length], [16, 5]);
  assert.deepEqual(new Set(settled), new Set(issued.slice(0, 21)));
});

test("tollFetches that share a purse, or purses that share receipts, return each other's receipts", async () => {
  const { url, issued, headers } = gateway.serveSettling();
  const purse = new Purse();
  const receipts = new Receipts();
  for (const options of [{ purse }, { purse }, { receipts }, { receipts }]) await open(options)(url);
  assert.deepEqual(headers, [[], [issued[0]], [], [issued[2]]]);
});

test("receipts are kept if the request fails or is refused, and go back with the next", async () => {
  const ways = [
    (request) => request.socket.destroy(),
    (_, response) => response.writeHead(429).end(),
    (_, response) => response.writeHead(401).end(),
    (_, response) => response.writeHead(503).end(),
    (_, response) => response.end("of a path at the same host that is not the gateway's"),
  ];
  let refuseNext;
  const refuse = (request, response) => {
    refuseNext?.(request, response);
    return refuseNext !== undefined;
  };
  const { url, issued, headers, settled } = gateway.serveSettling({ refuse });
  const fetch = open();
  await fetch(url);
  for (refuseNext of ways) {
    await fetch(url).catch((error) => assert.match(String(error), /fetch failed/));
    assert.deepEqual(headers.at(-1), [issued[0]]);
  }
  refuseNext = (_, response) => response.writeHead(200, { "toll-receipt": "rows=1; work=0; mode=sealed" }).end("free");
  await fetch(url);
  await fetch(url);
  assert.deepEqual(headers.slice(-2), [[issued[0]], []]);
  refuseNext = undefined;
  await fetch(url);
  await fetch(url);
  assert.deepEqual(settled, [issued[1]]);
});

test("a header Toll-Settle of the caller stays, and a redemption has none", async () => {
  const { url, headers } = gateway.serveSettling();
  const fetch = open();
  await fetch(url, { headers: key });
  await fetch(url, { headers: { ...key, "toll-settle": "own" } });
  assert.deepEqual(headers.at(-1), ["own"]);
  gateway.serve402(await makeToll(ANSWER, { mode: "redeem" }));
  gateway.handlers[REDEEM_PATH] = (_, response) => response.end("redeemed");
  assert.equal(await (await fetch(url, { headers: key })).text(), "redeemed");
  assert.ok(gateway.requests.at(-2).headers["toll-settle"]);
  assert.equal(gateway.requests.at(-1).headers["toll-settle"], undefined);
});

test("close posts all receipts with the caller's credentials, 64 at once", async () => {
  const { url, issued, posts, settled } = gateway.serveSettling({ prefix: "/sub" });
  const fetch = open();
  await Promise.all(Array.from({ length: 70 }, () => fetch(url, { method: "POST", body: "[1]", headers: key })));
  await fetch[Symbol.asyncDispose]();
  assert.deepEqual(posts.toSorted(), [6, 64]);
  assert.deepEqual(new Set(settled), new Set(issued));
  const post = gateway.requests.at(-1);
  const { authorization, "content-type": type, "toll-accept": accept, "toll-settle": settle } = post.headers;
  assert.deepEqual([post.method, authorization, type, settle], ["POST", KEY, "application/json", undefined]);
  assert.equal(post.path, `/sub${SETTLE_PATH}`);
  assert.ok(accept);
});

test("close waits for receipts that are being posted", async () => {
  const { url, issued, settled } = gateway.serveSettling();
  const answer = gateway.handlers[SETTLE_PATH];
  let goOn;
  const isPosted = new Promise((resolve) => {
    gateway.handlers[SETTLE_PATH] = async (request, response, body) => {
      resolve();
      await new Promise((resume) => (goOn = resume));
      answer(request, response, body);
    };
  });
  const fetch = open();
  await fetch(url);
  const [first, second] = [fetch.close(), fetch.close()];
  await isPosted;
  assert.deepEqual(settled, []);
  goOn();
  await second;
  assert.deepEqual(settled, issued);
  await first;
});

test("close never rejects; what did not arrive is kept, what the gateway refuses is not", async () => {
  const { url, issued, headers } = gateway.serveSettling();
  const fetch = open();
  await fetch(url);
  for (const [handler, isKept] of [
    [(request) => request.socket.destroy(), true],
    [(_, response) => response.writeHead(503).end(), true],
    [(_, response) => response.writeHead(429).end(), true],
    [(_, response) => response.writeHead(307, { location: otherGateway.url + SETTLE_PATH }).end(), true],
    [(_, response) => response.writeHead(404).end(), false],
  ]) {
    gateway.handlers[SETTLE_PATH] = handler;
    await fetch.close();
    await fetch(url);
    assert.deepEqual(headers.at(-1), isKept ? [issued.at(-2)] : []);
  }
  assert.deepEqual(otherGateway.paths(), []);
});

test("receipts are posted when the caller is idle for 2 s, and put back if that fails", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  try {
    const posts = [];
    let isDone = false;
    const pocket = new Receipts().open("https://a.example/", "", async (receipts) => {
      posts.push(receipts.map(([first]) => first));
      return isDone;
    });
    const settle = async (ms) => {
      mock.timers.tick(ms);
      await new Promise((resolve) => setImmediate(resolve));
      return posts.splice(0);
    };
    pocket.add(Uint8Array.of(1));
    assert.deepEqual(await settle(1900), []);
    pocket.add(Uint8Array.of(2));
    assert.deepEqual([await settle(1900), await settle(100)], [[], [[1, 2]]]);
    assert.deepEqual(await settle(60_000), []); // no second try without a reason
    isDone = true;
    pocket.add(Uint8Array.of(3));
    assert.deepEqual([await settle(2000), await settle(60_000)], [[[1, 2, 3]], []]);
    pocket.add(Uint8Array.of(4));
    pocket.putBack(pocket.take(16));
    mock.timers.setTime(25 * 3600 * 1000); // gateways take receipts of the last 24 hours
    assert.deepEqual(pocket.take(16), []);
  } finally {
    mock.timers.reset();
  }
});

test("what no gateway would take is not kept, nor more than 1024 receipts", () => {
  const pocket = new Pocket("https://a.example/", "");
  for (const size of [0, 257, 65_535]) pocket.add(new Uint8Array(size));
  assert.ok(pocket.isIdle);
  for (let receipt = 0; receipt < 1100; receipt++) pocket.add(Uint8Array.of(receipt >> 8, receipt & 255));
  const kept = pocket.take(2000).map(({ bytes }) => 256 * bytes[0] + bytes[1]);
  assert.deepEqual([kept.length, kept[0], kept.at(-1)], [1024, 76, 1099]);
});

test("a purse keeps the receipts of at most 1000 gateways and callers", () => {
  const receipts = new Receipts();
  const openFor = (caller) => receipts.open("https://a.example/", String(caller), async () => true);
  openFor("busy").add(Uint8Array.of(1));
  for (let caller = 0; caller < 5000; caller++) openFor(caller);
  const left = Array.from({ length: 5000 }, (_, caller) => receipts.find("https://a.example/x", String(caller)));
  assert.ok(left.filter(Boolean).length < 1000);
  assert.ok(receipts.find("https://a.example/x", "busy"));
});

test("a seal without a receipt, or one from another host, opens as well, and nothing is returned", async () => {
  const fetch = open();
  const { url, headers } = gateway.serveSettling({ options: { receipt: undefined } });
  await fetch(url);
  const other = otherGateway.serveSettling();
  gateway.handlers["/moved"] = (_, response) => response.writeHead(307, { location: other.url }).end();
  assert.deepEqual(await bytesOf(await fetch(`${gateway.url}/moved`)), ANSWER.body);
  await fetch(url);
  await fetch(other.url);
  await fetch.close();
  assert.deepEqual(
    [headers, other.headers],
    [
      [[], []],
      [[], []],
    ],
  );
  assert.deepEqual(other.settled, [other.issued[1]]);
});

/** A program that pays a toll and ends without close(). */
const PROGRAM = `
  import { tollFetch } from "modeltoll";
  const response = await tollFetch()(process.argv[1]);
  console.log(await response.text());
`;

async function runProgram(url) {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", PROGRAM, url], {
    cwd: new URL("..", import.meta.url),
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (chunk) => (output += chunk));
  const [code] = await once(child, "close");
  return { code, output: output.trim() };
}

test("a program that ends returns its receipts first", async () => {
  const { url, issued, settled } = gateway.serveSettling();
  assert.deepEqual(await runProgram(url), { code: 0, output: ANSWER.body.toString() });
  assert.deepEqual(settled, issued);
});

test("a program ends also if its receipts do not arrive", async () => {
  const { url } = gateway.serveSettling();
  gateway.handlers[SETTLE_PATH] = (request) => request.socket.destroy();
  assert.equal((await runProgram(url)).code, 0);
  assert.deepEqual(gateway.paths(), ["/infer", SETTLE_PATH]);
});

/** Asks `count` admission tolls, one after the other, and then what `next` sends. */
function serveAdmissions(count, next) {
  let asked = 0;
  const ask = async (request, response) => {
    asked++;
    if (asked > count) return next(request, response);
    const { pathname: path } = new URL(request.url, gateway.url);
    return send402(response, await makeToll(ANSWER, { mode: "redeem", admission: true, path }));
  };
  gateway.handlers["/infer"] = ask;
  gateway.handlers[REDEEM_PATH] = ask;
  return `${gateway.url}/infer`;
}

for (const count of [1, 3, 16]) {
  test(`${count} admission tolls in a row are paid, and then the answer comes`, async () => {
    const purse = new Purse();
    const url = serveAdmissions(count, (_, response) => response.end("answer"));
    const response = await open({ purse })(url, { method: "POST", body: "[1]", headers: key });
    assert.equal(await response.text(), "answer");
    assert.deepEqual(gateway.paths(), ["/infer", ...Array(count).fill(REDEEM_PATH)]);
    assert.ok(gateway.requests.every(({ headers }) => headers.authorization === KEY));
    assert.equal(purse.payments.length, count);
  });
}

test("after admission a sealed toll may come, whose receipt goes to the same gateway", async () => {
  const receipt = Buffer.alloc(110, 3);
  const url = serveAdmissions(2, async (_, response) =>
    send402(response, await makeToll(ANSWER, { receipt, path: REDEEM_PATH })),
  );
  const fetch = open();
  assert.deepEqual(await bytesOf(await fetch(url, { headers: key })), ANSWER.body);
  gateway.handlers["/infer"] = (_, response) => response.end("free");
  await fetch(url, { headers: key });
  assert.equal(gateway.requests.at(-1).headers["toll-settle"], receipt.toString("base64url"));
});

const UNEXPECTED = {
  "a seventeenth admission toll": { count: 17, next: (_, response) => response.end("answer") },
  "a redirect": { count: 1, next: (_, response) => response.writeHead(303, { location: "/free" }).end() },
  "a 402 that is no toll": { count: 1, next: (_, response) => send402(response, { error: "pay" }) },
};
for (const [name, { count, next }] of Object.entries(UNEXPECTED)) {
  test(`${name} in answer to a paid admission toll is refused`, async () => {
    const purse = new Purse();
    const url = serveAdmissions(count, next);
    await assert.rejects(open({ purse })(url), SealBroken);
    assert.equal(purse.payments.length, Math.min(count, 16));
  });
}

/** Asks an admission toll of every request but the first that returns no receipt. */
function serveAdmissionUnlessSettled() {
  let requests = 0;
  const refuse = async (_, response, returned) => {
    requests++;
    if (requests === 1 || returned.length > 0) return false;
    send402(response, await makeToll(ANSWER, { mode: "redeem", admission: true }));
    return true;
  };
  gateway.handlers[REDEEM_PATH] = (_, response) => response.end("admitted");
  return gateway.serveSettling({ refuse, options: WORK });
}

test("a client at work on an earlier toll returns its receipt before it pays for admission", async () => {
  const { url, issued, headers } = serveAdmissionUnlessSettled();
  const purse = new Purse();
  const fetch = open({ purse });
  let sendSecond;
  const isSecondDue = new Promise((resolve) => (sendSecond = resolve));
  const first = open({ purse: undefined, receipts: purse.receipts, progress: sendSecond })(url);
  await isSecondDue;
  const second = await fetch(url, { method: "POST", body: "[1]" });
  assert.deepEqual([await bytesOf(await first), await bytesOf(second)], [ANSWER.body, ANSWER.body]);
  assert.deepEqual(headers, [[], [], [issued[0]]]);
  assert.deepEqual(gateway.paths(), ["/infer", "/infer", "/infer"]);
  assert.equal(purse.payments.length, 1);
});

test("a client at work on an earlier toll of redeem mode redeems it before it pays for admission", async () => {
  let isRedeemed = false;
  gateway.handlers["/infer"] = async (request, response) => {
    const admission = { mode: "redeem", admission: true };
    const isFirst = gateway.requests.length === 1;
    if (isRedeemed) response.end("second");
    else send402(response, await makeToll(ANSWER, isFirst ? { mode: "redeem", ...WORK } : admission));
  };
  gateway.handlers[REDEEM_PATH] = (_, response) => {
    isRedeemed = true;
    response.end("first");
  };
  const receipts = new Receipts();
  let sendSecond;
  const isSecondDue = new Promise((resolve) => (sendSecond = resolve));
  const first = open({ receipts, progress: sendSecond })(`${gateway.url}/infer`);
  await isSecondDue;
  const second = await open({ receipts })(`${gateway.url}/infer`);
  assert.deepEqual([await (await first).text(), await second.text()], ["first", "second"]);
  assert.deepEqual(gateway.paths(), ["/infer", "/infer", REDEEM_PATH, "/infer"]);
});

test("a body that can be sent only once pays for admission, and so does a caller without earlier tolls", async () => {
  const { url } = serveAdmissionUnlessSettled();
  const receipts = new Receipts();
  let sendSecond;
  const isSecondDue = new Promise((resolve) => (sendSecond = resolve));
  const first = open({ receipts, progress: sendSecond })(url);
  await isSecondDue;
  const body = new Blob(["[1]"]).stream();
  const second = await open({ receipts })(url, { method: "POST", body, duplex: "half" });
  const third = await open()(url);
  assert.deepEqual([await second.text(), await third.text()], ["admitted", "admitted"]);
  await first;
});

test("a gateway that asks for admission whatever is returned is paid after three repeats", async () => {
  const { url } = gateway.serveSettling();
  const fetch = open();
  let askedAdmission = 0;
  await Promise.all(Array.from({ length: 100 }, () => fetch(url)));
  gateway.handlers["/infer"] = async (_, response) => {
    askedAdmission++;
    send402(response, await makeToll(ANSWER, { mode: "redeem", admission: true }));
  };
  gateway.handlers[REDEEM_PATH] = (_, response) => response.end("admitted");
  assert.equal(await (await fetch(url)).text(), "admitted");
  assert.equal(askedAdmission, 4);
});

test("aborting a request ends its waiting for earlier tolls", async () => {
  const { url } = serveAdmissionUnlessSettled();
  const receipts = new Receipts();
  const [firstStop, secondStop] = [new AbortController(), new AbortController()];
  let sendSecond;
  const isSecondDue = new Promise((resolve) => (sendSecond = resolve));
  let goOn;
  const allow = () => {
    sendSecond();
    return new Promise((resolve) => (goOn = resolve));
  };
  const first = open({ receipts, maxSeconds: 0, allow })(url, { signal: firstStop.signal });
  await isSecondDue;
  const send = async (input, init) => {
    const response = await fetch(input, init);
    setTimeout(() => secondStop.abort(new Error("enough")), 10);
    return response;
  };
  await assert.rejects(openWith(send, { receipts })(url, { signal: secondStop.signal }), /enough/);
  goOn(true);
  await first;
  assert.deepEqual(gateway.paths(), ["/infer", "/infer"]);
});
