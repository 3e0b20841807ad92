/**
 * The Node client of `benchmarks/bench_settlement.py`, which starts it: posts bodies one after the other.
 *
 *     node bench/settlement.mjs URL KEY BODIES.json MODE WARM_UP MAX_SECONDS
 *
 * MODE is `receipts`, `redeem` (announces no receipts) or `dropped` (announces receipts and returns none). Prints JSON:
 * seconds for the requests after the first WARM_UP, how many were answered and refused, and the seconds that were paid.
 */

import { readFileSync } from "node:fs";
import { argv } from "node:process";
import { Purse, Receipts, TollTooDear, tollFetch } from "modeltoll";

const [url, key, file, mode, warmUp, maxSeconds] = argv.slice(2);

/** Receipts that are lost. */
class DroppedReceipts extends Receipts {
  open(...given) {
    const pocket = super.open(...given);
    pocket.add = () => {};
    return pocket;
  }
}

const receipts = mode === "dropped" ? new DroppedReceipts() : new Receipts();
const purse = new Purse({ maxSeconds: Number(maxSeconds), cores: 1, memoryMib: 64, receipts });
const headers = { "content-type": "application/json", "x-api-key": key };
if (mode === "redeem") headers["toll-accept"] = "argon2id, sha256; mode=sealed; memory=64MiB";
const fetch = tollFetch(undefined, { purse });

/** Whether a body was answered; its toll may be refused instead. */
async function isAnswered(body) {
  try {
    const response = await fetch(url, { method: "POST", headers, body });
    const text = await response.text();
    if (response.status !== 200 || !text.includes("outputs")) throw new Error(`${response.status}: ${text}`);
    return true;
  } catch (error) {
    if (error instanceof TollTooDear) return false;
    throw error;
  }
}

const bodies = JSON.parse(readFileSync(file, "utf-8"));
let answered = 0;
let begin = performance.now();
for (const [number, body] of bodies.entries()) {
  if (number === Number(warmUp)) begin = performance.now();
  if (await isAnswered(body)) answered += 1;
}
const seconds = (performance.now() - begin) / 1000;
await fetch.close();
const paid = purse.payments.reduce((sum, { expected }) => sum + expected, 0);
console.log(JSON.stringify({ seconds, answered, refused: bodies.length - answered, failed: 0, paid }));
