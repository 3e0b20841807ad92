/** Debian's Chromium, or the one at $CHROMIUM, as the browser tests drive it. */

import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

export const FLAGS = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** The browser's path; throws where there is none, so that nothing is skipped. */
export function executable() {
  const name = process.env.CHROMIUM ?? "chromium";
  if (name.includes("/")) return name;
  const found = process.env.PATH.split(delimiter)
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
  if (!found) throw new Error("there is no Chromium: install one, or name it in $CHROMIUM");
  return found;
}

/** A browser without a window, in an empty folder of its own; root needs it without a sandbox. */
export function launch() {
  return chromium.launch({ executablePath: executable(), args: FLAGS, chromiumSandbox: process.getuid?.() !== 0 });
}
