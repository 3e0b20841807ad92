"""The options of ``bench run``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from modeltoll.cli.terminal import JsonFile

__all__ = ["USUAL_CACHE", "Cache", "DataFolder", "RunOptions"]

DataFolder = Annotated[Path | None, typer.Option(help="Folder of the data sets; by default $MODELTOLL_DATA.")]
Cache = Annotated[Path, typer.Option(help="Folder that caches trained victims and extraction runs.")]
USUAL_CACHE = Path("build/bench")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Which experiments are run, on what, and where their results are."""

    names: Annotated[
        list[str],
        typer.Argument(
            metavar="SUITE...",
            help="Suites to run: table2, table3, evasions, strangers, honest, trade-off, defences, magika, quick.",
        ),
    ]
    folder: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder for the results, one file each; experiments with a result there are not run again.",
        ),
    ]
    data_dir: DataFolder = None
    cache: Cache = USUAL_CACHE
    dataset: Annotated[list[str] | None, typer.Option(help="Run only this data set; may be repeated.")] = None
    attack: Annotated[list[str] | None, typer.Option(help="Run only this attack; may be repeated.")] = None
    toll: Annotated[
        list[str] | None, typer.Option(help="Run only under this toll, e.g. conformal or published; may be repeated.")
    ] = None
    defence: Annotated[
        list[str] | None, typer.Option(help="Run only this defence, in suites that compare them; may be repeated.")
    ] = None
    foreign: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.npz|FOLDER",
            help="Source of out-of-distribution images: a data set, 'noise', an .npz file or a folder; by default the suite's own.",
        ),
    ] = ""
    profile: Annotated[
        str | None,
        typer.Option(
            help="Parameters of attacks: full (the paper's), quick, or no-clones (the same queries as full, and no clone is trained); by default the suite's own."
        ),
    ] = None
    queries: Annotated[
        int | None, typer.Option(min=1, help="Query budget of each attack, in rows; by default the suite's own.")
    ] = None
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds per experiment; slow extraction runs use one.")] = 3
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Run on the Ray cluster at this address; 'local' starts one on this machine."
        ),
    ] = None
    times: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of 'bench times': how long a row and its measures take; by default as measured when a data set was prepared.",
        ),
    ] = None
    live: Annotated[
        int,
        typer.Option(
            min=0,
            help="Also send this many rows of each extraction run through a real gateway, which takes about a minute each; 0: none.",
        ),
    ] = 0
    json_file: JsonFile = None
