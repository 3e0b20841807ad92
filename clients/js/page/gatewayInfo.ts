/** What this page's server says about the gateway. */

/** Rows to try: `digits` in 0..16, `patches` of photographs in 0..1. */
export interface Samples {
  readonly digits: readonly (readonly number[])[];
  readonly patches: readonly (readonly number[])[];
}

/** Only in the demo: API keys of accounts that are new to the gateway, and the path of the samples. */
export interface DemoInfo {
  readonly keys: readonly string[];
  readonly samples: string;
}

/** The paths of a model's inference and of its metadata (null if its protocol has none). */
export interface ModelInfo {
  readonly name: string;
  readonly infer: string;
  readonly metadata: string | null;
}

/** `gateway` is the URL of the public side. */
export interface GatewayInfo {
  readonly gateway: string;
  readonly models: readonly ModelInfo[];
  readonly demo: DemoInfo | null;
}

export function fetchGatewayInfo(): Promise<GatewayInfo> {
  return fetchJson<GatewayInfo>("gateway.json");
}

export async function fetchJson<T>(path: string): Promise<T> {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} cannot be loaded: status ${response.status}`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- this page's own server writes these files
  return (await response.json()) as T;
}
