"""The options of ``calibrate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from modeltoll.cli.terminal import JsonFile

__all__ = ["CalibrateOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateOptions:
    """Where honest rows come from, what the tariff is fitted to, and what is written."""

    settings: Annotated[
        Path | None,
        typer.Argument(metavar="SETTINGS.yaml", help="The gateway's settings file; not needed for --leaks with --out."),
    ] = None
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="Honest inputs that the model was not trained on, one row per input: .npy, .npz, .csv, .jsonl, .json or .parquet; a column 'callers' names the caller of each. They are sent to the model server."
        ),
    ] = None
    requests: Annotated[
        Path | None,
        typer.Option(
            metavar="LOG.jsonl",
            help="Recorded honest requests, one body per line, sent as they are, in place of --inputs.",
        ),
    ] = None
    refused: Annotated[
        str,
        typer.Option(
            metavar="stop|leave-out",
            help="What happens with a row that the model server refuses: stop at it, or leave it out; the rows left out are counted and named.",
        ),
    ] = "stop"
    leaks: Annotated[Path | None, typer.Option(help="Recorded leaks of honest rows, .npz, in place of --inputs.")] = (
        None
    )
    from_ledger: Annotated[
        bool,
        typer.Option("--from-ledger", help="Use the rows that the ledger logged in shadow mode, in place of --inputs."),
    ] = False
    kinds: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Kinds of honest rows, made from --inputs and sent: blur,dark,noise,rotate:25,bright,contrast,fog,impulse of images, jitter,missing,scale of tables; 'photo' and 'table' are all of them.",
        ),
    ] = None
    kind_rows: Annotated[
        int, typer.Option(min=100, help="Honest rows that each of --kinds is made from; half of them are held back.")
    ] = 2000
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Further kind: rows to send, as --inputs, or recorded leaks, .npz. May be repeated.",
        ),
    ] = None
    known_honest: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Caller that you know to be honest: its own rows become its kind. May be repeated; 'all': every caller. Keys that are marked in the settings count too.",
        ),
    ] = None
    class_rows: Annotated[
        int,
        typer.Option(
            min=25,
            help="Honest rows of a predicted class from which on it is a kind of its own; smaller classes are one kind together, and who sends one of them alone is promised nothing.",
        ),
    ] = 100
    callers_for_all: Annotated[
        bool,
        typer.Option(
            "--callers-for-all",
            help="Let the rows of known callers count as kinds for everyone, in at most 32 clusters.",
        ),
    ] = False
    strangers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Rows as a thief may send them, as --inputs, or recorded leaks, .npz: they enter price and evidence. May be repeated.",
        ),
    ] = None
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="HxW[xC]", help="Shape of the images, for --kinds, if --inputs stores each as a flat row."
        ),
    ] = None
    trained_on: Annotated[
        list[Path] | None,
        typer.Option(
            help="Training inputs of the model, in any format of --inputs; honest rows among them are refused. May be repeated."
        ),
    ] = None
    model: Annotated[str | None, typer.Option(help="Name of the model; needed if the settings list several.")] = None
    g: Annotated[float, typer.Option(help="Exponent g of the price, 0..1; larger makes rare rows more expensive.")] = (
        0.8
    )
    p99_wait: Annotated[
        str | None,
        typer.Option(
            help="Choose g so that 99 % of honest rows wait at most this long, such as 0.5s or 500ms; by default g is fixed."
        ),
    ] = None
    thieves: Annotated[
        Path | None,
        typer.Option(
            help="Thieves' rows, against which g and weights are chosen: recorded leaks, .npz, or with --inputs rows to send."
        ),
    ] = None
    overhead: Annotated[
        float, typer.Option(help="Largest mean added time of an honest row, as a share of its own time; 1 doubles it.")
    ] = 1.0
    undefended_ms: Annotated[
        float,
        typer.Option(
            min=0,
            help="Time of one row without a gateway, in ms; needed without --inputs or --requests, unless --unit-ms is given.",
        ),
    ] = 0.0
    unit_ms: Annotated[
        float | None, typer.Option(help="The unit in ms, in place of --overhead; for very fast models.")
    ] = None
    new_account_toll: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="QUERIES",
            help="New-account toll of a caller without a key, in times of an undefended row; 0: none.",
        ),
    ] = 200.0
    measures: Annotated[
        str | None,
        typer.Option(
            help="Recorded measures and their weights, such as entropy,novelty=2; only without settings. By default all measures."
        ),
    ] = None
    tariff: Annotated[
        Path | None, typer.Option("--out", help="Tariff file to write; by default the one that the settings name.")
    ] = None
    rho: Annotated[
        float,
        typer.Option(min=0, max=10, help="Tolerance of suspicion: how far from every mixture of kinds is honest."),
    ] = 0.25
    rho0: Annotated[
        float,
        typer.Option(min=0, max=10, help="Tolerance per row, from which on it is raised until no kind is suspected."),
    ] = 0.02
    alpha: Annotated[
        float,
        typer.Option(min=1e-300, max=0.5, help="Bound on the probability that an honest caller is ever suspected."),
    ] = 1e-6
    surcharge: Annotated[
        float, typer.Option(min=1, max=1e6, help="Largest multiplier on the price of a suspected caller's rows.")
    ] = 100.0
    seed: Annotated[int, typer.Option(min=0, help="Seed that decides which rows are held out for the report.")] = 0
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the prices of honest and thieves' rows to this .png file.")
    ] = None
    json_file: JsonFile = None
