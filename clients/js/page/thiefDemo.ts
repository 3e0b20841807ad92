/** The card "A thief of 50 queries": the prices of a thief and of an honest caller, added up. */

import { byId, element, setVisible } from "./dom.js";
import { formatCount, formatNumber, formatSeconds } from "./format.js";
import type { Samples } from "./gatewayInfo.js";
import { plot } from "./plot.js";
import { toModelRow } from "./rasterize.js";

export const QUERIES = 50;
const REPORT_INTERVAL = 10; // queries between two rows of the table, and between two announcements

type CallerName = "honest" | "thief";

/** Asks for one row with that API key; the price, and whether it was paid. */
export type AskRow = (
  row: readonly number[],
  key: string,
  signal: AbortSignal,
) => Promise<{ price: number; isPaid: boolean }>;

export class ThiefDemo {
  private sums: Record<CallerName, number[]> = { honest: [], thief: [] };
  private paidCounts: Record<CallerName, number> = { honest: 0, thief: 0 };
  private controller: AbortController | null = null;

  /** `announce` gives a text to screen readers. */
  constructor(
    private readonly samples: Samples,
    private readonly askRow: AskRow,
    private readonly announce: (text: string) => void,
  ) {
    byId("cancel").addEventListener("click", () => this.controller?.abort());
    addEventListener("resize", () => this.paint());
  }

  /** Run all queries, or as many as there are before it is stopped. Rejects if the gateway refuses a request. */
  async run(keys: Readonly<Record<CallerName, string>>, firstSample: number): Promise<void> {
    const controller = (this.controller = new AbortController());
    this.sums = { honest: [], thief: [] };
    this.paidCounts = { honest: 0, thief: 0 };
    this.showButtons(true);
    try {
      for (let at = 0; at < QUERIES; at++) {
        const digit = toModelRow(itemAt(this.samples.digits, firstSample + at));
        await this.query("honest", digit, keys.honest, controller.signal);
        await this.query("thief", itemAt(this.samples.patches, firstSample + at), keys.thief, controller.signal);
        this.paint();
        if ((at + 1) % REPORT_INTERVAL === 0) this.announce(this.summary());
      }
    } catch (error) {
      if (!controller.signal.aborted) throw error;
    } finally {
      this.controller = null;
      this.showButtons(false);
      this.paint();
      this.announce(this.summary());
    }
  }

  private async query(caller: CallerName, row: readonly number[], key: string, signal: AbortSignal): Promise<void> {
    const { price, isPaid } = await this.askRow(row, key, signal);
    const sums = this.sums[caller];
    sums.push((sums.at(-1) ?? 0) + price);
    if (isPaid) this.paidCounts[caller]++;
  }

  private showButtons(isRunning: boolean): void {
    setVisible("play", !isRunning);
    setVisible("cancel", isRunning);
    byId(isRunning ? "cancel" : "play").focus();
  }

  private paint(): void {
    const { honest, thief } = this.sums;
    if (honest.length === 0) return;
    setVisible("plot-figure", true);
    setVisible("plot-details", true);
    byId("plot").replaceChildren(plot(this.sums, QUERIES, byId("plot-figure").clientWidth));
    byId("thief-summary").textContent = this.summary();
    const rows = thief.flatMap((sum, at) =>
      (at + 1) % REPORT_INTERVAL === 0 || at === thief.length - 1
        ? [[String(at + 1), itemAt(honest, at).toPrecision(3), sum.toPrecision(3)]]
        : [],
    );
    const rowElements = rows.map((cells) => element("tr", ...cells.map((text) => element("td", text))));
    byId("plot-rows").replaceChildren(...rowElements);
  }

  private summary(): string {
    const queries = this.sums.thief.length;
    if (queries === 0) return "Stopped before the first query was answered.";
    const [honest, thief] = [itemAt(this.sums.honest, queries - 1), itemAt(this.sums.thief, queries - 1)];
    const ratio = honest > 0 ? `, ${formatNumber(thief / honest)} times as much` : "";
    return (
      `After ${formatCount(queries, "query", "queries")} each, the honest caller was asked for ` +
      `${formatSeconds(honest)} of work, the thief for ${formatSeconds(thief)}${ratio}. This page paid for ` +
      `${this.paidCounts.honest} of the honest caller's answers and ${this.paidCounts.thief} of the thief's.`
    );
  }
}

/** The item at that index; after the last item the first one follows. */
function itemAt<T>(items: readonly T[], index: number): T {
  const item = items[index % items.length];
  if (item === undefined) throw new Error("there are no samples");
  return item;
}
