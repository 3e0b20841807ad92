/** `modeltoll demo --web` in a real browser, with its victim and its gateway. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { TestGateway } from "../test/testGateway.mjs";
import { launch } from "./chromium.mjs";
import { openDemo } from "./demoProcess.mjs";
import { servePage } from "./fixtures.mjs";

let browser;
let demo;
let context;

before(async () => {
  [browser, demo] = await Promise.all([launch(), openDemo()]);
  context = await browser.newContext();
});
after(async () => {
  await browser?.close();
  if (demo) assert.equal(await demo.end(), 130);
});

/** The demo's page; `origins` collects those of its requests, `errors` the browser's errors. */
async function visit() {
  const page = await context.newPage();
  const [origins, errors] = [new Set(), []];
  page.on("request", (request) => origins.add(new URL(request.url()).origin));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  await page.goto(demo.url);
  await page.locator("html[data-ready]").waitFor();
  return { page, origins, errors };
}

/** Press a button and wait for the answer; returns its price in seconds. */
async function priceOf(page, button) {
  await page.getByRole("button", { name: button }).click();
  await page.locator("#trouble:visible, #step-answer[data-state=done]").waitFor({ timeout: 120_000 });
  assert.equal(await page.locator("#trouble").isVisible(), false, await page.locator("#trouble").innerText());
  return Number(await page.locator("#receipt-rows tr:first-child data").first().getAttribute("value"));
}

/** Draw the digit one with the mouse. */
async function drawOne(page) {
  const { x, y, width, height } = await page.locator("#pad").boundingBox();
  await page.mouse.move(x + width / 2, y + height / 8);
  await page.mouse.down();
  await page.mouse.move(x + width / 2, y + (height * 7) / 8, { steps: 8 });
  await page.mouse.up();
}

/** The browser logs each 402 as an error, which it is not here. */
const without402 = (errors) => errors.filter((text) => !text.includes("402"));

test("a drawing becomes the model's input and is answered, with requests to the page and the gateway only", async () => {
  const { page, origins, errors } = await visit();
  await page.getByRole("button", { name: "Clear" }).click();
  await drawOne(page);
  const inked = await page.getByRole("gridcell", { name: /ink/ }).count();
  assert.ok(inked >= 8 && inked <= 24, `${inked} cells`);
  assert.ok((await priceOf(page, "Ask the model")) >= 0);
  assert.match(await page.locator("#step-answer").innerText(), /The model predicts a \d, with probability/);
  const { gateway } = await page.evaluate(async () => (await fetch("gateway.json")).json());
  assert.deepEqual(origins, new Set([new URL(demo.url).origin, gateway]));
  assert.deepEqual(without402(errors), []);
  await page.close();
});

test("noise and a photograph patch cost more than a digit", async () => {
  const { page } = await visit();
  const digits = [];
  for (let turn = 0; turn < 3; turn++) {
    await page.getByRole("button", { name: "Show an example" }).click();
    digits.push(await priceOf(page, "Ask the model"));
  }
  const digit = Math.min(...digits); // one of them may be rare
  const [noise, patch] = [await priceOf(page, "Send noise"), await priceOf(page, "Send a photograph patch")];
  assert.ok(noise > digit, `noise ${noise}, digit ${digit}`);
  assert.ok(patch > digit, `patch ${patch}, digit ${digit}`);
  await page.close();
});

test("two tabs ask at the same time, each with its own account", async () => {
  const tabs = await Promise.all([visit(), visit()]);
  const prices = await Promise.all(tabs.map(({ page }) => priceOf(page, "Send noise")));
  assert.ok(prices.every((seconds) => seconds > 0));
  for (const { page } of tabs) {
    assert.match(await page.locator("#step-answer").innerText(), /The model predicts a \d/);
    await page.close();
  }
});

test("a thief of 50 queries is asked for many times what an honest caller is asked for", async (t) => {
  const { page, errors } = await visit();
  await page.getByRole("button", { name: "Run the thief" }).click();
  await page.locator("#play:visible").waitFor({ timeout: 300_000 });
  const summary = await page.locator("#thief-summary").innerText();
  t.diagnostic(summary);
  await page.getByText("The plot as a table").click();
  const rows = await page.locator("#plot-rows tr").allInnerTexts();
  assert.equal(rows.length, 5);
  const [queries, honest, thief] = rows.at(-1).split(/\s+/).map(Number);
  assert.equal(queries, 50);
  assert.ok(thief > 10 * honest, summary);
  assert.match(summary, /After 50 queries each/);
  assert.deepEqual(without402(errors), []);
  await page.close();
});

test("the thief is stopped in the middle, and the summary gives the number of queries", async () => {
  const { page } = await visit();
  await page.getByRole("button", { name: "Run the thief" }).click();
  await page.locator("#thief-summary", { hasText: "After" }).waitFor();
  await page.locator("#cancel").click();
  await page.locator("#play:visible").waitFor();
  assert.match(await page.locator("#thief-summary").innerText(), /After \d+ quer/);
  await page.close();
});

test("a page of an origin that the gateway does not list names the setting", async () => {
  const { gateway } = await (await fetch(`${demo.url}gateway.json`)).json();
  const server = await TestGateway.open();
  try {
    servePage(server, { gateway });
    const page = await context.newPage();
    await page.goto(`${server.url}/`);
    await page.locator("html[data-ready]").waitFor();
    await page.getByRole("button", { name: "Ask the model" }).click();
    await page.locator("#trouble", { hasText: `cors.origins does not list ${server.url}` }).waitFor();
    await page.close();
  } finally {
    await server.close();
  }
});
