"""The arithmetic of settlement: pure functions that every ledger implementation follows.

For each caller a ledger stores a ``Standing``, and the identities of the receipts that it has counted, until they expire.
In one atomic step it reads them, calls ``settle`` or ``adjust``, and writes the result.
"""

from __future__ import annotations

from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING

from modeltoll.ledger.account_math import check_names
from modeltoll.settlement_records import RECEIPT_BYTES, Admission, Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modeltoll.records import Caller
    from modeltoll.settlement_records import Adjustment, Receipt, Reservation

__all__ = [
    "adjust",
    "check_adjustment",
    "check_settlement",
    "receipt_key",
    "reservation_numbers",
    "settle",
    "unexpired",
]

_receipt_numbers = attrgetter("expires", "unsettled", "rows", "prepaid", "new_account")
_LARGEST, _SMALLEST = 1e15, 1e-100  # of a number that is not 0: no product of two of them overflows or underflows
_MAX_ROWS = 2**31  # of a receipt
_DAY = 86_400.0  # seconds in which one credit drains
_ROUNDING = 1e-9  # of a sum; less than that is not missing


def check_settlement(caller: Caller, receipts: Sequence[Receipt], reservation: Reservation | None, at: float) -> None:
    """Validate the arguments of ``Ledger.settle``.

    Raises:
        ValueError: an invalid name, an identity that is not of 16 bytes or occurs twice, or a number that is negative,
            not finite, above 1e15, or above 0 and below 1e-100.
    """
    check_names(caller, "standing")
    if not (at == 0.0 or _SMALLEST <= abs(at) <= _LARGEST):
        raise ValueError("the time of a settlement must be a usual number of seconds")
    identities = {receipt.identity for receipt in receipts}
    if len(identities) < len(receipts) or any(len(identity) != RECEIPT_BYTES for identity in identities):
        raise ValueError(f"receipts need different identities of {RECEIPT_BYTES} bytes")
    numbers: list[float] = [number for receipt in receipts for number in _receipt_numbers(receipt)]
    if reservation is not None:
        numbers += reservation_numbers(reservation)
    usual = [number for number in numbers if number == 0.0 or _SMALLEST <= number <= _LARGEST]
    if len(usual) < len(numbers) or any(receipt.rows >= _MAX_ROWS for receipt in receipts):
        raise ValueError("the numbers of receipts and reservations must be finite, not negative, and of a usual size")


def check_adjustment(caller: Caller, adjustment: Adjustment) -> None:
    """Validate an adjustment.

    Raises:
        ValueError: an invalid name, or a number that is not finite or beyond 1e15.
    """
    check_names(caller, "standing")
    if not (abs(adjustment.unsettled) <= _LARGEST and abs(adjustment.prepaid) <= _LARGEST):
        raise ValueError("the numbers of an adjustment must be finite, and of a usual size")


def reservation_numbers(reservation: Reservation) -> tuple[float, float, float, float]:
    """The seconds, the credit, the new-account toll and its share: the arguments of a ledger's scripts, in their order."""
    return reservation.seconds, reservation.credit, reservation.new_account, reservation.new_account_share


def unexpired(receipts: Iterable[Receipt], at: float) -> list[Receipt]:
    """The receipts that have not expired at the time ``at``."""
    return [receipt for receipt in receipts if receipt.expires > at]


def receipt_key(caller: Caller, identity: bytes) -> bytes:
    """The key of a counted receipt, 16 bytes: an identity counts once for each caller."""
    return blake2b(caller.name.encode(), key=identity, digest_size=RECEIPT_BYTES, person=b"receipt").digest()


def settle(
    before: Standing | None, fresh: Sequence[Receipt], reservation: Reservation | None, at: float
) -> tuple[Standing | None, Admission]:
    """The standing after a valid settlement, None where it has not changed, and the admission.

    ``fresh``: the receipts that have not expired and were not counted before. First one credit a day drains, then the
    receipts are counted, then the reservation is tried: from what is prepaid, the rest from the credit. What was paid for
    admission is thus used by the requests that follow, and a request never misses more than it would reserve. A request
    that is not admitted, and returns no fresh receipt, changes nothing.
    """
    standing = before or Standing(drained=at)
    if reservation is not None:
        idle = max(0.0, at - standing.drained)
        unsettled = max(0.0, standing.unsettled - reservation.credit * (idle / _DAY))
        drained = max(at, standing.drained)
        standing = Standing(
            unsettled=unsettled,
            prepaid=standing.prepaid,
            new_account=standing.new_account,
            settled_rows=standing.settled_rows,
            drained=drained,
        )
    paid_before = standing.new_account
    for receipt in fresh:
        standing = _counted(standing, receipt)
    stored = standing if fresh else None  # what drains is drained again by the next request that is admitted
    if reservation is None:
        return stored, Admission(admitted=True, settled_rows=standing.settled_rows)

    owed = min(max(0.0, reservation.new_account - paid_before), reservation.new_account_share * reservation.new_account)
    missing_new_account = _missing(owed - (standing.new_account - paid_before), reservation.new_account)
    from_prepaid = min(standing.prepaid, reservation.seconds)
    from_credit = reservation.seconds - from_prepaid
    over = from_credit + standing.unsettled - reservation.credit
    missing = _missing(min(from_credit, over), reservation.seconds + reservation.credit)
    if missing > 0.0 or missing_new_account > 0.0:
        refused = Admission(
            admitted=False,
            missing=missing,
            missing_new_account=missing_new_account,
            settled_rows=standing.settled_rows,
        )
        return stored, refused
    after = _with_work(standing, standing.unsettled + from_credit, standing.prepaid - from_prepaid)
    return after, Admission(True, from_credit, from_prepaid, settled_rows=standing.settled_rows)


def adjust(before: Standing | None, adjustment: Adjustment) -> Standing:
    """The standing after a valid adjustment; neither unsettled nor prepaid work falls below zero."""
    standing = before or Standing()
    unsettled = max(0.0, standing.unsettled + adjustment.unsettled)
    return _with_work(standing, unsettled, max(0.0, standing.prepaid + adjustment.prepaid))


def _with_work(standing: Standing, unsettled: float, prepaid: float) -> Standing:
    """The standing with this unsettled and prepaid work. ``dataclasses.replace`` takes several times as long."""
    return Standing(
        unsettled=unsettled,
        prepaid=prepaid,
        new_account=standing.new_account,
        settled_rows=standing.settled_rows,
        drained=standing.drained,
    )


def _counted(standing: Standing, receipt: Receipt) -> Standing:
    return Standing(
        max(0.0, standing.unsettled - receipt.unsettled),
        standing.prepaid + receipt.prepaid,
        standing.new_account + receipt.new_account,
        standing.settled_rows + receipt.rows,
        standing.drained,
    )


def _missing(seconds: float, scale: float) -> float:
    """What is missing; 0 where it is no more than a rounding error of sums of ``scale``."""
    return seconds if seconds > _ROUNDING * scale else 0.0
