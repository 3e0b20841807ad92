/**
 * Measures evaluations per second of Argon2id in Node, on one core.
 *
 *     npm run bench -- [--seconds 1] [--repeats 5] [--json FILE]
 *
 * Each rate is the best of the repeats; a repeat measures every memory size once.
 */

import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { createEvaluator, createHashWasmEvaluator } from "../build/argon2id.js";
import { ARGON2ID_RATES } from "../build/machineProfile.js";

const MEMORIES_KIB = [256, 1024, 8192];
const KINDS = { "own, SIMD": createEvaluator, "hash-wasm": createHashWasmEvaluator };
const RUNS = MEMORIES_KIB.flatMap((memory) => Object.keys(KINDS).map((kind) => ({ memory, kind, best: 0 })));
const OPTIONS = {
  seconds: { type: "string", default: "1" },
  repeats: { type: "string", default: "5" },
  json: { type: "string" },
};
const { seconds, repeats, json } = parseArgs({ options: OPTIONS }).values;

async function measureRate(evaluate, milliseconds) {
  const seed = new Uint8Array(16);
  const begin = performance.now();
  let n = 0;
  while (performance.now() - begin < milliseconds) await evaluate(seed, n++);
  return (1000 * n) / (performance.now() - begin);
}

for (let repeat = 0; repeat < Number(repeats); repeat++) {
  for (const run of RUNS) {
    run.best = Math.max(run.best, await measureRate(await KINDS[run.kind](run.memory), 1000 * Number(seconds)));
  }
}
const rows = RUNS.map(({ memory, kind, best }) => ({
  puzzle: "argon2id",
  implementation: kind,
  memory_kib: memory,
  cores: 1,
  evaluations_per_second: Number(best.toPrecision(4)),
  reference_evaluations_per_second: ARGON2ID_RATES[memory],
}));
const command = ["node", "clients/js/bench/argon2.mjs", ...process.argv.slice(2)].join(" ");
const machine = `${cpus().length} cores of ${cpus()[0].model}, Node ${process.version}`;
const result = { command, machine, date: new Date().toISOString().slice(0, 10), rows };
console.table(rows);
if (json) writeFileSync(json, `${JSON.stringify(result, null, 1)}\n`);
