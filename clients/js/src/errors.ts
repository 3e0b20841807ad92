/**
 * The client's errors; the Python client has the same.
 *
 *     TollError
 *     ├── TollMalformed     not a toll that this client can read; nothing was solved
 *     ├── TollTooDear       above the caller's own limits; nothing was solved
 *     ├── SolveStopped      past its deadline, or the machine gave no memory
 *     └── SealBroken        the solution opens nothing
 *
 * A call that its `AbortSignal` ends rejects with the signal's reason, as `fetch` does.
 */
export class TollError extends Error {
  override name = "TollError";
}

/** Not a toll that this client can read, or one with parameters out of range. */
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

/** The solver reached its deadline, or got no memory. */
export class SolveStopped extends TollError {
  override name = "SolveStopped";
}

/** Not enough memory for one evaluation. A toll of at most `suggestedKib` may be requested instead. */
export class InsufficientMemory extends SolveStopped {
  readonly suggestedKib: number;

  constructor(message: string, suggestedKib: number) {
    super(message);
    this.suggestedKib = suggestedKib;
  }
}

/** The solution does not open the seal, or leads to a redirect or a further toll. */
export class SealBroken extends TollError {
  override name = "SealBroken";
}
