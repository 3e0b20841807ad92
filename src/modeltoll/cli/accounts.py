"""The commands ``accounts``: read, reset and export the accounts of a ledger."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape

from modeltoll.cli.accounts_output import (
    ACCOUNT_HEADINGS,
    account_cells,
    account_facts,
    account_json,
    iso_time,
    log_json,
    power_of_ten,
    standing_facts,
    standing_json,
)
from modeltoll.cli.terminal import JsonFile, note, print_table, requires_extra, with_exit_codes, write_json
from modeltoll.errors import LedgerError, SettingsError

if TYPE_CHECKING:
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.records import Account, Caller, DailyUsage, LogEntry
    from modeltoll.settlement_records import Standing

__all__ = ["commands"]

T = TypeVar("T")

commands = typer.Typer(
    name="accounts",
    help="Read, reset and export the accounts of callers in a ledger, while gateways use it.",
    epilog="Example: modeltoll accounts list sqlite:///modeltoll.db",
    no_args_is_help=True,
)

LedgerArgument = Annotated[
    str, typer.Argument(metavar="LEDGER", help="The ledger's URL, or a settings file (.yaml) that names it.")
]
CallerArgument = Annotated[
    str,
    typer.Argument(
        metavar="CALLER", help="Account name: key:alice, jwt:alice, net:198.51.100.7, or a group such as org:acme."
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Only the account for this model; by default for all models.")
]

_ALL = 2**62
_PAGE = 1000
_DAY = 86_400


class ExportFormat(StrEnum):
    """File formats of an export."""

    jsonl = "jsonl"
    csv = "csv"


class ExportSource(StrEnum):
    """What an export contains."""

    accounts = "accounts"
    log = "log"


@commands.command("list", epilog="Example: modeltoll accounts list modeltoll.yaml --limit 50")
@with_exit_codes
def list_accounts(
    ledger: LedgerArgument,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Number of accounts to show.")] = 20,
    json_file: JsonFile = None,
) -> None:
    """List the accounts with the most work issued, largest first, with the evidence that the latest bill stored."""
    found = _with_ledger(ledger, lambda store: store.largest(limit))
    if json_file is not None:
        write_json([account_json(account) for account in found], json_file)
    if json_file != "-":
        print_table(ACCOUNT_HEADINGS, [account_cells(account) for account in found])


@commands.command(epilog="Example: modeltoll accounts show sqlite:///modeltoll.db key:alice")
@with_exit_codes
def show(ledger: LedgerArgument, caller: CallerArgument, model: ModelOption = None, json_file: JsonFile = None) -> None:
    """Show the account of a caller or a group: totals, leaks, evidence, standing, and today's use of its quota.

    'modeltoll explain' says with the tariff what the evidence consists of.
    """
    found = _with_ledger(ledger, lambda store: _read_caller(store, caller, model))
    usage = found.usage
    if json_file is not None:
        over_all_models = standing_json(found.standing) | {
            "rows_today": usage.rows,
            "work_seconds_today": usage.work,
        }
        accounts = [account_json(account) for account in found.accounts] or [{"caller": found.caller.name}]
        write_json([account | over_all_models for account in accounts], json_file)
    if json_file != "-":
        for account in found.accounts:
            print_table((escape(f"{account.caller.name}, model {account.model}"), ""), account_facts(account))
        if not found.caller.is_group:
            print_table((escape(f"{caller}, over all models"), ""), standing_facts(found.standing))
        if usage.rows:
            out_of = f"{usage.rows:,} rows and {usage.work:,.3f} s of work"
            note.print(escape(f"today {caller} has used {out_of} of its daily quota, over all models"), soft_wrap=True)


@commands.command(epilog="Example: modeltoll accounts reset sqlite:///modeltoll.db key:alice --model digits")
@with_exit_codes
def reset(ledger: LedgerArgument, caller: CallerArgument, model: ModelOption = None) -> None:
    """Delete the account of a caller or a group with its evidence, and the caller's standing.

    The log and today's quota usage stay.
    """
    deleted = _with_ledger(ledger, lambda store: _reset(store, caller, model))
    note.print(escape(f"{caller}: account deleted for {', '.join(each.model for each in deleted)}"), soft_wrap=True)
    for account in deleted:
        state = account.evidence
        evidence = f"{state.rows:,} rows since {iso_time(state.since)}, power of ten {power_of_ten(state.log_evidence)}"
        note.print(escape(f"  {account.model}: deleted with its evidence of {evidence}"), soft_wrap=True)


@commands.command(epilog="Example: modeltoll accounts export sqlite:///modeltoll.db --format csv --out accounts.csv")
@with_exit_codes
def export(
    ledger: LedgerArgument,
    *,
    what: Annotated[
        ExportSource, typer.Option(help="Export the accounts, or the log of all tolls.")
    ] = ExportSource.accounts,
    file_format: Annotated[
        ExportFormat, typer.Option("--format", help="JSON lines, or CSV with a header row.")
    ] = ExportFormat.jsonl,
    out: Annotated[Path | None, typer.Option(help="Output file; by default standard output.")] = None,
) -> None:
    """Export all accounts, or the log, one per line. Neither contains payloads or API keys."""
    with _output_file(out) as file:
        write = _writer(file, file_format)
        if what is ExportSource.accounts:
            for account in _with_ledger(ledger, lambda store: store.largest(_ALL)):
                write(account_json(account))
        else:
            _with_ledger(
                ledger,
                lambda store: _for_each_line(
                    store, lambda number, hashed, entry: write(log_json(number, hashed, entry))
                ),
            )


def _with_ledger(location: str, ask: Callable[[Ledger], Awaitable[T]]) -> T:
    """Open an existing ledger, call ``ask`` with it, and close it."""
    with requires_extra("gateway"):
        from modeltoll.ledger.from_url import open_ledger  # noqa: PLC0415
    url = _url(location)

    async def run() -> T:
        async with open_ledger(url, create=False) as store:
            return await ask(store)

    return asyncio.run(run())


def _url(location: str) -> str:
    if "://" in location or Path(location).suffix not in {".yaml", ".yml"}:
        return location
    with requires_extra("gateway"):
        from modeltoll.gateway.settings.load import load_settings  # noqa: PLC0415
    return load_settings(Path(location)).ledger.url


async def _accounts_of(store: Ledger, name: str, model: str | None) -> Sequence[Account]:
    """The accounts of a caller or group, in the order of their models."""
    from modeltoll.records import Caller  # noqa: PLC0415

    models = {model} if model else {account.model for account in await store.largest(_ALL)}
    try:
        found = [await store.account(Caller(name), each) for each in sorted(models)]
    except ValueError as error:
        raise SettingsError([f"CALLER: {error}"]) from None
    return [account for account in found if account is not None]


def _unknown(name: str, model: str | None) -> LedgerError:
    suffix = f" for {model!r}" if model else ""
    return LedgerError(f"the ledger has no account of {name!r}{suffix}; modeltoll accounts list shows names")


@dataclass(frozen=True, slots=True)
class _CallerState:
    """What a ledger stores of one caller; usage is that of today. Before a first answer there is a standing alone."""

    caller: Caller
    accounts: Sequence[Account]
    standing: Standing
    usage: DailyUsage


async def _read_caller(store: Ledger, name: str, model: str | None) -> _CallerState:
    from modeltoll.records import Caller  # noqa: PLC0415
    from modeltoll.settlement_records import Standing  # noqa: PLC0415

    accounts = await _accounts_of(store, name, model)
    try:
        caller = Caller(name)
        standing = await store.standing(caller)
    except ValueError as error:
        raise SettingsError([f"CALLER: {error}"]) from None
    if not accounts and standing == Standing():
        raise _unknown(name, model)
    return _CallerState(caller, accounts, standing, await store.spent(caller, int(time.time() // _DAY)))


async def _reset(store: Ledger, name: str, model: str | None) -> Sequence[Account]:
    known = await _accounts_of(store, name, model)
    if not known:
        raise _unknown(name, model)
    return [account for account in known if await store.reset(account.caller, account.model)]


async def _for_each_line(store: Ledger, handle: Callable[[int, str, LogEntry], None]) -> None:
    last = 0
    while page := await store.log(last, _PAGE):
        for line in page:
            handle(*line)
        last = page[-1][0]


@contextmanager
def _output_file(out: Path | None) -> Iterator[IO[str]]:
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise SettingsError([f"--out: {out} cannot be written: {error.strerror}; choose another file"]) from None


def _writer(file: IO[str], file_format: ExportFormat) -> Callable[[dict[str, Any]], None]:
    """A function that writes one record; the first CSV record also writes the header. Lists become JSON in CSV."""
    if file_format is ExportFormat.jsonl:
        return lambda members: print(json.dumps(members), file=file)
    rows = csv.writer(file, lineterminator="\n")
    header_written: list[bool] = []

    def write(members: dict[str, Any]) -> None:
        if not header_written:
            rows.writerow(members)
            header_written.append(True)
        rows.writerow(_csv_cells(members.values()))

    return write


def _csv_cells(values: Iterable[Any]) -> Iterator[Any]:
    """Cells of a CSV row; a text that a spreadsheet would run as a formula gets a leading apostrophe."""
    for value in values:
        if isinstance(value, tuple | list | dict):
            yield json.dumps(value)
        else:
            yield f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
