/** The page to try the toll in a real browser, before houses of the tests' own: what may go wrong, and what it says. */

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { House } from "../test/testGateway.mjs";
import { launch } from "./chromium.mjs";
import { ANSWER, INFER, sell, setUp } from "./fixtures.mjs";

const SHORT = { counters: [1000], bound: 2048 };
const ENDLESS = { counters: [2 ** 40], bound: 2 ** 44 };
const ARGON2ID = { memoryKib: 1024, counters: [700], bound: 1024 };
const DIES = "setTimeout(() => { throw new Error('dies') })";
const POOR = `{
  const { grow } = WebAssembly.Memory.prototype;
  WebAssembly.Memory.prototype.grow = function (pages) {
    if (pages > 100) throw new RangeError("out of memory");
    return grow.call(this, pages);
  };
}
`;
let browser;
let house;
let context;

before(async () => {
  [browser, house] = await Promise.all([launch(), House.open()]);
});
after(async () => {
  await browser?.close();
  await house?.close();
});
afterEach(() => context?.close());

/** The page, open; what is a fault of its own fails the test. */
async function visit(options = {}, screen = {}) {
  setUp(house, options);
  context = await browser.newContext(screen);
  await context.addInitScript(() => Object.defineProperty(navigator, "hardwareConcurrency", { value: 2 }));
  const page = await context.newPage();
  page.on("pageerror", (error) => assert.fail(error));
  await page.goto(`${house.url}/`);
  await page.locator("html[data-ready]").waitFor();
  return page;
}

const text = (page, selector) => page.locator(selector).innerText();

/** Ask about the digit that is shown, and wait for what comes of it. */
async function ask(page) {
  await page.getByRole("button", { name: "Ask the model" }).click();
  await page.locator("#trouble:visible, #step-answer[data-state=done]").waitFor();
  return text(page, "#toll");
}

async function assertPaid(page) {
  assert.match(await ask(page), /The model reads a 7, and is 91% sure/);
}

for (const [name, sold] of Object.entries({ SHORT, ARGON2ID })) {
  test(`a toll is paid by workers, without a word: ${name.toLowerCase()}`, async () => {
    const page = await visit();
    sell(house, sold);
    await assertPaid(page);
    assert.equal(await text(page, "#notices"), "");
  });
}

test("a page that its policy forbids workers works in slices, and says so", async (t) => {
  const page = await visit({ policy: { "worker-src": "'none'" } });
  sell(house, ARGON2ID);
  await page.evaluate(() => {
    globalThis.tasks = [];
    new PerformanceObserver((list) => tasks.push(...list.getEntries().map((task) => task.duration))).observe({
      type: "longtask",
    });
  });
  await assertPaid(page);
  assert.match(await text(page, "#notices"), /Workers are not to be had here: this page itself works, in slices/);
  const tasks = await page.evaluate(() => globalThis.tasks);
  t.diagnostic(`tasks of 50 ms and more: ${tasks.length}`);
});

test("a page without WebAssembly pays with SHA-256 only, and says so", async () => {
  const page = await visit({ policy: { "script-src": "'self'" } });
  sell(house, SHORT);
  await assertPaid(page);
  assert.match(await text(page, "#notices"), /only tolls of SHA-256 can be paid/);
  const { headers } = house.seen.find(({ path }) => path === INFER);
  assert.doesNotMatch(headers["toll-accept"], /argon2id/);
});

test("a page without WebAssembly says what it cannot pay", async () => {
  const page = await visit({ policy: { "script-src": "'self'" } });
  sell(house, ARGON2ID);
  assert.match(await ask(page), /Not paid: the toll is made of argon2id/);
});

test("where a worker does not get 8 MiB, a smaller rung is asked for, and the page says so", async () => {
  const page = await visit({ worker: POOR });
  sell(house, (told) => ({ memoryKib: Math.min(8192, 1024 * told), counters: [30], bound: 64 }));
  await assertPaid(page);
  assert.match(await text(page, "#notices"), /from now on tolls of at most 4 MiB/);
  const asked = house.seen.filter(({ path }) => path === INFER).map(({ headers }) => headers["toll-accept"]);
  assert.deepEqual(
    asked.map((accept) => /memory=\d+MiB/.exec(accept)[0]),
    ["memory=64MiB", "memory=4MiB"],
  );
});

test("work is stopped in the middle, and can be begun anew", async () => {
  const page = await visit();
  sell(house, ENDLESS);
  await page.getByRole("button", { name: "Ask the model" }).click();
  await page.locator("#step-work", { hasText: "a second" }).waitFor();
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByText("Stopped. The answer stays sealed.").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "The toll");
  assert.match(await text(page, "#receipt-rows"), /not paid\s+sealed/);
  sell(house, SHORT);
  await assertPaid(page);
});

test("asking again in the middle takes the place of what was asked before", async () => {
  const page = await visit();
  sell(house, ENDLESS);
  await page.getByRole("button", { name: "Ask the model" }).click();
  await page.locator("#step-work", { hasText: "a second" }).waitFor();
  sell(house, SHORT);
  await assertPaid(page);
  assert.equal(await page.locator("#trouble").isVisible(), false);
});

for (const [name, death] of Object.entries({ "with an error": DIES, "without a word": "self.close()" })) {
  test(`where every worker dies ${name}, a smaller rung is asked for`, async () => {
    const page = await visit();
    sell(house, { memoryKib: 8192, counters: [2 ** 40], bound: 2 ** 41 });
    await page.getByRole("button", { name: "Ask the model" }).click();
    await page.locator("#step-work", { hasText: "a second" }).waitFor();
    sell(house, SHORT);
    await Promise.all(page.workers().map((worker) => worker.evaluate(death).catch(() => {})));
    await page.locator("#trouble:visible, #step-answer[data-state=done]").waitFor();
    assert.match(await text(page, "#toll"), /The model reads a 7/);
    assert.match(await text(page, "#notices"), /from now on tolls of at most 4 MiB/);
  });
}

test("where one worker dies, the others do its work", async () => {
  const page = await visit();
  sell(house, { memoryKib: 1024, counters: [3000], bound: 4096 });
  await page.getByRole("button", { name: "Ask the model" }).click();
  await page.locator("#step-work", { hasText: "a second" }).waitFor();
  const workers = page.workers();
  assert.equal(workers.length, 2);
  await workers[0].evaluate(DIES);
  await page.locator("#step-answer[data-state=done]").waitFor();
  assert.equal(await text(page, "#notices"), "");
});

test("a page of an origin that the house does not list says which setting lets it in", async () => {
  const other = await House.open();
  try {
    sell(other, SHORT);
    const page = await visit({ gateway: other.url });
    const said = await ask(page);
    assert.ok(said.includes(`cors.origins does not list ${house.url}`), said);
  } finally {
    await other.close();
  }
});

test("an ordinary house's page offers a request as its model has it, and shows the answer as it came", async () => {
  const page = await visit({ demo: false });
  sell(house, SHORT);
  const written = page.getByLabel("Request, as JSON");
  await page.waitForFunction(() => document.querySelector("#body").value !== "");
  assert.deepEqual(JSON.parse(await written.inputValue()), {
    inputs: [{ name: "x", shape: [1, 3], datatype: "FP64", data: [0, 0, 0] }],
  });
  await page.getByLabel("API key").fill("the-key");
  assert.match(await ask(page), /An answer of \d+ characters/);
  assert.equal(await text(page, "#answer"), ANSWER.body.toString());
  const asked = house.seen.find(({ path, method }) => path === INFER && method === "POST");
  assert.equal(asked.headers["x-api-key"], "the-key");
});

test("an ordinary house's page pays nothing above its limit", async () => {
  const page = await visit({ demo: false });
  sell(house, SHORT);
  await page.getByLabel("Pay tolls of at most").fill("0.001");
  await page.getByLabel("Request, as JSON").fill("{}");
  assert.match(await ask(page), /The price is 10 ms of work, and this page pays at most 1 ms/);
});

test("a house that refuses is heard", async () => {
  const page = await visit({ demo: false });
  house.handlers[INFER] = (_, response) => response.writeHead(401).end('{"error": "the API key is not known"}');
  await page.getByLabel("Request, as JSON").fill("{}");
  assert.match(await ask(page), /The toll house answers with status 401: .*the API key is not known/);
});

test("a digit is drawn and asked about by keyboard alone", async () => {
  const page = await visit();
  sell(house, SHORT);
  await page.getByRole("button", { name: "Clear" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("gridcell").first().focus();
  for (const key of ["ArrowRight", "Space", "ArrowDown", "Space", "Space", "End", "PageDown", "Enter"]) {
    await page.keyboard.press(key);
  }
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Ask the model");
  await page.keyboard.press("Enter");
  await page.locator("#step-answer[data-state=done]").waitFor();
  const [{ data }] = JSON.parse(house.seen.find(({ path }) => path === INFER).body).inputs;
  const inked = data.flatMap((ink, at) => (ink > 0 ? [[at, ink]] : []));
  assert.deepEqual(inked, [
    [1, 0.5],
    [9, 1],
    [63, 0.5],
  ]);
});

test("everything that can be used has a name, and what changes is spoken", async () => {
  const page = await visit();
  sell(house, SHORT);
  await assertPaid(page);
  const session = await context.newCDPSession(page);
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  const used = new Set([
    "button",
    "textbox",
    "combobox",
    "spinbutton",
    "gridcell",
    "grid",
    "image",
    "progressbar",
    "figure",
  ]);
  const nameless = nodes.filter((node) => !node.ignored && used.has(node.role.value) && !node.name?.value);
  assert.deepEqual(
    nameless.map((node) => node.role.value).filter((role) => role !== "figure"),
    [],
  );
  assert.match(await text(page, "#said"), /The model reads a 7/);
});

for (const colorScheme of ["light", "dark"]) {
  test(`text can be read: ${colorScheme}`, async () => {
    const page = await visit({}, { colorScheme });
    const ratios = await page.evaluate(() => {
      const style = getComputedStyle(document.documentElement);
      const probe = document.createElement("canvas").getContext("2d");
      const luminance = (name) => {
        probe.fillStyle = style.getPropertyValue(name);
        probe.fillRect(0, 0, 1, 1);
        const linear = [...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)].map((value) => {
          const share = value / 255;
          return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
      };
      const pairs = [
        ["--ink", "--paper"],
        ["--ink", "--card"],
        ["--soft", "--paper"],
        ["--soft", "--card"],
        ["--soft", "--thief-wash"],
        ["--honest", "--card"],
        ["--thief", "--card"],
        ["--on-accent", "--honest"],
      ];
      return pairs.map(([text, ground]) => {
        const [low, high] = [luminance(text), luminance(ground)].sort((a, b) => a - b);
        return [text, ground, (high + 0.05) / (low + 0.05)];
      });
    });
    for (const [front, ground, ratio] of ratios) assert.ok(ratio >= 4.5, `${front} on ${ground}: ${ratio}`); // WCAG AA
  });
}

test("nothing is wider than a phone of 360 pixels", async () => {
  const page = await visit({}, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  sell(house, SHORT);
  await assertPaid(page);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
});
