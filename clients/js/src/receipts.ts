/**
 * Receipts of opened seals, kept until they are returned to their gateway. Independent of HTTP.
 *
 * A gateway counts a toll as unsettled until it has the receipt from inside the seal. Receipts go back with the next
 * requests, or by POST when there are none. A gateway counts a receipt once, so that returning it twice does no harm.
 */

import { unref } from "./environment.js";
import { atExit, type ExitEvent } from "./exit.js";
import type { Bytes } from "./records.js";
import { MAX_RECEIPT_BYTES, MAX_SETTLEMENT_RECEIPTS } from "./wire.js";

const IDLE_MS = 2000; // after the last opened seal; then receipts are posted
const LIFETIME_MS = 24 * 3600 * 1000; // gateways take no older receipt
const MAX_KEPT = 1024; // in one pocket; beyond it the oldest are dropped
const MAX_POCKETS = 1000;

/** A receipt, and when its seal was opened (milliseconds of the system's clock). */
export interface KeptReceipt {
  readonly bytes: Bytes;
  readonly at: number;
}

/** Posts receipts to their gateway; whether they need not be returned again. */
export type PostReceipts = (receipts: readonly Bytes[], keepalive: boolean) => Promise<boolean>;

/** The receipts of one gateway and one caller. */
export class Pocket {
  /** Set before the first receipt is added. */
  post: PostReceipts = () => Promise.resolve(false);
  private kept: KeptReceipt[] = [];
  private readonly work = new Set<Promise<unknown>>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private returning: Promise<unknown> = Promise.resolve();

  /** `prefix` is the URL of the gateway's root, with a slash at its end; `credentials` tell callers apart. */
  constructor(
    readonly prefix: string,
    readonly credentials: string,
  ) {}

  /** Whether it can be forgotten. */
  get isIdle(): boolean {
    return this.kept.length === 0 && this.work.size === 0;
  }

  /** Keep a receipt. What no gateway would take is dropped. */
  add(receipt: Bytes): void {
    if (receipt.length === 0 || receipt.length > MAX_RECEIPT_BYTES) return;
    this.keep([...this.kept, { bytes: receipt, at: Date.now() }]);
    this.waitForIdleness();
  }

  /** The oldest receipts, which are kept no longer. */
  take(most: number): KeptReceipt[] {
    const oldest = Date.now() - LIFETIME_MS;
    this.kept = this.kept.filter(({ at }) => at > oldest);
    const taken = this.kept.splice(0, most);
    if (this.kept.length === 0) this.stopWaiting();
    return taken;
  }

  /** Keep receipts that may not have arrived. */
  putBack(receipts: readonly KeptReceipt[]): void {
    if (receipts.length === 0) return;
    this.keep([...receipts, ...this.kept]);
    this.waitForIdleness();
  }

  /** Count a toll as being worked on until `work` has ended. */
  track(work: Promise<unknown>): void {
    const ended: Promise<unknown> = work.catch(() => {}).finally(() => this.work.delete(ended));
    this.work.add(ended);
  }

  /**
   * Wait until the tolls that are being worked on now are paid. Whether that changed what the gateway may count, or
   * there are receipts to return.
   */
  async finishWork(): Promise<boolean> {
    if (this.isIdle) return false;
    await Promise.all(this.work);
    return true;
  }

  /**
   * Post all receipts, and wait for those that are being posted. What did not arrive is kept, except when the process
   * ends. Never rejects.
   */
  async returnAll(event: ExitEvent | "idle"): Promise<void> {
    const batches: KeptReceipt[][] = [];
    for (let batch = this.takeBatch(); batch.length > 0; batch = this.takeBatch()) batches.push(batch);
    this.stopWaiting();
    this.returning = Promise.all([this.returning, ...batches.map((batch) => this.returnBatch(batch, event))]);
    await this.returning;
  }

  private async returnBatch(batch: readonly KeptReceipt[], event: ExitEvent | "idle"): Promise<void> {
    const bytes = batch.map((receipt) => receipt.bytes);
    const isDone = await this.post(bytes, event === "pagehide").catch(() => false);
    if (!isDone && event !== "beforeExit") this.keep([...batch, ...this.kept]);
  }

  private takeBatch(): KeptReceipt[] {
    return this.take(MAX_SETTLEMENT_RECEIPTS);
  }

  private keep(receipts: readonly KeptReceipt[]): void {
    this.kept = receipts.slice(-MAX_KEPT);
    atExit.add(this);
  }

  private waitForIdleness(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.returnAll("idle"), IDLE_MS);
    unref(this.timer);
  }

  private stopWaiting(): void {
    clearTimeout(this.timer);
    atExit.delete(this);
  }
}

/** The receipts of all gateways and callers. Several purses may share one. */
export class Receipts {
  private readonly pockets = new Map<string, Pocket>();

  /** The pocket of a gateway and a caller. `post` posts its receipts from now on. */
  open(prefix: string, credentials: string, post: PostReceipts): Pocket {
    const key = `${prefix}\n${credentials}`;
    const pocket = this.pockets.get(key) ?? new Pocket(prefix, credentials);
    pocket.post = post;
    if (!this.pockets.has(key)) this.makeRoom();
    this.pockets.set(key, pocket);
    return pocket;
  }

  /** The pocket of the gateway to which a request goes: of several, that with the longest prefix. */
  find(url: string, credentials: string): Pocket | undefined {
    let found: Pocket | undefined;
    for (const pocket of this.pockets.values()) {
      const isMatch = pocket.credentials === credentials && url.startsWith(pocket.prefix);
      if (isMatch && pocket.prefix.length > (found?.prefix.length ?? 0)) found = pocket;
    }
    return found;
  }

  /** Post all receipts to their gateways. Those that did not arrive are kept. Never rejects. */
  async close(): Promise<void> {
    await Promise.all([...this.pockets.values()].map((pocket) => pocket.returnAll("idle")));
  }

  private makeRoom(): void {
    if (this.pockets.size < MAX_POCKETS) return;
    for (const [key, pocket] of this.pockets) if (pocket.isIdle) this.pockets.delete(key);
    const [oldest] = this.pockets.keys();
    if (this.pockets.size >= MAX_POCKETS && oldest !== undefined) this.pockets.delete(oldest);
  }
}
