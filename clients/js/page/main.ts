/** The page to try the toll: what its buttons do. */

import { asDigit, asItCame, thumbnail } from "./answerView.js";
import { Counter, type Question } from "./askPanel.js";
import { byId, make, seen } from "./dom.js";
import { Grid } from "./pixelGrid.js";
import { BLANK, cellsOf, FULL, rowOf } from "./rasterize.js";
import { type Letter, showLetter } from "./requestForm.js";
import { type Demo, type Offer, readJson, readOffer, type Samples } from "./gatewayInfo.js";
import { Pad } from "./drawingPad.js";
import { Race } from "./thiefDemo.js";
import { inWords, knowsArgon2id, Till } from "./tollClient.js";
import { time } from "./format.js";

const PATIENCE = 60; // seconds of work that one answer may cost here
const RACE_LIMIT = 0.5; // the same for an answer of the race
const OK = 200;

function say(words: string): void {
  byId("said").textContent = words;
}

function notice(text: string): void {
  byId("notices").append(make("p", text));
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
    void counter.ask({
      letter: letterOf(row, model, key, PATIENCE),
      what: `64 numbers: ${what}.`,
      picture,
      read: asDigit,
    });
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
    const { status, price, text } = await till.buy({ ...letterOf(row, model, key, RACE_LIMIT), signal });
    if (text !== null && status !== OK) throw new Error(`the toll house answers ${status}: ${text}`);
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
  const counter = new Counter(till, offer.gateway, say);
  if (offer.demo) await showDemo(offer, offer.demo, till, counter);
  else showLetter(offer, (letter) => void counter.ask(question(letter)));
  document.documentElement.dataset["ready"] = "yes";
}

function question(letter: Letter): Question {
  const model = byId<HTMLSelectElement>("model").value;
  return {
    letter,
    what: `${letter.body.length} characters, to ${model}.`,
    picture: make("span", model),
    read: asItCame,
  };
}

open().catch((error: unknown) => notice(`The page could not begin: ${String(error)}`));
