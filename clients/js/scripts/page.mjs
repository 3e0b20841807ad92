/**
 * Makes the playground page, which the Python package ships: `npm run page`, after `npm run build`.
 *
 * With --check it writes nothing, and fails if the committed files differ from what it would write.
 */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { page, ROOT, worker } from "./bundle.mjs";
import { PAGE_FILES, REPOSITORY } from "./paths.mjs";

const COPIES = ["index.html", "page.css", "icon.svg"];
const MAX_BYTES = 64_000; // gzipped, of all files together: the page and the worker each contain the client and hash-wasm

const files = new Map(COPIES.map((name) => [name, readFileSync(join(ROOT, "page", name))]));
files.set("page.js", Buffer.from(await page()));
files.set("worker.js", Buffer.from(await worker()));

let total = 0;
for (const [name, content] of files) {
  const size = gzipSync(content).length;
  total += size;
  console.log(`${name}: ${(size / 1000).toFixed(1)} kB gzipped`);
}
console.log(`the page: ${(total / 1000).toFixed(1)} kB gzipped`);
if (total > MAX_BYTES) throw new Error(`the page is larger than ${MAX_BYTES / 1000} kB`);

const folder = join(REPOSITORY, PAGE_FILES);
if (process.argv.includes("--check")) {
  const committed = readdirSync(folder);
  const isSame = [...files].every(
    ([name, content]) => committed.includes(name) && readFileSync(join(folder, name)).equals(content),
  );
  if (!isSame || committed.length !== files.size) {
    throw new Error(`${PAGE_FILES} differs from its source: run \`npm run page\``);
  }
} else {
  mkdirSync(folder, { recursive: true });
  for (const [name, content] of files) writeFileSync(join(folder, name), content);
}
