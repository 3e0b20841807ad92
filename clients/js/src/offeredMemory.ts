/** How much memory of Argon2id a client offers by default. */

import { globals, nodeProcess } from "./environment.js";

const LARGE_MIB = 256; // the most that a puzzle takes
const SMALL_MIB = 64;
const MACHINE_SHARE = 16; // one worker gets at most this part of the machine's memory: a toll has 4 workers by default
const GIB = 2 ** 30;
const PAGES_PER_MIB = 16; // of WebAssembly

/** Of the machine or of the process's control group, in bytes; 0 if the engine does not tell. */
export function machineBytes(): number {
  const process = nodeProcess();
  if (process) {
    const total = process.getBuiltinModule("node:os").totalmem();
    if (!("constrainedMemory" in process)) return total; // other engines than Node may lack it
    return Math.min(total, process.constrainedMemory() || Infinity); // 0 or huge if there is no limit
  }
  const navigator: (Partial<Navigator> & { readonly deviceMemory?: number }) | undefined = globals.navigator;
  return (navigator?.deviceMemory ?? 0) * GIB; // in GiB, rounded, at most 8 or 32
}

/** Whether a memory of WebAssembly really grows to that size. */
export function canGrow(mib: number): boolean {
  try {
    return new WebAssembly.Memory({ initial: 1 }).grow(mib * PAGES_PER_MIB) === 1;
  } catch {
    return false;
  }
}

/** 256 MiB if the machine has sixteen times as much and WebAssembly gets it, else 64 MiB. */
export function offeredMemoryMib(bytes: number = machineBytes(), grows: (mib: number) => boolean = canGrow): number {
  return bytes >= MACHINE_SHARE * LARGE_MIB * 2 ** 20 && grows(LARGE_MIB) ? LARGE_MIB : SMALL_MIB;
}

let cached: number | undefined;

/** `offeredMemoryMib` of this machine, found once. */
export function defaultMemoryMib(): number {
  return (cached ??= offeredMemoryMib());
}
