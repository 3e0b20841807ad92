"""The verbs of ``accounts``: what a ledger knows of its callers."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape

from modeltoll.cli.terminal import JsonFile, command_name, note, print_table, requires_extra, write_json
from modeltoll.errors import LedgerError, SettingsError

if TYPE_CHECKING:
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.records import Account, DailyUsage, LogEntry

__all__ = ["verbs"]

T = TypeVar("T")

verbs = typer.Typer(
    name="accounts",
    help="What a ledger knows of its callers; gateways may go on working on it.",
    epilog="Example: modeltoll accounts list sqlite:///modeltoll.db",
    no_args_is_help=True,
)

Where = Annotated[
    str, typer.Argument(metavar="LEDGER", help="The ledger's URL, or the gateway's settings (.yaml), which name it.")
]
Who = Annotated[
    str, typer.Argument(metavar="CALLER", help="key:alice, jwt:alice, net:198.51.100.0/24, or a group: org:acme.")
]
Which = Annotated[str | None, typer.Option("--model", help="Of this model alone.")]

_ALL = 2**62
_PAGE = 1000
_DAY = 86_400
_MEMBERS = {"new_account_seconds": "entry_seconds"}  # fields of Work to the names that exports give them


class ExportFormat(StrEnum):
    """How lines are written."""

    jsonl = "jsonl"
    csv = "csv"


class ExportSource(StrEnum):
    """What is exported."""

    accounts = "accounts"
    log = "log"


@verbs.command("list", epilog="Example: modeltoll accounts list modeltoll.yaml --limit 50")
@command_name
def list_accounts(
    ledger: Where,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, those with the most work first.")] = 20,
    json_file: JsonFile = None,
) -> None:
    """The callers to whom the most work was issued."""
    found = _ask(ledger, lambda store: store.largest(limit, time.time()))
    if json_file is not None:
        write_json([_members(account) for account in found], json_file)
    if json_file != "-":
        headings = ("caller", "model", "rows", "requests", "work, s", "first seen", "last seen")
        print_table(headings, [_cells(account) for account in found])


@verbs.command(epilog="Example: modeltoll accounts show sqlite:///modeltoll.db key:alice")
@command_name
def show(ledger: Where, caller: Who, model: Which = None, json_file: JsonFile = None) -> None:
    """All that is known of a caller, or of a group: totals, and the histogram of his p-values as it counts now."""
    found, today = _ask(ledger, lambda store: _known_today(store, caller, model))
    if json_file is not None:
        had = {"rows_today": today.rows, "work_seconds_today": today.work}
        write_json([_members(account) | had for account in found], json_file)
    if json_file != "-":
        for account in found:
            print_table((escape(f"{account.caller.name}, asking {account.model}"), ""), _facts(account))
        if today.rows:
            out_of = f"{today.rows:,} rows and {today.work:,.3f} s of work"
            note.print(escape(f"of his allowance, of all models, {caller} has had {out_of} today"), soft_wrap=True)


@verbs.command(epilog="Example: modeltoll accounts reset sqlite:///modeltoll.db key:alice --model digits")
@command_name
def reset(ledger: Where, caller: Who, model: Which = None) -> None:
    """Forget a caller, or a group: from now on he is new. The log stays, and so does his day's allowance."""
    forgotten = _ask(ledger, lambda store: _forget(store, caller, model))
    note.print(escape(f"{caller}: forgotten, asking {', '.join(forgotten)}"), soft_wrap=True)


@verbs.command(epilog="Example: modeltoll accounts export sqlite:///modeltoll.db --format csv --out accounts.csv")
@command_name
def export(
    ledger: Where,
    *,
    what: Annotated[ExportSource, typer.Option(help="The accounts, or the log of all tolls.")] = ExportSource.accounts,
    form: Annotated[
        ExportFormat, typer.Option("--format", help="JSON lines, or CSV with a head.")
    ] = ExportFormat.jsonl,
    out: Annotated[Path | None, typer.Option(help="The file; standard output if not given.")] = None,
) -> None:
    """Write all accounts, or the log, one a line. No payload and no key is in either."""
    with _destination(out) as file:
        write = _writer(file, form)
        if what is ExportSource.accounts:
            for account in _ask(ledger, lambda store: store.largest(_ALL, time.time())):
                write(_members(account))
        else:
            _ask(ledger, lambda store: _each_line(store, lambda number, who, bill: write(_line(number, who, bill))))


def _ask(where: str, question: Callable[[Ledger], Awaitable[T]]) -> T:
    """Open the ledger, if there is one, and ask it."""
    with requires_extra("gateway"):
        from modeltoll.ledger.locate import open_ledger  # noqa: PLC0415
    url = _url(where)

    async def ask() -> T:
        async with open_ledger(url, create=False) as store:
            return await question(store)

    return asyncio.run(ask())


def _url(where: str) -> str:
    if "://" in where or Path(where).suffix not in {".yaml", ".yml"}:
        return where
    with requires_extra("gateway"):
        from modeltoll.gateway.settings.load import load_settings  # noqa: PLC0415
    return load_settings(Path(where)).ledger.url


async def _known(store: Ledger, name: str, model: str | None) -> Sequence[Account]:
    """The accounts of one name, a group's among them, in the order of their models."""
    from modeltoll.records import Caller  # noqa: PLC0415

    now = time.time()
    models = {model} if model else {account.model for account in await store.largest(_ALL, now)}
    try:
        found = [await store.account(Caller(name), each, now) for each in sorted(models)]
    except ValueError as error:
        raise SettingsError([f"CALLER: {error}"]) from None
    known = [account for account in found if account is not None]
    if not known:
        raise LedgerError(f"the ledger knows no caller {name!r}" + (f" of {model!r}" if model else ""))
    return known


async def _known_today(store: Ledger, name: str, model: str | None) -> tuple[Sequence[Account], DailyUsage]:
    from modeltoll.records import Caller  # noqa: PLC0415

    return await _known(store, name, model), await store.spent(Caller(name), int(time.time() // _DAY))


async def _forget(store: Ledger, name: str, model: str | None) -> Sequence[str]:
    known = await _known(store, name, model)
    return [account.model for account in known if await store.reset(account.caller, account.model)]


async def _each_line(store: Ledger, tell: Callable[[int, str, LogEntry], None]) -> None:
    last = 0
    while page := await store.log(last, _PAGE):
        for line in page:
            tell(*line)
        last = page[-1][0]


# How accounts and lines look.


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _members(account: Account) -> dict[str, Any]:
    return {
        "caller": account.caller.name,
        "model": account.model,
        "rows": account.rows,
        "requests": account.requests,
        "work_seconds": account.work,
        "first_seen": _moment(account.first_seen),
        "last_seen": _moment(account.last_seen),
        "tariff": account.tariff,
        "leaks": account.leaks,
        "counts": account.counts,
    }


def _line(number: int, who: str, bill: LogEntry) -> dict[str, Any]:
    members = asdict(bill)
    work = members.pop("work")
    del work["rows"]
    return {
        "line": number,
        **members,
        "at": _moment(bill.at),
        "caller": who,
        "work_seconds": work.pop("seconds"),
        **{_MEMBERS.get(name, name): value for name, value in work.items()},
    }


def _cells(account: Account) -> tuple[str, ...]:
    return (
        escape(account.caller.name),
        escape(account.model),
        f"{account.rows:,}",
        f"{account.requests:,}",
        f"{account.work:,.1f}",
        _moment(account.first_seen)[:16].replace("T", " "),
        _moment(account.last_seen)[:16].replace("T", " "),
    )


def _facts(account: Account) -> list[tuple[str, str]]:
    facts = [
        ("rows", f"{account.rows:,}"),
        ("requests", f"{account.requests:,}"),
        ("work issued, s", f"{account.work:,.3f}"),
        ("first seen", _moment(account.first_seen)),
        ("last seen", _moment(account.last_seen)),
        ("tariff", escape(account.tariff)),
    ]
    for number, (leak, counts) in enumerate(zip(account.leaks, account.counts, strict=False), start=1):
        bins = " ".join(f"{count:.1f}" for count in counts)
        facts.append((f"measure {number}: leak in all", f"{leak:.4g}"))
        facts.append(("  rows that count now, by bins of p from rare to common", bins))
    return facts


@contextmanager
def _destination(out: Path | None) -> Iterator[IO[str]]:
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise SettingsError([f"--out: {out} cannot be written: {error.strerror}"]) from None


def _writer(file: IO[str], form: ExportFormat) -> Callable[[dict[str, Any]], None]:
    """What writes one line; of CSV the first one brings the head. Lists are JSON in it."""
    if form is ExportFormat.jsonl:
        return lambda members: print(json.dumps(members), file=file)
    rows = csv.writer(file, lineterminator="\n")
    begun: list[bool] = []

    def write(members: dict[str, Any]) -> None:
        if not begun:
            rows.writerow(members)
            begun.append(True)
        rows.writerow(_texts(members.values()))

    return write


def _texts(values: Iterable[Any]) -> Iterator[Any]:
    """As a cell of a table may hold it; a text that a spreadsheet would take for a formula is quoted."""
    for value in values:
        if isinstance(value, tuple | list):
            yield json.dumps(value)
        else:
            yield f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
