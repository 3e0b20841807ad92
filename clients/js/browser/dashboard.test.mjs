/** The dashboard in a real browser. */

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { launch } from "./chromium.mjs";
import { openDashboard } from "./dashboardFixtures.mjs";

const THIEF = "caller?model=digits&name=key%3Amallory";
const REFRESH_MS = 16_000; // a little more than the interval of the page's requests
let browser;
let dashboard;
let context;

before(async () => {
  [browser, dashboard] = await Promise.all([launch(), openDashboard()]);
});
after(async () => {
  await browser?.close();
  if (dashboard) assert.equal(await dashboard.end(), 0);
});
afterEach(() => context?.close());

/** A page of the dashboard with a fake clock; `errors` has the browser's errors and dialogs, `urls` all requests. */
async function visit(path = "", screen = {}) {
  context = await browser.newContext(screen);
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("dialog", (dialog) => errors.push(dialog.message()));
  const urls = [];
  page.on("request", (request) => urls.push(request.url()));
  if (screen.javaScriptEnabled !== false) await page.clock.install();
  await page.goto(`${dashboard.url}${path}`);
  if (screen.javaScriptEnabled !== false) await page.locator("html[data-ready]").waitFor();
  return { page, errors, urls };
}

const tile = (page, label) => page.locator(".tile", { hasText: label }).locator("dd");

/** Let the page request new figures, and wait for the response. */
async function refresh(page) {
  const response = page.waitForResponse((candidate) => candidate.url().startsWith(dashboard.url));
  await page.clock.runFor(REFRESH_MS);
  await (await response).finished();
  await page.waitForFunction(() => !document.querySelector(".htmx-swapping, .htmx-request"));
}

/** The number of pixels of each chart that are not transparent. */
const countPixels = (page) =>
  page.locator(".chart canvas").evaluateAll((canvases) =>
    canvases.map((canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, at) => at % 4 === 3 && value > 0).length;
    }),
  );

for (const [name, path] of Object.entries({ overview: "", caller: THIEF })) {
  test(`every chart is drawn, without an error, with requests to the gateway only: ${name}`, async () => {
    const { page, errors, urls } = await visit(path);
    const charts = await page.locator(".chart").count();
    const pixels = await countPixels(page);
    assert.ok(charts >= 6, `${charts} charts`);
    assert.equal(pixels.length, charts);
    assert.ok(
      pixels.every((count) => count > 1000),
      String(pixels),
    );
    assert.deepEqual(errors, []);
    assert.ok(
      urls.every((url) => url.startsWith(dashboard.url)),
      String(urls),
    );
  });
}

test("the page refreshes by itself, and keeps focus, typed text and open tables", async () => {
  const { page, errors } = await visit();
  const requests = async () => Number((await tile(page, "requests").first().innerText()).replace(",", ""));
  const requestsBefore = await requests();
  await page.locator("summary").first().click();
  await page.getByLabel("g", { exact: true }).fill("0.33");
  const chart = await page.locator("#requests").getAttribute("data-chart");
  await dashboard.send("more");
  await refresh(page);
  assert.equal(await requests(), requestsBefore + 5);
  assert.notEqual(await page.locator("#requests").getAttribute("data-chart"), chart);
  assert.equal(await page.locator("#requests canvas").count(), 1);
  assert.equal(await page.getByLabel("g", { exact: true }).inputValue(), "0.33");
  assert.equal(await page.evaluate(() => document.activeElement.name), "g");
  assert.equal(await page.locator("details").first().getAttribute("open"), "");
  assert.deepEqual(errors, []);
});

test("a button pauses and resumes refreshing", async () => {
  const { page, urls } = await visit();
  const button = page.getByRole("button", { name: "Pause refreshing" });
  await button.click();
  assert.equal(await button.getAttribute("aria-pressed"), "true");
  const urlsBefore = urls.length;
  await page.clock.runFor(4 * REFRESH_MS);
  assert.equal(urls.length, urlsBefore);
  await button.click();
  await refresh(page);
  assert.ok(urls.length > urlsBefore);
});

test("the page reports a ledger that does not answer, and recovers by itself", async () => {
  const { page } = await visit();
  await dashboard.send("stop-ledger");
  try {
    await refresh(page);
    await page.getByText("The ledger does not answer: the ledger's server cannot be reached.").waitFor();
    assert.equal(await page.locator("#requests").count(), 0);
    assert.equal(await page.locator("#price canvas").count(), 1);
  } finally {
    await dashboard.send("start-ledger");
  }
  await refresh(page);
  await page.locator("#requests canvas").waitFor();
  assert.equal(await page.getByText("The ledger does not answer").count(), 0);
});

test("if the gateway does not answer, the latest figures stay and the page says so", async () => {
  const { page } = await visit();
  await page.route("**", (route) => route.abort());
  await page.clock.runFor(REFRESH_MS);
  await page.locator("#status", { hasText: "The gateway does not answer; these are the latest figures." }).waitFor();
  assert.equal(await page.locator("#requests canvas").count(), 1);
  await page.unroute("**");
  await refresh(page);
  assert.equal(await page.locator("#status").innerText(), "");
});

test("callers are sorted in place, and the URL has the order", async () => {
  const { page, errors } = await visit();
  await page.getByRole("link", { name: "rows", exact: true }).click();
  await page.locator(".sorts [aria-current]", { hasText: "rows" }).waitFor();
  assert.match(page.url(), /sort=rows/);
  const rows = await page.locator(".callers tbody td:nth-child(2)").allInnerTexts();
  const numbers = rows.map((text) => Number(text.replaceAll(",", "")));
  assert.deepEqual(
    numbers,
    numbers.toSorted((one, other) => other - one),
  );
  assert.equal(await page.locator("#requests canvas").count(), 1);
  await refresh(page);
  assert.equal(await page.locator(".sorts [aria-current]").innerText(), "rows");
  assert.deepEqual(errors, []);
});

test("the last day is replayed with other settings, and invalid settings are refused", async () => {
  const { page, errors } = await visit();
  await page.getByLabel("highest surcharge").fill("10");
  await page.getByRole("button", { name: "Replay the last day" }).click();
  await page.getByText("replayed, these settings").waitFor();
  assert.match(page.url(), /maximum=10/);
  const cells = await page.locator("tr", { hasText: "suspects, total work" }).locator("td").allInnerTexts();
  assert.equal(cells.length, 3);
  assert.ok(cells[1] !== cells[2], String(cells));
  assert.equal(await page.getByLabel("highest surcharge").inputValue(), "10");
  await page.getByLabel("g", { exact: true }).fill("much");
  await page.keyboard.press("Enter");
  await page.getByText("g: 'much' is not a number").waitFor();
  await page.getByRole("link", { name: "Settings in force" }).click();
  await page.locator("html[data-ready]").waitFor();
  assert.equal(await page.getByLabel("g", { exact: true }).inputValue(), "0.8");
  assert.deepEqual(errors, []);
});

test("a caller's name links to the caller's history", async () => {
  const { page, errors } = await visit();
  await page.locator("#callers").getByRole("link", { name: "key:mallory" }).click();
  await page.locator("html[data-ready]").waitFor();
  assert.equal(await page.locator("h1").innerText(), "key:mallory");
  assert.match(await tile(page, "suspicion").innerText(), /suspected/);
  assert.equal(await page.locator("#leak-1 canvas").count(), 1);
  await page.getByRole("link", { name: "digits" }).click();
  await page.getByRole("heading", { name: "Price in force" }).waitFor();
  assert.deepEqual(errors, []);
});

test("suspects are listed with their cells, and the page says who would be freed", async () => {
  const { page, errors } = await visit("?maximum=1");
  const suspect = page.locator("section", { has: page.locator("#suspects-title") }).locator("tbody tr");
  assert.equal(await suspect.count(), 1);
  assert.match(await suspect.innerText(), /^key:mallory[\s\S]*entropy p [\s\S]* of its rows, honest /);
  const freed = page.locator("table", { has: page.locator("#who-title") }).locator("tbody tr");
  assert.match(await freed.innerText(), /^key:mallory\s+freed/);
  assert.deepEqual(errors, []);
});

test("by keyboard: skip the header, read a chart, open a caller's history", async () => {
  const { page } = await visit();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to main content");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "requests");
  await page.keyboard.press("End");
  const readout = page.locator("#requests .readout");
  const last = await readout.innerText();
  assert.match(last, /^\d\d:\d\d: not suspected \d+, suspected \d+$/);
  await page.keyboard.press("ArrowLeft");
  assert.notEqual(await readout.innerText(), last);
  assert.equal(await readout.getAttribute("aria-live"), "polite");
  await page.keyboard.press("Home");
  assert.match(await readout.innerText(), /^00:[03]0/);
  for (let turn = 0; turn < 60; turn++) {
    await page.keyboard.press("Tab");
    if ((await page.evaluate(() => document.activeElement.textContent)) === "key:mallory") break;
  }
  await page.keyboard.press("Enter");
  await page.locator("h1.name").waitFor();
});

test("on a chart whose x axis is reversed the arrow keys move as the chart is drawn", async () => {
  const { page } = await visit();
  const readout = page.locator("#price .readout");
  const share = async () => Number.parseFloat(await readout.innerText());
  await page.locator("#price").focus();
  await page.keyboard.press("Home");
  const first = await share();
  await page.keyboard.press("ArrowRight");
  assert.ok((await share()) < first, "the share falls to the right");
  await page.keyboard.press("End");
  assert.ok((await share()) < 0.1);
});

test("every control has an accessible name", async () => {
  for (const path of ["", THIEF]) {
    const { page } = await visit(path);
    const session = await context.newCDPSession(page);
    const { nodes } = await session.send("Accessibility.getFullAXTree");
    const roles = new Set(["button", "textbox", "link", "image", "region", "group", "heading", "navigation"]);
    const nameless = nodes.filter(
      (node) => !node.ignored && roles.has(node.role.value) && !node.name?.value && node.role.value !== "group",
    );
    assert.deepEqual(
      nameless.map((node) => node.role.value),
      [],
    );
    assert.equal(await page.locator(".chart:not([aria-labelledby])").count(), 0);
    await context.close();
  }
});

for (const [name, path] of Object.entries({ overview: "", caller: THIEF })) {
  test(`nothing is wider than a phone of 360 pixels: ${name}`, async () => {
    const phone = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true };
    const { page } = await visit(path, phone);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    const widths = await page.locator(".chart canvas").evaluateAll((all) => all.map((each) => each.clientWidth));
    assert.ok(
      widths.every((width) => width > 250 && width <= 360),
      String(widths),
    );
  });
}

test("charts follow the colour scheme and the width of the window", async () => {
  const { page } = await visit("", { colorScheme: "light" });
  const picture = () => page.locator("#price canvas").evaluate((canvas) => canvas.toDataURL());
  const light = await picture();
  await page.emulateMedia({ colorScheme: "dark" });
  await page.waitForFunction((old) => document.querySelector("#price canvas").toDataURL() !== old, light);
  const wide = await page.locator("#price canvas").evaluate((canvas) => canvas.clientWidth);
  await page.setViewportSize({ width: 700, height: 900 });
  await page.waitForFunction((old) => document.querySelector("#price canvas").clientWidth !== old, wide);
  assert.equal(await page.locator("#price canvas").count(), 1);
});

for (const colorScheme of ["light", "dark"]) {
  test(`the contrast of the text is high enough: ${colorScheme}`, async () => {
    const { page } = await visit("", { colorScheme });
    const poor = await page.evaluate(() => {
      const probe = document.createElement("canvas").getContext("2d");
      const luminance = (colour) => {
        probe.fillStyle = colour;
        probe.fillRect(0, 0, 1, 1);
        const linear = Array.from(probe.getImageData(0, 0, 1, 1).data.slice(0, 3), (value) => {
          const share = value / 255;
          return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
      };
      const ground = (element) => {
        const colour = getComputedStyle(element).backgroundColor;
        return colour === "rgba(0, 0, 0, 0)" && element.parentElement ? ground(element.parentElement) : colour;
      };
      const texts = [...document.querySelectorAll("body *")].filter(
        (each) =>
          each.checkVisibility() && [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()),
      );
      return texts.flatMap((each) => {
        const [front, back] = [luminance(getComputedStyle(each).color), luminance(ground(each))];
        const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
        return ratio < 4.5 ? [`${each.tagName}.${each.className}: ${ratio}`] : []; // WCAG AA
      });
    });
    assert.deepEqual(poor, []);
  });
}

test("without JavaScript everything but the charts is shown, and the form works", async () => {
  const { page } = await visit("", { javaScriptEnabled: false });
  assert.equal(await page.getByRole("heading", { level: 2 }).count(), 8);
  await page.getByText("Without JavaScript there are no charts").waitFor();
  assert.equal(await page.locator("#pause").isVisible(), false);
  await page.locator("summary").first().click();
  assert.ok(await page.locator("details[open] tbody tr").first().isVisible());
  await page.getByLabel("highest surcharge").fill("10");
  await page.getByRole("button", { name: "Replay the last day" }).click();
  await page.getByText("replayed, these settings").waitFor();
});

test("a hostile caller name is shown as text everywhere", async () => {
  await dashboard.send("hostile");
  const { page, errors } = await visit("?callers=all");
  const name = `key:<img src=x onerror=alert(1)>"'><script>alert(2)</script>`;
  await page.getByRole("link", { name }).click();
  await page.locator("html[data-ready]").waitFor();
  assert.equal(await page.locator("h1").innerText(), name);
  assert.deepEqual(errors, []);
});
