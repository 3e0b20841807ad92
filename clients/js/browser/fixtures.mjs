/** Serves the playground page, as shipped, and the tolls of a test from a test gateway. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { PAGE_FILES, REPOSITORY } from "../scripts/paths.mjs";
import { makeToll, send402 } from "../test/testGateway.mjs";

const FOLDER = join(REPOSITORY, PAGE_FILES);
const TYPES = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };
const POLICY = {
  "default-src": "'none'",
  "script-src": "'self' 'wasm-unsafe-eval'",
  "worker-src": "'self'",
  "style-src": "'self'",
  "img-src": "'self'",
  "connect-src": "'self'",
};
const ALLOWED_HEADERS = "authorization, content-type, x-api-key, toll-accept, toll-settle";
const SAMPLES = { digits: [Array.from({ length: 64 }, (_, at) => at % 17)], patches: [Array(64).fill(0.5)] };
const PROBABILITIES = [0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.91, 0.01, 0.01];
const OUTPUT = { name: "p", shape: [1, 10], datatype: "FP64", data: PROBABILITIES };
const BODY = JSON.stringify({ outputs: [OUTPUT] });
export const ANSWER = { status: 200, type: "application/json", body: Buffer.from(BODY) };
export const INFER = "/infer";

/**
 * Serve the page from `server`. `policy` changes directives, `workerPrefix` is put before the worker's script,
 * `gateway` is the URL of the gateway that the page uses, and `demo: false` serves an ordinary gateway's page.
 */
export function servePage(server, { policy = {}, workerPrefix = "", gateway = server.url, demo = true } = {}) {
  server.reset();
  const directives = { ...POLICY, "connect-src": `'self' ${gateway}`, ...policy };
  const header = Object.entries(directives)
    .map((directive) => directive.join(" "))
    .join("; ");
  const serve = (path, type, content) => {
    server.handlers[path] = (_, response) => {
      response.writeHead(200, { "content-type": type, "content-security-policy": header }).end(content);
    };
  };
  for (const name of readdirSync(FOLDER)) {
    const content = readFileSync(join(FOLDER, name), "utf8");
    const type = TYPES[name.split(".").at(-1)];
    serve(`/${name}`, type, name === "worker.js" ? workerPrefix + content : content);
    if (name === "index.html") serve("/", type, content);
  }
  const models = [{ name: "victim", infer: INFER, metadata: "/model" }];
  const demoInfo = demo ? { keys: ["a", "b", "c", "d"], samples: "samples.json" } : null;
  serve("/gateway.json", TYPES.js, JSON.stringify({ gateway, models, demo: demoInfo }));
  serve("/samples.json", TYPES.js, JSON.stringify(SAMPLES));
  const inputs = [{ name: "x", datatype: "FP64", shape: [-1, 3] }];
  serve("/model", TYPES.js, JSON.stringify({ name: "victim", inputs }));
}

/** Ask that toll for the answer; `toll` may be a function of the memory in MiB that the client announces. */
export function serveToll(server, toll) {
  server.handlers[INFER] = async (request, response) => {
    const memoryMib = Number(/memory=(\d+)/.exec(request.headers["toll-accept"] ?? "")?.[1] ?? 64);
    send402(response, await makeToll(ANSWER, typeof toll === "function" ? toll(memoryMib) : toll));
  };
}

/** Let pages of that origin send requests to all of the server's paths, as a gateway whose settings list the origin. */
export function allowOrigin(server, origin) {
  for (const [path, handler] of Object.entries(server.handlers)) {
    server.handlers[path] = (request, response, body) => {
      response.setHeader("access-control-allow-origin", origin);
      if (request.method !== "OPTIONS") return handler(request, response, body);
      response.setHeader("access-control-allow-headers", ALLOWED_HEADERS);
      response.setHeader("access-control-max-age", "0");
      return response.writeHead(200).end();
    };
  }
}
