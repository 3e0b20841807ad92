"""The verbs ``fit-teachers`` and ``fit-novelty``: from the private data to the files that measures are served from."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modeltoll.cli.terminal import command_name, note, requires_extra, stage
from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.files import read_array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Shape = tuple[int, int, int]

__all__ = ["verbs"]

verbs = typer.Typer()

Inputs = Annotated[Path, typer.Argument(metavar="X.npy", help="Private inputs; a row per example, of any shape.")]
Labels = Annotated[Path, typer.Argument(metavar="Y.npy", help="Their labels, numbers or text.")]
ImageShape = Annotated[
    str | None, typer.Option(metavar="HxW[xC]", help="Where inputs are images stored flat: their shape.")
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed and data, same result.")]


@verbs.command("fit-teachers", epilog="Example: modeltoll fit-teachers X.npy y.npy -o teachers.npz")
@command_name
def fit_teachers(  # noqa: PLR0913  each is a choice of the operator's
    inputs: Inputs,
    labels: Labels,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the teachers go.")],
    teachers: Annotated[int, typer.Option(min=2, help="How many, each on its own part of the data.")] = 250,
    kind: Annotated[str, typer.Option(help="logistic; or, with the extra 'train': perceptron, mnistnet.")] = "logistic",
    head: Annotated[
        Path | None, typer.Option(help="Also distil the votes into one small network, which costs far less to ask.")
    ] = None,
    cores: Annotated[int, typer.Option(help="Processes for logistic; -1 for all cores.")] = -1,
    shape: ImageShape = None,
    seed: Seed = 0,
) -> None:
    """Train a teacher ensemble for the measure pate. An interrupted training of networks goes on where it stopped."""
    from modeltoll.leak.teachers import fit_sklearn as served  # noqa: PLC0415

    x, y, sides = _private(inputs, labels, shape)
    if kind == "logistic":
        plan = served.TeacherPlan(teachers, seed=seed)
        with stage("training the teachers") as told:
            ensemble = served.fit_teachers(x, y, plan, cores, told)
    else:
        ensemble = _networks(kind, (x, y, sides), teachers, seed, out.with_name(f"{out.name}.parts"))
    ensemble.save(out)
    note.print(f"{len(ensemble)} teachers: {out}", soft_wrap=True)
    if head is not None:
        with requires_extra("train"):
            from modeltoll.leak.teachers.distil import fit_vote_head  # noqa: PLC0415
        with stage("distilling their votes") as told:
            fit_vote_head(ensemble, x, sides, progress=told).save(head)
        note.print(f"vote head: {head}", soft_wrap=True)


@verbs.command("fit-novelty", epilog="Example: modeltoll fit-novelty X.npy y.npy -o novelty.npz")
@command_name
def fit_novelty(  # noqa: PLR0913  each is a choice of the operator's
    inputs: Inputs,
    labels: Labels,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the measure goes, its network included.")],
    neighbours: Annotated[int, typer.Option(min=1, help="Which neighbour's distance counts.")] = 5,
    points: Annotated[int, typer.Option(min=2, help="Keep at most so many private points.")] = 5_000,
    shape: ImageShape = None,
    seed: Seed = 0,
) -> None:
    """Train a small network on the private data, and fit the measure novelty in what it sees (extra 'train')."""
    with requires_extra("train"):
        from modeltoll.leak.teachers.distil import NOVELTY_NETWORK, fit_novelty_network  # noqa: PLC0415
    from modeltoll.leak.layered_novelty import LayeredNovelty  # noqa: PLC0415

    x, y, sides = _private(inputs, labels, shape)
    with stage("training the network") as told:
        stack = fit_novelty_network(x, y, sides, replace(NOVELTY_NETWORK, seed=seed), told)
    with stage("fitting novelty"):
        LayeredNovelty(stack, x, neighbours, max_points=points, seed=seed).save(out)
    note.print(f"novelty: {out}", soft_wrap=True)


def _networks(kind: str, private: tuple[Any, Any, Shape], teachers: int, seed: int, parts: Path) -> Any:
    """Teachers trained by torch; what was finished lies in ``parts`` until all are."""
    with requires_extra("train"):
        from modeltoll.leak.teachers.fit_torch import MNISTNET, PERCEPTRON, fit_network_teachers  # noqa: PLC0415
    plans = {"perceptron": PERCEPTRON, "mnistnet": MNISTNET}
    if kind not in plans:
        raise SettingsError([f"--kind: {kind!r} is none of logistic, {', '.join(plans)}"])
    plan = replace(plans[kind], seed=seed)
    with stage("training the teachers") as told:
        ensemble = fit_network_teachers(*private, plan, teachers=teachers, checkpoints=parts, progress=told)
    shutil.rmtree(parts, ignore_errors=True)
    return ensemble


def _private(inputs: Path, labels: Path, given: str | None) -> tuple[NDArray[np.float64], NDArray[Any], Shape]:
    """Flat inputs (n, d), labels, and the shape of one input as (height, width, channels).

    Raises:
        CalibrationError: a file that cannot be read, or inputs that are no numbers.
    """
    import numpy as np  # noqa: PLC0415

    x, y = read_array(inputs), read_array(labels)
    if x.dtype.kind not in "fiub" or x.ndim < 2 or x.size == 0:
        raise CalibrationError(f"{inputs} does not hold rows of numbers")
    wide = x[0].size
    return x.reshape(len(x), wide).astype(np.float64), y, _shape(given, x.shape[1:])


def _shape(given: str | None, rows: tuple[int, ...]) -> Shape:
    """(height, width, channels) of one input: as given, else as stored; rows of numbers are no images."""
    sides = rows
    if given is not None:
        try:
            sides = tuple(int(side) for side in given.split("x"))
        except ValueError:
            sides = ()
        if not 2 <= len(sides) <= 3 or min(sides) < 1 or math.prod(sides) != math.prod(rows):
            raise SettingsError([f"--shape: {given!r} is not HEIGHTxWIDTH[xCHANNELS] of {math.prod(rows)} numbers"])
    if len(sides) == 2:
        return sides[0], sides[1], 1
    return (sides[0], sides[1], sides[2]) if len(sides) == 3 else (1, 1, math.prod(sides))
