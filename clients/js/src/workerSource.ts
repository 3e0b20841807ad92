/** The worker as one script. The build replaces this module, so that an application's bundler needs no other file. */
export const WORKER_SOURCE: string = "";
