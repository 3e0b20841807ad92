/** Who works: web workers, Node's worker threads, or slices on the calling thread where there are neither. */

import { type Done, type Job, perform } from "./task.js";
import { WORKER_SOURCE } from "./workerSource.js";

/** One pair of hands, which does one job at a time. */
export interface Hand {
  /** Whether a long evaluation would hold up the calling thread. */
  readonly slices: boolean;
  /** Do as much of a job as its time allows; rejects where the machine does not give the memory. */
  work(job: Job): Promise<Done>;
  /** Drop the work, and be of no more use. */
  leave(): void;
}

/** A worker's budget costs only the delay until it is heard; a slice's is time that a page does not answer. */
const BEGIN_MS = 10_000;
const WORKER_MS = 60;
const SLICE_MS = 12; // a page may get its turn after the second only
const SILENT_MS = 5_000; // a worker that was ended without a word is not heard twice that long: it is lost

/** What there is of a worker, on the web and in Node. */
interface Port {
  post(message: unknown): void;
  onmessage: (message: { ready?: true; done?: Done; fault?: string }) => void;
  onfault: (fault: unknown) => void;
  busy(is: boolean): void;
  end(): void;
}

type Worker_ = InstanceType<typeof globalThis.Worker>;

function webPort(url: string | URL): Port {
  const worker: Worker_ = new Worker(url, { type: "module", name: "modeltoll" });
  const port: Port = {
    post: (message) => worker.postMessage(message),
    onmessage: () => {},
    onfault: () => {},
    busy: () => {},
    end: () => worker.terminate(),
  };
  worker.onmessage = (event) => port.onmessage(event.data);
  worker.onerror = (event) => {
    event.preventDefault?.();
    port.onfault(event.message);
  };
  return port;
}

function nodePort(): Port {
  const threads = process.getBuiltinModule("node:worker_threads");
  const worker = new threads.Worker(WORKER_SOURCE, { eval: true, execArgv: [], name: "modeltoll" });
  const port: Port = {
    post: (message) => worker.postMessage(message),
    onmessage: () => {},
    onfault: () => {},
    busy: (is) => (is ? worker.ref() : worker.unref()), // an idle worker keeps no program alive
    end: () => void worker.terminate(),
  };
  worker.on("message", (message) => port.onmessage(message));
  worker.on("error", (fault) => port.onfault(fault));
  worker.on("exit", () => port.onfault("the worker ended"));
  return port;
}

let blobUrl: string | undefined;

/** The ways to a worker here, the best first. */
function ways(workerUrl: string | URL | undefined): (() => Port)[] {
  if (typeof globalThis.Worker !== "function") {
    return typeof globalThis.process?.getBuiltinModule === "function" ? [nodePort] : [];
  }
  const blob = (): Port => {
    blobUrl ??= URL.createObjectURL(new Blob([WORKER_SOURCE], { type: "text/javascript" }));
    return webPort(blobUrl);
  };
  return workerUrl === undefined ? [blob] : [() => webPort(workerUrl), blob];
}

/** A new worker that is ready, or null where none can be had: a page's policy may forbid them. */
export async function startWorker(workerUrl?: string | URL): Promise<Hand | null> {
  for (const way of ways(workerUrl)) {
    try {
      return await begin(way());
    } catch {
      // the next way
    }
  }
  return null;
}

async function begin(port: Port): Promise<Hand> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const begun = new Promise<void>((resolve, reject) => {
    port.onmessage = () => resolve();
    port.onfault = reject;
    timer = setTimeout(() => reject(new Error("the worker did not begin")), BEGIN_MS);
  });
  try {
    await begun;
  } catch (error) {
    port.end();
    throw error;
  } finally {
    clearTimeout(timer);
  }
  return workerHand(port);
}

/** Calls after twice `SILENT_MS`; twice, since a machine that wakes up first hears of the time that it slept. */
function patience(lose: () => void): () => void {
  let timer = setTimeout(() => (timer = setTimeout(lose, SILENT_MS)), SILENT_MS);
  return () => clearTimeout(timer);
}

function workerHand(port: Port): Hand {
  let settle: ((error: unknown, done?: Done) => void) | undefined;
  let broken: unknown;
  let heard = (): void => {};
  const answer = (error: unknown, done?: Done): void => {
    heard();
    port.busy(false);
    settle?.(error, done);
    settle = undefined;
  };
  port.onmessage = ({ done, fault }) => answer(fault, done);
  port.onfault = (fault) => answer((broken = fault ?? "the worker broke off"));
  port.busy(false);
  return {
    slices: false,
    work: (job) =>
      new Promise((resolve, reject) => {
        settle = (error, done) => (done ? resolve(done) : reject(new Error(String(error))));
        if (broken !== undefined) return answer(broken);
        port.busy(true);
        heard = patience(() => port.onfault("the worker is not heard any more"));
        port.post([job, WORKER_MS]);
      }),
    leave: () => {
      heard();
      port.end();
    },
  };
}

/** The calling thread, slice by slice. */
export function sliceHand(): Hand {
  return {
    slices: true,
    work: async (job) => {
      const done = await perform(job, SLICE_MS);
      await pause();
      return done;
    },
    leave: () => {},
  };
}

/** Let everything else have its turn; `setTimeout` would wait for a second in a page that is not seen. */
function pause(): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
