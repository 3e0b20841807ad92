/** What the JavaScript engine offers: pages, workers and Node have different globals. */

/** The engine's globals; any of them may be missing. */
export const globals: Partial<typeof globalThis> = globalThis;

/** Node's `process`, or undefined in a browser, also where a bundler puts a stub in its place. */
export function nodeProcess(): NodeJS.Process | undefined {
  const process: Partial<NodeJS.Process> | undefined = globals.process;
  return process?.getBuiltinModule ? globals.process : undefined;
}

/** Let the process end while the timer runs; a timer of a browser is a number. */
export function unref(timer: ReturnType<typeof setTimeout> | number): void {
  if (typeof timer === "object") timer.unref();
}
