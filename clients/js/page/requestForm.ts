/** The form of an ordinary gateway's page: a request to any of its models. */

import { byId, byIdAs, element, setVisible } from "./dom.js";
import type { GatewayInfo } from "./gatewayInfo.js";
import { isNumberArray, memberOf } from "./json.js";

/** `limit` is the most that is paid, in expected seconds of work. */
export interface ModelRequest {
  readonly path: string;
  readonly body: string;
  readonly key: string;
  readonly limit: number;
}

/** Show the form; `onSubmit` receives each request. */
export function showRequestForm({ gateway, models }: GatewayInfo, onSubmit: (request: ModelRequest) => void): void {
  const [modelSelect, keyInput] = [byIdAs("model", HTMLSelectElement), byIdAs("key", HTMLInputElement)];
  const [pathInput, bodyInput] = [byIdAs("path", HTMLInputElement), byIdAs("body", HTMLTextAreaElement)];
  modelSelect.append(...models.map(({ name }) => element("option", name)));
  const fillIn = async (): Promise<void> => {
    const model = models[modelSelect.selectedIndex];
    if (!model) return;
    pathInput.value = model.infer;
    const before = bodyInput.value;
    const template = model.metadata === null ? "" : await requestTemplate(gateway + model.metadata, keyInput.value);
    if (bodyInput.value === before) bodyInput.value = template; // what the user typed meanwhile stays
  };
  modelSelect.addEventListener("change", () => void fillIn());
  keyInput.addEventListener("change", () => void fillIn());
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const limit = byIdAs("limit", HTMLInputElement).valueAsNumber;
    onSubmit({ path: pathInput.value, body: bodyInput.value, key: keyInput.value, limit });
  });
  setVisible("request", true);
  void fillIn();
}

/** A request of the Open Inference Protocol, filled with zeros by the model's metadata; empty if that cannot be read. */
async function requestTemplate(url: string, key: string): Promise<string> {
  try {
    const response = await fetch(url, { headers: key ? { "x-api-key": key } : {} });
    const inputs = memberOf(await response.json(), "inputs");
    return Array.isArray(inputs) ? JSON.stringify({ inputs: inputs.map(zeroTensor) }) : "";
  } catch {
    return "";
  }
}

/** Throws if `metadata` does not describe a tensor. */
function zeroTensor(metadata: unknown): object {
  const [name, datatype, shape] = [
    memberOf(metadata, "name"),
    memberOf(metadata, "datatype"),
    memberOf(metadata, "shape"),
  ];
  if (!isNumberArray(shape)) throw new Error("the input has no shape");
  const sizes = shape.map((size) => Math.max(size, 1));
  const zero = datatype === "BYTES" ? "" : datatype === "BOOL" ? false : 0;
  const length = sizes.reduce((product, size) => product * size, 1);
  return { name, shape: sizes, datatype, data: Array<unknown>(length).fill(zero) };
}
