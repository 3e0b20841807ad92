/** Who works where: workers, slices where a page's policy forbids workers, less memory where there is little. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { Purse, SolveStopped, tollFetch, TollTooDear } from "modeltoll";
import { evaluator, plainEvaluator } from "../build/argon2id.js";
import { Bench } from "../build/workerPool.js";
import { sliceHand, startWorker } from "../build/workers.js";
import { perform } from "../build/task.js";
import { ANSWER, House, makeToll, send402 } from "./testGateway.mjs";

const LONG = { counters: [300_000], bound: 2 ** 19 };
let house;
let pages = 0;

before(async () => (house = await House.open()));
after(() => house.close());
beforeEach(() => house.reset());
afterEach(() => void delete globalThis.Worker);

/** A page of its own, whose workers are what `Worker` says. */
function page(Worker) {
  globalThis.Worker = Worker;
  return `https://page-${pages++}.example/worker.js`;
}

class Forbidden {
  constructor() {
    throw new DOMException("the policy forbids it", "SecurityError");
  }
}

class Failing {
  constructor() {
    setTimeout(() => this.onerror({ message: "the policy forbids it", preventDefault() {} }));
  }
  terminate() {}
}

class Breaking {
  constructor() {
    setTimeout(() => this.onmessage({ data: { ready: true } }));
  }
  postMessage() {
    this.onerror({ message: "killed", preventDefault() {} });
  }
  terminate() {}
}

class Silent {
  constructor() {
    queueMicrotask(() => this.onmessage({ data: { ready: true } }));
  }
  postMessage() {}
  terminate() {}
}

/** A web worker that has so much memory; it counts those that live. */
function webWorker(memoryKib = Infinity) {
  return class WebWorker {
    static living = 0;
    constructor(url, options) {
      assert.deepEqual([typeof url, options.type], ["string", "module"]);
      WebWorker.living++;
      setTimeout(() => this.onmessage({ data: { ready: true } }));
    }
    async postMessage([job, budget]) {
      const fault = job.memoryKib > memoryKib ? "RangeError: no memory" : undefined;
      this.onmessage({ data: fault ? { fault } : { done: await perform(job, budget) } });
    }
    terminate() {
      WebWorker.living--;
    }
  };
}

for (const Worker of [Forbidden, Failing]) {
  test(`where workers are ${Worker.name.toLowerCase()}, this thread works in slices and says so once`, async () => {
    const notices = [];
    let turns = 0;
    const others = setInterval(() => turns++);
    const workerUrl = page(Worker);
    const slices = [];
    const progress = () => slices.push(turns);
    for (let request = 0; request < 2; request++) {
      const fetch = tollFetch(undefined, { workerUrl, notice: (text) => notices.push(text), progress });
      assert.equal(await (await fetch(house.sell(ANSWER, LONG))).text(), ANSWER.body.toString());
    }
    clearInterval(others);
    assert.equal(notices.length, 1);
    assert.match(notices[0], /no worker/);
    assert.ok(slices.length > 4 && new Set(slices).size > 2, "the page had its turns between the slices");
  });
}

test("a web worker is a module and is kept for the next toll", async () => {
  const Worker = webWorker();
  const workerUrl = page(Worker);
  const fetch = tollFetch(undefined, { workerUrl, cores: 1, notice: assert.fail });
  for (let request = 0; request < 3; request++) await fetch(house.sell(ANSWER, LONG));
  assert.equal(Worker.living, 1);
});

test("workers that are still busy when the caller has gone are ended", async () => {
  const Worker = webWorker();
  const stop = new AbortController();
  const fetch = tollFetch(undefined, {
    workerUrl: page(Worker),
    cores: 2,
    maxSeconds: 1e9,
    progress: () => stop.abort(),
  });
  const url = house.sell(ANSWER, { counters: [2 ** 30], bound: 2 ** 31 });
  await assert.rejects(fetch(url, { signal: stop.signal }), { name: "AbortError" });
  assert.ok(Worker.living <= 1);
});

/** Sells tolls of the most memory that the client says it has. */
function sellByMemory(floorKib = 256) {
  house.handlers["/infer"] = async (request, response) => {
    const memoryKib = Math.max(floorKib, 1024 * Number(/memory=(\d+)MiB/.exec(request.headers["toll-accept"])[1]));
    send402(response, await makeToll(ANSWER, { memoryKib, counters: [3], bound: 64 }));
  };
  return `${house.url}/infer`;
}

const accepted = () => house.seen.map(({ headers }) => headers["toll-accept"].split("memory=")[1]);

test("where a rung's memory is not to be had, the toll is asked for anew with less, and from then on", async () => {
  const options = { workerUrl: page(webWorker(1024)), memoryMib: 4 };
  const fetch = tollFetch(undefined, options);
  for (let request = 0; request < 2; request++) {
    assert.equal(await (await fetch(sellByMemory(), { method: "POST", body: "[1]" })).text(), ANSWER.body.toString());
  }
  assert.deepEqual(accepted(), ["4MiB", "2MiB", "1MiB", "1MiB"]);
  assert.ok(house.seen.every(({ body }) => body === "[1]"));
});

test("a server that asks for more than it was told is refused", async () => {
  const purse = new Purse({ workerUrl: page(webWorker(512)), memoryMib: 4 });
  await assert.rejects(tollFetch(undefined, { purse })(sellByMemory(4096)), TollTooDear);
  assert.deepEqual([accepted(), purse.payments.length], [["4MiB", "2MiB"], 0]);
});

test("a request whose body was a stream is not sent a second time", async () => {
  const fetch = tollFetch(undefined, { workerUrl: page(webWorker(512)), memoryMib: 4 });
  const body = new ReadableStream({ pull: (control) => (control.enqueue(new Uint8Array(1)), control.close()) });
  await assert.rejects(fetch(sellByMemory(), { method: "POST", body, duplex: "half" }), /does not give the 4096 KiB/);
  assert.equal(house.seen.length, 1);
});

test("where all workers break off, the work is over and the request is not sent again", async () => {
  const fetch = tollFetch(undefined, { workerUrl: page(Breaking) });
  await assert.rejects(fetch(house.sell(ANSWER, LONG)), SolveStopped);
  assert.equal(house.seen.length, 1);
});

test("a slice is given no more memory than it can be done with in its time", async () => {
  const fetch = tollFetch(undefined, { workerUrl: page(Forbidden), notice: () => {}, memoryMib: 64 });
  const url = sellByMemory();
  const { handlers } = house;
  handlers["/infer"] = async (request, response) => {
    const large = request.headers["toll-accept"].endsWith("64MiB");
    const document = await makeToll(ANSWER, { memoryKib: 256, counters: [3], bound: 64 });
    if (large) document.toll.puzzle.m_kib = 65536;
    send402(response, document);
  };
  assert.equal(await (await fetch(url)).text(), ANSWER.body.toString());
  assert.deepEqual(accepted(), ["64MiB", "16MiB"]);
});

test("without WebAssembly the server is told so, and argon2id is refused", async () => {
  const { Module } = WebAssembly;
  WebAssembly.Module = class {
    constructor() {
      throw new WebAssembly.CompileError("the policy forbids it");
    }
  };
  const purse = new Purse();
  WebAssembly.Module = Module;
  const fetch = tollFetch(undefined, { purse });
  assert.equal(await (await fetch(house.sell(ANSWER))).text(), ANSWER.body.toString());
  assert.equal(house.seen[0].headers["toll-accept"], "sha256, timelock; mode=sealed; memory=64MiB");
  await assert.rejects(fetch(house.sell(ANSWER, { memoryKib: 256 })), /argon2id needs WebAssembly/);
});

test("memory that the machine does not give is a failure that can be caught", async () => {
  await assert.rejects(evaluator(5 * 2 ** 20));
  const plain = await plainEvaluator(5 * 2 ** 20);
  await assert.rejects(plain(new Uint8Array(16), 0));
});

test("a bench lends its free places, one hand more to each who comes later, and the rest wait", async () => {
  let living = 0;
  let most = 0;
  const bench = new Bench(async () => {
    most = Math.max(most, ++living);
    return { ...sliceHand(), slices: false, leave: () => living-- };
  }, 2);
  const shifts = Array.from({ length: 5 }, async () => {
    const hands = await bench.hire(4, assert.fail);
    await new Promise((resolve) => setImmediate(resolve));
    for (const hand of hands) bench.release(hand, true);
    return hands.length;
  });
  const counts = await Promise.all(shifts);
  assert.deepEqual(counts.slice(0, 3), [2, 1, 1]);
  assert.ok(counts.slice(3).every((count) => count >= 1 && count <= 2));
  assert.equal(most, 4);
});

test("a thread that breaks off is a failure of its work, at once and later", async () => {
  const hand = await startWorker();
  const job = {
    puzzle: "sha256",
    seed: new Uint8Array(16),
    goal: new Uint8Array(16),
    memoryKib: 0,
    start: 0,
    from: 0,
    count: 1e12,
  };
  const work = hand.work(job);
  hand.leave();
  await assert.rejects(work, /ended/);
  await assert.rejects(hand.work(job), /ended/);
});

test("a worker that ended without a word is given up", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const hand = await startWorker(page(Silent));
  const work = hand.work({ puzzle: "sha256" });
  for (let tick = 0; tick < 2; tick++) t.mock.timers.tick(5000);
  await assert.rejects(work, /not heard any more/);
  await assert.rejects(hand.work({ puzzle: "sha256" }), /not heard any more/);
});
