/**
 * Evaluations per second of Argon2id in Node, on one core, as the solver does them.
 *
 *     npm run bench -- [--seconds 1] [--repeats 5] [--json FILE]
 *
 * Rates are the best of the repeats, which take turns over the memories.
 */

import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { evaluator } from "../build/argon2id.js";
import { ARGON2ID_RATES } from "../build/profile.js";

const MEMORIES_KIB = [256, 1024, 8192];
const OPTIONS = {
  seconds: { type: "string", default: "1" },
  repeats: { type: "string", default: "5" },
  json: { type: "string" },
};
const { seconds, repeats, json } = parseArgs({ options: OPTIONS }).values;

async function rate(evaluate, milliseconds) {
  const seed = new Uint8Array(16);
  const begin = performance.now();
  let n = 0;
  while (performance.now() - begin < milliseconds) await evaluate(seed, n++);
  return (1000 * n) / (performance.now() - begin);
}

const best = Object.fromEntries(MEMORIES_KIB.map((memory) => [memory, 0]));
for (let repeat = 0; repeat < Number(repeats); repeat++) {
  for (const memory of MEMORIES_KIB) {
    best[memory] = Math.max(best[memory], await rate(await evaluator(memory), 1000 * Number(seconds)));
  }
}
const rows = MEMORIES_KIB.map((memory) => ({
  puzzle: "argon2id",
  memory_kib: memory,
  cores: 1,
  evaluations_per_second: Number(best[memory].toPrecision(4)),
  reference_evaluations_per_second: ARGON2ID_RATES[memory],
}));
const command = ["node", "clients/js/bench/argon2.mjs", ...process.argv.slice(2)].join(" ");
const machine = `${cpus().length} cores of ${cpus()[0].model}, Node ${process.version}`;
const result = { command, machine, date: new Date().toISOString().slice(0, 10), rows };
console.table(rows);
if (json) writeFileSync(json, `${JSON.stringify(result, null, 1)}\n`);
