/** The memory that a client offers by default. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Purse, tollFetch } from "modeltoll";
import { canGrow, machineBytes, offeredMemoryMib } from "../build/offeredMemory.js";
import { ANSWER, TestGateway } from "./testGateway.mjs";

const GIB = 2 ** 30;

for (const { bytes, grows, expected } of [
  { bytes: 4 * GIB, grows: true, expected: 256 },
  { bytes: 64 * GIB, grows: true, expected: 256 },
  { bytes: 64 * GIB, grows: false, expected: 64 },
  { bytes: 4 * GIB - 1, grows: true, expected: 64 },
  { bytes: 0, grows: true, expected: 64 },
  { bytes: Number.NaN, grows: true, expected: 64 },
]) {
  test(`${bytes / GIB} GiB, of which WebAssembly gets ${grows ? "256 MiB" : "less"}: ${expected} MiB`, () => {
    assert.equal(
      offeredMemoryMib(bytes, (mib) => mib <= 256 && grows),
      expected,
    );
  });
}

test("a machine's memory is found, and a memory of WebAssembly grows to what it can", () => {
  assert.ok(machineBytes() > 2 ** 24 && Number.isFinite(machineBytes()));
  assert.deepEqual([canGrow(1), canGrow(2 ** 20)], [true, false]);
});

test("the memory that a client offers is the memory that it has: a toll of that size is paid", async () => {
  const { memoryMib } = new Purse();
  assert.equal(memoryMib, offeredMemoryMib());
  const gateway = await TestGateway.open();
  try {
    const url = gateway.serveToll(ANSWER, { memoryKib: 1024 * memoryMib, counters: [0], bound: 1 });
    const response = await tollFetch()(url);
    assert.deepEqual(Buffer.from(await response.arrayBuffer()), ANSWER.body);
    assert.match(gateway.requests[0].headers["toll-accept"], new RegExp(`memory=${memoryMib}MiB`));
  } finally {
    await gateway.close();
  }
});
