/** Where the Python package has the files that are made, copied or linted here; paths from the repository's root. */

import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const REPOSITORY = fileURLToPath(new URL("../../..", import.meta.url));

/** The playground page, which scripts/page.mjs makes. */
export const PAGE_FILES = "src/modeltoll/gateway/admin/playground/files";

/** The dashboard: its own script and style, and the libraries that scripts/vendor.mjs copies. */
export const DASHBOARD_FILES = "src/modeltoll/gateway/admin/dashboard/files";

/** The command of a Modeltoll that is installed in a virtual environment. */
export const MODELTOLL = process.env.MODELTOLL ?? join(REPOSITORY, ".venv/bin/modeltoll");
