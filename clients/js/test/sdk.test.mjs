/** The unmodified OpenAI SDK gets its answers through a toll house. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { tollFetch } from "modeltoll";
import OpenAI from "openai";
import { House } from "./testGateway.mjs";

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
let house;

before(async () => (house = await House.open()));
after(() => house.close());
beforeEach(() => {
  house.reset();
  for (const [path, answer] of [
    ["/v1/embeddings", EMBEDDINGS],
    ["/v1/chat/completions", CHAT],
  ]) {
    house.sell(
      { status: 200, type: "application/json", body: Buffer.from(JSON.stringify(answer)) },
      { memoryKib: 256 },
      path,
    );
  }
});

const clientOf = (options) =>
  new OpenAI({ baseURL: `${house.url}/v1`, apiKey: "sk-1", fetch: tollFetch(undefined, options) });

test("the SDK gets its answers after one request each", async () => {
  const client = clientOf();
  const { data } = await client.embeddings.create({ model: "m", input: "hi", encoding_format: "float" });
  assert.deepEqual(data[0].embedding, [0.5, -0.25]);
  assert.equal((await client.chat.completions.create(HELLO)).choices[0].message.content, "hello");
  assert.equal(house.seen.length, 2);
  assert.deepEqual(new Set(house.seen.map(({ headers }) => headers.authorization)), new Set(["Bearer sk-1"]));
});

test("a dear toll is not tried again where refusals are answers", async () => {
  const refused = clientOf({ maxSeconds: 0, refusal: "respond" }).chat.completions.create(HELLO);
  await assert.rejects(refused, (error) => error.status === 402 && /maxSeconds/.test(error.message));
  assert.equal(house.seen.length, 1);
});

test("a stream without a toll streams", async () => {
  house.handlers["/v1/chat/completions"] = (_, response) => {
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
