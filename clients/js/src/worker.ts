/** The script of a worker, of the web or of Node: answers each `[task, budget]` with its result, or with an error. */

import { nodeProcess } from "./environment.js";
import { runTask, type Task } from "./task.js";

interface Channel {
  readonly post: (message: unknown) => void;
  readonly listen: (receive: (message: unknown) => void) => void;
}

function openChannel(): Channel {
  const port = nodeProcess()?.getBuiltinModule("node:worker_threads").parentPort;
  if (port) return { post: (message) => port.postMessage(message), listen: (receive) => port.on("message", receive) };
  return {
    post: (message) => globalThis.postMessage(message),
    listen: (receive) => globalThis.addEventListener("message", (event) => receive(event.data)),
  };
}

const { post, listen } = openChannel();

listen((message) => {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only workers.ts of this package posts to this worker
  const [task, budget] = message as [Task, number];
  runTask(task, budget).then(
    (result) => post({ result }),
    (error: unknown) => post({ error: String(error) }),
  );
});
post({ ready: true });
