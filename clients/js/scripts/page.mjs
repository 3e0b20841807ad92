/**
 * Makes the page to try the toll, which the Python package ships: `npm run page`, after `npm run build`.
 *
 * With --check it writes nothing, and fails where what is there is not what would be made.
 */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { page, ROOT, worker } from "./bundle.mjs";

const SHIPPED = join(ROOT, "../../src/modeltoll/gateway/admin/playground/files");
const AS_THEY_ARE = ["index.html", "page.css", "icon.svg"];
const LIMIT = 60_000; // bytes, gzipped, of all that a visitor loads: the client and hash-wasm are there twice

const files = new Map(AS_THEY_ARE.map((name) => [name, readFileSync(join(ROOT, "page", name))]));
files.set("page.js", Buffer.from(await page()));
files.set("worker.js", Buffer.from(await worker()));

let whole = 0;
for (const [name, content] of files) {
  const weight = gzipSync(content).length;
  whole += weight;
  console.log(`${name}: ${(weight / 1000).toFixed(1)} kB gzipped`);
}
console.log(`the page: ${(whole / 1000).toFixed(1)} kB gzipped`);
if (whole > LIMIT) throw new Error(`the page is larger than ${LIMIT / 1000} kB`);

if (process.argv.includes("--check")) {
  const there = readdirSync(SHIPPED).sort();
  const same = [...files].every(
    ([name, content]) => there.includes(name) && readFileSync(join(SHIPPED, name)).equals(content),
  );
  if (!same || there.length !== files.size) {
    throw new Error("src/modeltoll/gateway/admin/playground/files is not what its source makes: npm run page");
  }
} else {
  mkdirSync(SHIPPED, { recursive: true });
  for (const [name, content] of files) writeFileSync(join(SHIPPED, name), content);
}
