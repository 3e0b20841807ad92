/** A worker, of the web or of Node: answers each `[job, budget]` with what was done, or with why not. */

import { type Job, perform } from "./task.js";

interface Channel {
  post(message: unknown): void;
  listen(receive: (message: unknown) => void): void;
}

function channel(): Channel {
  const node = globalThis.process?.getBuiltinModule?.("node:worker_threads")?.parentPort;
  if (node) return { post: (message) => node.postMessage(message), listen: (receive) => node.on("message", receive) };
  return {
    post: (message) => globalThis.postMessage(message),
    listen: (receive) => globalThis.addEventListener("message", (event) => receive(event.data)),
  };
}

const { post, listen } = channel();

listen((message) => {
  const [job, budget] = message as [Job, number];
  perform(job, budget).then(
    (done) => post({ done }),
    (fault: unknown) => post({ fault: String(fault) }),
  );
});
post({ ready: true });
