/** How the package's scripts are made of what the compiler left in build/. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));

const COMMON = {
  bundle: true,
  minify: true,
  write: false,
  absWorkingDir: ROOT,
  target: "es2022",
  legalComments: "inline",
};

async function text(options) {
  const { outputFiles } = await build({ ...COMMON, ...options });
  return outputFiles[0].text;
}

/** The compiled Argon2id as a module. */
export function argon2idWasm() {
  const text = readFileSync(`${ROOT}/build/argon2id.wasm`).toString("base64url");
  return `export const ARGON2ID_WASM = ${JSON.stringify(text)};\n`;
}

/** The worker, one script without imports; `without` names packages to leave out, to see what they weigh. */
export function worker(without = []) {
  const format = without.length > 0 ? "esm" : "iife";
  return text({ entryPoints: ["build/worker.js"], format, external: without });
}

/** The worker's text as a module. */
export function workerSource(script) {
  return `export const WORKER_SOURCE = ${JSON.stringify(script)};\n`;
}

/** The library, one module that holds the worker's text; `without` are packages that it imports. */
export function library(script, without = []) {
  const place = {
    name: "worker's text",
    setup: (esbuild) =>
      esbuild.onLoad({ filter: /workerSource\.js$/ }, () => ({ contents: workerSource(script), loader: "js" })),
  };
  return text({ entryPoints: ["build/index.js"], format: "esm", external: without, plugins: [place] });
}

/** The script of the page to try the toll; its worker lies beside it, so no text of one is in it. */
export function page() {
  const client = {
    name: "the client, as compiled",
    setup: (esbuild) => {
      esbuild.onResolve({ filter: /^\.\.\/src\/index\.js$/ }, () => ({ path: `${ROOT}build/index.js` }));
      esbuild.onLoad({ filter: /workerSource\.js$/ }, () => ({ contents: workerSource(""), loader: "js" }));
    },
  };
  return text({ entryPoints: ["page/main.ts"], format: "esm", plugins: [client] });
}

/** One of the page's modules by itself, for its tests. */
export function pageModule(name) {
  return text({ entryPoints: [`page/${name}.ts`], format: "esm" });
}
