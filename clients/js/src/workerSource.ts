/** The worker as one script, put here by the build: whoever bundles this package need not know of it. */
export const WORKER_SOURCE: string = "";
