/** The unmodified OpenAI SDK gets its answers from a server that asks tolls. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { tollFetch } from "modeltoll";
import OpenAI from "openai";
import { TestGateway } from "./testGateway.mjs";

const USAGE = { prompt_tokens: 1, total_tokens: 1, completion_tokens: 0 };
const EMBEDDINGS = {
  object: "list",
  data: [{ object: "embedding", index: 0, embedding: [0.5, -0.25] }],
  model: "m",
  usage: USAGE,
};
const CHOICE = { index: 0, message: { role: "assistant", content: "hello" }, finish_reason: "stop" };
const CHAT = { id: "1", object: "chat.completion", created: 1, model: "m", choices: [CHOICE], usage: USAGE };
const HELLO = { model: "m", messages: [{ role: "user", content: "hi" }] };
let gateway;

before(async () => (gateway = await TestGateway.open()));
after(() => gateway.close());
beforeEach(() => {
  gateway.reset();
  for (const [path, answer] of [
    ["/v1/embeddings", EMBEDDINGS],
    ["/v1/chat/completions", CHAT],
  ]) {
    gateway.serveToll(
      { status: 200, type: "application/json", body: Buffer.from(JSON.stringify(answer)) },
      { memoryKib: 256 },
      path,
    );
  }
});

const clientOf = (options) =>
  new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "sk-1", fetch: tollFetch(undefined, options) });

test("the SDK gets its answers after one request each", async () => {
  const client = clientOf();
  const { data } = await client.embeddings.create({ model: "m", input: "hi", encoding_format: "float" });
  assert.deepEqual(data[0].embedding, [0.5, -0.25]);
  assert.equal((await client.chat.completions.create(HELLO)).choices[0].message.content, "hello");
  assert.equal(gateway.requests.length, 2);
  assert.deepEqual(new Set(gateway.requests.map(({ headers }) => headers.authorization)), new Set(["Bearer sk-1"]));
});

test("refusal: respond keeps the SDK from retrying a toll above the limit", async () => {
  const rejected = clientOf({ maxSeconds: 0, refusal: "respond" }).chat.completions.create(HELLO);
  await assert.rejects(rejected, (error) => error.status === 402 && /maxSeconds/.test(error.message));
  assert.equal(gateway.requests.length, 1);
});

test("a stream without a toll streams", async () => {
  gateway.handlers["/v1/chat/completions"] = (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const content of ["a", "b"]) {
      const chunk = { ...CHAT, object: "chat.completion.chunk", choices: [{ index: 0, delta: { content } }] };
      response.write(`data: ${JSON.stringify(chunk)}\n\n`);
    }
    response.end("data: [DONE]\n\n");
  };
  const words = [];
  for await (const chunk of await clientOf().chat.completions.create({ ...HELLO, stream: true })) {
    words.push(chunk.choices[0].delta.content);
  }
  assert.deepEqual(words, ["a", "b"]);
});
