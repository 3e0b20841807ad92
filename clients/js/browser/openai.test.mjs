/** The unmodified OpenAI SDK in pages of other origins, with WebCrypto and without, at a real gateway. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { ROOT } from "../scripts/bundle.mjs";
import { MODELTOLL } from "../scripts/paths.mjs";
import { TestGateway } from "../test/testGateway.mjs";
import { startProcess } from "./childProcess.mjs";
import { launch } from "./chromium.mjs";

const KEY = "sk-1";
const REPORT = "It rains in Oslo, 7 °C ☂."; // what the model server says
const OTHER_NAME = "app.example"; // a page over http from here has no WebCrypto
const SCRIPT = `
  import OpenAI from "openai";
  import { Purse, tollFetch } from "modeltoll";
  globalThis.ask = async (gateway) => {
    const purse = new Purse();
    const client = new OpenAI({
      baseURL: gateway + "/v1", apiKey: "${KEY}", organization: "org", project: "project", maxRetries: 0, timeout: 60000,
      dangerouslyAllowBrowser: true, fetch: tollFetch(undefined, { purse }),
      defaultHeaders: { traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", tracestate: "a=b" },
    });
    const completion = client.chat.completions.create({ model: "chat", messages: [{ role: "user", content: "hi" }] });
    const { data, response } = await completion.withResponse();
    return {
      content: data.choices[0].message.content,
      modes: purse.payments.map(({ mode }) => mode),
      isSecure: isSecureContext,
      status: response.status,
    };
  };`;
let browser, site, gateway, url, others;

before(async () => {
  site = await TestGateway.open();
  const { port } = new URL(site.url);
  others = [site.url, `http://${OTHER_NAME}:${port}`];
  browser = await launch([`--host-resolver-rules=MAP ${OTHER_NAME} 127.0.0.1`]);
  const { outputFiles } = await build({
    stdin: { contents: SCRIPT, resolveDir: ROOT },
    bundle: true,
    format: "iife",
    platform: "browser",
    write: false,
  });
  site.handlers["/"] = (_, response) => {
    response.writeHead(200, { "content-type": "text/html" });
    response.end(`<!doctype html><script>${outputFiles[0].text.replaceAll("</script", "<\\/script")}</script>`);
  };
  const script = new URL("gateway.py", import.meta.url).pathname;
  gateway = startProcess(join(dirname(MODELTOLL), "python"), [script, KEY, ...others]);
  url = await gateway.nextLine();
});
after(async () => {
  await browser?.close();
  await gateway?.end();
  await site?.close();
});

async function askFrom(origin) {
  const page = await browser.newPage();
  try {
    await page.goto(`${origin}/`);
    return await page.evaluate((gatewayUrl) => globalThis.ask(gatewayUrl), url);
  } finally {
    await page.close();
  }
}

test("a page of a listed origin is answered, with all headers that the SDK and tracing add", async () => {
  const answer = await askFrom(others[0]);
  assert.deepEqual(answer, { content: REPORT, modes: ["sealed"], isSecure: true, status: 200 });
});

test("a page that came over plain http has no WebCrypto, and redeems tokens instead", async () => {
  const answer = await askFrom(others[1]);
  assert.deepEqual(answer, { content: REPORT, modes: ["redeem"], isSecure: false, status: 200 });
});
