/** Prints what the package weighs, gzipped: `npm run size`. */

import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { library, worker } from "./bundle.mjs";

/** Bytes gzipped: `own` is without hash-wasm, `whole` is the page's script with everything in it. */
export async function sizes() {
  const outside = ["hash-wasm"];
  const own = await library(await worker(outside), outside);
  const whole = await library(await worker());
  return { own: gzipSync(own).length, whole: gzipSync(whole).length };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { own, whole } = await sizes();
  console.log(`own code ${(own / 1000).toFixed(1)} kB gzipped, with hash-wasm ${(whole / 1000).toFixed(1)} kB`);
}
