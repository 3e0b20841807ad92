/** `modeltoll demo --web` in a process of its own. */

import { MODELTOLL } from "../scripts/paths.mjs";
import { startProcess } from "./childProcess.mjs";

/** Starts it; `url` is the page's address, `end` interrupts it and resolves to its exit code. */
export async function openDemo() {
  const { nextLine, end } = startProcess(MODELTOLL, ["demo", "--web", "--no-open"], { signal: "SIGINT" });
  return { url: await nextLine(), end };
}
