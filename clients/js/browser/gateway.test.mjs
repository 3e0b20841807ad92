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
let gateway, url;

before(async () => {
  const script = new URL("gateway.py", import.meta.url).pathname;
  gateway = startProcess(join(dirname(MODELTOLL), "python"), [script, KEY]);
  url = await gateway.nextLine();
});
after(() => gateway.end());

const clientOf = (purse, apiKey = KEY) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, fetch: tollFetch(undefined, { purse }) });

test("chat completions are paid for, and have the log probabilities that were asked for and no more", async () => {
  const purse = new Purse();
  const client = clientOf(purse);
  const plain = await client.chat.completions.create(HELLO);
  assert.equal(plain.choices[0].message.content, "hello");
  assert.ok(!plain.choices[0].logprobs);
  const detailed = await client.chat.completions.create({ ...HELLO, logprobs: true, top_logprobs: 1 });
  assert.deepEqual(
    detailed.choices[0].logprobs.content[0].top_logprobs.map(({ token }) => token),
    ["hello"],
  );
  assert.equal(purse.payments.length, 2);
});

test("refusals become the SDK's own errors", async () => {
  const client = clientOf(new Purse());
  await assert.rejects(client.chat.completions.create({ ...HELLO, stream: true }), BadRequestError);
  await assert.rejects(client.chat.completions.create({ ...HELLO, model: "other" }), NotFoundError);
  const unauthenticated = clientOf(new Purse(), "sk-2").chat.completions.create(HELLO);
  await assert.rejects(unauthenticated, AuthenticationError);
});
