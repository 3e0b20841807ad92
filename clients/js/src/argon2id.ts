/** Argon2id (RFC 9106) as puzzles use it: version 1.3, one pass, one lane, 32 bytes. */

import { argon2id } from "hash-wasm";
import { ARGON2ID_WASM } from "./argon2idWasm.js";
import { counterBytes, decodeBase64url } from "./bytes.js";
import type { Bytes } from "./records.js";

/** F, ready to be evaluated many times: counter `n` (8 bytes, big-endian) salted with `seed`. */
export type Evaluator = (seed: Bytes, n: number) => Bytes | Promise<Bytes>;

const SEED_BYTES = 16;
const VALUE_BYTES = 32;
const PAGE_KIB = 64;

/** What assembly/argon2id.ts exports. */
interface Exports {
  readonly memory: WebAssembly.Memory;
  readonly SALT: WebAssembly.Global<"i32">;
  readonly OUT: WebAssembly.Global<"i32">;
  readonly BLOCKS: WebAssembly.Global<"i32">;
  evaluate(memoryKib: number, hi: number, lo: number): void;
}

/** An `Evaluator` for that memory. Rejects, or is one that rejects, where the machine does not give the memory. */
export function evaluator(memoryKib: number): Promise<Evaluator> {
  const module = decodeBase64url(ARGON2ID_WASM)!;
  return WebAssembly.validate(module) ? ownEvaluator(module, memoryKib) : plainEvaluator(memoryKib);
}

/** With SIMD, in memory that is kept from one evaluation to the next. */
async function ownEvaluator(module: Bytes, memoryKib: number): Promise<Evaluator> {
  const { instance } = await WebAssembly.instantiate(module);
  const { memory, evaluate, SALT, OUT, BLOCKS } = instance.exports as unknown as Exports;
  const have = memory.buffer.byteLength;
  memory.grow(Math.ceil((BLOCKS.value + 1024 * memoryKib - have) / (1024 * PAGE_KIB)));
  const salt = new Uint8Array(memory.buffer, SALT.value, SEED_BYTES);
  const out = new Uint8Array(memory.buffer, OUT.value, VALUE_BYTES);
  return (seed, n) => {
    salt.set(seed);
    evaluate(memoryKib, Math.floor(n / 2 ** 32), n >>> 0);
    return out.slice();
  };
}

/** For engines without SIMD (Safari before 16.4): hash-wasm, which takes fresh memory for each evaluation. */
export async function plainEvaluator(memoryKib: number): Promise<Evaluator> {
  const cost = { iterations: 1, parallelism: 1, memorySize: memoryKib, hashLength: VALUE_BYTES };
  return async (salt, n) => {
    return (await argon2id({ password: counterBytes(n), salt, ...cost, outputType: "binary" })) as Bytes;
  };
}
