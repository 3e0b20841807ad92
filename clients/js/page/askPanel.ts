/** The counter of the page: one question at a time, with its way through the steps and its receipt. */

import type { Toll } from "../src/index.js";
import type { Reading } from "./answerView.js";
import { byId } from "./dom.js";
import type { Letter } from "./requestForm.js";
import { file } from "./receipts.js";
import { Steps } from "./steps.js";
import { inWords, type Purchase, type Till } from "./tollClient.js";
import { time } from "./format.js";

/** Something to ask, how the steps and a receipt call it, and how its answer is read. */
export interface Question {
  readonly letter: Letter;
  readonly what: string;
  readonly picture: Node;
  readonly read: (text: string) => Reading;
}

export class Counter {
  private readonly steps: Steps;
  private work = new AbortController();

  /** `say` speaks to a screen reader. */
  constructor(
    private readonly till: Till,
    private readonly gateway: string,
    say: (words: string) => void,
  ) {
    this.steps = new Steps(say);
    byId("stop").addEventListener("click", () => this.work.abort());
  }

  /** Ask, and show what happens; a new question takes the place of the old one. */
  async ask(question: Question): Promise<void> {
    this.work.abort();
    const { signal } = (this.work = new AbortController());
    const still = (): boolean => this.work.signal === signal;
    let price = 0;
    this.steps.begin(question.what);
    byId("toll").scrollIntoView({ block: "nearest" });
    try {
      const sealed = (toll: Toll, seconds: number): void => {
        price = toll.typicalSeconds;
        if (still()) this.steps.sealed(toll, seconds);
      };
      const worked = (done: number, most: number): void => {
        if (still()) this.steps.worked(done, most);
      };
      const purchase = await this.till.buy({ ...question.letter, signal }, { sealed, worked });
      if (still()) this.end(question, purchase);
    } catch (error) {
      if (price > 0) file({ what: question.picture, price, worked: null, answer: "sealed" });
      if (still()) this.steps.fail(inWords(error, this.gateway));
    }
  }

  private end({ letter, picture, read }: Question, purchase: Purchase): void {
    const { status, text, price, worked } = purchase;
    if (text === null) {
      const limit = `this page pays at most ${time(letter.limit)}`;
      this.steps.fail(`The price is ${time(price)} of work, and ${limit}: the answer stays sealed.`);
      file({ what: picture, price, worked: null, answer: "sealed" });
    } else if (status >= 400) {
      this.steps.fail(`The toll house answers with status ${status}: ${text}`);
    } else {
      const { words, brief, picture: answer } = read(text);
      this.steps.end(purchase, words, answer);
      file({ what: picture, price, worked, answer: brief });
    }
  }
}
