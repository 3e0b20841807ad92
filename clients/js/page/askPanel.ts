/** Asks one question at a time, and shows its steps and its receipt. */

import type { Toll } from "../src/index.js";
import type { AnswerView } from "./answerView.js";
import { byId } from "./dom.js";
import { formatSeconds } from "./format.js";
import { addReceipt } from "./receipts.js";
import type { ModelRequest } from "./requestForm.js";
import { Steps } from "./steps.js";
import { errorMessage, type PaidAnswer, type TollClient } from "./tollClient.js";

/** A request, its `description` in the steps, its `picture` in a receipt, and the view of its answer. */
export interface Question {
  readonly request: ModelRequest;
  readonly description: string;
  readonly picture: Node;
  readonly view: (text: string) => AnswerView;
}

export class AskPanel {
  private readonly steps: Steps;
  private controller = new AbortController();

  /** `announce` gives a text to screen readers. */
  constructor(
    private readonly client: TollClient,
    private readonly gateway: string,
    announce: (text: string) => void,
  ) {
    this.steps = new Steps(announce);
    byId("stop").addEventListener("click", () => this.controller.abort());
  }

  /** Ask a question and show its progress; it replaces a question that is not answered yet. */
  async ask(question: Question): Promise<void> {
    this.controller.abort();
    const { signal } = (this.controller = new AbortController());
    const isCurrent = (): boolean => this.controller.signal === signal;
    let price = 0;
    this.steps.start(question.description);
    byId("toll").scrollIntoView({ block: "nearest" });
    try {
      const onToll = (toll: Toll, seconds: number, sum: number): void => {
        price = sum;
        if (isCurrent()) this.steps.showToll(toll, seconds);
      };
      const onProgress = (evaluations: number, most: number): void => {
        if (isCurrent()) this.steps.showProgress(evaluations, most);
      };
      const answer = await this.client.request({ ...question.request, signal }, { onToll, onProgress });
      if (isCurrent()) this.showAnswer(question, answer);
    } catch (error) {
      if (price > 0) addReceipt({ subject: question.picture, price, workSeconds: null, answer: "sealed" });
      if (isCurrent()) this.steps.fail(errorMessage(error, this.gateway));
    }
  }

  private showAnswer({ request, picture, view }: Question, answer: PaidAnswer): void {
    const { status, text, price, workSeconds } = answer;
    if (text === null) {
      const limit = `this page pays at most ${formatSeconds(request.limit)}`;
      this.steps.fail(`The price is ${formatSeconds(price)} of work, and ${limit}: the answer stays sealed.`);
      addReceipt({ subject: picture, price, workSeconds: null, answer: "sealed" });
    } else if (status >= 400) {
      this.steps.fail(`The gateway answers with status ${status}: ${text}`);
    } else {
      const shown = view(text);
      this.steps.finish(answer, shown);
      addReceipt({ subject: picture, price, workSeconds, answer: shown.summary });
    }
  }
}
