"""Accounts, standings and log lines as ``modeltoll accounts`` shows and exports them."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from modeltoll.evidence_records import RESTART_ROWS

if TYPE_CHECKING:
    from modeltoll.evidence_records import EvidenceState
    from modeltoll.records import Account, LogEntry
    from modeltoll.settlement_records import Standing

__all__ = [
    "ACCOUNT_HEADINGS",
    "account_cells",
    "account_facts",
    "account_json",
    "evidence_json",
    "iso_time",
    "log_json",
    "power_of_ten",
    "standing_facts",
    "standing_json",
]

ACCOUNT_HEADINGS = ("caller", "model", "rows", "requests", "work, s", "evidence, 10^", "first seen", "last seen")

_MEMBERS = {"new_account_seconds": "entry_seconds"}  # fields of Work to the names that exports give them


def iso_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def power_of_ten(log: float | None) -> str:
    """A natural logarithm as the exponent of ten, with one place."""
    return "none" if log is None or log == -math.inf else f"{log / math.log(10.0):.1f}"


def evidence_json(state: EvidenceState) -> dict[str, Any]:
    """The evidence as the latest bill left it. Logarithms are natural ones, null for none."""
    blocks = zip(RESTART_ROWS, state.numbers, state.blocks, state.finished, strict=True)
    return {
        "since": iso_time(state.since),
        "rows": state.rows,
        "log_evidence": state.log_evidence,
        "finished_log": None if state.finished_log == -math.inf else state.finished_log,
        "carried_log": state.carried_log,
        "counts": state.counts,
        "blocks": [
            {"block_rows": rows, "number": number, "rows": sum(counts), "waiting": finished is not None}
            for rows, number, counts, finished in blocks
        ],
    }


def account_json(account: Account) -> dict[str, Any]:
    return {
        "caller": account.caller.name,
        "model": account.model,
        "rows": account.rows,
        "requests": account.requests,
        "work_seconds": account.work,
        "first_seen": iso_time(account.first_seen),
        "last_seen": iso_time(account.last_seen),
        "tariff": account.tariff,
        "leaks": account.leaks,
        "evidence": evidence_json(account.evidence),
    }


def standing_json(standing: Standing) -> dict[str, Any]:
    return {
        "unsettled_seconds": standing.unsettled,
        "prepaid_seconds": standing.prepaid,
        "new_account_seconds_paid": standing.new_account,
        "settled_rows": standing.settled_rows,
    }


def standing_facts(standing: Standing) -> list[tuple[str, str]]:
    return [
        ("unsettled work at the last request, s", f"{standing.unsettled:,.3f}"),
        ("prepaid work, s", f"{standing.prepaid:,.3f}"),
        ("paid of the new-account toll, s", f"{standing.new_account:,.3f}"),
        ("settled rows", f"{standing.settled_rows:,}"),
    ]


def log_json(number: int, hashed: str, entry: LogEntry) -> dict[str, Any]:
    members = asdict(entry)
    work = members.pop("work")
    del work["rows"]
    return {
        "line": number,
        **members,
        "at": iso_time(entry.at),
        "caller": hashed,
        "work_seconds": work.pop("seconds"),
        **{_MEMBERS.get(name, name): value for name, value in work.items()},
    }


def account_cells(account: Account) -> tuple[str, ...]:
    return (
        escape(account.caller.name),
        escape(account.model),
        f"{account.rows:,}",
        f"{account.requests:,}",
        f"{account.work:,.1f}",
        power_of_ten(account.evidence.log_evidence),
        iso_time(account.first_seen)[:16].replace("T", " "),
        iso_time(account.last_seen)[:16].replace("T", " "),
    )


def account_facts(account: Account) -> list[tuple[str, str]]:
    facts = [
        ("rows", f"{account.rows:,}"),
        ("requests", f"{account.requests:,}"),
        ("work issued, s", f"{account.work:,.3f}"),
        ("first seen", iso_time(account.first_seen)),
        ("last seen", iso_time(account.last_seen)),
        ("tariff", escape(account.tariff)),
    ]
    facts += [(f"measure {number}: total leak", f"{leak:.4g}") for number, leak in enumerate(account.leaks, start=1)]
    return [*facts, *_evidence_facts(account.evidence)]


def _evidence_facts(state: EvidenceState) -> list[tuple[str, str]]:
    """The evidence as the latest bill left it, a lower bound while the caller is not suspected."""
    facts = [
        ("rows that count as evidence, each input once", f"{state.rows:,}"),
        ("  since", iso_time(state.since)),
        ("  evidence at the latest bill, power of ten", power_of_ten(state.log_evidence)),
        ("  of finished blocks, power of ten", power_of_ten(state.finished_log)),
        ("  of earlier tariffs, power of ten", power_of_ten(state.carried_log)),
    ]
    for rows, number, counts in zip(RESTART_ROWS, state.numbers, state.blocks, strict=True):
        facts.append((f"  blocks of {rows:,} rows: number, rows in it", f"{number:,}, {sum(counts):,}"))
    return facts
