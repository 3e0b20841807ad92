/** Pictures of the operator's dashboard, for the documents: `npm run screenshots:dashboard`, with Chromium. */

import { fileURLToPath } from "node:url";
import { launch } from "./chromium.mjs";
import { openStand } from "./dashboardStand.mjs";

const IMAGES = fileURLToPath(new URL("../../../docs/images/", import.meta.url));
const DESK = { viewport: { width: 1200, height: 900 }, deviceScaleFactor: 1 };
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 1.5, isMobile: true, hasTouch: true };
const MARGIN = 10; // pixels above and below what is seen, less than lies between two cards
const OTHERS = "?g=0.6&maximum=10";
const THIEF = "caller?model=digits&name=key%3Amallory";
const PICTURES = {
  "dashboard-light": { path: "", to: "waits-title", screen: { ...DESK, colorScheme: "light" } },
  "dashboard-callers": {
    path: "",
    from: "drift-title",
    to: "callers-title",
    screen: { ...DESK, colorScheme: "light" },
  },
  "dashboard-what-if": {
    path: OTHERS,
    from: "curve-title",
    to: "what-if-title",
    screen: { ...DESK, colorScheme: "light" },
  },
  "dashboard-dark": { path: THIEF, to: "leak-title", screen: { ...DESK, colorScheme: "dark" } },
  "dashboard-phone": { path: "", to: "day-title", screen: { ...PHONE, colorScheme: "light" } },
};

/** Where the card of that heading begins and ends, in pixels from the page's top. */
const card = (page, heading) =>
  page
    .locator(`section[aria-labelledby="${heading}"]`)
    .evaluate((each) => [each.offsetTop, each.offsetTop + each.offsetHeight]);

const [browser, stand] = await Promise.all([launch(), openStand()]);
try {
  for (const [name, { path, from, to, screen }] of Object.entries(PICTURES)) {
    const context = await browser.newContext(screen);
    const page = await context.newPage();
    await page.goto(`${stand.url}${path}`);
    await page.locator("html[data-ready]").waitFor();
    const top = from ? (await card(page, from))[0] - MARGIN : 0;
    const bottom = (await card(page, to))[1] + MARGIN;
    const clip = { x: 0, y: top, width: screen.viewport.width, height: bottom - top };
    await page.screenshot({ path: `${IMAGES}${name}.png`, fullPage: true, clip });
    await context.close();
  }
} finally {
  await browser.close();
  await stand.end();
}
