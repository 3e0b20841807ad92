/** What is done before a page is left, or a process of Node ends by itself. */

import { globals, nodeProcess } from "./environment.js";

/** `pagehide`: only requests that outlive the page arrive. `beforeExit`: what is left to do delays the end. */
export type ExitEvent = "pagehide" | "beforeExit";

/** Something that has receipts to return. */
export interface Returner {
  returnAll(event: ExitEvent): Promise<void>;
}

/** Those that return receipts at the end. The first of them adds the listener. */
class ExitReturners {
  private readonly returners = new Set<Returner>();
  private isListening = false;

  add(returner: Returner): void {
    this.returners.add(returner);
    if (this.isListening) return;
    this.isListening = true;
    const process = nodeProcess();
    if (process) process.on("beforeExit", () => this.returnAll("beforeExit"));
    else globals.addEventListener?.("pagehide", () => this.returnAll("pagehide"));
  }

  delete(returner: Returner): void {
    this.returners.delete(returner);
  }

  private returnAll(event: ExitEvent): void {
    for (const returner of this.returners) void returner.returnAll(event);
  }
}

export const atExit = new ExitReturners();
