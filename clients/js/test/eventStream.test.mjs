/** An opened answer that is an event stream comes one event after the other. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { Purse, tollFetch } from "modeltoll";
import { makeToll, TestGateway } from "./testGateway.mjs";

const STREAMED = "text/event-stream; charset=utf-8";
const EVENTS = ["data: a\n\n", "event: x\ndata: b\ndata: c\n\n", "data: [DONE]\n\n"];
const STREAMS = {
  LF: EVENTS,
  "CR LF": ["data: a\r\n\r\n", "data: b\r\n\r\n\r\n", "data: c\r\n\r\n"],
  CR: ["data: a\r\r", "data: b\rid: 1\r\r"],
  comments: [": keep-alive\n\n", ": one\ndata: a\n\n", ": Toll-Receipt: rows=1; work=0.1\n\n"],
  "a BOM and text of several bytes": ["\ufeffdata: ä\n\n", "data: €\n\n"],
  "a stream that was cut off": ["data: a\n\n", "data: b\n"],
  "one event": ["data: a"],
  nothing: [],
};
let gateway;

before(async () => (gateway = await TestGateway.open()));
after(() => gateway.close());
beforeEach(() => gateway.reset());

const answerOf = (events) => ({ status: 200, type: STREAMED, body: Buffer.from(events.join("")) });
const ask = (options, init) => tollFetch(undefined, options)(`${gateway.url}/infer`, { method: "POST", ...init });

async function chunksOf(response) {
  const chunks = [];
  for await (const chunk of response.body) chunks.push(Buffer.from(chunk).toString());
  return chunks;
}

for (const [name, events] of Object.entries(STREAMS)) {
  test(`every event is one chunk: ${name}`, async () => {
    gateway.serveToll(answerOf(events));
    const response = await ask();
    assert.equal(response.headers.get("content-type"), STREAMED);
    assert.equal(response.headers.get("content-length"), null);
    assert.deepEqual(await chunksOf(response), events);
  });
}

test("a program that reads the whole answer, or two copies of it, gets the same bytes", async () => {
  gateway.serveToll(answerOf(EVENTS));
  const response = await ask();
  const copy = response.clone();
  assert.equal(await response.text(), EVENTS.join(""));
  assert.deepEqual(await chunksOf(copy), EVENTS);
});

test("the pace lies between the events", async () => {
  gateway.serveToll(answerOf(EVENTS));
  const response = await ask({ replayPace: 0.02 });
  const begin = performance.now();
  assert.deepEqual(await chunksOf(response), EVENTS);
  assert.ok(performance.now() - begin >= 35); // timers of 20 ms may be early by some
});

test("the first event comes at once, and a caller may leave", async () => {
  gateway.serveToll(answerOf(EVENTS));
  const response = await ask({ replayPace: 3600 });
  const reader = response.body.getReader();
  assert.equal(Buffer.from((await reader.read()).value).toString(), EVENTS[0]);
  const next = reader.read();
  await reader.cancel();
  assert.equal((await next).done, true);
});

test("an aborted request ends the replay with its reason", async () => {
  gateway.serveToll(answerOf(EVENTS));
  const stop = new AbortController();
  const response = await ask({ replayPace: 3600 }, { signal: stop.signal });
  const reader = response.body.getReader();
  await reader.read();
  const next = reader.read();
  stop.abort(new Error("enough"));
  await assert.rejects(next, /enough/);
});

test("a pace that is no time is refused", () => {
  for (const replayPace of [-1, NaN, Infinity, "1"]) assert.throws(() => new Purse({ replayPace }), /replayPace/);
});

/** Send a document as a 402 after white space, in parts. */
function serveLate(document) {
  gateway.handlers["/infer"] = (_request, response) => {
    response.writeHead(402, { "content-type": "application/problem+json" });
    const text = JSON.stringify(document);
    for (const part of [" ", "\n", "\t\r\n ", text.slice(0, 7)]) response.write(part);
    response.end(text.slice(7));
  };
}

test("white space before a toll is read", async () => {
  serveLate(await makeToll(answerOf(EVENTS)));
  assert.deepEqual(await chunksOf(await ask()), EVENTS);
});

test("white space before a problem without a toll is passed on", async () => {
  const problem = { error: { message: "the model server stopped" } };
  serveLate(problem);
  const response = await ask();
  assert.deepEqual([response.status, await response.json()], [402, problem]);
});
