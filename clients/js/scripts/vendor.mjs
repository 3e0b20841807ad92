/**
 * Copies the libraries of the dashboard, which the Python package ships, from their npm packages: `npm run vendor`.
 *
 * With --check it writes nothing, and fails if the committed files differ from those of the packages.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./bundle.mjs";
import { DASHBOARD_FILES, REPOSITORY } from "./paths.mjs";

const FILES = {
  "htmx.min.js": "htmx.org/dist/htmx.min.js",
  "LICENSE-htmx": "htmx.org/LICENSE",
  "uPlot.iife.min.js": "uplot/dist/uPlot.iife.min.js",
  "uPlot.min.css": "uplot/dist/uPlot.min.css",
  "LICENSE-uPlot": "uplot/LICENSE",
};

for (const [name, source] of Object.entries(FILES)) {
  const content = readFileSync(join(ROOT, "node_modules", source));
  const target = join(REPOSITORY, DASHBOARD_FILES, name);
  if (!process.argv.includes("--check")) {
    writeFileSync(target, content);
  } else if (!readFileSync(target).equals(content)) {
    throw new Error(`${DASHBOARD_FILES}/${name} differs from its package: run \`npm run vendor\``);
  }
}
