/** Whether a redeem path leads to a gateway: a proxy in front of it may pass on other paths only. */

import { type CallerRequest, postOptions } from "./callerRequest.js";
import { TollMalformed } from "./errors.js";
import { discard } from "./httpMessages.js";
import { REDEEM_PROBE } from "./wire.js";

/** Seconds of expected work, from which on the redeem path is asked before the work is done. */
export const PROBED_SECONDS = 0.1;

const LOST_STATUSES = new Set([0, 403, 404, 405, 410, 501]); // 0: a redirect, as a page sees it
const NO_CONTENT = 204;
const CLIENT_ERROR = 400;

/** Ask once; `known` are the URLs that were found to lead to a gateway. Rejects with `TollMalformed` if this one does not. */
export async function probeRedeemPath(
  url: string,
  request: CallerRequest,
  send: typeof fetch,
  known: Set<string>,
): Promise<void> {
  if (known.has(url)) return;
  const response = await send(url, postOptions(request, REDEEM_PROBE));
  discard(response);
  const { status } = response;
  if (LOST_STATUSES.has(status) || (status < CLIENT_ERROR && status !== NO_CONTENT)) {
    throw new TollMalformed(
      `no work was done, because the toll could not be redeemed: POST ${url} is answered with ${status}. ` +
        "A proxy in front of the gateway must pass on /.well-known/modeltoll/redeem beside the model's path",
    );
  }
  known.add(url);
}
