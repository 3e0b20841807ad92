/** The public interface of the JavaScript client. */

export { SealBroken, SolveStopped, TollError, TollMalformed, TollTooDear } from "./errors.js";
export { type Fetch, type TollFetch, tollFetch, type TollFetchOptions } from "./fetch.js";
export { type Payment, Purse, type PurseOptions } from "./purse.js";
export { Receipts } from "./receipts.js";
export type { Challenge, Mode, Part, PuzzleName, Solution, Toll } from "./records.js";
