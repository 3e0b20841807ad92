/** What the server of this page says of the toll house. */

/** Rows to try: `digits` in 0..16, `patches` of photographs in 0..1. */
export interface Samples {
  readonly digits: readonly (readonly number[])[];
  readonly patches: readonly (readonly number[])[];
}

/** What the demo adds: keys of callers that nobody has met, and where its samples are. */
export interface Demo {
  readonly keys: readonly string[];
  readonly samples: string;
}

/** `gateway` is the public side's address; of each model, where it is asked and where it is described, if anywhere. */
export interface Offer {
  readonly gateway: string;
  readonly models: readonly { readonly name: string; readonly infer: string; readonly metadata: string | null }[];
  readonly demo: Demo | null;
}

export async function readOffer(): Promise<Offer> {
  return readJson<Offer>("house.json");
}

export async function readJson<T>(path: string): Promise<T> {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} is not to be had: ${response.status}`);
  return (await response.json()) as T;
}
