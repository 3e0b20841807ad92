"""The commands ``simulate``, which replays callers through a tariff, and ``explain``, which shows how a price arises."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modeltoll.cli.terminal import JsonFile, print_table, requires_extra, stage, with_exit_codes, write_json
from modeltoll.errors import CalibrationError, SettingsError

if TYPE_CHECKING:
    from modeltoll.records import Account, Caller, Floats, Leaks
    from modeltoll.settlement_records import Standing

__all__ = ["commands"]

commands = typer.Typer()


@commands.command(
    epilog="Example: modeltoll simulate leaks.npz --tariff tariff.json --tariff published --figure ratios.png"
)
@with_exit_codes
def simulate(  # noqa: PLR0913  each is a choice of the operator's
    recorded: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE.csv|LEAKS.npz",
            help="A trace of attacks, or recorded leaks of rows; see docs/explanation/pricing.md.",
        ),
    ],
    *,
    tariff: Annotated[
        list[str], typer.Option(help="'published', or a tariff file; repeat the option to compare several.")
    ],
    standard: Annotated[Path | None, typer.Option(help="Trace of the standard user; needed with a TRACE.csv.")] = None,
    signed: Annotated[
        bool,
        typer.Option(
            "--signed/--unsigned",
            help="Published tariff: charge callers who leak less than the standard user no more, unlike the paper.",
        ),
    ] = False,
    rows_per_step: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Published tariff: rows per puzzle; by default one puzzle per line of the trace, as in the paper.",
        ),
    ] = None,
    base: Annotated[
        float, typer.Option(min=1, help="Published tariff: base of the exponential in the excess leak.")
    ] = 1.0075,
    measure: Annotated[
        str | None, typer.Option(help="Published tariff: name of the recorded measure; by default the first.")
    ] = None,
    undefended_ms: Annotated[
        float | None,
        typer.Option(min=0.001, help="Time of one row without a gateway, in ms; by default from the tariff."),
    ] = None,
    gate_ms: Annotated[
        float | None, typer.Option(min=0, help="The gateway's own time for one row, in ms; by default from the tariff.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Number of rows that each thief wants; 0: as recorded.")] = 10_000,
    accounts: Annotated[
        str, typer.Option(help="Numbers of accounts per thief, separated by commas.")
    ] = "1,10,100,1000,10000",
    fillers: Annotated[
        str, typer.Option(help="Numbers of filler rows per stolen row, separated by commas.")
    ] = "1,2,4,8",
    filler_p: Annotated[
        list[str] | None,
        typer.Option(
            help="Also use fillers with this distribution of p-values, such as 0.5, 0.1..1 or 0.3*0..0.1+0.7*0.5..1; may be repeated."
        ),
    ] = None,
    abandon: Annotated[
        str,
        typer.Option(
            help="Thieves leave rows that cost more than this many times the undefended time; numbers separated by commas."
        ),
    ] = "1,10",
    honest_callers: Annotated[
        int, typer.Option(min=0, help="Number of honest callers, drawn from the calibration.")
    ] = 20,
    honest_rows: Annotated[int, typer.Option(min=0, help="Number of rows of each honest caller.")] = 10_000,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="All callers are anonymous, and pay the new-account toll.")
    ] = False,
    together: Annotated[
        bool, typer.Option("--together", help="All accounts of a caller belong to one organisation.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawn rows; the same seed draws the same rows.")] = 0,
    figure: Annotated[Path | None, typer.Option(help="Also draw the ratios to this .png file.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Compute what honest callers and thieves would pay under a tariff, without a gateway.

    Replays a trace of attacks, or simulates callers from recorded leaks, and prints a table.
    """
    with requires_extra("gateway"):
        from modeltoll.pricing.leak_samples import read_leaks  # noqa: PLC0415
        from modeltoll.pricing.published_tariff import PublishedTerms  # noqa: PLC0415
        from modeltoll.records import Caller  # noqa: PLC0415
        from modeltoll.simulation import inputs, tables  # noqa: PLC0415
        from modeltoll.simulation.p_value_mixture import parse_mixture  # noqa: PLC0415
        from modeltoll.simulation.replay import replay_attackers  # noqa: PLC0415
        from modeltoll.simulation.scenarios import ThiefPlan  # noqa: PLC0415
    terms = PublishedTerms(base=base, signed=signed, rows_per_step=rows_per_step)
    if recorded.suffix != ".npz":
        if figure is not None:
            raise SettingsError(["--figure: a figure is drawn of an .npz file of leaks, not of a trace; leave it out"])
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
    simulation = inputs.load_inputs(tariff, samples, inputs.PublishedTollOptions(measure, terms), times)
    with stage("Replaying callers"):
        lines = replay_attackers(samples, simulation.tariffs, simulation.times, plan, seed)
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


@commands.command(epilog="Example: modeltoll explain tariff.json --leak entropy=0.4 --leak novelty=2.1 --class 3")
@with_exit_codes
def explain(  # noqa: PLR0913  each is a choice of the operator's
    tariff: Annotated[Path, typer.Argument(metavar="TARIFF.json", help="Tariff file, as written by 'calibrate'.")],
    *,
    leak: Annotated[
        list[str] | None, typer.Option(help="MEASURE=LEAK of one row; once for each measure of the tariff.")
    ] = None,
    clean: Annotated[
        list[str] | None,
        typer.Option(help="MEASURE=LEAK of the row by the measure fitted without kinds; by default as --leak."),
    ] = None,
    predicted: Annotated[
        int | None, typer.Option("--class", min=0, help="Predicted class of the row; by default none.")
    ] = None,
    caller: Annotated[
        str | None, typer.Option(help="Account name of a caller, such as key:alice or net:198.51.100.7.")
    ] = None,
    ledger: Annotated[str | None, typer.Option(help="URL of the ledger that has the caller's account.")] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="Group of the caller, such as org:acme or prefix:198.51.100.0/24; may be repeated."),
    ] = None,
    discount: Annotated[
        float, typer.Option(min=0, max=1, help="Discount of the caller, 0..1, as in the settings.")
    ] = 0.0,
    multiplier: Annotated[float, typer.Option(min=0, help="Price multiplier of the caller's tier.")] = 1.0,
    json_file: JsonFile = None,
) -> None:
    """Explain the price of one row, the suspicion against one caller, or both.

    Of a row: its p-value among each kind, which kind decides, the price of its cell, and the clean price. Of a caller: the
    evidence in all rows and in each block, the cells that speak against it and those that do not, and the nearest kinds.
    """
    with requires_extra("gateway"):
        from modeltoll.gateway.callers.identify import Tier  # noqa: PLC0415
        from modeltoll.pricing import explain  # noqa: PLC0415
        from modeltoll.pricing.calibration_file import load_calibration  # noqa: PLC0415
        from modeltoll.pricing.conformal_tariff import ConformalTariff  # noqa: PLC0415
        from modeltoll.simulation import tables  # noqa: PLC0415
    if (caller is None) != (ledger is None) or not (leak or caller):
        raise SettingsError(["explain: give --leak for a row, or --caller and --ledger for a caller, or all of them"])
    if leak is None and (clean is not None or predicted is not None):
        raise SettingsError(["explain: --clean and --class describe a row; give --leak too"])
    conformal = ConformalTariff(load_calibration(tariff))
    of_caller = None
    if caller is not None and ledger is not None:
        caller_record = Tier(multiplier=multiplier).caller(caller, tuple(group or ()), discount=discount)
        account, standing, logged_as = asyncio.run(_account(ledger, caller_record, conformal.calibration.model))
        of_caller = explain.explain_caller(conformal, account, standing, logged_as)
    row = None
    if leak:
        leaks, clean_leaks = _row_leaks(conformal.measures, leak, clean, predicted)
        row = explain.explain_row(conformal, leaks, of_caller, clean_leaks)
    if json_file is not None:
        write_json({"row": row and asdict(row), "caller": of_caller and asdict(of_caller)}, json_file)
    if json_file == "-":
        return
    if row is not None:
        print_table(("row", ""), tables.row_cells(row))
    if of_caller is not None:
        print_table((f"{of_caller.caller}, model {of_caller.model}", ""), tables.caller_cells(of_caller))


def _row_leaks(
    measures: tuple[str, ...], leak: list[str], clean: list[str] | None, predicted: int | None
) -> tuple[Leaks, Floats | None]:
    """The leaks of the row with its class, and its clean leaks (1, measures)."""
    import numpy as np  # noqa: PLC0415

    from modeltoll.pricing.leak_samples import parse_leaks  # noqa: PLC0415

    leaks = parse_leaks(leak, measures)
    if predicted is not None:
        leaks = replace(leaks, classes=np.array([predicted]))
    return leaks, None if clean is None else parse_leaks(clean, measures).values


async def _account(url: str, caller: Caller, model: str) -> tuple[Account, Standing, str]:
    """The caller's account, what it has paid, and its pseudonym in the log."""
    from modeltoll.ledger.from_url import open_ledger  # noqa: PLC0415

    async with open_ledger(url, create=False) as ledger:
        account, standing = await ledger.account(caller, model), await ledger.standing(caller)
        logged_as = ledger.logged_as(caller)
    if account is None:
        raise CalibrationError(
            f"the ledger has no account of {caller.name!r} for {model!r}; modeltoll accounts list shows names"
        )
    return account, standing, logged_as
