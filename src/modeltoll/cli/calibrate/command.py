"""The verb ``calibrate``: from honest rows, asked for, recorded or logged, to a tariff's file."""

from __future__ import annotations

import asyncio
import math
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from modeltoll.cli.calibrate.inputs import logged_leaks, recorded_leaks, thief_rows, unseen_rows
from modeltoll.cli.calibrate.output import draw_calibration, print_calibration
from modeltoll.cli.calibrate.target import target_from_settings
from modeltoll.cli.terminal import JsonFile, command_name, requires_extra, stage, warn
from modeltoll.errors import SettingsError

__all__ = ["verbs"]

verbs = typer.Typer()


@verbs.command(epilog="Example: modeltoll calibrate modeltoll.yaml --inputs honest.npy")
@command_name
def calibrate(  # noqa: PLR0913  each is a choice of the operator's
    settings: Annotated[
        Path | None,
        typer.Argument(metavar="[SETTINGS.yaml]", help="The gateway's settings; not needed for --leaks with --out."),
    ] = None,
    *,
    inputs: Annotated[
        Path | None, typer.Option(help="Honest rows that the model was not trained on: .npy, one row per line.")
    ] = None,
    leaks: Annotated[Path | None, typer.Option(help="Recorded leaks of honest rows instead: .npz.")] = None,
    from_ledger: Annotated[
        bool, typer.Option("--from-ledger", help="What the ledger logged in shadow mode instead.")
    ] = False,
    trained_on: Annotated[
        list[Path] | None,
        typer.Option(help="Rows that the model was trained on, to look for among the honest ones: .npy."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model; needed where the settings list several.")] = None,
    g: Annotated[float, typer.Option(help="Bend of the price, 0..1: larger makes rare rows dearer.")] = 0.8,
    p99_wait: Annotated[
        str | None, typer.Option(help="Choose g so that 99 % of honest rows wait at most this: 0.5s or 500ms.")
    ] = None,
    thieves: Annotated[
        Path | None,
        typer.Option(
            help="Thieves' rows, to choose g and weights that cost them most: recorded leaks, .npz, or with --inputs "
            "rows to ask for, .npy."
        ),
    ] = None,
    overhead: Annotated[
        float, typer.Option(help="What an honest row may cost on top, as a share of its own time.")
    ] = 1.0,
    undefended_ms: Annotated[
        float, typer.Option(min=0, help="Time of one row without a gateway, where no server is asked.")
    ] = 0.0,
    unit_ms: Annotated[float | None, typer.Option(help="An absolute unit instead, for very fast models.")] = None,
    new_account_toll: Annotated[
        float,
        typer.Option(
            min=0, metavar="QUERIES", help="What a new caller without a key pays, in times of a row; 0: nothing."
        ),
    ] = 200.0,
    measures: Annotated[
        str | None,
        typer.Option(
            help="Which of the recorded measures, where there are no settings, and their weights: entropy,novelty=2."
        ),
    ] = None,
    tariff: Annotated[Path | None, typer.Option("--out", help="The tariff's file, if not the settings' own.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which rows are kept back.")] = 0,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the prices of honest rows, and of thieves' rows: .png.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Fit the tariff that the settings name to honest rows: asked of the model server, recorded, or logged."""
    with requires_extra("gateway"):
        from modeltoll.gateway.setup.calibrate import CalibrationRequest, calibrate_model  # noqa: PLC0415
        from modeltoll.pricing import fit  # noqa: PLC0415
        from modeltoll.pricing.calibration import Provenance  # noqa: PLC0415
        from modeltoll.pricing.calibration_file import save_calibration  # noqa: PLC0415
        from modeltoll.pricing.selection import PriceTargets  # noqa: PLC0415
    if sum((inputs is not None, leaks is not None, from_ledger)) != 1:
        raise SettingsError(["calibrate: give one of --inputs, --leaks and --from-ledger"])
    goal = target_from_settings(settings, model, leaks, tariff, measures)
    stolen = {} if thieves is None else thief_rows(thieves, goal, asking=inputs is not None)
    wait = None if p99_wait is None else _seconds(p99_wait, "--p99-wait")
    targets = PriceTargets(wait, tuple(stolen.values())) if stolen or wait is not None else None
    terms = fit.CalibrationTerms(
        g=g, weights=None if stolen else goal.weights, new_account_queries=new_account_toll, targets=targets
    )
    unit_seconds = None if unit_ms is None else unit_ms / 1000
    costs = fit.RowCosts(undefended_ms / 1000, overhead=overhead, unit_seconds=unit_seconds)
    made = Provenance(
        source=str(inputs or leaks or f"the shadow log of {goal.model}"),
        command=shlex.join(["modeltoll", *sys.argv[1:]]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    split = fit.HoldoutSplit(seed=seed)
    if inputs is not None:
        rows = unseen_rows(inputs, [*(trained_on or ()), *goal.private])
        with stage("Asking for honest rows") as progress:
            wishes = CalibrationRequest(terms, costs, split, made)
            fitted = asyncio.run(calibrate_model(goal.loaded, goal.model, rows, wishes, progress))
    else:
        honest = recorded_leaks(leaks, goal.measures) if leaks else asyncio.run(logged_leaks(goal))
        if unit_seconds is None:
            warn(
                [
                    "the gateway's own time was not measured: give a smaller --overhead, or --unit-ms, to leave room for it"
                ]
            )
        fitted = fit.fit_calibration(goal.model, honest, costs, terms, made, split)
    save_calibration(fitted, goal.tariff)
    print_calibration(fitted, stolen, goal.tariff, json_file)
    if figure is not None:
        draw_calibration(fitted, stolen, figure)


def _seconds(text: str, option: str) -> float:
    """A wait such as 0.5s, 500ms or 0.5."""
    number, scale = (text[:-2], 0.001) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
    try:
        seconds = scale * float(number)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < math.inf:
        raise SettingsError([f"{option}: {text!r} is not a time such as 0.5s or 500ms"])
    return seconds
