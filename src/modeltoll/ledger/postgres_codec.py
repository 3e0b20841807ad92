"""Convert records to the arguments of a PostgreSQL ledger's statements, and its columns to records."""

from __future__ import annotations

import math
from hashlib import blake2b
from operator import sub
from typing import TYPE_CHECKING, Any

from modeltoll.evidence_records import RESTART_ROWS, EvidenceState, FinishedBlock
from modeltoll.ledger import account_math
from modeltoll.ledger.retention import MAX_ACCOUNTS_AT_ONCE, MAX_LINES_AT_ONCE, MAX_SLOTS_AT_ONCE
from modeltoll.ledger.row_codec import bounded, decode_account, signed_fingerprint
from modeltoll.records import Caller

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from modeltoll.evidence_records import EvidenceUpdate
    from modeltoll.ledger.retention import Sweep
    from modeltoll.records import Account, Charge, DailyQuota
    from modeltoll.settlement_records import Adjustment

__all__ = [
    "STATE_COLUMNS",
    "account_key",
    "adjustment_values",
    "array_literal",
    "bill_values",
    "bytes_literal",
    "caller_key",
    "charge_values",
    "decode_state",
    "quota_limits",
    "sweep_values",
]

STATE_COLUMNS = (  # of the view account_states, after its key
    "caller, model, rows, requests, work, tariff, first_seen, last_seen, leaks, counts, numbers, starts, finished_numbers,"
    " finished, since, finished_log, log_evidence, carried_log"
)
_RESTARTS = len(RESTART_ROWS)


def account_key(caller: Caller, model: str) -> bytes:
    """The key of an account: one hash of both names, which contain no NUL."""
    return blake2b(f"{caller.name}\0{model}".encode(), digest_size=32).digest()


def caller_key(caller: Caller) -> bytes:
    """The key of a caller's standing and usage."""
    return blake2b(caller.name.encode(), digest_size=32).digest()


def charge_values(affected: Mapping[bytes, Caller], charge: Charge, period: float) -> tuple[Any, ...]:
    """The arguments of the function ``charge``. ``affected``: the owners of the accounts, by their keys."""
    keys = sorted(affected)  # the function locks accounts in this order
    return (
        bytes_literal(keys),
        array_literal(affected[key].name for key in keys),
        charge.model,
        charge.rows,
        array_literal(map(float, charge.leaks)),
        array_literal(map(int, charge.cells)),
        array_literal(map(signed_fingerprint, charge.fingerprints)),
        charge.cell_count,
        charge.tariff,
        float(charge.at),
        float(period),
        array_literal(RESTART_ROWS),
        account_math.SKETCH_SIZE,
    )


def bill_values(caller: Caller, model: str, seconds: float, updates: Sequence[EvidenceUpdate]) -> tuple[str, ...]:
    """The arguments of the function ``bill_accounts``."""
    changes = {account_key(Caller(update.account), model): update for update in updates}
    own = account_key(caller, model)
    keys = sorted({own, *changes})  # the function locks accounts in this order
    present = [changes.get(key) for key in keys]
    folded = [
        (party, block)
        for party, update in enumerate(present, start=1)
        for block in (update.folded if update is not None else ())
    ]
    return (
        bytes_literal(keys),
        array_literal(float(seconds) if key == own else 0.0 for key in keys),
        array_literal(None if update is None else update.tariff for update in present),
        array_literal(None if update is None else float(update.log_evidence) for update in present),
        array_literal(party for party, _ in folded),
        array_literal(block.restart + 1 for _, block in folded),
        array_literal(block.number for _, block in folded),
        array_literal(float(block.log_term) for _, block in folded),
    )


def decode_state(caller: Caller, columns: Sequence[Any]) -> Account:
    """The account from ``STATE_COLUMNS``."""
    _, *totals, leaks, counts, numbers, starts, finished_numbers, finished = columns[:14]
    since, finished_log, log_evidence, carried_log = columns[14:]
    cells = len(counts)
    places = [slice(restart * cells, (restart + 1) * cells) for restart in range(_RESTARTS)]
    evidence = EvidenceState(
        counts=tuple(counts),
        blocks=tuple([tuple(map(sub, counts, starts[place])) for place in places]),
        numbers=tuple(numbers),
        finished=tuple(
            [
                FinishedBlock(number, tuple(finished[place])) if number else None
                for number, place in zip(finished_numbers, places, strict=True)
            ]
        ),
        since=since,
        finished_log=finished_log,
        log_evidence=log_evidence,
        carried_log=carried_log,
    )
    return decode_account(caller, tuple(totals), leaks, evidence)


def quota_limits(quota: DailyQuota) -> tuple[int, float]:
    """The limits as arguments of the SQL function; a missing limit is a number that cannot be reached."""
    rows = bounded(2**63 - 1 if quota.rows is None else quota.rows)
    return rows, math.inf if quota.work is None else float(quota.work)


def adjustment_values(caller: Caller, adjustment: Adjustment) -> tuple[bytes, str, float, float]:
    """The arguments of the function ``adjust``."""
    return caller_key(caller), caller.name, float(adjustment.unsettled), float(adjustment.prepaid)


def sweep_values(due: Sweep) -> tuple[float | None, ...]:
    """The arguments of the function ``sweep``."""
    limits = (MAX_LINES_AT_ONCE, MAX_ACCOUNTS_AT_ONCE, MAX_SLOTS_AT_ONCE, account_math.SKETCH_SIZE)
    return due.lines_before, due.days_before, due.expired_before, *limits


def bytes_literal(values: Iterable[bytes]) -> str:
    """An array literal of bytea."""
    quoted = [rf'"\\x{value.hex()}"' for value in values]
    return f"{{{','.join(quoted)}}}"


def array_literal(values: Iterable[float | str | None]) -> str:
    """An array literal of PostgreSQL; takes a quarter of the driver's time for a list."""
    texts = [_quoted(value) if isinstance(value, str) else "NULL" if value is None else str(value) for value in values]
    return f"{{{','.join(texts)}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
