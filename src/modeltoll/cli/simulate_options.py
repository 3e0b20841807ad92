"""The options of ``simulate`` and ``explain``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from modeltoll.cli.terminal import JsonFile

__all__ = ["ExplainOptions", "SimulateOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """What is replayed, under which tariffs, and by whom."""

    recorded: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE.csv|LEAKS.npz",
            help="A trace of attacks, or recorded leaks of rows; see docs/explanation/pricing.md.",
        ),
    ]
    tariff: Annotated[
        list[str], typer.Option(help="'published', or a tariff file; repeat the option to compare several.")
    ]
    standard: Annotated[Path | None, typer.Option(help="Trace of the standard user; needed with a TRACE.csv.")] = None
    signed: Annotated[
        bool,
        typer.Option(
            "--signed/--unsigned",
            help="Published tariff: charge callers who leak less than the standard user no more, unlike the paper.",
        ),
    ] = False
    rows_per_step: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Published tariff: rows per puzzle; by default one puzzle per line of the trace, as in the paper.",
        ),
    ] = None
    base: Annotated[
        float, typer.Option(min=1, help="Published tariff: base of the exponential in the excess leak.")
    ] = 1.0075
    measure: Annotated[
        str | None, typer.Option(help="Published tariff: name of the recorded measure; by default the first.")
    ] = None
    undefended_ms: Annotated[
        float | None,
        typer.Option(min=0.001, help="Time of one row without a gateway, in ms; by default from the tariff."),
    ] = None
    gate_ms: Annotated[
        float | None, typer.Option(min=0, help="The gateway's own time for one row, in ms; by default from the tariff.")
    ] = None
    rows: Annotated[int, typer.Option(min=0, help="Number of rows that each thief wants; 0: as recorded.")] = 10_000
    accounts: Annotated[str, typer.Option(help="Numbers of accounts per thief, separated by commas.")] = (
        "1,10,100,1000,10000"
    )
    fillers: Annotated[str, typer.Option(help="Numbers of filler rows per stolen row, separated by commas.")] = (
        "1,2,4,8"
    )
    filler_p: Annotated[
        list[str] | None,
        typer.Option(
            help="Also use fillers with this distribution of p-values, such as 0.5, 0.1..1 or 0.3*0..0.1+0.7*0.5..1; may be repeated."
        ),
    ] = None
    abandon: Annotated[
        str,
        typer.Option(
            help="Thieves leave rows that cost more than this many times the undefended time; numbers separated by commas."
        ),
    ] = "1,10"
    honest_callers: Annotated[
        int, typer.Option(min=0, help="Number of honest callers, drawn from the calibration.")
    ] = 20
    honest_rows: Annotated[int, typer.Option(min=0, help="Number of rows of each honest caller.")] = 10_000
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="All callers are anonymous, and pay the new-account toll.")
    ] = False
    together: Annotated[
        bool, typer.Option("--together", help="All accounts of a caller belong to one organisation.")
    ] = False
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawn rows; the same seed draws the same rows.")] = 0
    figure: Annotated[Path | None, typer.Option(help="Also draw the ratios to this .png file.")] = None
    json_file: JsonFile = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainOptions:
    """A row, a caller, or both."""

    tariff: Annotated[Path, typer.Argument(metavar="TARIFF.json", help="Tariff file, as written by 'calibrate'.")]
    leak: Annotated[
        list[str] | None, typer.Option(help="MEASURE=LEAK of one row; once for each measure of the tariff.")
    ] = None
    clean: Annotated[
        list[str] | None,
        typer.Option(help="MEASURE=LEAK of the row by the measure fitted without kinds; by default as --leak."),
    ] = None
    predicted: Annotated[
        int | None, typer.Option("--class", min=0, help="Predicted class of the row; by default none.")
    ] = None
    caller: Annotated[
        str | None, typer.Option(help="Account name of a caller, such as key:alice or net:198.51.100.7.")
    ] = None
    ledger: Annotated[str | None, typer.Option(help="URL of the ledger that has the caller's account.")] = None
    group: Annotated[
        list[str] | None,
        typer.Option(help="Group of the caller, such as org:acme or prefix:198.51.100.0/24; may be repeated."),
    ] = None
    discount: Annotated[float, typer.Option(min=0, max=1, help="Discount of the caller, 0..1, as in the settings.")] = (
        0.0
    )
    multiplier: Annotated[float, typer.Option(min=0, help="Price multiplier of the caller's tier.")] = 1.0
    json_file: JsonFile = None
