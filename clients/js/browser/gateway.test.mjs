/** The unmodified OpenAI SDK gets chat completions through a real gateway, which the Python beside $MODELTOLL runs. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { Purse, tollFetch } from "modeltoll";
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError } from "openai";
import { MODELTOLL } from "../scripts/paths.mjs";
import { startProcess } from "./childProcess.mjs";

const HELLO = { model: "chat", messages: [{ role: "user", content: "hi" }] };
const KEY = "sk-1";
const REPORT = "It rains in Oslo, 7 °C ☂."; // what the model server says
const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const WEATHER = {
  model: "chat",
  messages: [{ role: "user", content: "How is the weather in Oslo?" }],
  tools: [{ type: "function", function: { name: "get_weather", parameters: PARAMETERS } }],
  stream: true,
  stream_options: { include_usage: true },
};
let gateway, url, server;

before(async () => {
  const script = new URL("gateway.py", import.meta.url).pathname;
  gateway = startProcess(join(dirname(MODELTOLL), "python"), [script, KEY]);
  url = await gateway.nextLine();
  server = await gateway.nextLine();
});
after(() => gateway.end());

const clientOf = (purse, apiKey = KEY) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, fetch: tollFetch(undefined, { purse }) });

test("chat completions are paid for, and have the log probabilities that were asked for and no more", async () => {
  const purse = new Purse();
  const client = clientOf(purse);
  const plain = await client.chat.completions.create(HELLO);
  assert.equal(plain.choices[0].message.content, REPORT);
  assert.ok(!plain.choices[0].logprobs);
  const detailed = await client.chat.completions.create({ ...HELLO, logprobs: true, top_logprobs: 1 });
  assert.deepEqual(
    detailed.choices[0].logprobs.content[0].top_logprobs.map(({ token }) => token),
    ["It"],
  );
  assert.equal(purse.payments.length, 2);
});

test("refusals become the SDK's own errors", async () => {
  const client = clientOf(new Purse());
  await assert.rejects(client.chat.completions.create({ ...HELLO, logit_bias: "x" }), BadRequestError);
  await assert.rejects(client.chat.completions.create({ ...HELLO, model: "other" }), NotFoundError);
  const unauthenticated = clientOf(new Purse(), "sk-2").chat.completions.create(HELLO);
  await assert.rejects(unauthenticated, AuthenticationError);
});

async function chunksOf(client, options) {
  const chunks = [];
  for await (const chunk of await client.chat.completions.create({ ...WEATHER, ...options })) chunks.push(chunk);
  return chunks;
}

test("a streamed chat with a call of a tool gives the events of the model server, in their order", async () => {
  const purse = new Purse({ replayPace: 0.001 });
  const direct = new OpenAI({ baseURL: `${server}/v1`, apiKey: KEY, maxRetries: 0 });
  for (const options of [{}, { logprobs: true, top_logprobs: 2 }]) {
    const chunks = await chunksOf(clientOf(purse), options);
    assert.deepEqual(chunks, await chunksOf(direct, options));
    assert.ok(chunks.length > 10);
  }
  assert.equal(purse.payments.length, 2);
});

test("the SDK's helper runs the tool of a streamed chat, and streams what the model says of its result", async () => {
  const purse = new Purse();
  const calls = [];
  const get_weather = ({ city }) => {
    calls.push(city);
    return `rain in ${city}`;
  };
  const [{ type, function: described }] = WEATHER.tools;
  const runner = clientOf(purse).chat.completions.runTools({
    ...WEATHER,
    tools: [{ type, function: { ...described, description: "", parse: JSON.parse, function: get_weather } }],
  });
  const contents = [];
  runner.on("content", (piece) => contents.push(piece));
  assert.equal(await runner.finalContent(), REPORT);
  assert.deepEqual(calls, ["Oslo"]);
  assert.deepEqual(contents.join(""), `I will look.${REPORT}`);
  assert.equal(purse.payments.length, 2);
});
