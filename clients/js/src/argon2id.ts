/** Argon2id (RFC 9106) as puzzles use it: version 1.3, one pass, one lane, 32 bytes. */

import { argon2id } from "hash-wasm";
import { ARGON2ID_WASM } from "./argon2idWasm.js";
import { counterBytes, decodeBase64url } from "./bytes.js";
import type { Bytes } from "./records.js";

/** F, which can be evaluated many times: counter `n` (8 bytes, big-endian) salted with `seed`. */
export type Evaluator = (seed: Bytes, n: number) => Uint8Array | Promise<Uint8Array>;

const SEED_BYTES = 16;
const VALUE_BYTES = 32;
const PAGE_KIB = 64;

/** What assembly/argon2id.ts exports. */
interface Argon2idExports {
  readonly memory: WebAssembly.Memory;
  readonly SALT: WebAssembly.Global<"i32">;
  readonly OUT: WebAssembly.Global<"i32">;
  readonly BLOCKS: WebAssembly.Global<"i32">;
  readonly evaluate: (memoryKib: number, hi: number, lo: number) => void;
}

/** An `Evaluator` for that memory. It rejects, or its evaluations reject, if the machine does not give the memory. */
export async function createEvaluator(memoryKib: number): Promise<Evaluator> {
  const module = decodeBase64url(ARGON2ID_WASM);
  if (module === null) throw new Error("the WebAssembly module of Argon2id is not base64url");
  return WebAssembly.validate(module) ? createSimdEvaluator(module, memoryKib) : createHashWasmEvaluator(memoryKib);
}

/** With SIMD; all evaluations share one memory. */
async function createSimdEvaluator(module: Bytes, memoryKib: number): Promise<Evaluator> {
  const { instance } = await WebAssembly.instantiate(module);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the module is this package's own assembly/argon2id.ts
  const { memory, evaluate, SALT, OUT, BLOCKS } = instance.exports as unknown as Argon2idExports;
  const initialBytes = memory.buffer.byteLength;
  memory.grow(Math.ceil((BLOCKS.value + 1024 * memoryKib - initialBytes) / (1024 * PAGE_KIB)));
  const salt = new Uint8Array(memory.buffer, SALT.value, SEED_BYTES);
  const out = new Uint8Array(memory.buffer, OUT.value, VALUE_BYTES);
  return (seed, n) => {
    salt.set(seed);
    evaluate(memoryKib, Math.floor(n / 2 ** 32), n >>> 0);
    return out.slice();
  };
}

/** For engines without SIMD (Safari before 16.4): hash-wasm, which allocates its memory for each evaluation. */
export function createHashWasmEvaluator(memoryKib: number): Evaluator {
  const cost = { iterations: 1, parallelism: 1, memorySize: memoryKib, hashLength: VALUE_BYTES };
  return (salt, n) => argon2id({ password: counterBytes(n), salt, ...cost, outputType: "binary" });
}
