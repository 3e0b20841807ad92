"""The commands ``simulate``, which replays callers through a tariff, and ``explain``, which shows how a price arises."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import typer

from modeltoll.cli.option_records import takes_options
from modeltoll.cli.simulate_options import ExplainOptions, SimulateOptions
from modeltoll.cli.terminal import print_table, requires_extra, stage, with_exit_codes, write_json
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
@takes_options
def simulate(options: SimulateOptions) -> None:
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
    terms = PublishedTerms(base=options.base, signed=options.signed, rows_per_step=options.rows_per_step)
    if options.recorded.suffix != ".npz":
        if options.figure is not None:
            raise SettingsError(["--figure: a figure is drawn of an .npz file of leaks, not of a trace; leave it out"])
        costs = inputs.replay_trace(options.recorded, options.standard, options.tariff, terms)
        _print_lines(costs, tables.MODE_HEADINGS, tables.mode_cells(costs), options.json_file)
        return
    samples = read_leaks(options.recorded)
    plan = ThiefPlan(
        rows=options.rows or None,
        accounts=inputs.parse_counts(options.accounts, "--accounts"),
        fillers=inputs.parse_counts(options.fillers, "--fillers"),
        distributions={text: parse_mixture(text) for text in options.filler_p or ()},
        abandon=inputs.parse_numbers(options.abandon, "--abandon"),
        honest_callers=options.honest_callers,
        honest_rows=options.honest_rows,
        caller=Caller(
            "net:simulated" if options.anonymous else "key:simulated", groups=("org:simulated",) * options.together
        ),
    )
    times = inputs.TimeOptions(*(None if ms is None else ms / 1000 for ms in (options.undefended_ms, options.gate_ms)))
    simulation = inputs.load_inputs(options.tariff, samples, inputs.PublishedTollOptions(options.measure, terms), times)
    with stage("Replaying callers"):
        lines = replay_attackers(samples, simulation.tariffs, simulation.times, plan, options.seed)
    _print_lines(lines, tables.LINE_HEADINGS, tables.line_cells(lines), options.json_file)
    if options.figure is not None:
        with requires_extra("demo"):
            from modeltoll.simulation.figure import draw_lines  # noqa: PLC0415
        draw_lines(lines, options.figure, options.recorded.stem)


def _print_lines(
    lines: Sequence[Any], headings: Sequence[str], cells: Sequence[Sequence[str]], json_file: str | None
) -> None:
    if json_file is not None:
        write_json([asdict(line) for line in lines], json_file)
    if json_file != "-":
        print_table(headings, cells)


@commands.command(epilog="Example: modeltoll explain tariff.json --leak entropy=0.4 --leak novelty=2.1 --class 3")
@with_exit_codes
@takes_options
def explain(options: ExplainOptions) -> None:
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
    if (options.caller is None) != (options.ledger is None) or not (options.leak or options.caller):
        raise SettingsError(["explain: give --leak for a row, or --caller and --ledger for a caller, or all of them"])
    if options.leak is None and (options.clean is not None or options.predicted is not None):
        raise SettingsError(["explain: --clean and --class describe a row; give --leak too"])
    conformal = ConformalTariff(load_calibration(options.tariff))
    of_caller = None
    if options.caller is not None and options.ledger is not None:
        caller_record = Tier(multiplier=options.multiplier).caller(
            options.caller, tuple(options.group or ()), discount=options.discount
        )
        account, standing, logged_as = asyncio.run(_account(options.ledger, caller_record, conformal.calibration.model))
        of_caller = explain.explain_caller(conformal, account, standing, logged_as)
    row = None
    if options.leak:
        leaks, clean_leaks = _row_leaks(conformal.measures, options.leak, options.clean, options.predicted)
        row = explain.explain_row(conformal, leaks, of_caller, clean_leaks)
    if options.json_file is not None:
        write_json({"row": row and asdict(row), "caller": of_caller and asdict(of_caller)}, options.json_file)
    if options.json_file == "-":
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
