/** Starts Chromium: `chromium` in $PATH, or the program that $CHROMIUM names. */

import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

const FLAGS = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** The browser's path; throws if there is none, so that no test is skipped. */
function chromiumPath() {
  const name = process.env.CHROMIUM ?? "chromium";
  if (name.includes("/")) return name;
  const path = process.env.PATH.split(delimiter)
    .map((folder) => join(folder, name))
    .find((candidate) => {
      try {
        accessSync(candidate, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
  if (!path) throw new Error("there is no Chromium: install it, or name it in $CHROMIUM");
  return path;
}

/** A headless browser with an empty profile and further `flags`. Chromium's sandbox does not run as root. */
export function launch(flags = []) {
  const args = [...FLAGS, ...flags];
  return chromium.launch({ executablePath: chromiumPath(), args, chromiumSandbox: process.getuid?.() !== 0 });
}
