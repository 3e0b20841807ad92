/**
 * Takes the screenshots of the dashboard for the documentation: `npm run screenshots:dashboard [-- FOLDER]`.
 *
 * Needs Chromium and the Python package.
 */

import { join } from "node:path";
import { REPOSITORY } from "../scripts/paths.mjs";
import { launch } from "./chromium.mjs";
import { openDashboard } from "./dashboardFixtures.mjs";

const FOLDER = process.argv[2] ?? join(REPOSITORY, "docs", "images");
const DESK = { viewport: { width: 1200, height: 900 }, deviceScaleFactor: 1 };
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 1.5, isMobile: true, hasTouch: true };
const MARGIN = 10; // pixels above and below the cards, less than their distance
const OTHER_SETTINGS = "?g=0.6&maximum=10";
const THIEF = "caller?model=digits&name=key%3Amallory";
const PICTURES = {
  "dashboard-light": { path: "", to: "kinds-title", screen: { ...DESK, colorScheme: "light" } },
  "dashboard-callers": {
    path: "",
    from: "waits-title",
    to: "callers-title",
    screen: { ...DESK, colorScheme: "light" },
  },
  "dashboard-what-if": {
    path: OTHER_SETTINGS,
    from: "curve-title",
    to: "what-if-title",
    screen: { ...DESK, colorScheme: "light" },
  },
  "dashboard-dark": { path: THIEF, to: "leak-title", screen: { ...DESK, colorScheme: "dark" } },
  "dashboard-phone": { path: "", to: "day-title", screen: { ...PHONE, colorScheme: "light" } },
};

/** The top and the bottom of that heading's card, in pixels from the top of the page. */
const cardSpan = (page, heading) =>
  page
    .locator(`section[aria-labelledby="${heading}"]`)
    .evaluate((card) => [card.offsetTop, card.offsetTop + card.offsetHeight]);

const [browser, dashboard] = await Promise.all([launch(), openDashboard()]);
try {
  for (const [name, { path, from, to, screen }] of Object.entries(PICTURES)) {
    const context = await browser.newContext(screen);
    const page = await context.newPage();
    await page.goto(`${dashboard.url}${path}`);
    await page.locator("html[data-ready]").waitFor();
    const top = from ? (await cardSpan(page, from))[0] - MARGIN : 0;
    const bottom = (await cardSpan(page, to))[1] + MARGIN;
    const clip = { x: 0, y: top, width: screen.viewport.width, height: bottom - top };
    await page.screenshot({ path: join(FOLDER, `${name}.png`), fullPage: true, clip });
    await context.close();
  }
} finally {
  await browser.close();
  await dashboard.end();
}
