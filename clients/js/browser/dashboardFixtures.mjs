/** The dashboard with a day of sample traffic, in a process of its own; $PYTHON, or the one beside $MODELTOLL, runs it. */

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { MODELTOLL } from "../scripts/paths.mjs";
import { startProcess } from "./childProcess.mjs";

const PYTHON = process.env.PYTHON ?? join(dirname(MODELTOLL), "python");
const PROGRAM = [fileURLToPath(new URL("../../../tests/support/scripted_dashboard.py", import.meta.url))];

/** Starts it; `url` is the dashboard's address, `send` runs a command of the program, `end` resolves to its exit code. */
export async function openDashboard() {
  const { nextLine, write, end } = startProcess(PYTHON, PROGRAM, { stderr: "ignore" });
  const url = await nextLine();
  const send = async (command) => {
    write(command);
    if ((await nextLine()) !== "done") throw new Error(`the dashboard's process did not run: ${command}`);
  };
  return { url, send, end };
}
