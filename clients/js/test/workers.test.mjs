/** Workers; slices on the calling thread where no worker can be started; less memory where the machine has little. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { Purse, SolveStopped, tollFetch, TollTooDear } from "modeltoll";
import { createEvaluator, createHashWasmEvaluator } from "../build/argon2id.js";
import { runTask } from "../build/task.js";
import { WorkerPool } from "../build/workerPool.js";
import { inlineWorker, startWorker } from "../build/workers.js";
import { ANSWER, makeToll, send402, TestGateway } from "./testGateway.mjs";

const LONG = { counters: [300_000], bound: 2 ** 19 };
let gateway;
let pageCount = 0;

before(async () => (gateway = await TestGateway.open()));
after(() => gateway.close());
beforeEach(() => gateway.reset());
afterEach(() => void delete globalThis.Worker);

/** Installs `Worker` as the global class; returns the worker URL of a page that no other test uses. */
function pageWith(Worker) {
  globalThis.Worker = Worker;
  return `https://page-${pageCount++}.example/worker.js`;
}

class FakeWorker extends EventTarget {
  postMessage() {}
  terminate() {}

  reply(data) {
    this.dispatchEvent(new MessageEvent("message", { data }));
  }

  fail(message) {
    this.dispatchEvent(Object.assign(new Event("error", { cancelable: true }), { message }));
  }
}

class ForbiddenWorker extends FakeWorker {
  constructor() {
    super();
    throw new DOMException("the policy forbids it", "SecurityError");
  }
}

class FailingWorker extends FakeWorker {
  constructor() {
    super();
    setTimeout(() => this.fail("the policy forbids it"));
  }
}

/** Starts, and fails at its first task. */
class CrashingWorker extends FakeWorker {
  constructor() {
    super();
    setTimeout(() => this.reply({ ready: true }));
  }

  postMessage() {
    this.fail("killed");
  }
}

/** Starts, and never replies to a task. */
class SilentWorker extends FakeWorker {
  constructor() {
    super();
    queueMicrotask(() => this.reply({ ready: true }));
  }
}

/** A class of web workers with that much memory; `count` is the number that are not terminated. */
function webWorker(memoryKib = Infinity) {
  return class WebWorker extends FakeWorker {
    static count = 0;

    constructor(url, options) {
      super();
      assert.deepEqual([typeof url, options.type], ["string", "module"]);
      WebWorker.count++;
      setTimeout(() => this.reply({ ready: true }));
    }

    async postMessage([task, budget]) {
      const error = task.memoryKib > memoryKib ? "RangeError: no memory" : undefined;
      this.reply(error ? { error } : { result: await runTask(task, budget) });
    }

    terminate() {
      WebWorker.count--;
    }
  };
}

for (const [name, Worker] of Object.entries({ "are forbidden": ForbiddenWorker, fail: FailingWorker })) {
  test(`if workers ${name}, this thread solves in slices and gives notice once`, async () => {
    const notices = [];
    let otherEvents = 0;
    const timer = setInterval(() => otherEvents++);
    const workerUrl = pageWith(Worker);
    const slices = [];
    const progress = () => slices.push(otherEvents);
    for (let request = 0; request < 2; request++) {
      const fetch = tollFetch(undefined, { workerUrl, notice: (text) => notices.push(text), progress });
      assert.equal(await (await fetch(gateway.serveToll(ANSWER, LONG))).text(), ANSWER.body.toString());
    }
    clearInterval(timer);
    assert.equal(notices.length, 1);
    assert.match(notices[0], /no worker/);
    assert.ok(slices.length > 4 && new Set(slices).size > 2, "other events ran between the slices");
  });
}

test("a web worker is a module and solves the next tolls, too", async () => {
  const Worker = webWorker();
  const workerUrl = pageWith(Worker);
  const fetch = tollFetch(undefined, { workerUrl, cores: 1, notice: assert.fail });
  for (let request = 0; request < 3; request++) await fetch(gateway.serveToll(ANSWER, LONG));
  assert.equal(Worker.count, 1);
});

test("workers that are busy when the request is aborted are terminated", async () => {
  const Worker = webWorker();
  const stop = new AbortController();
  const fetch = tollFetch(undefined, {
    workerUrl: pageWith(Worker),
    cores: 2,
    maxSeconds: 1e9,
    progress: () => stop.abort(),
  });
  const url = gateway.serveToll(ANSWER, { counters: [2 ** 30], bound: 2 ** 31 });
  await assert.rejects(fetch(url, { signal: stop.signal }), { name: "AbortError" });
  assert.ok(Worker.count <= 1);
});

/** Asks tolls of as much memory as the client announces. */
function serveByMemory(floorKib = 256) {
  gateway.handlers["/infer"] = async (request, response) => {
    const memoryKib = Math.max(floorKib, 1024 * Number(/memory=(\d+)MiB/.exec(request.headers["toll-accept"])[1]));
    send402(response, await makeToll(ANSWER, { memoryKib, counters: [3], bound: 64 }));
  };
  return `${gateway.url}/infer`;
}

const announcedMemory = () => gateway.requests.map(({ headers }) => /memory=(\d+MiB)/.exec(headers["toll-accept"])[1]);

test("if the machine does not give the memory, the client asks again with less, and from then on", async () => {
  const options = { workerUrl: pageWith(webWorker(1024)), memoryMib: 4 };
  const fetch = tollFetch(undefined, options);
  for (let request = 0; request < 2; request++) {
    assert.equal(await (await fetch(serveByMemory(), { method: "POST", body: "[1]" })).text(), ANSWER.body.toString());
  }
  assert.deepEqual(announcedMemory(), ["4MiB", "2MiB", "1MiB", "1MiB"]);
  assert.ok(gateway.requests.every(({ body }) => body === "[1]"));
});

test("a toll of more memory than was announced is refused", async () => {
  const purse = new Purse({ workerUrl: pageWith(webWorker(512)), memoryMib: 4 });
  await assert.rejects(tollFetch(undefined, { purse })(serveByMemory(4096)), TollTooDear);
  assert.deepEqual([announcedMemory(), purse.payments.length], [["4MiB", "2MiB"], 0]);
});

test("a request whose body was a stream is not sent a second time", async () => {
  const fetch = tollFetch(undefined, { workerUrl: pageWith(webWorker(512)), memoryMib: 4 });
  const body = new ReadableStream({ pull: (control) => (control.enqueue(new Uint8Array(1)), control.close()) });
  await assert.rejects(fetch(serveByMemory(), { method: "POST", body, duplex: "half" }), /does not give the 4096 KiB/);
  assert.equal(gateway.requests.length, 1);
});

test("if all workers fail, the call rejects and the request is not sent again", async () => {
  const fetch = tollFetch(undefined, { workerUrl: pageWith(CrashingWorker) });
  await assert.rejects(fetch(gateway.serveToll(ANSWER, LONG)), SolveStopped);
  assert.equal(gateway.requests.length, 1);
});

test("slices are limited to a memory whose evaluation is short", async () => {
  const fetch = tollFetch(undefined, { workerUrl: pageWith(ForbiddenWorker), notice: () => {}, memoryMib: 64 });
  const url = serveByMemory();
  const { handlers } = gateway;
  handlers["/infer"] = async (request, response) => {
    const asksForMuch = request.headers["toll-accept"].includes("memory=64MiB");
    const document = await makeToll(ANSWER, { memoryKib: 256, counters: [3], bound: 64 });
    if (asksForMuch) document.toll.puzzle.m_kib = 65536;
    send402(response, document);
  };
  assert.equal(await (await fetch(url)).text(), ANSWER.body.toString());
  assert.deepEqual(announcedMemory(), ["64MiB", "16MiB"]);
});

function ForbiddenModule() {
  throw new WebAssembly.CompileError("the policy forbids it");
}

test("without WebAssembly argon2id is neither announced nor solved", async () => {
  const { Module } = WebAssembly;
  WebAssembly.Module = ForbiddenModule;
  const purse = new Purse();
  WebAssembly.Module = Module;
  const fetch = tollFetch(undefined, { purse });
  assert.equal(await (await fetch(gateway.serveToll(ANSWER))).text(), ANSWER.body.toString());
  assert.match(gateway.requests[0].headers["toll-accept"], /^sha256, timelock; mode=sealed; /);
  await assert.rejects(fetch(gateway.serveToll(ANSWER, { memoryKib: 256 })), /argon2id needs WebAssembly/);
});

test("memory that the machine does not give is an error that can be caught", async () => {
  await assert.rejects(createEvaluator(5 * 2 ** 20));
  const evaluate = createHashWasmEvaluator(5 * 2 ** 20);
  await assert.rejects(evaluate(new Uint8Array(16), 0));
});

test("a pool provides a worker for each free core, then one to each caller up to two for each core; the rest wait", async () => {
  let count = 0;
  let most = 0;
  const startFake = async () => {
    most = Math.max(most, ++count);
    return { ...inlineWorker(), inline: false, terminate: () => count-- };
  };
  const pool = new WorkerPool(startFake, 2);
  const calls = Array.from({ length: 5 }, async () => {
    const workers = await pool.acquire(4, assert.fail);
    await new Promise((resolve) => setImmediate(resolve));
    for (const worker of workers) pool.release(worker, true);
    return workers.length;
  });
  const counts = await Promise.all(calls);
  assert.deepEqual(counts.slice(0, 3), [2, 1, 1]);
  assert.ok(counts.slice(3).every((workers) => workers >= 1 && workers <= 2));
  assert.equal(most, 4);
});

test("a thread that ended rejects its task, and later ones", async () => {
  const worker = await startWorker();
  const task = {
    puzzle: "sha256",
    seed: new Uint8Array(16),
    target: new Uint8Array(16),
    memoryKib: 0,
    start: 0,
    from: 0,
    count: 1e12,
  };
  const result = worker.run(task);
  worker.terminate();
  await assert.rejects(result, /ended/);
  await assert.rejects(worker.run(task), /ended/);
});

test("a worker that does not reply is taken for ended", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const worker = await startWorker(pageWith(SilentWorker));
  const result = worker.run({ puzzle: "sha256" });
  for (let tick = 0; tick < 2; tick++) t.mock.timers.tick(5000);
  await assert.rejects(result, /does not reply any more/);
  await assert.rejects(worker.run({ puzzle: "sha256" }), /does not reply any more/);
});
