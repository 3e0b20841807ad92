/** The operator's dashboard in a real browser. */

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { launch } from "./chromium.mjs";
import { openStand } from "./dashboardStand.mjs";

const THIEF = "caller?model=digits&name=key%3Amallory";
const MOMENT = 16_000; // milliseconds after which the figures are asked for anew
let browser;
let stand;
let context;

before(async () => {
  [browser, stand] = await Promise.all([launch(), openStand()]);
});
after(async () => {
  await browser?.close();
  if (stand) assert.equal(await stand.end(), 0);
});
afterEach(() => context?.close());

/** A page of the dashboard, its clock held still; what the browser complains of, dialogs among it, fails the test. */
async function visit(path = "", screen = {}) {
  context = await browser.newContext(screen);
  const page = await context.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  page.on("dialog", (dialog) => wrong.push(dialog.message()));
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  if (screen.javaScriptEnabled !== false) await page.clock.install();
  await page.goto(`${stand.url}${path}`);
  if (screen.javaScriptEnabled !== false) await page.locator("html[data-ready]").waitFor();
  return { page, wrong: () => wrong, asked };
}

const tile = (page, label) => page.locator(".tile", { hasText: label }).locator("dd");

/** Let the page ask for fresh figures, and wait for the answer. */
async function refreshed(page) {
  const answered = page.waitForResponse((response) => response.url().startsWith(stand.url));
  await page.clock.runFor(MOMENT);
  await (await answered).finished();
  await page.waitForFunction(() => !document.querySelector(".htmx-swapping, .htmx-request"));
}

/** Of each chart, how many of its pixels are not empty. */
const inked = (page) =>
  page.locator(".chart canvas").evaluateAll((canvases) =>
    canvases.map((canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, at) => at % 4 === 3 && value > 0).length;
    }),
  );

for (const [name, path] of Object.entries({ overview: "", caller: THIEF })) {
  test(`every chart is drawn, without a word from the browser, of nobody but the gateway: ${name}`, async () => {
    const { page, wrong, asked } = await visit(path);
    const charts = await page.locator(".chart").count();
    const pixels = await inked(page);
    assert.ok(charts >= 6, `${charts} charts`);
    assert.equal(pixels.length, charts);
    assert.ok(
      pixels.every((count) => count > 1000),
      String(pixels),
    );
    assert.deepEqual(wrong(), []);
    assert.ok(
      asked.every((url) => url.startsWith(stand.url)),
      String(asked),
    );
  });
}

test("fresh figures come by themselves, and leave focus, typing and open tables as they are", async () => {
  const { page, wrong } = await visit();
  const requests = async () => Number((await tile(page, "requests").first().innerText()).replace(",", ""));
  const before = await requests();
  await page.locator("summary").first().click();
  await page.getByLabel("g", { exact: true }).fill("0.33");
  const chart = await page.locator("#requests").getAttribute("data-chart");
  await stand.tell("more");
  await refreshed(page);
  assert.equal(await requests(), before + 5);
  assert.notEqual(await page.locator("#requests").getAttribute("data-chart"), chart);
  assert.equal(await page.locator("#requests canvas").count(), 1);
  assert.equal(await page.getByLabel("g", { exact: true }).inputValue(), "0.33");
  assert.equal(await page.evaluate(() => document.activeElement.name), "g");
  assert.equal(await page.locator("details").first().getAttribute("open"), "");
  assert.deepEqual(wrong(), []);
});

test("refreshing is paused by a button, and goes on by it", async () => {
  const { page, asked } = await visit();
  const button = page.getByRole("button", { name: "Pause refreshing" });
  await button.click();
  assert.equal(await button.getAttribute("aria-pressed"), "true");
  const before = asked.length;
  await page.clock.runFor(4 * MOMENT);
  assert.equal(asked.length, before);
  await button.click();
  await refreshed(page);
  assert.ok(asked.length > before);
});

test("a ledger that falls silent is said to, and the page recovers by itself", async () => {
  const { page } = await visit();
  await stand.tell("stop-ledger");
  try {
    await refreshed(page);
    await page.getByText("The ledger does not answer: the ledger's server cannot be reached.").waitFor();
    assert.equal(await page.locator("#requests").count(), 0);
    assert.equal(await page.locator("#price canvas").count(), 1);
  } finally {
    await stand.tell("start-ledger");
  }
  await refreshed(page);
  await page.locator("#requests canvas").waitFor();
  assert.equal(await page.getByText("The ledger does not answer").count(), 0);
});

test("a gateway that is gone leaves the latest figures, and a word", async () => {
  const { page } = await visit();
  await page.route("**", (route) => route.abort());
  await page.clock.runFor(MOMENT);
  await page.locator("#said", { hasText: "The gateway does not answer; these are the latest figures." }).waitFor();
  assert.equal(await page.locator("#requests canvas").count(), 1);
  await page.unroute("**");
  await refreshed(page);
  assert.equal(await page.locator("#said").innerText(), "");
});

test("callers are sorted in place, and the address says so", async () => {
  const { page, wrong } = await visit();
  await page.getByRole("link", { name: "rows", exact: true }).click();
  await page.locator(".sorts [aria-current]", { hasText: "rows" }).waitFor();
  assert.match(page.url(), /sort=rows/);
  const rows = await page.locator(".callers tbody td:nth-child(2)").allInnerTexts();
  const numbers = rows.map((text) => Number(text.replaceAll(",", "")));
  assert.deepEqual(
    numbers,
    [...numbers].sort((one, other) => other - one),
  );
  assert.equal(await page.locator("#requests canvas").count(), 1);
  await refreshed(page);
  assert.equal(await page.locator(".sorts [aria-current]").innerText(), "rows");
  assert.deepEqual(wrong(), []);
});

test("the last day is replayed under other settings, and what cannot be is refused", async () => {
  const { page, wrong } = await visit();
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
  assert.deepEqual(wrong(), []);
});

test("a caller's name leads to his history", async () => {
  const { page, wrong } = await visit();
  await page.getByRole("link", { name: "key:mallory" }).click();
  await page.locator("html[data-ready]").waitFor();
  assert.equal(await page.locator("h1").innerText(), "key:mallory");
  assert.match(await tile(page, "suspicion").innerText(), /suspected/);
  assert.equal(await page.locator("#leak-1 canvas").count(), 1);
  await page.getByRole("link", { name: "digits" }).click();
  await page.getByRole("heading", { name: "Price in force" }).waitFor();
  assert.deepEqual(wrong(), []);
});

test("by keyboard: past the head, along a chart, and into a caller's history", async () => {
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

test("a chart whose x runs from right to left is walked as it is seen", async () => {
  const { page } = await visit();
  const readout = page.locator("#price .readout");
  const share = async () => Number.parseFloat(await readout.innerText());
  await page.locator("#price").focus();
  await page.keyboard.press("Home");
  const first = await share();
  await page.keyboard.press("ArrowRight");
  assert.ok((await share()) < first, "to the right it is rarer");
  await page.keyboard.press("End");
  assert.ok((await share()) < 0.1);
});

test("everything that can be used has a name", async () => {
  for (const path of ["", THIEF]) {
    const { page } = await visit(path);
    const session = await context.newCDPSession(page);
    const { nodes } = await session.send("Accessibility.getFullAXTree");
    const used = new Set(["button", "textbox", "link", "image", "region", "group", "heading", "navigation"]);
    const nameless = nodes.filter(
      (node) => !node.ignored && used.has(node.role.value) && !node.name?.value && node.role.value !== "group",
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

test("charts change their colours with the system's, and their width with the window's", async () => {
  const { page } = await visit("", { colorScheme: "light" });
  const picture = () => page.locator("#price canvas").evaluate((canvas) => canvas.toDataURL());
  const light = await picture();
  await page.emulateMedia({ colorScheme: "dark" });
  await page.waitForFunction((before) => document.querySelector("#price canvas").toDataURL() !== before, light);
  const wide = await page.locator("#price canvas").evaluate((canvas) => canvas.clientWidth);
  await page.setViewportSize({ width: 700, height: 900 });
  await page.waitForFunction((before) => document.querySelector("#price canvas").clientWidth !== before, wide);
  assert.equal(await page.locator("#price canvas").count(), 1);
});

for (const colorScheme of ["light", "dark"]) {
  test(`text can be read: ${colorScheme}`, async () => {
    const { page } = await visit("", { colorScheme });
    const poor = await page.evaluate(() => {
      const probe = document.createElement("canvas").getContext("2d");
      const luminance = (colour) => {
        probe.fillStyle = colour;
        probe.fillRect(0, 0, 1, 1);
        const linear = [...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)].map((value) => {
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
        const [low, high] = [luminance(getComputedStyle(each).color), luminance(ground(each))].sort((a, b) => a - b);
        const ratio = (high + 0.05) / (low + 0.05);
        return ratio < 4.5 ? [`${each.tagName}.${each.className}: ${ratio}`] : []; // WCAG AA
      });
    });
    assert.deepEqual(poor, []);
  });
}

test("without JavaScript there is everything but the charts, and the form works", async () => {
  const { page } = await visit("", { javaScriptEnabled: false });
  assert.equal(await page.getByRole("heading", { level: 2 }).count(), 6);
  await page.getByText("Without JavaScript there are no charts").waitFor();
  assert.equal(await page.locator("#pause").isVisible(), false);
  await page.locator("summary").first().click();
  assert.ok(await page.locator("details[open] tbody tr").first().isVisible());
  await page.getByLabel("highest surcharge").fill("10");
  await page.getByRole("button", { name: "Replay the last day" }).click();
  await page.getByText("replayed, these settings").waitFor();
});

test("a hostile name is text, wherever it comes", async () => {
  await stand.tell("hostile");
  const { page, wrong } = await visit("?callers=all");
  const name = `key:<img src=x onerror=alert(1)>"'><script>alert(2)</script>`;
  await page.getByRole("link", { name }).click();
  await page.locator("html[data-ready]").waitFor();
  assert.equal(await page.locator("h1").innerText(), name);
  assert.deepEqual(wrong(), []);
});
