"""The command ``calibrate``: fit a tariff to honest rows that are sent, recorded or logged."""

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
from modeltoll.cli.terminal import JsonFile, requires_extra, stage, warn, with_exit_codes
from modeltoll.errors import SettingsError

__all__ = ["commands"]

commands = typer.Typer()


@commands.command(epilog="Example: modeltoll calibrate modeltoll.yaml --inputs honest.npy")
@with_exit_codes
def calibrate(  # noqa: PLR0913  each is a choice of the operator's
    settings: Annotated[
        Path | None,
        typer.Argument(metavar="SETTINGS.yaml", help="The gateway's settings file; not needed for --leaks with --out."),
    ] = None,
    *,
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="Honest inputs that the model was not trained on, .npy, one row per input; they are sent to the model server."
        ),
    ] = None,
    leaks: Annotated[
        Path | None, typer.Option(help="Recorded leaks of honest rows, .npz, in place of --inputs.")
    ] = None,
    from_ledger: Annotated[
        bool,
        typer.Option("--from-ledger", help="Use the rows that the ledger logged in shadow mode, in place of --inputs."),
    ] = False,
    trained_on: Annotated[
        list[Path] | None,
        typer.Option(help="Training inputs of the model, .npy; honest rows among them are refused. May be repeated."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model; needed if the settings list several.")] = None,
    g: Annotated[
        float, typer.Option(help="Exponent g of the price, 0..1; larger makes rare rows more expensive.")
    ] = 0.8,
    p99_wait: Annotated[
        str | None,
        typer.Option(
            help="Choose g so that 99 % of honest rows wait at most this long, such as 0.5s or 500ms; by default g is fixed."
        ),
    ] = None,
    thieves: Annotated[
        Path | None,
        typer.Option(
            help="Thieves' rows, against which g and weights are chosen: recorded leaks, .npz, or with --inputs inputs to send, .npy."
        ),
    ] = None,
    overhead: Annotated[
        float, typer.Option(help="Largest mean added time of an honest row, as a share of its own time; 1 doubles it.")
    ] = 1.0,
    undefended_ms: Annotated[
        float,
        typer.Option(
            min=0, help="Time of one row without a gateway, in ms; needed without --inputs, unless --unit-ms is given."
        ),
    ] = 0.0,
    unit_ms: Annotated[
        float | None, typer.Option(help="The unit in ms, in place of --overhead; for very fast models.")
    ] = None,
    new_account_toll: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="QUERIES",
            help="New-account toll of a caller without a key, in times of an undefended row; 0: none.",
        ),
    ] = 200.0,
    measures: Annotated[
        str | None,
        typer.Option(
            help="Recorded measures and their weights, such as entropy,novelty=2; only without settings. By default all measures."
        ),
    ] = None,
    tariff: Annotated[
        Path | None, typer.Option("--out", help="Tariff file to write; by default the one that the settings name.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed that decides which rows are held out for the report.")] = 0,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the prices of honest and thieves' rows to this .png file.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Fit a tariff to honest rows, write its file, and print what callers will pay.

    The rows are sent to the model server (--inputs), recorded (--leaks), or logged in shadow mode (--from-ledger).
    """
    with requires_extra("gateway"):
        from modeltoll.gateway.setup.calibrate import CalibrationRequest, calibrate_model  # noqa: PLC0415
        from modeltoll.pricing import fit  # noqa: PLC0415
        from modeltoll.pricing.calibration import CalibrationProvenance  # noqa: PLC0415
        from modeltoll.pricing.calibration_file import save_calibration  # noqa: PLC0415
        from modeltoll.pricing.selection import PriceTargets  # noqa: PLC0415
    if sum((inputs is not None, leaks is not None, from_ledger)) != 1:
        raise SettingsError(["calibrate: give one of --inputs, --leaks and --from-ledger"])
    target = target_from_settings(settings, model, leaks, tariff, measures)
    thief_leaks = {} if thieves is None else thief_rows(thieves, target, inputs_given=inputs is not None)
    wait = None if p99_wait is None else _seconds(p99_wait, "--p99-wait")
    targets = PriceTargets(wait, tuple(thief_leaks.values())) if thief_leaks or wait is not None else None
    terms = fit.CalibrationTerms(
        g=g, weights=None if thief_leaks else target.weights, new_account_queries=new_account_toll, targets=targets
    )
    unit_seconds = None if unit_ms is None else unit_ms / 1000
    costs = fit.RowCosts(undefended_ms / 1000, overhead=overhead, unit_seconds=unit_seconds)
    provenance = CalibrationProvenance(
        source=str(inputs or leaks or f"the shadow log of {target.model}"),
        command=shlex.join(["modeltoll", *sys.argv[1:]]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    split = fit.HoldoutSplit(seed=seed)
    if inputs is not None:
        rows = unseen_rows(inputs, [*(trained_on or ()), *target.private])
        with stage("Sending honest rows") as progress:
            request = CalibrationRequest(terms, costs, split, provenance)
            fitted = asyncio.run(calibrate_model(target.loaded, target.model, rows, request, progress))
    else:
        honest = recorded_leaks(leaks, target.measures) if leaks else asyncio.run(logged_leaks(target))
        if unit_seconds is None:
            warn(
                [
                    "the gateway's own time was not measured; give a smaller --overhead, or --unit-ms, so that it is included"
                ]
            )
        fitted = fit.fit_calibration(target.model, honest, costs, terms, provenance, split)
    save_calibration(fitted, target.tariff)
    print_calibration(fitted, thief_leaks, target.tariff, json_file)
    if figure is not None:
        draw_calibration(fitted, thief_leaks, figure)


def _seconds(text: str, option: str) -> float:
    """Seconds of a text such as 0.5s, 500ms or 0.5."""
    number, scale = (text[:-2], 0.001) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
    try:
        seconds = scale * float(number)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < math.inf:
        raise SettingsError([f"{option}: {text!r} is not a time; write for example 0.5s or 500ms"])
    return seconds
