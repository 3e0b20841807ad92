/** Checks the format of the dashboard's script and style, and lints the script: `npm run lint:dashboard`. */

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { ROOT } from "./bundle.mjs";
import { DASHBOARD_FILES, REPOSITORY } from "./paths.mjs";

const fileOf = (name) => join(REPOSITORY, DASHBOARD_FILES, name);
const SCRIPT = fileOf("dashboard.js");
const COMMANDS = [
  ["prettier", "--config", ".prettierrc.json", "--check", SCRIPT, fileOf("dashboard.css")],
  ["oxlint", "--deny-warnings", "--config", ".oxlintrc.json", SCRIPT],
];

for (const [name, ...options] of COMMANDS) {
  const { status, error } = spawnSync(join(ROOT, "node_modules/.bin", name), options, { cwd: ROOT, stdio: "inherit" });
  if (error) throw error;
  if (status !== 0) process.exitCode = 1;
}
