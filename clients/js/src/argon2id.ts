/** Argon2id (RFC 9106) as puzzles use it: version 1.3, one pass, one lane, 32 bytes. */

import { argon2id } from "hash-wasm";
import { counterBytes } from "./bytes.js";
import type { Bytes } from "./records.js";

/** F, ready to be evaluated many times: counter `n` (8 bytes, big-endian) salted with `seed`, in `memoryKib`. */
export type Evaluator = (seed: Bytes, n: number) => Promise<Bytes>;

/** An `Evaluator` for that memory; it throws where the machine does not give the memory. */
export function evaluator(memoryKib: number): Evaluator {
  const cost = { iterations: 1, parallelism: 1, memorySize: memoryKib, hashLength: 32 };
  return async (salt, n) => {
    return (await argon2id({ password: counterBytes(n), salt, ...cost, outputType: "binary" })) as Bytes;
  };
}
