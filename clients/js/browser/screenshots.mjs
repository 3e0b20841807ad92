/**
 * Takes the screenshots of the playground page for the documentation: `npm run screenshots [-- FOLDER]`.
 *
 * Needs Chromium and the Python package with the demo.
 */

import { join } from "node:path";
import { REPOSITORY } from "../scripts/paths.mjs";
import { launch } from "./chromium.mjs";
import { openDemo } from "./demoProcess.mjs";

const FOLDER = process.argv[2] ?? join(REPOSITORY, "docs", "images");
const DESK = { viewport: { width: 1120, height: 900 }, deviceScaleFactor: 1 };
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 1.5, isMobile: true, hasTouch: true };
const MARGIN = 20; // pixels below the last card
const PICTURES = {
  "page-light": { last: "#thief-demo", screen: { ...DESK, colorScheme: "light" } },
  "page-dark": { last: "#receipts", screen: { ...DESK, colorScheme: "dark" } },
  "page-phone": { last: "#toll", screen: { ...PHONE, colorScheme: "light" } },
};
/** The digit seven, as points in shares of the pad. */
const SEVEN = [
  [0.25, 0.2],
  [0.72, 0.2],
  [0.45, 0.85],
];

async function press(page, name) {
  await page.getByRole("button", { name }).click();
  await page.locator("#trouble:visible, #step-answer[data-state=done]").waitFor({ timeout: 120_000 });
}

/** Show everything that the page can do. */
async function fillPage(page) {
  await press(page, "Send noise");
  await press(page, "Send a photograph patch");
  await page.getByRole("button", { name: "Clear" }).click();
  await page.locator("#pad").scrollIntoViewIfNeeded();
  const { x, y, width, height } = await page.locator("#pad").boundingBox();
  const [first, ...rest] = SEVEN.map(([across, down]) => [x + across * width, y + down * height]);
  await page.mouse.move(...first);
  await page.mouse.down();
  for (const point of rest) await page.mouse.move(...point, { steps: 12 });
  await page.mouse.up();
  await press(page, "Ask the model");
  await page.getByRole("button", { name: "Run the thief" }).click();
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
    await fillPage(page);
    const height = await page.locator(last).evaluate((card) => card.offsetTop + card.offsetHeight);
    const clip = { x: 0, y: 0, width: screen.viewport.width, height: height + MARGIN };
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: join(FOLDER, `${name}.png`), fullPage: true, clip });
    await context.close();
  }
} finally {
  await browser.close();
  await demo.end();
}
