/** assembly/argon2id.ts, compiled and as base64url, put here by the build. */
export const ARGON2ID_WASM: string = "";
