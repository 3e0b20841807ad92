/**
 * The same toll opened by Python, Node and Chromium, and what each of them makes of Argon2id on this machine.
 *
 *     npm run bench:clients -- [--seconds 0.5] [--repeats 5] [--json FILE]
 *
 * Needs Chromium, and Python with the package: $PYTHON, or the one of make's .venv. A house of the tests' own offers one
 * toll, and the SHA-256 of what each client opened is compared with the answer's. Rates are evaluations per second on
 * one core, in Node and Chromium as a worker does them, each the best of the repeats, which take turns.
 */

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs, promisify } from "node:util";
import { tollFetch } from "modeltoll";
import { launch } from "../browser/chromium.mjs";
import { perform } from "../build/labour.js";
import { ANSWER, House, makeToll } from "../test/house.mjs";

const PYTHON = process.env.PYTHON ?? new URL("../../../.venv/bin/python", import.meta.url).pathname;
const MEMORIES_KIB = [256, 1024, 8192];
const TOLL = { memoryKib: 1024, counters: [900], bound: 1024 };
const OPTIONS = {
  seconds: { type: "string", default: "0.5" },
  repeats: { type: "string", default: "5" },
  json: { type: "string" },
};
const { seconds, repeats, json } = parseArgs({ options: OPTIONS }).values;
const run = promisify(execFile);

const PYTHON_OPENS = `
import hashlib, sys
import httpx
from modeltoll.client.httpx import TollTransport

with httpx.Client(transport=TollTransport()) as client:
    print(hashlib.sha256(client.get(sys.argv[1]).content).hexdigest())
`;
const PYTHON_RATE = `
import sys, time
from modeltoll.puzzle.benchmark import measure_rate

print(measure_rate("argon2id", int(sys.argv[1]), 1, float(sys.argv[2]), time.perf_counter))
`;
const NEVER = {
  puzzle: "argon2id",
  seed: new Uint8Array(16),
  goal: new Uint8Array(16),
  start: 0,
  from: 0,
  count: 2 ** 40,
};
const digest = (bytes) => createHash("sha256").update(Buffer.from(bytes)).digest("hex");

async function python(code, ...given) {
  return (await run(PYTHON, ["-c", code, ...given.map(String)])).stdout.trim();
}

/** Runs in the page: what a worker gets done in a time. */
async function inWorker([job, milliseconds]) {
  const worker = new Worker("/worker.js");
  const heard = () => new Promise((resolve) => (worker.onmessage = ({ data }) => resolve(data)));
  const bytes = { seed: new Uint8Array(16), goal: new Uint8Array(16) };
  await heard();
  let rate = 0;
  for (const budget of [50, milliseconds]) {
    const begin = performance.now();
    worker.postMessage([{ ...job, ...bytes }, budget]);
    rate = (1000 * (await heard()).done.tried) / (performance.now() - begin);
  }
  worker.terminate();
  return rate;
}

/** Runs in the page: open the toll with the package's script for pages. */
async function inPage(path) {
  const { tollFetch } = await import("/modeltoll.js");
  return [...new Uint8Array(await (await tollFetch()(path)).arrayBuffer())];
}

const house = await House.open();
const browser = await launch();
try {
  const url = house.offer(await makeToll(ANSWER, TOLL));
  const served = { "/": "text/html", "/worker.js": "text/javascript", "/modeltoll.js": "text/javascript" };
  for (const [path, type] of Object.entries(served)) {
    const content = path === "/" ? "<!doctype html>" : readFileSync(new URL(`../dist${path}`, import.meta.url));
    house.handlers[path] = (_, response) => response.writeHead(200, { "content-type": type }).end(content);
  }
  const page = await browser.newPage();
  await page.goto(`${house.url}/`);
  const opened = {
    python: await python(PYTHON_OPENS, url),
    node: digest(await (await tollFetch()(url)).arrayBuffer()),
    chromium: digest(await page.evaluate(inPage, "/infer")),
  };
  const wanted = digest(ANSWER.body);
  const differing = Object.keys(opened).filter((client) => opened[client] !== wanted);
  if (differing.length > 0) throw new Error(`other bytes were opened by ${differing}`);

  const rates = {
    python: async (memoryKib) => Number(await python(PYTHON_RATE, memoryKib, seconds)),
    node: async (memoryKib) => {
      await perform({ ...NEVER, memoryKib }, 50);
      const begin = performance.now();
      const { tried } = await perform({ ...NEVER, memoryKib }, 1000 * Number(seconds));
      return (1000 * tried) / (performance.now() - begin);
    },
    chromium: (memoryKib) => {
      const { puzzle, start, from, count } = NEVER;
      return page.evaluate(inWorker, [{ puzzle, start, from, count, memoryKib }, 1000 * Number(seconds)]);
    },
  };
  const rows = MEMORIES_KIB.map((memory_kib) => ({ memory_kib, python: 0, node: 0, chromium: 0 }));
  for (let repeat = 0; repeat < Number(repeats); repeat++) {
    for (const row of rows) {
      for (const [client, rate] of Object.entries(rates)) {
        row[client] = Math.max(row[client], Number((await rate(row.memory_kib)).toPrecision(4)));
      }
    }
  }
  const result = {
    command: `npm run bench:clients -- --seconds ${seconds} --repeats ${repeats}`,
    machine: `${cpus().length} cores of ${cpus()[0].model}`,
    date: new Date().toISOString().slice(0, 10),
    versions: {
      python: (await run(PYTHON, ["--version"])).stdout.trim().split(" ")[1],
      node: process.versions.node,
      chromium: browser.version(),
    },
    same_bytes: Object.keys(opened),
    sha256: wanted,
    evaluations_per_second: rows,
  };
  console.table(rows);
  if (json) writeFileSync(json, `${JSON.stringify(result, null, 1)}\n`);
} finally {
  await browser.close();
  await house.close();
}
