"""Settlement at the gate: what is reserved before the upstream is asked, what a toll adds, and what receipts take away."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modeltoll.errors import LedgerError
from modeltoll.gateway.core.receipts import RECEIPT_SECONDS, decrypt_receipts, encrypt_receipt
from modeltoll.pricing.tariff import new_account_share
from modeltoll.record_init import quick_init
from modeltoll.settlement_records import RECEIPT_BYTES, Adjustment, Admission, Receipt, Reservation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modeltoll.gateway.core.credit import CreditTerms
    from modeltoll.gateway.core.request import GateRuntime
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Caller, Work

__all__ = ["DeferredReceipts", "Priced", "Settlement", "with_new_account"]

_MAX_DEFERRED = 10_000  # receipts


@quick_init
@dataclass(frozen=True, slots=True)
class Priced:
    """What becomes of a price: ``asked`` seconds in a toll, its receipt (None without a toll), and the adjustment."""

    asked: float
    receipt: Receipt | None
    adjustment: Adjustment

    def unbilled(self) -> Priced:
        """The same where the ledger does not learn the price: the receipt takes away what was reserved alone."""
        if self.receipt is None:
            return self
        reserved = replace(self.receipt, unsettled=self.receipt.unsettled - self.adjustment.unsettled)
        return replace(self, receipt=reserved)


class DeferredReceipts:
    """Receipts that came while the ledger did not answer, by caller; of the oldest callers they are dropped first."""

    def __init__(self) -> None:
        self._held: dict[str, dict[bytes, Receipt]] = {}
        self._count = 0

    def add(self, caller: Caller, receipts: Iterable[Receipt]) -> None:
        """Keep receipts until the caller's next settlement."""
        held = {receipt.identity: receipt for receipt in (*self.take(caller), *receipts)}
        if held:
            self._held[caller.name] = held
            self._count += len(held)
        while self._count > _MAX_DEFERRED:
            self._count -= len(self._held.pop(next(iter(self._held))))

    def take(self, caller: Caller) -> tuple[Receipt, ...]:
        """The receipts of a caller, which are kept no longer."""
        held = self._held.pop(caller.name, {})
        self._count -= len(held)
        return tuple(held.values())


class Settlement:
    """The settlement of one ledger's callers, on the terms of one model.

    ``most_seconds``: of work that one toll of the model asks. Neither a price nor a reservation is larger, and nothing is
    counted as paid that no toll asked: the callers' standing is that of all models. ``without_ledger``: requests are
    admitted while the ledger does not answer; their receipts are ``deferred`` to the caller's next settlement.
    """

    def __init__(
        self,
        ledger: Ledger,
        runtime: GateRuntime,
        terms: CreditTerms,
        most_seconds: float = math.inf,
        *,
        without_ledger: bool = False,
        deferred: DeferredReceipts | None = None,
    ) -> None:
        self._ledger = ledger
        self._runtime = runtime
        self._terms = terms
        self._most_seconds = most_seconds
        self._without_ledger = without_ledger
        self._deferred = deferred or DeferredReceipts()

    async def admit(
        self, caller: Caller, rows: int, tariff: Tariff, receipts: Sequence[bytes], payment: Receipt | None
    ) -> Admission:
        """Count what the caller returns, and reserve a request of ``rows`` rows, less the caller's discount.

        ``payment``: of an admission toll. What it prepays is reserved, for it may be the whole price of the request.

        Raises:
            LedgerError: the ledger does not answer, and answers are not released without it.
        """
        unit = tariff.unit_seconds
        prepaid = 0.0 if payment is None else payment.prepaid
        reservation = Reservation(
            min(max(_units(caller, rows, unit), prepaid), self._most_seconds),
            self._terms.at(caller, unit),
            min(tariff.new_account_seconds(caller), self._most_seconds),
            new_account_share(rows),
        )
        counted = self._decrypt(caller, receipts)
        if payment is not None:
            counted = (payment, *counted)
        try:
            return await self._settle(caller, counted, reservation)
        except LedgerError:
            if not self._without_ledger:
                raise
            return Admission(admitted=True)

    async def count(self, caller: Caller, receipts: Sequence[bytes | Receipt]) -> None:
        """Count receipts without a request: encrypted ones as clients carry them, and those of redeemed tokens.

        Raises:
            LedgerError: the ledger does not answer.
        """
        encrypted = [receipt for receipt in receipts if isinstance(receipt, bytes)]
        counted = [receipt for receipt in receipts if isinstance(receipt, Receipt)]
        counted += self._decrypt(caller, encrypted)
        if counted:
            await self._settle(caller, counted, None)

    async def count_or_defer(self, caller: Caller, receipts: Sequence[bytes | Receipt]) -> None:
        """The same, of receipts that nobody will return again.

        Raises:
            LedgerError: the ledger does not answer, and answers are not released without it.
        """
        try:
            await self.count(caller, receipts)
        except LedgerError:
            if not self._without_ledger:
                raise

    async def _settle(self, caller: Caller, receipts: Sequence[Receipt], reservation: Reservation | None) -> Admission:
        """One step of the ledger, which counts what was deferred, too.

        Where it fails, receipts may have been counted or not. Counting them again is harmless.
        """
        all_receipts = (*self._deferred.take(caller), *receipts)
        counted = tuple({receipt.identity: receipt for receipt in all_receipts}.values())
        try:
            return await self._ledger.settle(caller, counted, reservation, self._runtime.clock())
        except BaseException:  # also a cancellation
            if self._without_ledger:
                self._deferred.add(caller, counted)
            raise

    async def give_back(self, caller: Caller, admission: Admission, kept: float = 0.0) -> None:
        """Give back what was reserved for a request that was not answered, as far as the ledger answers.

        ``kept``: seconds of it that are not given back, of the credit first.
        """
        of_credit = min(kept, admission.from_credit)
        of_prepaid = min(kept - of_credit, admission.from_prepaid)
        back = Adjustment(of_credit - admission.from_credit, admission.from_prepaid - of_prepaid)
        if back != Adjustment():
            with suppress(LedgerError):
                await self._ledger.adjust(caller, back)

    async def give_back_excess(self, caller: Caller, admission: Admission, rows: int, unit_seconds: float) -> None:
        """Give back what was prepaid beyond the units of a request for which the model has worked in vain."""
        excess = admission.from_credit + admission.from_prepaid - _units(caller, rows, unit_seconds)
        if (prepaid := min(excess, admission.from_prepaid)) > 0.0:
            with suppress(LedgerError):
                await self._ledger.adjust(caller, Adjustment(0.0, prepaid))

    def payment(self, admission: Admission, rows: int, unit_seconds: float) -> Receipt:
        """The receipt of an admission toll for what is missing, or as much as one toll asks; its token says until when.

        It settles as many of the request's rows as it prepays units.
        """
        missing, new_account = admission.missing, admission.missing_new_account
        share = min(1.0, self._most_seconds / (missing + new_account))
        paid = min(rows, int(share * missing / unit_seconds)) if unit_seconds else 0
        return Receipt(self._identity(), 0.0, rows=paid, prepaid=share * missing, new_account=share * new_account)

    def price(self, caller: Caller, admission: Admission, seconds: float, rows: int, unit_seconds: float) -> Priced:
        """What is asked of a price of ``seconds``, see ``Admission.asked``. A receipt takes away what its toll adds, and what
        was reserved from the credit.
        """
        asked, adjustment = admission.asked(min(seconds, self._most_seconds), self._terms.at(caller, unit_seconds))
        if asked == 0.0:
            return Priced(0.0, None, adjustment)
        expires = self._runtime.clock() + RECEIPT_SECONDS
        receipt = Receipt(self._identity(), expires, admission.from_credit + adjustment.unsettled, rows)
        return Priced(asked, receipt, adjustment)

    @staticmethod
    def whole_price(priced: Priced, admission: Admission, *, in_ledger: bool) -> Receipt:
        """The receipt of an admission toll for what is asked of a price, in place of a toll for the answer.

        It prepays the whole price: what was reserved of prepaid work is used up, and given again once the rest is paid.

        Raises:
            LedgerError: the ledger does not answer. It alone can count this receipt once.
        """
        if not in_ledger:
            raise LedgerError("the ledger does not answer, and this request cannot be paid for without it")
        assert priced.receipt is not None  # something is asked
        return replace(priced.receipt, prepaid=priced.asked + admission.from_prepaid)

    def nothing_owed(self) -> Receipt:
        """The receipt of a toll that asks no work: it settles nothing."""
        return Receipt(self._identity(), self._runtime.clock() + RECEIPT_SECONDS, 0.0)

    def encrypt(self, caller: Caller, receipt: Receipt) -> bytes:
        """A receipt as the caller carries it."""
        return encrypt_receipt(self._key(), caller, receipt, self._runtime.rng)

    def _decrypt(self, caller: Caller, encrypted: Sequence[bytes]) -> tuple[Receipt, ...]:
        return decrypt_receipts(self._key(), caller, encrypted) if encrypted else ()

    def _key(self) -> bytes:
        return self._ledger.derived_key("receipts")

    def _identity(self) -> bytes:
        return self._runtime.rng.randbytes(RECEIPT_BYTES)


def _units(caller: Caller, rows: int, unit_seconds: float) -> float:
    """What is reserved for so many rows, in seconds."""
    return rows * unit_seconds * (1.0 - caller.discount)


def with_new_account(work: Work, payment: Receipt | None) -> Work:
    """The work of a request with what its admission toll asked of the new-account toll."""
    if payment is None or not payment.new_account:
        return work
    return replace(work, seconds=work.seconds + payment.new_account, new_account_seconds=payment.new_account)
