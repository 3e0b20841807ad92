/** The dashboard of a believable day, in a process of its own; $PYTHON, or the one beside $MODELTOLL, runs it. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const COMMAND = process.env.MODELTOLL ?? new URL("../../../.venv/bin/modeltoll", import.meta.url).pathname;
const PROGRAM = fileURLToPath(new URL("../../../tests/support/scripted_dashboard.py", import.meta.url));
const PYTHON = process.env.PYTHON ?? join(dirname(COMMAND), "python");

/** Starts it; `url` is the dashboard's address, `tell` has it do something, `end` lets it end and gives its exit code. */
export async function openStand() {
  const stand = spawn(PYTHON, [PROGRAM], { stdio: ["pipe", "pipe", "ignore"] });
  const exited = once(stand, "exit");
  const gone = exited.then(([code]) => Promise.reject(new Error(`the dashboard's stand ended with ${code}`)));
  gone.catch(() => {});
  const lines = createInterface({ input: stand.stdout })[Symbol.asyncIterator]();
  const next = async () => (await Promise.race([lines.next(), gone])).value;
  const url = await next();
  return {
    url,
    tell: async (word) => {
      stand.stdin.write(`${word}\n`);
      if ((await next()) !== "done") throw new Error(`the stand did not do: ${word}`);
    },
    end: async () => {
      stand.stdin.end();
      return (await exited)[0];
    },
  };
}
