/** Replays opened answers that are event streams (`text/event-stream`), one chunk for each event. */

import { Interruption } from "./interruption.js";
import type { Answer, Bytes } from "./records.js";

const LF = 10;
const CR = 13;

/** `pace`: seconds between events. An aborted `signal` ends the stream with its reason. */
export interface ReplayOptions {
  readonly pace?: number;
  readonly signal?: AbortSignal | undefined;
}

/** Whether the answer's content type is that of server-sent events. */
export function isEventStream({ contentType }: Answer): boolean {
  return contentType.split(";", 1)[0]?.trim().toLowerCase() === "text/event-stream";
}

/**
 * The events of a stream in order, each with the blank lines that end it; together they are the body. Comments are passed
 * on. What follows the last blank line is the last item, if there is anything.
 */
export function* eventsOf(body: Bytes): Generator<Bytes, void> {
  let start = 0;
  let lineEnds = 0; // in a row
  for (let at = 0; at < body.length;) {
    const size = lineEndSize(body, at);
    if (size === 0 && lineEnds > 1) {
      yield body.subarray(start, at);
      start = at;
    }
    lineEnds = size === 0 ? 0 : lineEnds + 1;
    at += size || 1;
  }
  if (start < body.length) yield body.subarray(start);
}

/** The bytes of the line end (LF, CR, CR LF) at a place; 0 if there is none. */
function lineEndSize(body: Bytes, at: number): number {
  if (body[at] === LF) return 1;
  if (body[at] !== CR) return 0;
  return body[at + 1] === LF ? 2 : 1;
}

/** A stream of the events, each of which comes once the one before was read and the pace has passed. */
export function replay(body: Bytes, { pace = 0, signal }: ReplayOptions): ReadableStream<Bytes> {
  const events = eventsOf(body);
  let interruption: Interruption | undefined; // once the stream is read
  let timer: ReturnType<typeof setTimeout> | undefined;
  const end = (): void => {
    clearTimeout(timer);
    interruption?.dispose();
  };
  const pull = async (controller: ReadableStreamDefaultController<Bytes>): Promise<void> => {
    signal?.throwIfAborted();
    const event = events.next();
    if (event.done) {
      end();
      controller.close();
      return;
    }
    if (interruption && pace > 0) {
      await interruption.race(new Promise<void>((resolve) => (timer = setTimeout(resolve, 1000 * pace))));
    }
    interruption ??= new Interruption({ signal });
    controller.enqueue(event.value);
  };
  return new ReadableStream({ pull, cancel: end }, { highWaterMark: 0 });
}
