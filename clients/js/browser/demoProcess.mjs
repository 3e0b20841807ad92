/** `modeltoll demo --web`, in a process of its own: $MODELTOLL names the command. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const COMMAND = process.env.MODELTOLL ?? new URL("../../../.venv/bin/modeltoll", import.meta.url).pathname;

/** Starts it; `url` is the page's address, `end` interrupts it and gives its exit code. */
export async function openDemo() {
  const demo = spawn(COMMAND, ["demo", "--web", "--no-open"], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(demo, "exit");
  const gone = exited.then(([code]) => Promise.reject(new Error(`modeltoll demo --web ended with ${code}`)));
  gone.catch(() => {});
  const lines = createInterface({ input: demo.stdout });
  const [url] = await Promise.race([once(lines, "line"), gone]);
  return {
    url,
    end: async () => {
      demo.kill("SIGINT");
      return (await exited)[0];
    },
  };
}
