/** The unmodified OpenAI SDK gets its chats through a real gateway; the python beside $MODELTOLL runs that. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { Purse, tollFetch } from "modeltoll";
import OpenAI from "openai";

const COMMAND = process.env.MODELTOLL ?? new URL("../../../.venv/bin/modeltoll", import.meta.url).pathname;
const HELLO = { model: "chat", messages: [{ role: "user", content: "hi" }] };
const KEY = "sk-1";
let gateway, url;

before(async () => {
  const script = new URL("gateway.py", import.meta.url).pathname;
  gateway = spawn(join(dirname(COMMAND), "python"), [script, KEY], { stdio: ["pipe", "pipe", "inherit"] });
  const gone = once(gateway, "exit").then(([code]) => Promise.reject(new Error(`the gateway ended with ${code}`)));
  gone.catch(() => {});
  [url] = await Promise.race([once(createInterface({ input: gateway.stdout }), "line"), gone]);
});
after(async () => {
  gateway.stdin.end();
  await once(gateway, "exit");
});

const clientOf = (purse, apiKey = KEY) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, fetch: tollFetch(undefined, { purse }) });

test("chats are paid for, and show what was asked for and no more", async () => {
  const purse = new Purse();
  const client = clientOf(purse);
  const plain = await client.chat.completions.create(HELLO);
  assert.equal(plain.choices[0].message.content, "hello");
  assert.ok(!plain.choices[0].logprobs);
  const shown = await client.chat.completions.create({ ...HELLO, logprobs: true, top_logprobs: 1 });
  assert.deepEqual(
    shown.choices[0].logprobs.content[0].top_logprobs.map(({ token }) => token),
    ["hello"],
  );
  assert.equal(purse.payments.length, 2);
});

test("refusals are the SDK's own errors", async () => {
  const client = clientOf(new Purse());
  await assert.rejects(client.chat.completions.create({ ...HELLO, stream: true }), OpenAI.BadRequestError);
  await assert.rejects(client.chat.completions.create({ ...HELLO, model: "other" }), OpenAI.BadRequestError);
  const stranger = clientOf(new Purse(), "sk-2").chat.completions.create(HELLO);
  await assert.rejects(stranger, OpenAI.AuthenticationError);
});
