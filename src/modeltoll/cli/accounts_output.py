"""Accounts, standings and log lines as ``modeltoll accounts`` shows and exports them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.markup import escape

if TYPE_CHECKING:
    from modeltoll.records import Account, LogEntry
    from modeltoll.settlement_records import Standing

__all__ = ["account_cells", "account_facts", "account_json", "iso_time", "log_json", "standing_facts", "standing_json"]

_MEMBERS = {"new_account_seconds": "entry_seconds"}  # fields of Work to the names that exports give them


def iso_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


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
        "counts": account.counts,
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
    for number, (leak, counts) in enumerate(zip(account.leaks, account.counts, strict=False), start=1):
        bins = " ".join(f"{count:.1f}" for count in counts)
        facts.append((f"measure {number}: total leak", f"{leak:.4g}"))
        facts.append(("  rows in the p-value bins, from rare to common, decayed by age", bins))
    return facts
