/** Ends the waiting for work that is aborted or late. */

import { SolveStopped } from "./errors.js";

export interface InterruptionOptions {
  readonly signal?: AbortSignal | undefined;
  readonly deadlineSeconds?: number | undefined;
}

/** Rejects when the signal is aborted or the deadline has passed. */
export class Interruption {
  private readonly interrupted: Promise<never>;
  private readonly signal: AbortSignal | undefined;
  private onAbort: (() => void) | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor({ signal, deadlineSeconds }: InterruptionOptions) {
    this.signal = signal;
    this.interrupted = new Promise((_, reject) => {
      this.onAbort = (): void => reject(signal?.reason);
      if (deadlineSeconds === undefined) return;
      const late = new SolveStopped("the work was not done before its deadline");
      this.timer = setTimeout(() => reject(late), Math.min(1000 * deadlineSeconds, 2 ** 31 - 1));
    });
    this.interrupted.catch(() => {}); // `race` reports it
    if (this.onAbort) signal?.addEventListener("abort", this.onAbort);
  }

  race<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.interrupted]);
  }

  dispose(): void {
    clearTimeout(this.timer);
    if (this.onAbort) this.signal?.removeEventListener("abort", this.onAbort);
  }
}
