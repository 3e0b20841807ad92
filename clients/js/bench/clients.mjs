/**
 * Opens the same toll with Python, Node and Chromium, and measures the rate of Argon2id in each.
 *
 *     npm run bench:clients -- [--seconds 0.5] [--repeats 5] [--json FILE]
 *
 * Needs Chromium, and Python with the package: $PYTHON, or the one in .venv. A test gateway asks the toll, and the
 * SHA-256 of the answer that each client opened is compared with that of the true answer. Rates are evaluations per
 * second on one core, in Chromium in a worker; each is the best of the repeats, and a repeat measures every rate once.
 */

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { tollFetch } from "modeltoll";
import { launch } from "../browser/chromium.mjs";
import { runTask } from "../build/task.js";
import { REPOSITORY } from "../scripts/paths.mjs";
import { ANSWER, makeToll, TestGateway } from "../test/testGateway.mjs";

const PYTHON = process.env.PYTHON ?? join(REPOSITORY, ".venv/bin/python");
const MEMORIES_KIB = [256, 1024, 8192];
const TOLL = { memoryKib: 1024, counters: [900], bound: 1024 };
const OPTIONS = {
  seconds: { type: "string", default: "0.5" },
  repeats: { type: "string", default: "5" },
  json: { type: "string" },
};
const { seconds, repeats, json } = parseArgs({ options: OPTIONS }).values;
const run = promisify(execFile);

const PYTHON_OPEN = `
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
/** A search without a hit. */
const ENDLESS_SEARCH = {
  puzzle: "argon2id",
  seed: new Uint8Array(16),
  target: new Uint8Array(16),
  start: 0,
  from: 0,
  count: 2 ** 40,
};
const digest = (bytes) => createHash("sha256").update(Buffer.from(bytes)).digest("hex");

async function python(code, ...values) {
  return (await run(PYTHON, ["-c", code, ...values.map(String)])).stdout.trim();
}

/** Runs in the page: evaluations per second of a worker that works at a search for that time. */
async function measureInWorker([search, milliseconds]) {
  const worker = new Worker("/worker.js");
  const nextMessage = () =>
    new Promise((resolve) => {
      worker.addEventListener("message", ({ data }) => resolve(data), { once: true });
    });
  const bytes = { seed: new Uint8Array(16), target: new Uint8Array(16) };
  await nextMessage();
  let rate = 0;
  for (const budget of [50, milliseconds]) {
    const begin = performance.now();
    worker.postMessage([{ ...search, ...bytes }, budget]);
    rate = (1000 * (await nextMessage()).result.evaluations) / (performance.now() - begin);
  }
  worker.terminate();
  return rate;
}

/** Runs in the page: the bytes of the answer that the package's script for pages opens. */
async function openInPage(path) {
  const modeltoll = await import("/modeltoll.js");
  return [...new Uint8Array(await (await modeltoll.tollFetch()(path)).arrayBuffer())];
}

const gateway = await TestGateway.open();
const browser = await launch();
try {
  const url = gateway.serve402(await makeToll(ANSWER, TOLL));
  const types = { "/": "text/html", "/worker.js": "text/javascript", "/modeltoll.js": "text/javascript" };
  for (const [path, type] of Object.entries(types)) {
    const content = path === "/" ? "<!doctype html>" : readFileSync(new URL(`../dist${path}`, import.meta.url));
    gateway.handlers[path] = (_, response) => response.writeHead(200, { "content-type": type }).end(content);
  }
  const page = await browser.newPage();
  await page.goto(`${gateway.url}/`);
  const digests = {
    python: await python(PYTHON_OPEN, url),
    node: digest(await (await tollFetch()(url)).arrayBuffer()),
    chromium: digest(await page.evaluate(openInPage, "/infer")),
  };
  const expected = digest(ANSWER.body);
  const failures = Object.keys(digests).filter((client) => digests[client] !== expected);
  if (failures.length > 0) throw new Error(`these clients opened other bytes: ${failures.join(", ")}`);

  const rates = {
    python: async (memoryKib) => Number(await python(PYTHON_RATE, memoryKib, seconds)),
    node: async (memoryKib) => {
      await runTask({ ...ENDLESS_SEARCH, memoryKib }, 50);
      const begin = performance.now();
      const { evaluations } = await runTask({ ...ENDLESS_SEARCH, memoryKib }, 1000 * Number(seconds));
      return (1000 * evaluations) / (performance.now() - begin);
    },
    chromium: (memoryKib) => {
      const { puzzle, start, from, count } = ENDLESS_SEARCH;
      return page.evaluate(measureInWorker, [{ puzzle, start, from, count, memoryKib }, 1000 * Number(seconds)]);
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
    same_bytes: Object.keys(digests),
    sha256: expected,
    evaluations_per_second: rows,
  };
  console.table(rows);
  if (json) writeFileSync(json, `${JSON.stringify(result, null, 1)}\n`);
} finally {
  await browser.close();
  await gateway.close();
}
