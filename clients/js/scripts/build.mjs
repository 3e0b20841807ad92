/** Makes dist/ from the compiler's output in build/: `npm run build`. */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { argon2idWasm, library, ROOT, worker, workerSource } from "./bundle.mjs";

writeFileSync(join(ROOT, "build/argon2idWasm.js"), argon2idWasm());
const script = await worker();
const files = {
  "build/workerSource.js": workerSource(script),
  "dist/worker.js": script,
  "dist/index.js": await library(script, ["hash-wasm"]),
  "dist/modeltoll.js": await library(script), // for pages without a bundler
};
mkdirSync(join(ROOT, "dist"), { recursive: true });
for (const [path, content] of Object.entries(files)) writeFileSync(join(ROOT, path), content);
