"""The frozen records of settlement: what callers owe, have paid and prove. Times and work are as in ``records``.

This module imports the standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from modeltoll.record_init import quick_init

__all__ = ["RECEIPT_BYTES", "Adjustment", "Admission", "Receipt", "Reservation", "Standing"]

RECEIPT_BYTES = 16  # of a receipt's identity
_ROUNDING = 1e-9  # of a price; less than that is not asked


@quick_init
@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a caller has done the work of one toll. The ledger counts each ``identity`` (16 bytes) once per caller.

    ``unsettled``: seconds that its toll added to the caller's unsettled work. ``rows``: rows that it paid for. Of an
    admission toll: ``prepaid``, seconds for the tolls that follow, and ``new_account``, seconds of the new-account toll.
    ``expires``: seconds since the epoch.
    """

    identity: bytes
    expires: float
    unsettled: float = 0.0
    rows: int = 0
    prepaid: float = 0.0
    new_account: float = 0.0


@quick_init
@dataclass(frozen=True, slots=True)
class Reservation:
    """What a request asks of its caller's standing before the upstream is asked.

    ``seconds``: rows times unit. ``credit``: the most unsettled work of this caller; as much drains in a day.
    ``new_account``: the whole new-account toll of this caller, 0 for none, of which this request owes the fraction
    ``new_account_share`` (0 to 1) at most.
    """

    seconds: float
    credit: float
    new_account: float = 0.0
    new_account_share: float = 0.0


@quick_init
@dataclass(frozen=True, slots=True)
class Standing:
    """What a caller owes and has paid, over all models.

    ``unsettled``: work of tolls that were not proved to be paid, and reservations, in seconds. ``prepaid``: work done for
    admission and not used yet. ``new_account``: what was paid of the new-account toll. ``settled_rows``: rows whose tolls
    were paid. ``drained``: the time (seconds since the epoch) up to which ``unsettled`` has drained.
    """

    unsettled: float = 0.0
    prepaid: float = 0.0
    new_account: float = 0.0
    settled_rows: int = 0
    drained: float = 0.0


@quick_init
@dataclass(frozen=True, slots=True)
class Adjustment:
    """What is added to a caller's standing when a request is priced: seconds, of either sign."""

    unsettled: float = 0.0
    prepaid: float = 0.0


@quick_init
@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request is admitted. If so, ``from_credit`` and ``from_prepaid`` seconds are reserved for it.

    If not, ``missing`` seconds (prepaid) and ``missing_new_account`` seconds of work admit it, and nothing is reserved.
    """

    admitted: bool
    from_credit: float = 0.0
    from_prepaid: float = 0.0
    missing: float = 0.0
    missing_new_account: float = 0.0
    settled_rows: int = 0

    def asked(self, price: float, credit: float) -> tuple[float, Adjustment]:
        """What a toll asks of a price (s), less what was reserved from prepaid work, and what it adds to the standing.

        A toll adds, of what it asks beyond the reservation, at most half the ``credit``, so that refusing a dear one shuts
        nobody out. Where nothing is asked, what was reserved and not used is given back.
        """
        asked = max(0.0, price - self.from_prepaid)
        if asked <= _ROUNDING * price:
            used = min(price, self.from_prepaid)
            return 0.0, Adjustment(-self.from_credit, self.from_prepaid - used)
        return asked, Adjustment(min(max(0.0, asked - self.from_credit), credit / 2))
