/** Asks a model of any kind: the form that an ordinary toll house's page has. */

import { byId, make, seen } from "./dom.js";
import type { Offer } from "./gatewayInfo.js";

export interface Letter {
  readonly path: string;
  readonly body: string;
  readonly key: string;
  readonly limit: number;
}

interface Tensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
}

/** Show the form; `send` hears what is to be asked. */
export function showLetter({ gateway, models }: Offer, send: (letter: Letter) => void): void {
  const [model, key] = [byId<HTMLSelectElement>("model"), byId<HTMLInputElement>("key")];
  const [path, body] = [byId<HTMLInputElement>("path"), byId<HTMLTextAreaElement>("body")];
  model.append(...models.map(({ name }) => make("option", name)));
  const choose = async (): Promise<void> => {
    const { infer, metadata } = models[model.selectedIndex]!;
    path.value = infer;
    const written = body.value;
    const draft = metadata === null ? "" : await skeleton(gateway + metadata, key.value);
    if (body.value === written) body.value = draft;
  };
  model.addEventListener("change", () => void choose());
  key.addEventListener("change", () => void choose());
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const limit = byId<HTMLInputElement>("limit").valueAsNumber;
    send({ path: path.value, body: body.value, key: key.value, limit });
  });
  seen("letter", true);
  void choose();
}

/** A request of the Open Inference Protocol with noughts in it, as the model's description has it. */
async function skeleton(url: string, key: string): Promise<string> {
  try {
    const response = await fetch(url, { headers: key ? { "x-api-key": key } : {} });
    const { inputs } = (await response.json()) as { inputs: readonly Tensor[] };
    return JSON.stringify({ inputs: inputs.map(blank) });
  } catch {
    return ""; // whoever asks knows what the model takes
  }
}

function blank({ name, datatype, shape }: Tensor): object {
  const sizes = shape.map((size) => Math.max(size, 1));
  const nought = datatype === "BYTES" ? "" : datatype === "BOOL" ? false : 0;
  return { name, shape: sizes, datatype, data: Array(sizes.reduce((all, size) => all * size, 1)).fill(nought) };
}
