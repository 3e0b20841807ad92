"""Checks of ``Ledger.charge``, and the helpers that all ledger checks use."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from modeltoll.evidence_records import EVIDENCE_SECONDS, RESTART_ROWS, EvidenceState, FinishedBlock
from modeltoll.ledger.account_math import SKETCH_SIZE
from modeltoll.ledger.ledger import Ledger
from modeltoll.records import Account, Caller, Charge, LogEntry, Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = [
    "CHARGE_CHECKS",
    "MODEL",
    "NOW",
    "LedgerCheck",
    "LedgerFactory",
    "existing_account",
    "make_charge",
    "make_log_entry",
    "open_ledger",
]

LedgerFactory = Callable[[], Ledger]
LedgerCheck = Callable[[LedgerFactory], Coroutine[Any, Any, None]]

NOW = 1_750_000_000.0  # seconds since the epoch
MODEL = "suite"
_CELLS = 3


@asynccontextmanager
async def open_ledger(make: LedgerFactory, *callers: Caller) -> AsyncIterator[Ledger]:
    """Open a ledger without accounts of these callers; it is closed at the end."""
    ledger = make()
    await ledger.open()
    try:
        for caller in callers:
            await ledger.reset(caller, MODEL)
        yield ledger
    finally:
        await ledger.close()


def _fingerprint(number: int) -> bytes:
    """A fingerprint of 8 bytes."""
    return number.to_bytes(8, "big")


def make_charge(*numbers: int, cell: int = 0, at: float = NOW, tariff: str = "first", model: str = MODEL) -> Charge:
    """A charge of one row per number, all in one of three cells; equal numbers are equal inputs.

    ``at`` is in seconds since the epoch.
    """
    return Charge(
        model=model,
        rows=len(numbers),
        leaks=(0.5 * len(numbers), 0.25 * len(numbers)),
        cells=(cell,) * len(numbers),
        fingerprints=tuple(map(_fingerprint, numbers)),
        cell_count=_CELLS,
        tariff=tariff,
        at=at,
    )


def make_log_entry(seconds: float, at: float = NOW, mode: str = "sealed") -> LogEntry:
    """A log entry of two rows that cost ``seconds`` reference seconds together."""
    work = Work(seconds, 2, rows_seconds=seconds - 0.1, new_account_seconds=0.1, surcharge=1.5, group_surcharge=2.5)
    return LogEntry(at, MODEL, 2, ("entropy", "gap"), ((0.1, 1 / 3), (0.0, 1e-300)), (0.2, 1 / 601), work, mode)


async def existing_account(ledger: Ledger, caller: Caller) -> Account:
    """The caller's account, which must exist."""
    account = await ledger.account(caller, MODEL)
    assert account is not None
    return account


async def _concurrent_charges_add_up(make: LedgerFactory) -> None:
    """100 concurrent charges add up exactly, and each returns another row count."""
    caller = Caller("key:suite-adds-up")
    async with open_ledger(make, caller) as ledger:
        accounts = await asyncio.gather(*(ledger.charge(caller, make_charge(number)) for number in range(100)))
        assert sorted(account.rows for account in accounts) == list(range(1, 101))
        assert sorted(account.requests for account in accounts) == list(range(1, 101))
        assert all(account.evidence.rows == account.rows for account in accounts)
        last = await existing_account(ledger, caller)
        assert last == max(accounts, key=lambda account: account.rows)
        assert last == Account(
            caller=caller,
            model=MODEL,
            rows=100,
            requests=100,
            leaks=(50.0, 25.0),
            evidence=EvidenceState(
                counts=(100, 0, 0),
                blocks=((36, 0, 0), *((100, 0, 0),) * (len(RESTART_ROWS) - 1)),
                numbers=(2, *(1,) * (len(RESTART_ROWS) - 1)),
                finished=(FinishedBlock(1, (64, 0, 0)), *(None,) * (len(RESTART_ROWS) - 1)),
                since=NOW,
            ),
            work=0.0,
            tariff="first",
            first_seen=NOW,
            last_seen=NOW,
        )


async def _a_clock_set_back_changes_no_times(make: LedgerFactory) -> None:
    """A charge with an earlier time counts, and does not set the account's times back."""
    caller = Caller("key:suite-clock")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, make_charge(1))
        charged = await ledger.charge(caller, make_charge(2, at=NOW - 2 * EVIDENCE_SECONDS))
        assert charged.evidence.counts == (2, 0, 0)
        assert (charged.first_seen, charged.last_seen, charged.evidence.since) == (NOW, NOW, NOW)


async def _repeated_rows_are_charged_and_not_counted(make: LedgerFactory) -> None:
    """A repeated row adds to rows and leaks; only its first occurrence adds to the counts."""
    caller = Caller("key:suite-repeats")
    async with open_ledger(make, caller) as ledger:
        first = await ledger.charge(caller, make_charge(1, 1, 2))
        assert first.rows == 3
        assert first.evidence.counts == (2, 0, 0)
        second = await ledger.charge(caller, make_charge(2, 3, 1, cell=1))
        assert second.rows == 6
        assert second.leaks == (3.0, 1.5)
        assert second.evidence.counts == (2, 1, 0)


async def _the_sketch_holds_the_latest_fingerprints(make: LedgerFactory) -> None:
    """The sketch holds the last ``SKETCH_SIZE`` different fingerprints, whether of one request or of many."""
    caller = Caller("key:suite-sketch")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, make_charge(0))
        await ledger.charge(caller, make_charge(*range(SKETCH_SIZE)))
        full = await ledger.charge(caller, make_charge(0, SKETCH_SIZE - 1))
        assert full.evidence.counts[0] == SKETCH_SIZE
        over = await ledger.charge(caller, make_charge(SKETCH_SIZE))  # drops the oldest, 0
        assert over.evidence.counts[0] == SKETCH_SIZE + 1
        assert (await ledger.charge(caller, make_charge(1, SKETCH_SIZE))).evidence.counts[0] == SKETCH_SIZE + 1
        assert (await ledger.charge(caller, make_charge(0))).evidence.counts[0] == SKETCH_SIZE + 2
        flood = await ledger.charge(caller, make_charge(*range(10_000, 10_001 + SKETCH_SIZE)))
        assert flood.evidence.counts[0] == 2 * SKETCH_SIZE + 3
        again = await ledger.charge(caller, make_charge(10_000, 10_001))
        assert again.evidence.counts[0] == 2 * SKETCH_SIZE + 4


async def _another_tariff_restarts_evidence_and_leaks(make: LedgerFactory) -> None:
    """Evidence and leaks of different tariffs never mix; rows, requests and work continue."""
    caller = Caller("key:suite-tariff")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, make_charge(1, 2))
        await ledger.bill(caller, make_log_entry(3.0))
        after = await ledger.charge(caller, make_charge(3, tariff="second"))
        assert (after.tariff, after.rows, after.requests, after.work) == ("second", 3, 2, 3.0)
        assert after.leaks == (0.5, 0.25)
        assert after.evidence.counts == (1, 0, 0)
        assert (after.first_seen, after.last_seen) == (NOW, NOW)


async def _callers_and_models_are_separate(make: LedgerFactory) -> None:
    """A charge of one caller and model changes no other account, and no other sketch."""
    one, other = Caller("key:suite-one"), Caller("key:suite-ONE")
    async with open_ledger(make, one, other) as ledger:
        await ledger.reset(one, "suite-2")
        await ledger.charge(one, make_charge(1))
        assert (await ledger.charge(other, make_charge(1))).evidence.counts[0] == 1
        assert (await ledger.charge(one, make_charge(1, model="suite-2"))).evidence.counts[0] == 1
        assert (await existing_account(ledger, one)).rows == 1
        await ledger.reset(one, "suite-2")


async def _invalid_charges_are_refused_and_change_nothing(make: LedgerFactory) -> None:
    """An inconsistent charge raises ``ValueError`` and changes nothing."""
    caller = Caller("key:suite-invalid")
    valid = {
        "model": MODEL,
        "rows": 1,
        "leaks": (0.5, 0.5),
        "cells": (0,),
        "cell_count": _CELLS,
        "fingerprints": (_fingerprint(1),),
        "at": NOW,
    }
    invalid_fields: list[dict[str, object]] = [
        {"rows": 2},
        {"leaks": (math.nan, 0.5)},
        {"leaks": (-0.5, 0.5)},
        {"cells": (_CELLS,)},
        {"cells": (-1,)},
        {"cells": (0, 0)},
        {"cells": ()},
        {"cell_count": 0},
        {"cells": (), "cell_count": -1},
        {"fingerprints": (b"short",)},
        {"at": math.inf},
        {"model": ""},
    ]
    async with open_ledger(make, caller) as ledger:
        for invalid in invalid_fields:
            charge = Charge(**(valid | invalid), tariff="first")  # type: ignore[arg-type]
            try:
                await ledger.charge(caller, charge)
            except ValueError:
                continue
            raise AssertionError(f"a charge with {invalid} was accepted")
        assert await ledger.account(caller, MODEL) is None


CHARGE_CHECKS: tuple[LedgerCheck, ...] = (
    _concurrent_charges_add_up,
    _a_clock_set_back_changes_no_times,
    _repeated_rows_are_charged_and_not_counted,
    _the_sketch_holds_the_latest_fingerprints,
    _another_tariff_restarts_evidence_and_leaks,
    _callers_and_models_are_separate,
    _invalid_charges_are_refused_and_change_nothing,
)
