/** Starts a server in a process of its own and reads the lines that it prints. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/**
 * `nextLine` resolves to the next line of its output, or rejects if the process ends; `end` makes the process end, by
 * closing its input or by that signal, and resolves to its exit code.
 */
export function startProcess(command, options, { stderr = "inherit", signal } = {}) {
  const child = spawn(command, options, { stdio: ["pipe", "pipe", stderr] });
  const exit = once(child, "exit");
  const early = exit.then(([code]) => Promise.reject(new Error(`${command} ended with ${code}`)));
  early.catch(() => {}); // `nextLine` reports it
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    nextLine: async () => {
      const { value, done } = await Promise.race([lines.next(), early]);
      return done ? early : value;
    },
    write: (line) => child.stdin.write(`${line}\n`),
    end: async () => {
      if (signal) child.kill(signal);
      else child.stdin.end();
      return (await exit)[0];
    },
  };
}
