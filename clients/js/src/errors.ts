/**
 * The one error tree of the client, as the Python client has it.
 *
 *     TollError
 *     ├── TollMalformed     not a toll that this client can read; nothing was solved
 *     ├── TollTooDear       above the caller's own limits; nothing was solved
 *     ├── SolveStopped      past its deadline, or the machine gave no memory
 *     └── SealBroken        the solution opens nothing
 *
 * A work that its `AbortSignal` ends rejects with the signal's reason, as `fetch` does.
 */
export class TollError extends Error {
  override name = "TollError";
}

/** Not a toll that this client can read, or one that asks for absurd things. */
export class TollMalformed extends TollError {
  override name = "TollMalformed";
}

/** The toll is above the caller's own limits. `seconds` and `limit` are expected seconds on one reference core. */
export class TollTooDear extends TollError {
  override name = "TollTooDear";
  readonly seconds: number;
  readonly limit: number;

  constructor(message: string, seconds: number, limit: number) {
    super(message);
    this.seconds = seconds;
    this.limit = limit;
  }
}

/** The solver ran into its deadline, or had no memory to work in. */
export class SolveStopped extends TollError {
  override name = "SolveStopped";
}

/** Not enough memory for one evaluation; `fits` is what might do, in KiB. The toll may be asked for anew. */
export class MemoryShort extends SolveStopped {
  readonly fits: number;

  constructor(message: string, fits: number) {
    super(message);
    this.fits = fits;
  }
}

/** The solution does not open the seal, or leads to a redirect or a further toll. */
export class SealBroken extends TollError {
  override name = "SealBroken";
}
