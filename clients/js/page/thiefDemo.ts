/** A thief of 50 queries beside an honest caller: what the toll house asks of each, added up. */

import { byId, make, seen } from "./dom.js";
import { rowOf } from "./rasterize.js";
import type { Samples } from "./gatewayInfo.js";
import { plot, type Sums } from "./plot.js";
import { count, digits, time } from "./format.js";

export const QUERIES = 50;
const EVERY = 10; // queries between two rows of the table, and two words on how it goes

/** Asks for one row with that key; the price, and whether it was paid. */
export type Ask = (
  row: readonly number[],
  key: string,
  signal: AbortSignal,
) => Promise<{ price: number; paid: boolean }>;

/** The card "A thief of 50 queries". */
export class Race {
  private honest: number[] = [];
  private thief: number[] = [];
  private paid = { honest: 0, thief: 0 };
  private running: AbortController | null = null;

  constructor(
    private readonly samples: Samples,
    private readonly ask: Ask,
    private readonly say: (words: string) => void,
  ) {
    byId("cancel").addEventListener("click", () => this.running?.abort());
    addEventListener("resize", () => this.paint());
  }

  /** Play it to its end, or until it is stopped; `keys` are the two accounts. Rejects where the house says no. */
  async play(keys: readonly [string, string], seed: number): Promise<void> {
    const running = (this.running = new AbortController());
    [this.honest, this.thief, this.paid] = [[], [], { honest: 0, thief: 0 }];
    this.buttons(true);
    try {
      for (let at = 0; at < QUERIES; at++) {
        await this.turn("honest", rowOf(pick(this.samples.digits, seed + at)), keys[0], running.signal);
        await this.turn("thief", pick(this.samples.patches, seed + at), keys[1], running.signal);
        this.paint();
        if ((at + 1) % EVERY === 0) this.say(this.standing());
      }
    } catch (error) {
      if (!running.signal.aborted) throw error;
    } finally {
      this.running = null;
      this.buttons(false);
      this.paint();
      this.say(this.standing());
    }
  }

  private async turn(who: "honest" | "thief", row: readonly number[], key: string, signal: AbortSignal): Promise<void> {
    const { price, paid } = await this.ask(row, key, signal);
    const sums = this[who];
    sums.push((sums.at(-1) ?? 0) + price);
    if (paid) this.paid[who]++;
  }

  private buttons(running: boolean): void {
    seen("play", !running);
    seen("cancel", running);
    if (running) byId("cancel").focus();
    else byId("play").focus();
  }

  private paint(): void {
    const sums: Sums = { honest: this.honest, thief: this.thief };
    if (this.honest.length === 0) return;
    seen("plot-figure", true);
    seen("plot-details", true);
    byId("plot").replaceChildren(plot(sums, QUERIES, byId("plot-figure").clientWidth));
    byId("verdict").textContent = this.standing();
    const rows = this.thief.flatMap((sum, at) =>
      (at + 1) % EVERY === 0 || at === this.thief.length - 1
        ? [[String(at + 1), this.honest[at]!.toPrecision(3), sum.toPrecision(3)]]
        : [],
    );
    byId("plot-rows").replaceChildren(...rows.map((cells) => make("tr", ...cells.map((text) => make("td", text)))));
  }

  private standing(): string {
    const asked = this.thief.length;
    if (asked === 0) return "Stopped before the first query was answered.";
    const [honest, thief] = [this.honest[asked - 1]!, this.thief[asked - 1]!];
    const times = honest > 0 ? `, ${digits(thief / honest)} times as much` : "";
    const paid = `Worked for here: ${this.paid.honest} of the honest caller's answers, ${this.paid.thief} of the thief's.`;
    return `After ${count(asked, "query", "queries")} each, the honest caller was asked for ${time(honest)} of work, the thief for ${time(thief)}${times}. ${paid}`;
  }
}

function pick<T>(all: readonly T[], at: number): T {
  return all[at % all.length]!;
}
