"""The commands ``fit-teachers`` and ``fit-novelty``: fit leak measures to the private data and save them."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modeltoll.cli.terminal import note, requires_extra, stage, with_exit_codes
from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.files import read_array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Shape = tuple[int, int, int]

__all__ = ["commands"]

commands = typer.Typer()

Inputs = Annotated[
    Path,
    typer.Argument(metavar="X.npy", help="Inputs of the private training data, one example per row, of any shape."),
]
Labels = Annotated[Path, typer.Argument(metavar="Y.npy", help="Labels of the private training data, numbers or text.")]
ImageShape = Annotated[
    str | None,
    typer.Option(
        metavar="HxW[xC]", help="Shape of the images, if each is stored as a flat row; by default the shape in X.npy."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the training; the same seed and data give the same file.")]


@commands.command("fit-teachers", epilog="Example: modeltoll fit-teachers X.npy y.npy -o teachers.npz")
@with_exit_codes
def fit_teachers(  # noqa: PLR0913  each is a choice of the operator's
    inputs: Inputs,
    labels: Labels,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Output file for the teachers, .npz.")],
    teachers: Annotated[
        int, typer.Option(min=2, help="Number of teachers; each is trained on its own part of the data.")
    ] = 250,
    kind: Annotated[
        str, typer.Option(help="Model of a teacher: logistic; or, with the extra 'train', perceptron or mnistnet.")
    ] = "logistic",
    head: Annotated[
        Path | None,
        typer.Option(
            help="Also distil the votes into one small network and write it to this file; it takes far less time per row."
        ),
    ] = None,
    cores: Annotated[int, typer.Option(help="Number of processes for logistic teachers; -1: all cores.")] = -1,
    shape: ImageShape = None,
    seed: Seed = 0,
) -> None:
    """Train a PATE teacher ensemble for the measure 'pate'.

    Reads private inputs and labels, writes one file. An interrupted training of networks continues where it stopped.
    """
    from modeltoll.leak.teachers import fit_sklearn  # noqa: PLC0415

    x, y, shape_of_input = _load_private(inputs, labels, shape)
    if kind == "logistic":
        plan = fit_sklearn.TeacherPlan(teachers, seed=seed)
        with stage("Training the teachers") as progress:
            ensemble = fit_sklearn.fit_teachers(x, y, plan, cores, progress)
    else:
        ensemble = _fit_networks(kind, (x, y, shape_of_input), teachers, seed, out.with_name(f"{out.name}.parts"))
    ensemble.save(out)
    note.print(f"{len(ensemble)} teachers: {out}", soft_wrap=True)
    if head is not None:
        with requires_extra("train"):
            from modeltoll.leak.teachers.distil import fit_vote_head  # noqa: PLC0415
        with stage("Distilling the votes") as progress:
            fit_vote_head(ensemble, x, shape_of_input, progress=progress).save(head)
        note.print(f"vote head: {head}", soft_wrap=True)


@commands.command("fit-novelty", epilog="Example: modeltoll fit-novelty X.npy y.npy -o novelty.npz")
@with_exit_codes
def fit_novelty(  # noqa: PLR0913  each is a choice of the operator's
    inputs: Inputs,
    labels: Labels,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Output file for the measure with its network, .npz.")],
    neighbours: Annotated[
        int, typer.Option(min=1, help="k: the leak is the distance to the k-th nearest private point.")
    ] = 5,
    points: Annotated[int, typer.Option(min=2, help="Largest number of private points to keep.")] = 5_000,
    shape: ImageShape = None,
    seed: Seed = 0,
) -> None:
    """Fit the measure 'novelty' in the layers of a small network that is trained on the private data.

    Reads private inputs and labels, writes one file. Needs the extra 'train'.
    """
    with requires_extra("train"):
        from modeltoll.leak.teachers.distil import NOVELTY_NETWORK, fit_novelty_network  # noqa: PLC0415
    from modeltoll.leak.layered_novelty import LayeredNovelty  # noqa: PLC0415

    x, y, shape_of_input = _load_private(inputs, labels, shape)
    with stage("Training the network") as progress:
        stack = fit_novelty_network(x, y, shape_of_input, replace(NOVELTY_NETWORK, seed=seed), progress)
    with stage("Fitting novelty"):
        LayeredNovelty(stack, x, neighbours, max_points=points, seed=seed).save(out)
    note.print(f"novelty: {out}", soft_wrap=True)


def _fit_networks(kind: str, private: tuple[Any, Any, Shape], teachers: int, seed: int, checkpoints: Path) -> Any:
    """Train network teachers; finished ones are kept in the folder ``checkpoints`` until all are trained."""
    with requires_extra("train"):
        from modeltoll.leak.teachers.fit_torch import MNISTNET, PERCEPTRON, fit_network_teachers  # noqa: PLC0415
    plans = {"perceptron": PERCEPTRON, "mnistnet": MNISTNET}
    if kind not in plans:
        raise SettingsError([f"--kind: there is no {kind!r}; there are: logistic, {', '.join(plans)}"])
    plan = replace(plans[kind], seed=seed)
    with stage("Training the teachers") as progress:
        ensemble = fit_network_teachers(*private, plan, teachers=teachers, checkpoints=checkpoints, progress=progress)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return ensemble


def _load_private(inputs: Path, labels: Path, stated: str | None) -> tuple[NDArray[np.float64], NDArray[Any], Shape]:
    """Flat inputs (n, d), labels, and the shape of one input as (height, width, channels).

    Raises:
        CalibrationError: a file cannot be read, or the inputs are not numeric.
    """
    import numpy as np  # noqa: PLC0415

    x, y = read_array(inputs), read_array(labels)
    if x.dtype.kind not in "fiub" or x.ndim < 2 or x.size == 0:
        raise CalibrationError(f"{inputs} must hold rows of numbers")
    size = x[0].size
    return x.reshape(len(x), size).astype(np.float64), y, _shape(stated, x.shape[1:])


def _shape(stated: str | None, rows: tuple[int, ...]) -> Shape:
    """(height, width, channels) of one input: as stated, else as stored; (1, 1, d) for rows of d numbers."""
    shape_of_input = rows
    if stated is not None:
        try:
            shape_of_input = tuple(int(side) for side in stated.split("x"))
        except ValueError:
            shape_of_input = ()
        if not 2 <= len(shape_of_input) <= 3 or min(shape_of_input) < 1 or math.prod(shape_of_input) != math.prod(rows):
            raise SettingsError([f"--shape: {stated!r} is not HEIGHTxWIDTH[xCHANNELS] with {math.prod(rows)} numbers"])
    if len(shape_of_input) == 2:
        return shape_of_input[0], shape_of_input[1], 1
    return (
        (shape_of_input[0], shape_of_input[1], shape_of_input[2])
        if len(shape_of_input) == 3
        else (1, 1, math.prod(shape_of_input))
    )
