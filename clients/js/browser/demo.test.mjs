/** `modeltoll demo --web` in a real browser: a real victim, a real gateway, real tolls. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { House } from "../test/testGateway.mjs";
import { launch } from "./chromium.mjs";
import { openDemo } from "./demoProcess.mjs";
import { setUp } from "./fixtures.mjs";

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

/** The demo's page; `seen` collects whom it asked, `wrong` what the browser complained of. */
async function visit() {
  const page = await context.newPage();
  const [seen, wrong] = [new Set(), []];
  page.on("request", (request) => seen.add(new URL(request.url()).origin));
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  await page.goto(demo.url);
  await page.locator("html[data-ready]").waitFor();
  return { page, seen, wrong };
}

/** Press a button, and wait for the answer; its price in seconds. */
async function price(page, button) {
  await page.getByRole("button", { name: button }).click();
  await page.locator("#trouble:visible, #step-answer[data-state=done]").waitFor({ timeout: 120_000 });
  assert.equal(await page.locator("#trouble").isVisible(), false, await page.locator("#trouble").innerText());
  return Number(await page.locator("#receipt-rows tr:first-child data").first().getAttribute("value"));
}

/** A one, with the mouse. */
async function drawOne(page) {
  const { x, y, width, height } = await page.locator("#pad").boundingBox();
  await page.mouse.move(x + width / 2, y + height / 8);
  await page.mouse.down();
  await page.mouse.move(x + width / 2, y + (height * 7) / 8, { steps: 8 });
  await page.mouse.up();
}

/** The browser writes a 402 into its console as a fault; it is none here. */
const faults = (wrong) => wrong.filter((text) => !text.includes("402"));

test("a drawing is seen as the model sees it, and asked about, of nobody but page and gateway", async () => {
  const { page, seen, wrong } = await visit();
  await page.getByRole("button", { name: "Clear" }).click();
  await drawOne(page);
  const inked = await page.getByRole("gridcell", { name: /ink/ }).count();
  assert.ok(inked >= 8 && inked <= 24, `${inked} cells`);
  assert.ok((await price(page, "Ask the model")) >= 0);
  assert.match(await page.locator("#step-answer").innerText(), /The model reads a \d, and is/);
  const { gateway } = await page.evaluate(async () => (await fetch("house.json")).json());
  assert.deepEqual([...seen].sort(), [new URL(demo.url).origin, gateway].sort());
  assert.deepEqual(faults(wrong), []);
  await page.close();
});

test("noise and a photograph patch cost more than a digit", async () => {
  const { page } = await visit();
  const digits = [];
  for (let turn = 0; turn < 3; turn++) {
    await page.getByRole("button", { name: "An example" }).click();
    digits.push(await price(page, "Ask the model"));
  }
  const digit = Math.min(...digits); // one of them may be a rare one
  const [noise, patch] = [await price(page, "Send noise"), await price(page, "Send a photograph patch")];
  assert.ok(noise > digit, `noise ${noise}, digit ${digit}`);
  assert.ok(patch > digit, `patch ${patch}, digit ${digit}`);
  await page.close();
});

test("two tabs ask at once, each as a caller of its own", async () => {
  const tabs = await Promise.all([visit(), visit()]);
  const prices = await Promise.all(tabs.map(({ page }) => price(page, "Send noise")));
  assert.ok(prices.every((seconds) => seconds > 0));
  for (const { page } of tabs) {
    assert.match(await page.locator("#step-answer").innerText(), /The model reads a \d/);
    await page.close();
  }
});

test("a thief of 50 queries is asked for many times what an honest caller is asked for", async (t) => {
  const { page, wrong } = await visit();
  await page.getByRole("button", { name: "Play the thief" }).click();
  await page.locator("#play:visible").waitFor({ timeout: 300_000 });
  const said = await page.locator("#verdict").innerText();
  t.diagnostic(said);
  await page.getByText("The plot as a table").click();
  const rows = await page.locator("#plot-rows tr").allInnerTexts();
  assert.equal(rows.length, 5);
  const [queries, honest, thief] = rows.at(-1).split(/\s+/).map(Number);
  assert.equal(queries, 50);
  assert.ok(thief > 10 * honest, said);
  assert.match(said, /After 50 queries each/);
  assert.deepEqual(faults(wrong), []);
  await page.close();
});

test("the race is cancelled in the middle, and says how far it came", async () => {
  const { page } = await visit();
  await page.getByRole("button", { name: "Play the thief" }).click();
  await page.locator("#verdict", { hasText: "After" }).waitFor();
  await page.locator("#cancel").click();
  await page.locator("#play:visible").waitFor();
  assert.match(await page.locator("#verdict").innerText(), /After \d+ quer/);
  await page.close();
});

test("a page of another origin is told nothing by the real gateway, and says why", async () => {
  const { gateway } = await (await fetch(`${demo.url}house.json`)).json();
  const house = await House.open();
  try {
    setUp(house, { gateway });
    const page = await context.newPage();
    await page.goto(`${house.url}/`);
    await page.locator("html[data-ready]").waitFor();
    await page.getByRole("button", { name: "Ask the model" }).click();
    await page.locator("#trouble", { hasText: `cors.origins does not list ${house.url}` }).waitFor();
    await page.close();
  } finally {
    await house.close();
  }
});
