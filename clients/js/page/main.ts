/** Connects the page's buttons to the toll client. */

import { digitView, rawText, thumbnail } from "./answerView.js";
import { AskPanel, type Question } from "./askPanel.js";
import { byId, byIdAs, element, setVisible } from "./dom.js";
import { DrawingPad } from "./drawingPad.js";
import { formatSeconds } from "./format.js";
import {
  type DemoInfo,
  fetchGatewayInfo,
  fetchJson,
  type GatewayInfo,
  type ModelInfo,
  type Samples,
} from "./gatewayInfo.js";
import { PixelGrid } from "./pixelGrid.js";
import { BLANK, MAX_INK, rasterize, toModelRow } from "./rasterize.js";
import { type ModelRequest, showRequestForm } from "./requestForm.js";
import { type AskRow, ThiefDemo } from "./thiefDemo.js";
import { errorMessage, supportsArgon2id, TollClient } from "./tollClient.js";

const DRAWING_LIMIT = 60; // seconds of work that are paid for one answer
const THIEF_LIMIT = 0.5; // the same for one answer in the thief demo
const OK = 200;

/** Gives a text to screen readers. */
function announce(text: string): void {
  byId("announcement").textContent = text;
}

/** Shows a sentence at the top of the page. */
function notice(text: string): void {
  byId("notices").append(element("p", text));
}

/** A request for one row of 64 numbers in 0..1. */
function rowRequest(row: readonly number[], model: ModelInfo, key: string, limit: number): ModelRequest {
  const tensor = { name: "x", shape: [1, row.length], datatype: "FP64", data: row };
  return { path: model.infer, body: JSON.stringify({ inputs: [tensor] }), key, limit };
}

/** Show the demo: drawing, unusual requests, and the thief. */
async function showDemo({ models, gateway }: GatewayInfo, demo: DemoInfo, client: TollClient): Promise<void> {
  const samples = await fetchJson<Samples>(demo.samples);
  const [model] = models;
  if (!model) throw new Error("the gateway has no model");
  const nextKey = keyRotation(demo.keys);
  showDrawing(samples, model, new AskPanel(client, gateway, announce), nextKey);
  const thiefDemo = new ThiefDemo(samples, rowAsker(model, client), announce);
  byId("play").addEventListener("click", () => {
    const firstSample = Math.floor(Math.random() * samples.digits.length);
    const keys = { honest: nextKey(), thief: nextKey() };
    thiefDemo.run(keys, firstSample).catch((error: unknown) => notice(errorMessage(error, gateway)));
  });
  byId("thief-limit").textContent = formatSeconds(THIEF_LIMIT);
  setVisible("thief-demo", true);
}

/** Show the drawing pad and its buttons. */
function showDrawing(samples: Samples, model: ModelInfo, panel: AskPanel, nextKey: () => string): void {
  const [drawingKey, unusualKey] = [nextKey(), nextKey()];
  const ask = (row: readonly number[], subject: string, key: string): void => {
    void panel.ask({
      request: rowRequest(row, model, key, DRAWING_LIMIT),
      description: `64 numbers: ${subject}.`,
      picture: element("span", thumbnail(row), " ", subject),
      view: digitView,
    });
  };
  const pad: DrawingPad = new DrawingPad(byIdAs("pad", HTMLCanvasElement), (strokes) => grid.show(rasterize(strokes)));
  const grid = new PixelGrid(byId("cells"), (description) => {
    pad.clear();
    announce(description);
  });
  const show = (row: readonly number[]): void => {
    pad.clear();
    grid.show(row.map((ink) => ink * MAX_INK));
  };
  byId("ask").addEventListener("click", () => ask(toModelRow(grid.cells), "a drawing", drawingKey));
  byId("clear").addEventListener("click", () => show(BLANK));
  byId("example").addEventListener("click", () => show(toModelRow(randomItem(samples.digits))));
  byId("noise").addEventListener("click", () => {
    const row = BLANK.map(() => Math.random());
    show(row);
    ask(row, "noise", unusualKey);
  });
  byId("patch").addEventListener("click", () => {
    const row = randomItem(samples.patches);
    show(row);
    ask(row, "a photograph patch", unusualKey);
  });
  show(toModelRow(randomItem(samples.digits)));
  setVisible("drawing", true);
}

/** Asks for one row in the thief demo, which pays only tolls of a moment. */
function rowAsker(model: ModelInfo, client: TollClient): AskRow {
  return async (row, key, signal) => {
    const { status, price, text } = await client.request({ ...rowRequest(row, model, key, THIEF_LIMIT), signal });
    if (text !== null && status !== OK) throw new Error(`the gateway answers with status ${status}: ${text}`);
    return { price, isPaid: text !== null };
  };
}

/** The demo's API keys in turn, from a random one on, so that two tabs use different accounts. */
function keyRotation(keys: readonly string[]): () => string {
  let at = Math.floor(Math.random() * keys.length);
  return () => keys[at++ % keys.length] ?? "";
}

function randomItem<T>(items: readonly T[]): T {
  const item = items[Math.floor(Math.random() * items.length)];
  if (item === undefined) throw new Error("there are no samples");
  return item;
}

async function start(): Promise<void> {
  if (!supportsArgon2id()) notice("This page cannot use WebAssembly: only tolls of SHA-256 can be paid.");
  if (!isSecureContext) notice("Seals can be opened over https and on localhost only.");
  const info = await fetchGatewayInfo();
  byId("gateway").textContent = `its gateway, ${info.gateway}`;
  const client = new TollClient(info.gateway, notice);
  if (info.demo) {
    await showDemo(info, info.demo, client);
  } else {
    const panel = new AskPanel(client, info.gateway, announce);
    showRequestForm(info, (request) => void panel.ask(formQuestion(request)));
  }
  document.documentElement.dataset["ready"] = "yes";
}

function formQuestion(request: ModelRequest): Question {
  const model = byIdAs("model", HTMLSelectElement).value;
  return {
    request,
    description: `${request.body.length} characters, to ${model}.`,
    picture: element("span", model),
    view: rawText,
  };
}

start().catch((error: unknown) => notice(`The page could not start: ${String(error)}`));
