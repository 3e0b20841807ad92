"""The options of ``fit-teachers`` and ``fit-novelty``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from modeltoll.cli.terminal import JsonFile

__all__ = ["FitNoveltyOptions", "FitTeachersOptions"]

ImageShape = Annotated[
    str | None,
    typer.Option(
        metavar="HxW[xC]", help="Shape of the images, if each is stored as a flat row; by default the shape in X.npy."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the training; the same seed and data give the same file.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitTeachersOptions:
    """Private data, the teachers to train on it, and what is written."""

    inputs: Annotated[
        Path,
        typer.Argument(metavar="X.npy", help="Inputs of the private training data, one example per row, of any shape."),
    ]
    labels: Annotated[
        Path, typer.Argument(metavar="Y.npy", help="Labels of the private training data, numbers or text.")
    ]
    out: Annotated[Path, typer.Option("-o", "--out", help="Output file for the teachers, .npz.")]
    teachers: Annotated[
        int, typer.Option(min=2, help="Number of teachers; each is trained on its own part of the data.")
    ] = 250
    kind: Annotated[
        str, typer.Option(help="Model of a teacher: logistic; or, with the extra 'train', perceptron or mnistnet.")
    ] = "logistic"
    head: Annotated[
        Path | None,
        typer.Option(
            help="Also distil the votes into one small network and write it to this file; it takes far less time per row."
        ),
    ] = None
    cores: Annotated[int, typer.Option(help="Number of processes for logistic teachers; -1: all cores.")] = -1
    shape: ImageShape = None
    seed: Seed = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FitNoveltyOptions:
    """Private data, the kinds to fit to, and what is written."""

    inputs: Annotated[
        Path,
        typer.Argument(
            metavar="X.npy",
            help="Inputs of the private training data, one example per row: numbers of any shape and scale, codes, or texts; also .csv, .jsonl, .parquet.",
        ),
    ]
    labels: Annotated[
        Path | None,
        typer.Argument(
            metavar="[Y.npy]", help="Labels of the private training data; without them there is no network."
        ),
    ] = None
    out: Annotated[Path, typer.Option("-o", "--out", help="Output file for the measure with its network, .npz.")]
    kinds: Annotated[
        str | None,
        typer.Option(
            metavar="KINDS",
            help="Corruptions that honest callers send, such as blur,dark,rotate:25; photo or table for the usual ones; "
            "none. By default photo for images, table for numbers, none for codes.",
        ),
    ] = None
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="NAME=ROWS.npy", help="Rows of another kind of honest callers. Repeatable."),
    ] = None
    network: Annotated[
        str | None,
        typer.Option(
            help="torch (extra 'train'), small (scikit-learn) or none. By default torch where it is installed, and none for codes."
        ),
    ] = None
    codes: Annotated[
        bool | None,
        typer.Option(
            "--codes/--numbers",
            help="Whether whole numbers are codes (bytes, characters, tokens), whose pairs are counted, or quantities. By "
            "default codes if most columns exceed 255.",
        ),
    ] = None
    neighbours: Annotated[
        int, typer.Option(min=1, help="k: the leak is the distance to the k-th nearest private point.")
    ] = 5
    points: Annotated[
        int, typer.Option(min=2, help="Largest number of points to keep; half of them are of the kinds.")
    ] = 5_000
    shape: ImageShape = None
    seed: Seed = 0
    json_file: JsonFile = None
