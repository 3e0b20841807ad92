"""The verbs ``simulate`` and ``explain``: what callers would pay under a tariff, and how a price came about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modeltoll.cli.terminal import JsonFile, command_name, print_table, requires_extra, stage, write_json
from modeltoll.errors import CalibrationError, SettingsError

if TYPE_CHECKING:
    from modeltoll.records import Account, Caller

__all__ = ["verbs"]

verbs = typer.Typer()


@verbs.command(
    epilog="Example: modeltoll simulate leaks.npz --tariff tariff.json --tariff published --figure ratios.png"
)
@command_name
def simulate(  # noqa: PLR0913  each is a choice of the operator's
    recorded: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE.csv|LEAKS.npz", help="Recorded attacks, or leaks of rows; docs/explanation/pricing.md."
        ),
    ],
    *,
    tariff: Annotated[list[str], typer.Option(help="'published', or a tariff's file. Give several to compare them.")],
    standard: Annotated[Path | None, typer.Option(help="The standard user's trace, for a TRACE.csv.")] = None,
    signed: Annotated[
        bool,
        typer.Option("--signed/--unsigned", help="Published: charge callers who leak less no more, unlike the paper."),
    ] = False,
    rows_per_step: Annotated[
        int | None, typer.Option(min=1, help="Published: rows per puzzle. The paper: one per row of a trace.")
    ] = None,
    base: Annotated[float, typer.Option(min=1, help="Published: what the excess leak is an exponent of.")] = 1.0075,
    measure: Annotated[str | None, typer.Option(help="Published: which of the recorded measures; the first.")] = None,
    undefended_ms: Annotated[float | None, typer.Option(min=0.001, help="Time of a row without a gateway.")] = None,
    gate_ms: Annotated[float | None, typer.Option(min=0, help="The gateway's own time for a row.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows that each thief wants; 0: as recorded.")] = 10_000,
    accounts: Annotated[str, typer.Option(help="Over how many accounts.")] = "1,10,100,1000,10000",
    fillers: Annotated[str, typer.Option(help="How many fillers per stolen row.")] = "1,2,4,8",
    filler_p: Annotated[
        list[str] | None,
        typer.Option(help="Fillers of this distribution of p too: 0.5, 0.1..1, 0.3*0..0.1+0.7*0.5..1."),
    ] = None,
    abandon: Annotated[str, typer.Option(help="Leave rows dearer than so many times the undefended time.")] = "1,10",
    honest_callers: Annotated[int, typer.Option(min=0, help="Honest callers drawn from the calibration.")] = 20,
    honest_rows: Annotated[int, typer.Option(min=0, help="Rows of each of them.")] = 10_000,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Accounts without a key, who pay the entry toll.")
    ] = False,
    together: Annotated[
        bool, typer.Option("--together", help="All accounts of a plan belong to one organisation.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same rows.")] = 0,
    figure: Annotated[Path | None, typer.Option(help="Draw the ratios: .png.")] = None,
    json_file: JsonFile = None,
) -> None:
    """What callers would pay under a tariff, without a gateway: recorded attacks, or plans made from recorded leaks."""
    with requires_extra("gateway"):
        from modeltoll.pricing.leak_samples import read_leaks  # noqa: PLC0415
        from modeltoll.pricing.published import PublishedTerms  # noqa: PLC0415
        from modeltoll.records import Caller  # noqa: PLC0415
        from modeltoll.simulation import inputs, tables  # noqa: PLC0415
        from modeltoll.simulation.p_value_mixture import parse_mixture  # noqa: PLC0415
        from modeltoll.simulation.replay import replay_attackers  # noqa: PLC0415
        from modeltoll.simulation.scenarios import ThiefPlan  # noqa: PLC0415
    terms = PublishedTerms(base=base, signed=signed, rows_per_step=rows_per_step)
    if recorded.suffix != ".npz":
        if figure is not None:
            raise SettingsError(["--figure: a figure is drawn of an .npz file of leaks, not of a trace"])
        costs = inputs.replay_trace(recorded, standard, tariff, terms)
        _print_lines(costs, tables.MODE_HEADINGS, tables.mode_cells(costs), json_file)
        return
    samples = read_leaks(recorded)
    plan = ThiefPlan(
        rows=rows or None,
        accounts=inputs.parse_counts(accounts, "--accounts"),
        fillers=inputs.parse_counts(fillers, "--fillers"),
        distributions={text: parse_mixture(text) for text in filler_p or ()},
        abandon=inputs.parse_numbers(abandon, "--abandon"),
        honest_callers=honest_callers,
        honest_rows=honest_rows,
        caller=Caller("net:simulated" if anonymous else "key:simulated", groups=("org:simulated",) * together),
    )
    times = inputs.TimeOptions(*(None if ms is None else ms / 1000 for ms in (undefended_ms, gate_ms)))
    street = inputs.load_inputs(tariff, samples, inputs.PublishedTollOptions(measure, terms), times)
    with stage("Replaying callers"):
        lines = replay_attackers(samples, street.tariffs, street.times, plan, seed)
    _print_lines(lines, tables.LINE_HEADINGS, tables.line_cells(lines), json_file)
    if figure is not None:
        with requires_extra("demo"):
            from modeltoll.simulation.figure import draw_lines  # noqa: PLC0415
        draw_lines(lines, figure, recorded.stem)


def _print_lines(
    lines: Sequence[Any], headings: Sequence[str], cells: Sequence[Sequence[str]], json_file: str | None
) -> None:
    if json_file is not None:
        write_json([asdict(line) for line in lines], json_file)
    if json_file != "-":
        print_table(headings, cells)


@verbs.command(epilog="Example: modeltoll explain tariff.json --leak entropy=0.4 --leak novelty=2.1")
@command_name
def explain(  # noqa: PLR0913  each is a choice of the operator's
    tariff: Annotated[Path, typer.Argument(metavar="TARIFF.json", help="The tariff's file.")],
    *,
    leak: Annotated[list[str] | None, typer.Option(help="MEASURE=LEAK of one row, once for each measure.")] = None,
    caller: Annotated[str | None, typer.Option(help="A caller, such as key:alice or net:198.51.100.0/24.")] = None,
    ledger: Annotated[str | None, typer.Option(help="The ledger's URL, for a caller.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="A group of the caller's: org:acme or prefix:198.51.0.0/16.")
    ] = None,
    discount: Annotated[float, typer.Option(min=0, max=1, help="The caller's discount, as in the settings.")] = 0.0,
    multiplier: Annotated[float, typer.Option(min=0, help="The multiplier of the caller's tier.")] = 1.0,
    json_file: JsonFile = None,
) -> None:
    """How the price of a row came about, and how a caller stands."""
    with requires_extra("gateway"):
        from modeltoll.gateway.callers.identify import Tier  # noqa: PLC0415
        from modeltoll.pricing import explain  # noqa: PLC0415
        from modeltoll.pricing.calibration_file import load_calibration  # noqa: PLC0415
        from modeltoll.pricing.conformal import ConformalTariff  # noqa: PLC0415
        from modeltoll.pricing.leak_samples import parse_leaks  # noqa: PLC0415
        from modeltoll.simulation import tables  # noqa: PLC0415
    if (caller is None) != (ledger is None) or not (leak or caller):
        raise SettingsError(["explain: give --leak for a row, or --caller and --ledger for a caller, or all of them"])
    priced = ConformalTariff(load_calibration(tariff))
    standing = None
    if caller is not None and ledger is not None:
        who = Tier(multiplier=multiplier).caller(caller, tuple(group or ()), discount=discount)
        account = asyncio.run(_account(ledger, who, priced.calibration.model))
        standing = explain.explain_caller(priced, account)
    row = explain.explain_row(priced, parse_leaks(leak, priced.measures), standing) if leak else None
    if json_file is not None:
        write_json({"row": row and asdict(row), "caller": standing and asdict(standing)}, json_file)
    if json_file == "-":
        return
    if row is not None:
        print_table(("a row", ""), tables.row_cells(row))
    if standing is not None:
        print_table((f"{standing.caller}, asking {standing.model}", ""), tables.caller_cells(standing))


async def _account(url: str, caller: Caller, model: str) -> Account:
    from modeltoll.ledger.locate import open_ledger  # noqa: PLC0415

    async with open_ledger(url, create=False) as ledger:
        account = await ledger.account(caller, model, time.time())
    if account is None:
        raise CalibrationError(f"the ledger knows no caller {caller.name!r} of {model!r}")
    return account
