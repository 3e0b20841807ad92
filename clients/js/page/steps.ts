/** The card "The toll": the steps of one request. */

import type { Toll } from "../src/index.js";
import type { AnswerView } from "./answerView.js";
import { byId, byIdAs, setVisible } from "./dom.js";
import { formatCount, formatNumber, formatSeconds } from "./format.js";
import type { PaidAnswer } from "./tollClient.js";

const SEAL_CHARACTERS = 160; // of a sealed answer that are shown
const ANNOUNCE_INTERVAL_MS = 4000; // between two announcements of the progress

const STEPS = ["sent", "sealed", "work", "answer"] as const;
type Step = (typeof STEPS)[number];
type State = "" | "current" | "done" | "failed";

export class Steps {
  private readonly bar = byIdAs("progress", HTMLProgressElement);
  private startTime = 0;
  private announceTime = 0;

  /** `announce` gives a text to screen readers. */
  constructor(private readonly announce: (text: string) => void) {}

  start(description: string): void {
    setVisible("idle", false);
    setVisible("trouble", false);
    setVisible("steps", true);
    for (const step of STEPS) this.mark(step, "", "");
    byId("sealed-bytes").textContent = "";
    byId("answer").replaceChildren();
    this.bar.value = 0;
    this.setWorking(false);
    this.mark("sent", "current", description);
  }

  /** `seconds` is the time until the toll came. */
  showToll(toll: Toll, seconds: number): void {
    const price = formatSeconds(toll.typicalSeconds);
    const [time, puzzle] = [formatSeconds(seconds), describePuzzle(toll)];
    this.mark("sent", "done");
    const text = toll.admission
      ? `After ${time} the gateway asked a toll for admission, ${puzzle}: ${price} of work. Then it asks the model.`
      : `After ${time} the answer came, sealed by ${puzzle}: ${price} of work.`;
    this.mark("sealed", "done", text);
    byId("sealed-bytes").textContent = `${base64(toll.cargo.subarray(0, (SEAL_CHARACTERS * 3) / 4))}…`;
    this.mark("work", "current", "Starting");
    this.startTime = this.announceTime = performance.now();
    this.setWorking(true);
    this.announce(`${toll.admission ? "A toll for admission" : "Sealed"}. The price is ${price} of work.`);
  }

  showProgress(evaluations: number, most: number): void {
    const rate = (1000 * evaluations) / Math.max(performance.now() - this.startTime, 1);
    const bound = most > 0 ? ` of at most ${most.toLocaleString("en")}` : "";
    const text = `${formatCount(evaluations, "attempt")}${bound}`;
    this.mark("work", "current", `${text}, ${formatNumber(rate)} per second`);
    if (most > 0) this.bar.value = evaluations / most;
    if (performance.now() - this.announceTime < ANNOUNCE_INTERVAL_MS) return;
    this.announceTime = performance.now();
    this.announce(text);
  }

  finish({ price, workSeconds }: PaidAnswer, { sentence, picture }: AnswerView): void {
    this.setWorking(false);
    this.mark("sent", "done");
    if (price > 0) {
      this.mark("work", "done", `Solved in ${formatSeconds(workSeconds)}; the price was ${formatSeconds(price)}.`);
      this.bar.value = 1;
    } else {
      this.mark("sealed", "done", "Not sealed: this answer costs nothing.");
      this.mark("work", "done", "Nothing to do.");
    }
    this.mark("answer", "done", sentence);
    byId("answer").replaceChildren(picture);
    this.announce(sentence);
  }

  fail(message: string): void {
    this.setWorking(false);
    for (const step of STEPS) {
      if (byId(`step-${step}`).dataset["state"] === "current") this.mark(step, "failed");
    }
    setVisible("trouble", true);
    byId("trouble").textContent = message;
  }

  private setWorking(isWorking: boolean): void {
    if (!isWorking && document.activeElement === byId("stop")) byId("toll-title").focus(); // a hidden button has no focus
    setVisible("stop", isWorking);
  }

  private mark(step: Step, state: State, text?: string): void {
    const item = byId(`step-${step}`);
    item.dataset["state"] = state;
    if (state === "current") item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
    const paragraph = item.querySelector("[data-text]");
    if (paragraph && text !== undefined) paragraph.textContent = text;
  }
}

/** "argon2id of 8 MiB, in 4 parts" */
function describePuzzle({ challenge: { puzzle, parts, memoryKib } }: Toll): string {
  const size = memoryKib >= 1024 ? `${memoryKib / 1024} MiB` : `${memoryKib} KiB`;
  const memory = puzzle === "argon2id" ? ` of ${size}` : "";
  return `${puzzle}${memory}${parts.length > 1 ? `, in ${parts.length} parts` : ""}`;
}

function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}
