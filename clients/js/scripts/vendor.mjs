/**
 * Copies the libraries of the operator's dashboard, which the Python package ships, from their npm packages: `npm run vendor`.
 *
 * With --check it writes nothing, and fails where what is there is not what the packages have.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./bundle.mjs";

const SHIPPED = join(ROOT, "../../src/modeltoll/gateway/admin/dashboard/files");
const FILES = {
  "htmx.min.js": "htmx.org/dist/htmx.min.js",
  "LICENSE-htmx": "htmx.org/LICENSE",
  "uPlot.iife.min.js": "uplot/dist/uPlot.iife.min.js",
  "uPlot.min.css": "uplot/dist/uPlot.min.css",
  "LICENSE-uPlot": "uplot/LICENSE",
};

for (const [name, source] of Object.entries(FILES)) {
  const content = readFileSync(join(ROOT, "node_modules", source));
  const target = join(SHIPPED, name);
  if (!process.argv.includes("--check")) {
    writeFileSync(target, content);
  } else if (!readFileSync(target).equals(content)) {
    throw new Error(`src/modeltoll/gateway/admin/dashboard/files/${name} is not what its package has: npm run vendor`);
  }
}
