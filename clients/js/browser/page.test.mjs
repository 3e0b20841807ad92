/** The playground page in a real browser, with a test gateway: errors, and how the page reports them. */

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { TestGateway } from "../test/testGateway.mjs";
import { launch } from "./chromium.mjs";
import { ANSWER, INFER, servePage, serveToll } from "./fixtures.mjs";

const SHORT = { counters: [1000], bound: 2048 };
const ENDLESS = { counters: [2 ** 40], bound: 2 ** 44 };
const ARGON2ID = { memoryKib: 1024, counters: [700], bound: 1024 };
const THROW_ERROR = "setTimeout(() => { throw new Error('worker failed') })";
const LIMIT_MEMORY = `{
  const { grow } = WebAssembly.Memory.prototype;
  WebAssembly.Memory.prototype.grow = function (pages) {
    if (pages > 100) throw new RangeError("out of memory");
    return grow.call(this, pages);
  };
}
`;
let browser;
let gateway;
let context;

before(async () => {
  [browser, gateway] = await Promise.all([launch(), TestGateway.open()]);
});
after(async () => {
  await browser?.close();
  await gateway?.close();
});
afterEach(() => context?.close());

/** Open the page; an uncaught error in it fails the test. */
async function visit(options = {}, screen = {}) {
  servePage(gateway, options);
  context = await browser.newContext(screen);
  await context.addInitScript(() => Object.defineProperty(navigator, "hardwareConcurrency", { value: 2 }));
  const page = await context.newPage();
  page.on("pageerror", (error) => assert.fail(error));
  await page.goto(`${gateway.url}/`);
  await page.locator("html[data-ready]").waitFor();
  return page;
}

const text = (page, selector) => page.locator(selector).innerText();

/** Send the request, and wait for the answer or an error; returns the text of the card "The toll". */
async function ask(page) {
  await page.getByRole("button", { name: "Ask the model" }).click();
  await page.locator("#trouble:visible, #step-answer[data-state=done]").waitFor();
  return text(page, "#toll");
}

async function assertPaid(page) {
  assert.match(await ask(page), /The model predicts a 7, with probability 91%/);
}

for (const [name, toll] of Object.entries({ SHORT, ARGON2ID })) {
  test(`workers pay a toll, without a notice: ${name.toLowerCase()}`, async () => {
    const page = await visit();
    serveToll(gateway, toll);
    await assertPaid(page);
    assert.equal(await text(page, "#notices"), "");
  });
}

test("if the policy forbids workers, the page solves in slices and says so", async (t) => {
  const page = await visit({ policy: { "worker-src": "'none'" } });
  serveToll(gateway, ARGON2ID);
  await page.evaluate(() => {
    globalThis.tasks = [];
    new PerformanceObserver((list) => globalThis.tasks.push(...list.getEntries().map((task) => task.duration))).observe(
      {
        type: "longtask",
      },
    );
  });
  await assertPaid(page);
  assert.match(
    await text(page, "#notices"),
    /No worker can be started here: this page solves the tolls itself, in slices/,
  );
  const tasks = await page.evaluate(() => globalThis.tasks);
  t.diagnostic(`tasks of 50 ms and more: ${tasks.length}`);
});

test("without WebAssembly the page pays tolls of SHA-256 only, and says so", async () => {
  const page = await visit({ policy: { "script-src": "'self'" } });
  serveToll(gateway, SHORT);
  await assertPaid(page);
  assert.match(await text(page, "#notices"), /only tolls of SHA-256 can be paid/);
  const { headers } = gateway.requests.find(({ path }) => path === INFER);
  assert.doesNotMatch(headers["toll-accept"], /argon2id/);
});

test("without WebAssembly the page says which toll it cannot pay", async () => {
  const page = await visit({ policy: { "script-src": "'self'" } });
  serveToll(gateway, ARGON2ID);
  assert.match(await ask(page), /Not paid: the toll needs the puzzle argon2id/);
});

test("if a worker does not get 8 MiB, the page asks for a toll of less memory and says so", async () => {
  const page = await visit({ workerPrefix: LIMIT_MEMORY });
  serveToll(gateway, (memoryMib) => ({ memoryKib: Math.min(8192, 1024 * memoryMib), counters: [30], bound: 64 }));
  await assertPaid(page);
  assert.match(await text(page, "#notices"), /from now on tolls of at most 4 MiB/);
  const asked = gateway.requests.filter(({ path }) => path === INFER).map(({ headers }) => headers["toll-accept"]);
  assert.deepEqual(
    asked.map((accept) => Number(/memory=(\d+)MiB/.exec(accept)[1]) >= 64),
    [true, false],
  );
});

test("work can be stopped, and started again", async () => {
  const page = await visit();
  serveToll(gateway, ENDLESS);
  await page.getByRole("button", { name: "Ask the model" }).click();
  await page.locator("#step-work", { hasText: "per second" }).waitFor();
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByText("Stopped. The answer stays sealed.").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "The toll");
  assert.match(await text(page, "#receipt-rows"), /not paid\s+sealed/);
  serveToll(gateway, SHORT);
  await assertPaid(page);
});

test("a second question replaces one that is being worked for", async () => {
  const page = await visit();
  serveToll(gateway, ENDLESS);
  await page.getByRole("button", { name: "Ask the model" }).click();
  await page.locator("#step-work", { hasText: "per second" }).waitFor();
  serveToll(gateway, SHORT);
  await assertPaid(page);
  assert.equal(await page.locator("#trouble").isVisible(), false);
});

for (const [name, script] of Object.entries({ "with an error": THROW_ERROR, "without an event": "self.close()" })) {
  test(`if every worker ends ${name}, the page asks for a toll of less memory`, async () => {
    const page = await visit();
    serveToll(gateway, { memoryKib: 8192, counters: [2 ** 40], bound: 2 ** 41 });
    await page.getByRole("button", { name: "Ask the model" }).click();
    await page.locator("#step-work", { hasText: "per second" }).waitFor();
    serveToll(gateway, SHORT);
    await Promise.all(page.workers().map((worker) => worker.evaluate(script).catch(() => {})));
    await page.locator("#trouble:visible, #step-answer[data-state=done]").waitFor();
    assert.match(await text(page, "#toll"), /The model predicts a 7/);
    assert.match(await text(page, "#notices"), /from now on tolls of at most 4 MiB/);
  });
}

test("if one worker fails, the others do its work", async () => {
  const page = await visit();
  serveToll(gateway, { memoryKib: 1024, counters: [3000], bound: 4096 });
  await page.getByRole("button", { name: "Ask the model" }).click();
  await page.locator("#step-work", { hasText: "per second" }).waitFor();
  const workers = page.workers();
  assert.equal(workers.length, 2);
  await workers[0].evaluate(THROW_ERROR);
  await page.locator("#step-answer[data-state=done]").waitFor();
  assert.equal(await text(page, "#notices"), "");
});

test("a page of an origin that the gateway does not list names the setting", async () => {
  const other = await TestGateway.open();
  try {
    serveToll(other, SHORT);
    const page = await visit({ gateway: other.url });
    const message = await ask(page);
    assert.ok(message.includes(`cors.origins does not list ${gateway.url}`), message);
  } finally {
    await other.close();
  }
});

test("the form has a request by the model's metadata, and the answer is shown unchanged", async () => {
  const page = await visit({ demo: false });
  serveToll(gateway, SHORT);
  const body = page.getByLabel("Request, as JSON");
  await page.waitForFunction(() => document.querySelector("#body").value !== "");
  assert.deepEqual(JSON.parse(await body.inputValue()), {
    inputs: [{ name: "x", shape: [1, 3], datatype: "FP64", data: [0, 0, 0] }],
  });
  await page.getByLabel("API key").fill("the-key");
  assert.match(await ask(page), /An answer of \d+ characters/);
  assert.equal(await text(page, "#answer"), ANSWER.body.toString());
  const asked = gateway.requests.find(({ path, method }) => path === INFER && method === "POST");
  assert.equal(asked.headers["x-api-key"], "the-key");
});

test("the form pays nothing above its limit", async () => {
  const page = await visit({ demo: false });
  serveToll(gateway, SHORT);
  await page.getByLabel("Pay tolls of at most").fill("0.001");
  await page.getByLabel("Request, as JSON").fill("{}");
  assert.match(await ask(page), /The price is 10 ms of work, and this page pays at most 1 ms/);
});

test("the gateway's refusal is shown", async () => {
  const page = await visit({ demo: false });
  gateway.handlers[INFER] = (_, response) => response.writeHead(401).end('{"error": "the API key is not known"}');
  await page.getByLabel("Request, as JSON").fill("{}");
  assert.match(await ask(page), /The gateway answers with status 401: .*the API key is not known/);
});

test("a digit can be drawn and sent by keyboard alone", async () => {
  const page = await visit();
  serveToll(gateway, SHORT);
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
  const [{ data }] = JSON.parse(gateway.requests.find(({ path }) => path === INFER).body).inputs;
  const inked = data.flatMap((ink, at) => (ink > 0 ? [[at, ink]] : []));
  assert.deepEqual(inked, [
    [1, 0.5],
    [9, 1],
    [63, 0.5],
  ]);
});

test("every control has an accessible name, and changes are announced", async () => {
  const page = await visit();
  serveToll(gateway, SHORT);
  await assertPaid(page);
  const session = await context.newCDPSession(page);
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  const roles = new Set([
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
  const nameless = nodes.filter((node) => !node.ignored && roles.has(node.role.value) && !node.name?.value);
  assert.deepEqual(
    nameless.map((node) => node.role.value).filter((role) => role !== "figure"),
    [],
  );
  assert.match(await text(page, "#announcement"), /The model predicts a 7/);
});

for (const colorScheme of ["light", "dark"]) {
  test(`the contrast of the text is high enough: ${colorScheme}`, async () => {
    const page = await visit({}, { colorScheme });
    const ratios = await page.evaluate(() => {
      const style = getComputedStyle(document.documentElement);
      const probe = document.createElement("canvas").getContext("2d");
      const luminance = (name) => {
        probe.fillStyle = style.getPropertyValue(name);
        probe.fillRect(0, 0, 1, 1);
        const linear = Array.from(probe.getImageData(0, 0, 1, 1).data.slice(0, 3), (value) => {
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
      return pairs.map(([front, ground]) => {
        const [one, other] = [luminance(front), luminance(ground)];
        return { front, ground, ratio: (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05) };
      });
    });
    for (const { front, ground, ratio } of ratios) assert.ok(ratio >= 4.5, `${front} on ${ground}: ${ratio}`); // WCAG AA
  });
}

test("nothing is wider than a phone of 360 pixels", async () => {
  const page = await visit({}, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  serveToll(gateway, SHORT);
  await assertPaid(page);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
});
