/** The way of one order, step by step, as the card "The toll" shows it. */

import type { Toll } from "../src/index.js";
import { byId, seen } from "./dom.js";
import type { Purchase } from "./tollClient.js";
import { count, digits, time } from "./format.js";

const SHOWN = 160; // characters of a seal
const SPOKEN_MS = 4000; // between two words on the progress

const STEPS = ["sent", "sealed", "work", "answer"] as const;
type Step = (typeof STEPS)[number];

export class Steps {
  private readonly bar = byId<HTMLProgressElement>("progress");
  private begun = 0;
  private spoken = 0;

  /** `say` speaks to a screen reader. */
  constructor(private readonly say: (words: string) => void) {}

  begin(what: string): void {
    seen("idle", false);
    seen("trouble", false);
    seen("steps", true);
    for (const step of STEPS) this.mark(step, "", "");
    byId("cargo").textContent = "";
    byId("answer").replaceChildren();
    this.bar.value = 0;
    this.working(false);
    this.mark("sent", "now", what);
  }

  sealed(toll: Toll, seconds: number): void {
    const { puzzle, parts, memoryKib } = toll.challenge;
    const memory =
      puzzle === "argon2id" ? ` of ${memoryKib >= 1024 ? `${memoryKib / 1024} MiB` : `${memoryKib} KiB`}` : "";
    const pieces = parts.length > 1 ? `, in ${parts.length} parts` : "";
    const price = time(toll.typicalSeconds);
    this.mark("sent", "done");
    this.mark(
      "sealed",
      "done",
      `After ${time(seconds)} the answer came, sealed by ${puzzle}${memory}${pieces}: ${price} of work.`,
    );
    byId("cargo").textContent = `${base64(toll.cargo.subarray(0, (SHOWN * 3) / 4))}…`;
    this.mark("work", "now", "Beginning");
    this.begun = this.spoken = performance.now();
    this.working(true);
    this.say(`Sealed. The price is ${price} of work.`);
  }

  worked(done: number, most: number): void {
    const rate = (1000 * done) / Math.max(performance.now() - this.begun, 1);
    const all = most > 0 ? ` of at most ${most.toLocaleString("en")}` : "";
    const words = `${count(done, "attempt")}${all}`;
    this.mark("work", "now", `${words}, ${digits(rate)} a second`);
    if (most > 0) this.bar.value = done / most;
    if (performance.now() - this.spoken < SPOKEN_MS) return;
    this.spoken = performance.now();
    this.say(words);
  }

  /** `answer` says what was bought, as words and as something to look at. */
  end(purchase: Purchase, words: string, answer: Node): void {
    this.working(false);
    this.mark("sent", "done");
    if (purchase.price > 0) {
      this.mark("work", "done", `Solved in ${time(purchase.worked)}; the price was ${time(purchase.price)}.`);
      this.bar.value = 1;
    } else {
      this.mark("sealed", "done", "Not sealed: this answer costs nothing.");
      this.mark("work", "done", "Nothing to do.");
    }
    this.mark("answer", "done", words);
    byId("answer").replaceChildren(answer);
    this.say(words);
  }

  fail(words: string): void {
    this.working(false);
    for (const step of STEPS) {
      if (byId(`step-${step}`).dataset["state"] === "now") this.mark(step, "lost");
    }
    seen("trouble", true);
    byId("trouble").textContent = words;
  }

  private working(is: boolean): void {
    if (!is && document.activeElement === byId("stop")) byId("toll-title").focus(); // what is hidden loses the focus
    seen("stop", is);
    this.bar.classList.toggle("resting", !is && this.bar.value === 0);
  }

  private mark(step: Step, state: "" | "now" | "done" | "lost", text?: string): void {
    const item = byId(`step-${step}`);
    item.dataset["state"] = state;
    if (state === "now") item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
    if (text !== undefined) item.querySelector("[data-text]")!.textContent = text;
  }
}

function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}
