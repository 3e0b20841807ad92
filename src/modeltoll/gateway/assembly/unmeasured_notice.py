"""What share of the last day's requests shadow mode did not measure, for the operator to read at start."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from modeltoll.errors import LedgerError
from modeltoll.gateway.admin.dashboard.log_tail import LogTailReader, TailLimits
from modeltoll.gateway.core.request import SHADOW
from modeltoll.ledger.from_url import ledger_spec, open_ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeltoll.gateway.settings.gateway import Settings

__all__ = ["unmeasured_notices"]

_LIMITS = TailLimits(lines=10_000, rows=100_000)  # a second or two of reading; more lines are not looked at


async def unmeasured_notices(settings: Settings, clock: Callable[[], float] = time.time) -> tuple[str, ...]:
    """One sentence for each model in shadow mode, some of whose requests of the last day were not measured.

    Empty where the ledger does not answer, or is not there yet.
    """
    models = [name for name, model in settings.models.items() if model.mode == SHADOW]
    if not models or not ledger_spec(settings.ledger.url).shared:
        return ()
    try:
        async with open_ledger(settings.ledger.url, create=False) as ledger:
            tail = await LogTailReader(ledger, _LIMITS).tail(clock())
    except LedgerError:
        return ()
    notices = []
    for name in models:
        requests, reasons = tail.unmeasured(name)
        if reasons:
            share, (commonest, count) = reasons.total() / requests, reasons.most_common(1)[0]
            notices.append(
                f"models.{name}: {share:.1%} of {requests:,} requests of the last day were not measured; most often "
                f"({count:,} of them): {commonest}"
            )
    return tuple(notices)
