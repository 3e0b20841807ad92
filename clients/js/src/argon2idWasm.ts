/** assembly/argon2id.ts, compiled, as base64url. The build replaces this module. */
export const ARGON2ID_WASM: string = "";
