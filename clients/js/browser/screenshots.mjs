/** Pictures of the page to try the toll, for the documents: `npm run screenshots`, with Chromium and the demo. */

import { fileURLToPath } from "node:url";
import { launch } from "./chromium.mjs";
import { openDemo } from "./demo.mjs";

const IMAGES = fileURLToPath(new URL("../../../docs/images/", import.meta.url));
const DESK = { viewport: { width: 1120, height: 900 }, deviceScaleFactor: 1 };
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 1.5, isMobile: true, hasTouch: true };
const MARGIN = 20; // below the last card that is seen
const PICTURES = {
  "page-light": { last: "#race", screen: { ...DESK, colorScheme: "light" } },
  "page-dark": { last: "#receipts", screen: { ...DESK, colorScheme: "dark" } },
  "page-phone": { last: "#toll", screen: { ...PHONE, colorScheme: "light" } },
};
/** A seven, in shares of the pad. */
const SEVEN = [
  [0.25, 0.2],
  [0.72, 0.2],
  [0.45, 0.85],
];

async function press(page, name) {
  await page.getByRole("button", { name }).click();
  await page.locator("#trouble:visible, #step-answer[data-state=done]").waitFor({ timeout: 120_000 });
}

async function play(page) {
  await press(page, "Send noise");
  await press(page, "Send a photograph patch");
  await page.getByRole("button", { name: "Clear" }).click();
  await page.locator("#pad").scrollIntoViewIfNeeded();
  const { x, y, width, height } = await page.locator("#pad").boundingBox();
  const [first, ...rest] = SEVEN.map(([across, down]) => [x + across * width, y + down * height]);
  await page.mouse.move(...first);
  await page.mouse.down();
  for (const place of rest) await page.mouse.move(...place, { steps: 12 });
  await page.mouse.up();
  await press(page, "Ask the model");
  await page.getByRole("button", { name: "Play the thief" }).click();
  await page.locator("#play:visible").waitFor({ timeout: 300_000 });
  await page.evaluate(() => document.activeElement.blur());
}

const [browser, demo] = await Promise.all([launch(), openDemo()]);
try {
  for (const [name, { last, screen }] of Object.entries(PICTURES)) {
    const context = await browser.newContext(screen);
    const page = await context.newPage();
    await page.goto(demo.url);
    await page.locator("html[data-ready]").waitFor();
    await play(page);
    const height = await page.locator(last).evaluate((card) => card.offsetTop + card.offsetHeight);
    const clip = { x: 0, y: 0, width: screen.viewport.width, height: height + MARGIN };
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: `${IMAGES}${name}.png`, fullPage: true, clip });
    await context.close();
  }
} finally {
  await browser.close();
  await demo.end();
}
