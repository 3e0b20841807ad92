/** Runs tasks: in web workers, in Node's worker threads, or in slices on the calling thread where there are neither. */

import { globals, nodeProcess } from "./environment.js";
import { runTask, type Task, type TaskResult } from "./task.js";
import { WORKER_SOURCE } from "./workerSource.js";

/** Runs one task at a time. */
export interface SolverWorker {
  /** Whether it runs on the calling thread, which a long evaluation would block. */
  readonly inline: boolean;
  /** Work at a task for a short time. Rejects if the worker ended or the machine does not give the memory. */
  run(task: Task): Promise<TaskResult>;
  /** End the worker and its task; later tasks reject. */
  terminate(): void;
}

const START_TIMEOUT_MS = 10_000;
const REPLY_TIMEOUT_MS = 10_000; // a worker that ended without an event is taken for ended after this
/** A worker's time budget only delays its result. During an inline budget the page does not respond. */
const WORKER_BUDGET_MS = 60;
const INLINE_BUDGET_MS = 12; // a browser may render only after the second slice

/** A message of the worker's script. */
interface WorkerMessage {
  readonly ready?: true;
  readonly result?: TaskResult;
  readonly error?: string;
}

interface PortListener {
  onMessage(message: WorkerMessage): void;
  onError(reason: string): void;
}

/** A web worker or a worker thread of Node. */
interface Port {
  /** Give all messages and errors to `listener` from now on. */
  setListener(listener: PortListener): void;
  post(message: unknown): void;
  setBusy(busy: boolean): void;
  terminate(): void;
}

function toWorkerMessage(data: unknown): WorkerMessage {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only worker.ts of this package posts on this port
  return data as WorkerMessage;
}

const NO_LISTENER: PortListener = { onMessage: () => {}, onError: () => {} };

function webPort(url: string | URL): Port {
  const worker = new Worker(url, { type: "module", name: "modeltoll" });
  let current = NO_LISTENER;
  worker.addEventListener("message", (event) => current.onMessage(toWorkerMessage(event.data)));
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    current.onError(event.message);
  });
  return {
    setListener: (listener) => (current = listener),
    post: (message) => worker.postMessage(message),
    setBusy: () => {},
    terminate: () => worker.terminate(),
  };
}

function nodePort(process: NodeJS.Process): Port {
  const threads = process.getBuiltinModule("node:worker_threads");
  const worker = new threads.Worker(WORKER_SOURCE, { eval: true, execArgv: [], name: "modeltoll" });
  let current = NO_LISTENER;
  worker.on("message", (message) => current.onMessage(toWorkerMessage(message)));
  worker.on("error", (error) => current.onError(String(error)));
  worker.on("exit", () => current.onError("the worker ended"));
  return {
    setListener: (listener) => (current = listener),
    post: (message) => worker.postMessage(message),
    setBusy: (busy) => (busy ? worker.ref() : worker.unref()), // an idle worker does not keep the process alive
    terminate: () => void worker.terminate(),
  };
}

let blobUrl: string | undefined;

function blobPort(): Port {
  blobUrl ??= URL.createObjectURL(new Blob([WORKER_SOURCE], { type: "text/javascript" }));
  return webPort(blobUrl);
}

/** The kinds of worker that this engine may have, the preferred first. */
function portFactories(workerUrl: string | URL | undefined): (() => Port)[] {
  if (typeof globals.Worker !== "function") {
    const process = nodeProcess();
    return process ? [() => nodePort(process)] : [];
  }
  return workerUrl === undefined ? [blobPort] : [() => webPort(workerUrl), blobPort];
}

/** A new worker that is ready, or null if none can be started: a page's policy may forbid them. */
export async function startWorker(workerUrl?: string | URL): Promise<SolverWorker | null> {
  for (const openPort of portFactories(workerUrl)) {
    try {
      return await connect(openPort());
    } catch {
      // try the next kind
    }
  }
  return null;
}

async function connect(port: Port): Promise<SolverWorker> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const ready = new Promise<void>((resolve, reject) => {
    port.setListener({ onMessage: () => resolve(), onError: (reason) => reject(new Error(reason)) });
    timer = setTimeout(() => reject(new Error("the worker did not start")), START_TIMEOUT_MS);
  });
  try {
    await ready;
  } catch (error) {
    port.terminate();
    throw error;
  } finally {
    clearTimeout(timer);
  }
  return new PortWorker(port);
}

class PortWorker implements SolverWorker {
  readonly inline = false;
  /** Why the worker ended, once it has. */
  private failure: string | undefined;
  private finishTask: ((message: WorkerMessage) => void) | undefined;
  private stopTimeout = (): void => {};

  constructor(private readonly port: Port) {
    port.setListener({
      onMessage: (message) => this.finish(message),
      onError: (reason) => this.fail(reason),
    });
    port.setBusy(false);
  }

  run(task: Task): Promise<TaskResult> {
    return new Promise((resolve, reject) => {
      this.finishTask = ({ result, error }): void => {
        if (result) resolve(result);
        else reject(new Error(error));
      };
      if (this.failure !== undefined) {
        this.finish({ error: this.failure });
        return;
      }
      this.port.setBusy(true);
      this.stopTimeout = startTimeout(() => this.fail("the worker does not reply any more"));
      this.port.post([task, WORKER_BUDGET_MS]);
    });
  }

  terminate(): void {
    this.stopTimeout();
    this.port.terminate();
  }

  private fail(reason: string): void {
    this.failure = reason || "the worker failed";
    this.finish({ error: this.failure });
  }

  private finish(message: WorkerMessage): void {
    this.stopTimeout();
    this.port.setBusy(false);
    this.finishTask?.(message);
    this.finishTask = undefined;
  }
}

/**
 * Calls back after `REPLY_TIMEOUT_MS`, in two steps: after a machine's sleep the first timer fires at once, and the
 * second leaves the worker time to reply.
 */
function startTimeout(onTimeout: () => void): () => void {
  let timer = setTimeout(() => (timer = setTimeout(onTimeout, REPLY_TIMEOUT_MS / 2)), REPLY_TIMEOUT_MS / 2);
  return () => clearTimeout(timer);
}

/** Runs tasks on the calling thread, in short slices. */
export function inlineWorker(): SolverWorker {
  return {
    inline: true,
    run: async (task) => {
      const result = await runTask(task, INLINE_BUDGET_MS);
      await yieldToEventLoop();
      return result;
    },
    terminate: () => {},
  };
}

/** Lets other events run; in a hidden page `setTimeout` would wait for a second. */
function yieldToEventLoop(): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.addEventListener("message", () => {
      port1.close();
      resolve();
    });
    port1.start();
    port2.postMessage(null);
  });
}
