/** The page to try the toll: what its buttons do. */

import { best, plain, probabilities, thumbnail, verdict } from "./answers.js";
import { byId, make, seen } from "./dom.js";
import { Grid } from "./grid.js";
import { BLANK, cellsOf, FULL, rowOf } from "./ink.js";
import { type Letter, showLetter } from "./letter.js";
import { type Demo, type Offer, readJson, readOffer, type Samples } from "./offer.js";
import { Pad } from "./pad.js";
import { Race } from "./race.js";
import { file } from "./receipts.js";
import { Steps } from "./steps.js";
import { inWords, knowsArgon2id, Till } from "./till.js";
import { percent, time } from "./words.js";

const PATIENCE = 60; // seconds of work that one answer may cost here
const RACE_LIMIT = 0.5; // the same for an answer of the race

/** Something to ask, and how a receipt calls it: a row of the demo's, or a letter to any model. */
interface Question {
  readonly letter: Letter;
  readonly what: string;
  readonly picture: Node;
}

function say(words: string): void {
  byId("said").textContent = words;
}

function notice(text: string): void {
  byId("notices").append(make("p", text));
}

/** The counter: one question at a time; a new one takes the place of the old. */
class Counter {
  private readonly steps = new Steps(say);
  private work = new AbortController();

  constructor(
    private readonly till: Till,
    private readonly gateway: string,
  ) {
    byId("stop").addEventListener("click", () => this.work.abort());
  }

  async ask({ letter, what, picture }: Question): Promise<void> {
    this.work.abort();
    const { signal } = (this.work = new AbortController());
    const still = (): boolean => this.work.signal === signal;
    let price = 0;
    this.steps.begin(what);
    byId("toll").scrollIntoView({ block: "nearest" });
    try {
      const watch = {
        sealed: (toll: Parameters<Steps["sealed"]>[0], seconds: number) => {
          price = toll.typicalSeconds;
          if (still()) this.steps.sealed(toll, seconds);
        },
        worked: (done: number, most: number) => still() && this.steps.worked(done, most),
      };
      const purchase = await this.till.buy({ ...letter, signal }, watch);
      const { status, text, worked } = purchase;
      if (text === null) {
        const limit = `this page pays at most ${time(letter.limit)}`;
        if (still()) this.steps.fail(`The price is ${time(price)} of work, and ${limit}: the answer stays sealed.`);
        file({ what: picture, price, worked: null, answer: "sealed" });
        return;
      }
      const shares = status === 200 ? probabilities(text) : null;
      const words = shares ? reading(shares) : `An answer of ${text.length} characters, with status ${status}.`;
      if (still()) this.steps.end(purchase, words, shares?.length === 10 ? verdict(shares) : plain(text));
      file({ what: picture, price, worked, answer: shares ? short(shares) : `status ${status}` });
    } catch (error) {
      if (price > 0) file({ what: picture, price, worked: null, answer: "sealed" });
      if (still()) this.steps.fail(inWords(error, this.gateway));
    }
  }
}

function short(shares: readonly number[]): string {
  const { digit, share } = best(shares);
  return `${digit}, ${percent(share)} sure`;
}

function reading(shares: readonly number[]): string {
  const { digit, share } = best(shares);
  return `The model reads a ${digit}, and is ${percent(share)} sure.`;
}

/** Asks rows of 64 numbers in 0..1 of the demo's victim. */
function letterOf(row: readonly number[], { infer }: Offer["models"][number], key: string, limit: number): Letter {
  const tensor = { name: "x", shape: [1, row.length], datatype: "FP64", data: row };
  return { path: infer, body: JSON.stringify({ inputs: [tensor] }), key, limit };
}

/** The demo: drawing, strange questions, and the race. */
async function showDemo({ models, gateway }: Offer, demo: Demo, till: Till, counter: Counter): Promise<void> {
  const samples = await readJson<Samples>(demo.samples);
  const model = models[0]!;
  const keys = accounts(demo.keys);
  const [visitor, stranger] = [keys(), keys()];
  const ask = (row: readonly number[], what: string, key: string): void => {
    const picture = make("span", thumbnail(row), " ", what);
    void counter.ask({ letter: letterOf(row, model, key, PATIENCE), what: `64 numbers: ${what}.`, picture });
  };
  const pad: Pad = new Pad(byId<HTMLCanvasElement>("pad"), (strokes) => grid.show(cellsOf(strokes)));
  const grid = new Grid(byId("cells"), (words) => {
    pad.clear();
    say(words);
  });
  const show = (row: readonly number[]): void => {
    pad.clear();
    grid.show(row.map((ink) => ink * FULL));
  };
  byId("ask").addEventListener("click", () => ask(rowOf(grid.cells), "a drawing", visitor));
  byId("clear").addEventListener("click", () => show(BLANK));
  byId("example").addEventListener("click", () => show(rowOf(any(samples.digits))));
  byId("noise").addEventListener("click", () => {
    const row = BLANK.map(() => Math.random());
    show(row);
    ask(row, "noise", stranger);
  });
  byId("patch").addEventListener("click", () => {
    const row = any(samples.patches);
    show(row);
    ask(row, "a photograph patch", stranger);
  });
  const race = raceOf(samples, model, till);
  byId("play").addEventListener("click", () => {
    const seed = Math.floor(Math.random() * samples.digits.length);
    race.play([keys(), keys()], seed).catch((error: unknown) => notice(inWords(error, gateway)));
  });
  byId("race-limit").textContent = time(RACE_LIMIT);
  seen("race", true);
  show(rowOf(any(samples.digits)));
  seen("drawing", true);
}

/** The race pays only what takes a moment; what is dearer is only added up. */
function raceOf(samples: Samples, model: Offer["models"][number], till: Till): Race {
  const ask = async (row: readonly number[], key: string, signal: AbortSignal) => {
    const { price, text } = await till.buy({ ...letterOf(row, model, key, RACE_LIMIT), signal });
    return { price, paid: text !== null };
  };
  return new Race(samples, ask, say);
}

/** Keys of callers that nobody has met, one after another, from a random one on: another tab takes others. */
function accounts(keys: readonly string[]): () => string {
  let at = Math.floor(Math.random() * keys.length);
  return () => keys[at++ % keys.length]!;
}

function any<T>(all: readonly T[]): T {
  return all[Math.floor(Math.random() * all.length)]!;
}

async function open(): Promise<void> {
  if (!knowsArgon2id()) notice("WebAssembly is not to be had here: only tolls of SHA-256 can be paid.");
  if (!globalThis.crypto?.subtle) notice("Seals can be opened over https and on localhost only.");
  const offer = await readOffer();
  byId("gateway").textContent = `its toll house, ${offer.gateway}`;
  const till = new Till(offer.gateway, notice);
  const counter = new Counter(till, offer.gateway);
  if (offer.demo) await showDemo(offer, offer.demo, till, counter);
  else showLetter(offer, (letter) => void counter.ask(question(letter)));
  document.documentElement.dataset["ready"] = "yes";
}

function question(letter: Letter): Question {
  const model = byId<HTMLSelectElement>("model").value;
  return { letter, what: `${letter.body.length} characters, to ${model}.`, picture: make("span", model) };
}

open().catch((error: unknown) => notice(`The page could not begin: ${String(error)}`));
