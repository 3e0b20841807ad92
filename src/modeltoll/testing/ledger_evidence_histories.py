"""Random histories of the evidence of a caller and its groups, and their comparison with ``account_math``."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll.evidence_records import EVIDENCE_SECONDS, RESTART_ROWS, EvidenceUpdate, FoldedBlock
from modeltoll.ledger import account_math
from modeltoll.records import Charge
from modeltoll.testing.ledger_charges import MODEL, NOW, make_log_entry

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from modeltoll.ledger.ledger import Ledger
    from modeltoll.records import Account, Caller

__all__ = ["EvidenceStep", "compare_evidence_history", "random_evidence_history"]

_TARIFFS = (("first", 48), ("first", 48), ("first", 48), ("second", 48), ("second", 14), ("free", 0))
_DAY = 86_400.0

# One step of a history: a charge, or the updates of a bill.
EvidenceStep = Charge | tuple[EvidenceUpdate, ...]


def random_evidence_history(rng: random.Random, steps: int, caller: Caller, start: float = NOW) -> list[EvidenceStep]:
    """Charges and bills whose times mostly grow from ``start``; some rows are repeated, some updates come too late."""
    history: list[EvidenceStep] = []
    at, (tariff, cells) = start, _TARIFFS[0]
    for _ in range(steps):
        at += rng.choice((0.0, 0.25, 60.0, -60.0, _DAY, EVIDENCE_SECONDS / 4))
        if rng.random() < 0.05:
            tariff, cells = rng.choice(_TARIFFS)
        if rng.random() < 0.4:
            history.append(_random_updates(rng, caller, tariff))
        else:
            history.append(_random_charge(rng, tariff, cells, at))
    return history


def _random_charge(rng: random.Random, tariff: str, cells: int, at: float) -> Charge:
    rows = rng.choice((1, 1, 3, 40, 70, 300, 2000))
    numbers = [rng.choice((rng.randrange(50), rng.getrandbits(60))) for _ in range(rows)]
    return Charge(
        model=MODEL,
        rows=rows,
        leaks=tuple(rng.random() * rows for _ in range(2)),
        cells=tuple(min(int(rng.expovariate(0.2)), cells - 1) for _ in range(rows if cells else 0)),
        fingerprints=tuple(number.to_bytes(8, "big") for number in numbers),
        cell_count=cells,
        tariff=tariff,
        at=at,
    )


def _random_updates(rng: random.Random, caller: Caller, tariff: str) -> tuple[EvidenceUpdate, ...]:
    names = [name for name in (caller.name, *caller.groups) if rng.random() < 0.8]
    return tuple(
        EvidenceUpdate(
            name,
            rng.choice((tariff, tariff, tariff, "third")),
            rng.choice((rng.uniform(-50.0, 50.0), -math.inf)),
            tuple(
                FoldedBlock(rng.randrange(len(RESTART_ROWS)), rng.choice((1, 1, 2, 3, 4)), _random_log(rng))
                for _ in range(rng.choice((0, 1, 2, 5)))
            ),
        )
        for name in names
    )


def _random_log(rng: random.Random) -> float:
    return rng.choice((rng.uniform(-40.0, 40.0), rng.uniform(-1.0, 1.0), rng.gauss(0.0, 1e4), -math.inf, 0.0))


async def compare_evidence_history(ledger: Ledger, caller: Caller, history: Iterable[EvidenceStep]) -> None:
    """Do the steps on an open ledger that has none of the accounts; each must give what ``account_math`` gives.

    Raises:
        AssertionError: an account differs, in any bit.
    """
    owners = account_math.affected_accounts(caller)
    stored: dict[str, Account] = {}
    seen: dict[str, list[bytes]] = {owner.name: [] for owner in owners}
    for number, step in enumerate(history):
        if isinstance(step, Charge):
            for owner in owners:
                sketch = set(seen[owner.name][-account_math.SKETCH_SIZE :])
                before = stored.get(owner.name)
                stored[owner.name], fresh = account_math.charge(before, owner, step, sketch, EVIDENCE_SECONDS)
                seen[owner.name] += fresh
            found: Account | None = await ledger.charge(caller, step)
        else:
            entry = make_log_entry(1.5)
            if caller.name in stored:
                own = stored[caller.name]
                stored[caller.name] = replace(own, work=own.work + entry.work.seconds)
            for update in step:
                if update.account in stored:
                    stored[update.account] = account_math.updated(stored[update.account], update)
            await ledger.bill(caller, entry, None, step)
            found = await ledger.account(caller, MODEL)
        expected = stored.get(caller.name)
        if expected is not None:
            expected = account_math.with_groups(expected, [stored[name] for name in caller.groups])
        assert found == expected, f"step {number}: {found} is not {expected}"
