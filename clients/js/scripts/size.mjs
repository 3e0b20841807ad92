/** Prints the size of the package, gzipped: `npm run size`. */

import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { library, worker } from "./bundle.mjs";

/** Bytes gzipped: `own` without hash-wasm, `total` of the script for pages, which contains it. */
export async function sizes() {
  const external = ["hash-wasm"];
  const own = await library(await worker(external), external);
  const total = await library(await worker());
  return { own: gzipSync(own).length, total: gzipSync(total).length };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { own, total } = await sizes();
  console.log(`own code ${(own / 1000).toFixed(1)} kB gzipped, with hash-wasm ${(total / 1000).toFixed(1)} kB`);
}
