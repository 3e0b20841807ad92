/** The client in a real browser, under pages' policies. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { ANSWER, House } from "../test/testGateway.mjs";
import { launch } from "./chromium.mjs";

const SHORT = { counters: [1000], bound: 2048 };
const LONG = { counters: [900_000], bound: 2 ** 20 };
const ARGON2ID = { memoryKib: 1024, counters: [400], bound: 512 };
const SCRIPTS = "script-src 'self' 'unsafe-inline'";
let browser;
let house;

/** What a page does: pay for an answer, while a timer sees how long the page did not answer. */
const PAGE = (options) => `<script type="module">
import { tollFetch } from "/modeltoll.js";
const said = { notices: [], longest: 0 };
let last = performance.now();
const timer = setInterval(() => {
  said.longest = Math.max(said.longest, performance.now() - last);
  last = performance.now();
}, 1);
try {
  const fetch = tollFetch(undefined, { notice: (text) => said.notices.push(text), ...${JSON.stringify(options)} });
  const response = await fetch("/infer", { headers: { authorization: "Bearer the-key-of-this-house" } });
  Object.assign(said, { status: response.status, url: response.url, text: await response.text() });
} catch (error) {
  said.error = error.name + ": " + error.message;
}
clearInterval(timer);
await globalThis.fetch("/said", { method: "POST", body: JSON.stringify(said) });
</script>`;

before(async () => {
  [browser, house] = await Promise.all([launch(), House.open()]);
});
after(async () => {
  await browser?.close();
  await house?.close();
});

/** Open a page of that policy; what it says at its end. */
async function visit(policy, sold, options = {}) {
  house.reset().sell(ANSWER, sold);
  const file = (name) => (_, response) => {
    response
      .writeHead(200, { "content-type": "text/javascript" })
      .end(readFileSync(new URL(`../dist/${name}`, import.meta.url)));
  };
  house.handlers["/modeltoll.js"] = file("modeltoll.js");
  house.handlers["/worker.js"] = file("worker.js");
  house.handlers["/"] = (_, response) => {
    response.writeHead(200, { "content-type": "text/html", "content-security-policy": policy }).end(PAGE(options));
  };
  const said = new Promise((resolve) => {
    house.handlers["/said"] = (_request, response, body) => {
      response.end();
      resolve(JSON.parse(body));
    };
  });
  const context = await browser.newContext();
  try {
    await (await context.newPage()).goto(`${house.url}/`);
    const end = await said;
    return { ...end, told: house.seen.find(({ path }) => path === "/infer")?.headers["toll-accept"] };
  } finally {
    await context.close();
  }
}

function assertPaid(said) {
  assert.deepEqual([said.error, said.status, said.text], [undefined, 200, ANSWER.body.toString()]);
  assert.equal(said.url, `${house.url}/infer`);
}

for (const [name, sold] of Object.entries({ SHORT, LONG, ARGON2ID })) {
  test(`a page without a policy is paid for by workers: ${name.toLowerCase()}`, async (t) => {
    const said = await visit("", sold);
    assertPaid(said);
    assert.deepEqual(said.notices, []);
    t.diagnostic(`the page did not answer for at most ${said.longest.toFixed(0)} ms`);
  });
}

for (const [name, sold] of Object.entries({ LONG, ARGON2ID })) {
  test(`a page that forbids workers is paid for in slices: ${name.toLowerCase()}`, async (t) => {
    const said = await visit(`${SCRIPTS} 'wasm-unsafe-eval'; worker-src 'none'`, sold);
    assertPaid(said);
    assert.equal(said.notices.length, 1);
    t.diagnostic(`the page did not answer for at most ${said.longest.toFixed(0)} ms`);
  });
}

test("a page that allows workers of its own origin only is given its own", async () => {
  const said = await visit(`${SCRIPTS} 'wasm-unsafe-eval'; worker-src 'self'`, ARGON2ID, { workerUrl: "/worker.js" });
  assertPaid(said);
  assert.deepEqual(said.notices, []);
});

test("a page that forbids WebAssembly says so to the server", async () => {
  const said = await visit(`${SCRIPTS}; worker-src blob:`, LONG);
  assertPaid(said);
  assert.equal(said.told, "sha256, timelock; mode=sealed; memory=64MiB");
});

test("an answer is redeemed", async () =>
  assertPaid({ ...(await visit("", SHORT, { mode: "redeem" })), url: `${house.url}/infer` }));
