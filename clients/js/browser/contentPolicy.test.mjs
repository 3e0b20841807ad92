/** The client in a real browser, in pages with different content security policies. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { ANSWER, TestGateway } from "../test/testGateway.mjs";
import { launch } from "./chromium.mjs";

const SHORT = { counters: [1000], bound: 2048 };
const LONG = { counters: [900_000], bound: 2 ** 20 };
const ARGON2ID = { memoryKib: 1024, counters: [400], bound: 512 };
const SCRIPTS = "script-src 'self' 'unsafe-inline'";
let browser;
let gateway;

/** A page that pays for an answer, and measures how long its thread was blocked at most. */
const PAGE = (options) => `<script type="module">
import { tollFetch } from "/modeltoll.js";
const report = { notices: [], longest: 0 };
let last = performance.now();
const timer = setInterval(() => {
  report.longest = Math.max(report.longest, performance.now() - last);
  last = performance.now();
}, 1);
try {
  const fetch = tollFetch(undefined, { notice: (text) => report.notices.push(text), ...${JSON.stringify(options)} });
  const response = await fetch("/infer", { headers: { authorization: "Bearer test-key" } });
  Object.assign(report, { status: response.status, url: response.url, text: await response.text() });
} catch (error) {
  report.error = error.name + ": " + error.message;
}
clearInterval(timer);
await globalThis.fetch("/report", { method: "POST", body: JSON.stringify(report) });
</script>`;

before(async () => {
  [browser, gateway] = await Promise.all([launch(), TestGateway.open()]);
});
after(async () => {
  await browser?.close();
  await gateway?.close();
});

/** Serves a script of the package. */
const scriptHandler = (name) => (_, response) => {
  const script = readFileSync(new URL(`../dist/${name}`, import.meta.url));
  response.writeHead(200, { "content-type": "text/javascript" }).end(script);
};

/** Open a page with that policy, which pays `toll`; returns its report. */
async function visit(policy, toll, options = {}) {
  gateway.reset().serveToll(ANSWER, toll);
  gateway.handlers["/modeltoll.js"] = scriptHandler("modeltoll.js");
  gateway.handlers["/worker.js"] = scriptHandler("worker.js");
  gateway.handlers["/"] = (_, response) => {
    response.writeHead(200, { "content-type": "text/html", "content-security-policy": policy }).end(PAGE(options));
  };
  const report = new Promise((resolve) => {
    gateway.handlers["/report"] = (_request, response, body) => {
      response.end();
      resolve(JSON.parse(body));
    };
  });
  const context = await browser.newContext();
  try {
    await (await context.newPage()).goto(`${gateway.url}/`);
    const result = await report;
    return { ...result, accept: gateway.requests.find(({ path }) => path === "/infer")?.headers["toll-accept"] };
  } finally {
    await context.close();
  }
}

function assertPaid(report) {
  assert.deepEqual([report.error, report.status, report.text], [undefined, 200, ANSWER.body.toString()]);
  assert.equal(report.url, `${gateway.url}/infer`);
}

for (const [name, toll] of Object.entries({ SHORT, LONG, ARGON2ID })) {
  test(`a page without a policy pays with workers: ${name.toLowerCase()}`, async (t) => {
    const report = await visit("", toll);
    assertPaid(report);
    assert.deepEqual(report.notices, []);
    t.diagnostic(`the page was blocked for at most ${report.longest.toFixed(0)} ms`);
  });
}

for (const [name, toll] of Object.entries({ LONG, ARGON2ID })) {
  test(`a page that forbids workers pays in slices: ${name.toLowerCase()}`, async (t) => {
    const report = await visit(`${SCRIPTS} 'wasm-unsafe-eval'; worker-src 'none'`, toll);
    assertPaid(report);
    assert.equal(report.notices.length, 1);
    t.diagnostic(`the page was blocked for at most ${report.longest.toFixed(0)} ms`);
  });
}

test("a page that allows workers of its own origin only uses workerUrl", async () => {
  const report = await visit(`${SCRIPTS} 'wasm-unsafe-eval'; worker-src 'self'`, ARGON2ID, { workerUrl: "/worker.js" });
  assertPaid(report);
  assert.deepEqual(report.notices, []);
});

test("a page that forbids WebAssembly does not announce argon2id", async () => {
  const report = await visit(`${SCRIPTS}; worker-src blob:`, LONG);
  assertPaid(report);
  assert.match(report.accept, /^sha256, timelock; mode=sealed; /);
});

test("an answer is redeemed", async () =>
  assertPaid({ ...(await visit("", SHORT, { mode: "redeem" })), url: `${gateway.url}/infer` }));
