/** A page returns the receipts of its tolls to a gateway of another origin: with requests, when idle, and when it is left. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { SETTLE_PATH, TestGateway } from "../test/testGateway.mjs";
import { launch } from "./chromium.mjs";
import { allowOrigin, ANSWER, INFER, servePage } from "./fixtures.mjs";

const WAIT_MS = 20_000;
const POLL_MS = 50;
let browser;
let site;
let gateway;
let context;

before(async () => {
  [browser, site] = await Promise.all([launch(), TestGateway.open()]);
});
after(async () => {
  await browser?.close();
  await site?.close();
});
beforeEach(async () => {
  gateway = await TestGateway.open(); // of this test alone: a page that was closed still posts its receipts to its own
});
afterEach(async () => {
  await context?.close();
  await gateway?.close();
});

/** Open the page; the gateway's settled receipts, and a function that asks it once. */
async function visit() {
  servePage(site, { gateway: gateway.url });
  const settling = gateway.serveSettling({ answer: ANSWER });
  allowOrigin(gateway, site.url);
  context = await browser.newContext();
  const page = await context.newPage();
  page.on("pageerror", (error) => assert.fail(error));
  await page.goto(`${site.url}/`);
  await page.locator("html[data-ready]").waitFor();
  const ask = async () => {
    await page.getByRole("button", { name: "Ask the model" }).click();
    await page.locator("#step-answer[data-state=done]").waitFor();
  };
  return { page, ask, ...settling };
}

/** Wait until that many receipts are settled. */
async function waitForSettled(settled, count) {
  const end = performance.now() + WAIT_MS;
  while (settled.length < count && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  assert.equal(settled.length, count);
}

const sent = (method, path) => gateway.requests.filter((request) => request.method === method && request.path === path);

test("the next request returns the receipt, which the preflight asks to allow", async () => {
  const { ask, issued, settled } = await visit();
  await ask();
  await ask();
  assert.deepEqual(settled, [issued[0]]);
  const asked = sent("OPTIONS", INFER).map(({ headers }) => headers["access-control-request-headers"]);
  assert.match(asked.at(-1), /toll-accept,toll-settle/);
  const [first, second] = sent("POST", INFER);
  assert.ok(first.headers["x-api-key"]);
  assert.equal(first.headers["x-api-key"], second.headers["x-api-key"]);
});

test("an idle page posts its receipts", async () => {
  const { ask, issued, settled, posts } = await visit();
  await ask();
  await waitForSettled(settled, 1);
  assert.deepEqual([settled, posts], [issued, [1]]);
});

test("a page that is left posts its receipts with its caller's key", async () => {
  const { page, ask, issued, settled } = await visit();
  await ask();
  await page.goto("about:blank");
  await waitForSettled(settled, 1);
  assert.deepEqual(settled, issued);
  assert.ok(sent("POST", SETTLE_PATH)[0].headers["x-api-key"]);
});
