/** The page to try the toll, as shipped, before a toll house of the tests' own that sells what they say. */

import { readdirSync, readFileSync } from "node:fs";
import { makeToll, send402 } from "../test/house.mjs";

const SHIPPED = new URL("../../../src/modeltoll/gateway/admin/playground/files/", import.meta.url);
const TYPES = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };
const POLICY = {
  "default-src": "'none'",
  "script-src": "'self' 'wasm-unsafe-eval'",
  "worker-src": "'self'",
  "style-src": "'self'",
  "img-src": "'self'",
  "connect-src": "'self'",
};
const SAMPLES = { digits: [Array.from({ length: 64 }, (_, at) => at % 17)], patches: [Array(64).fill(0.5)] };
const SHARES = [0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.91, 0.01, 0.01];
const BODY = JSON.stringify({ outputs: [{ name: "p", shape: [1, 10], datatype: "FP64", data: SHARES }] });
export const ANSWER = { status: 200, type: "application/json", body: Buffer.from(BODY) };
export const INFER = "/infer";

/**
 * Serve the page from that house. `policy` changes directives, `worker` is put before the worker's script, `gateway`
 * is another house's address, and `demo: false` leaves the ordinary page.
 */
export function setUp(house, { policy = {}, worker = "", gateway = house.url, demo = true } = {}) {
  house.reset();
  const rules = { ...POLICY, "connect-src": `'self' ${gateway}`, ...policy };
  const said = Object.entries(rules).map((rule) => rule.join(" "));
  const serve = (path, type, content) => {
    house.handlers[path] = (_, response) => {
      response.writeHead(200, { "content-type": type, "content-security-policy": said.join("; ") }).end(content);
    };
  };
  for (const name of readdirSync(SHIPPED)) {
    const content = readFileSync(new URL(name, SHIPPED), "utf8");
    const type = TYPES[name.split(".").at(-1)];
    serve(`/${name}`, type, name === "worker.js" ? worker + content : content);
    if (name === "index.html") serve("/", type, content);
  }
  const models = [{ name: "victim", infer: INFER, metadata: "/model" }];
  const told = { gateway, models, demo: demo ? { keys: ["a", "b", "c", "d"], samples: "samples.json" } : null };
  serve("/house.json", TYPES.js, JSON.stringify(told));
  serve("/samples.json", TYPES.js, JSON.stringify(SAMPLES));
  const inputs = [{ name: "x", datatype: "FP64", shape: [-1, 3] }];
  serve("/model", TYPES.js, JSON.stringify({ name: "victim", inputs }));
}

/** Sell the answer for such a toll; a function is told how many MiB the client has. */
export function sell(house, sold) {
  house.handlers[INFER] = async (request, response) => {
    const told = Number(/memory=(\d+)/.exec(request.headers["toll-accept"] ?? "")?.[1] ?? 64);
    send402(response, await makeToll(ANSWER, typeof sold === "function" ? sold(told) : sold));
  };
}
