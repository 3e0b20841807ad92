/** Bundles the package's scripts from the compiler's output in build/. */

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

async function bundle(options) {
  const { outputFiles } = await build({ ...COMMON, ...options });
  return outputFiles[0].text;
}

/** The compiled Argon2id as a module. */
export function argon2idWasm() {
  const wasm = readFileSync(`${ROOT}/build/argon2id.wasm`).toString("base64url");
  return `export const ARGON2ID_WASM = ${JSON.stringify(wasm)};\n`;
}

/** The worker, one script without imports; `external` names packages to leave out, to measure their size. */
export function worker(external = []) {
  const format = external.length > 0 ? "esm" : "iife";
  return bundle({ entryPoints: ["build/worker.js"], format, external });
}

/** The worker's script as a module that exports its text. */
export function workerSource(script) {
  return `export const WORKER_SOURCE = ${JSON.stringify(script)};\n`;
}

/** The library, one module that contains the worker's script; `external` names packages that it imports. */
export function library(script, external = []) {
  const embedWorker = {
    name: "embed the worker's script",
    setup: (esbuild) =>
      esbuild.onLoad({ filter: /workerSource\.js$/ }, () => ({ contents: workerSource(script), loader: "js" })),
  };
  return bundle({ entryPoints: ["build/index.js"], format: "esm", external, plugins: [embedWorker] });
}

/** The script of the playground page. It loads its worker from a file, so that no worker is embedded. */
export function page() {
  const useCompiledClient = {
    name: "use the compiled client",
    setup: (esbuild) => {
      esbuild.onResolve({ filter: /^\.\.\/src\/index\.js$/ }, () => ({ path: `${ROOT}build/index.js` }));
      esbuild.onLoad({ filter: /workerSource\.js$/ }, () => ({ contents: workerSource(""), loader: "js" }));
    },
  };
  return bundle({ entryPoints: ["page/main.ts"], format: "esm", plugins: [useCompiledClient] });
}

/** One of the page's modules by itself, for its tests. */
export function pageModule(name) {
  return bundle({ entryPoints: [`page/${name}.ts`], format: "esm" });
}
