"""The commands ``fit-teachers`` and ``fit-novelty``: fit leak measures to the private data and save them."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from modeltoll.cli.fit_options import FitNoveltyOptions, FitTeachersOptions
from modeltoll.cli.novelty_output import data_line, network_line, report_headings, report_json, report_lines
from modeltoll.cli.option_records import takes_options
from modeltoll.cli.private_files import array_of, load_private, load_rows
from modeltoll.cli.terminal import (
    duration,
    note,
    print_table,
    requires_extra,
    stage,
    warn,
    with_exit_codes,
    write_json,
)
from modeltoll.errors import CalibrationError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from modeltoll.leak.corruptions import Corruption
    from modeltoll.leak.private_rows import PrivateRows

    Shape = tuple[int, int, int]

__all__ = ["commands"]

commands = typer.Typer()

_LONG_SECONDS, _HOURS = 120.0, 3600.0  # of a training that is announced, and of one that is warned of


@commands.command("fit-teachers", epilog="Example: modeltoll fit-teachers X.npy y.npy -o teachers.npz")
@with_exit_codes
@takes_options
def fit_teachers(options: FitTeachersOptions) -> None:
    """Train a PATE teacher ensemble for the measure 'pate'.

    Reads private inputs and labels, writes one file. The first teacher shows how long all will take. A training that is
    interrupted keeps the teachers it has in a folder beside the output, and the same command continues with them.
    """
    x, y, shape_of_input = load_private(options.inputs, options.labels, options.shape)
    out, checkpoints = options.out, options.out.with_name(f"{options.out.name}.parts")
    try:
        if options.kind == "logistic":
            ensemble = _fit_logistic((x, y), options.teachers, options.seed, options.cores, checkpoints)
        else:
            ensemble = _fit_networks(options.kind, (x, y, shape_of_input), options.teachers, options.seed, checkpoints)
    except KeyboardInterrupt:
        if checkpoints.is_dir():
            note.print(f"what is trained is kept in {checkpoints}; the same command continues with it", soft_wrap=True)
        raise
    ensemble.save(out)
    shutil.rmtree(checkpoints, ignore_errors=True)
    note.print(f"{len(ensemble)} teachers: {out}", soft_wrap=True)
    if options.head is not None:
        with requires_extra("train"):
            from modeltoll.leak.teachers.distil import fit_vote_head  # noqa: PLC0415
        with stage("Distilling the votes") as progress:
            fit_vote_head(ensemble, x, shape_of_input, progress=progress).save(options.head)
        note.print(f"vote head: {options.head}", soft_wrap=True)


@commands.command("fit-novelty", epilog="Example: modeltoll fit-novelty X.npy y.npy --kinds blur,dark -o novelty.npz")
@with_exit_codes
@takes_options
def fit_novelty(options: FitNoveltyOptions) -> None:
    """Fit the measure 'novelty' in the layers of a small network that is trained on the private data.

    Reads private inputs and labels, writes one file, and prints how accurate the network is on rows that were kept back,
    and how far kinds and generic strangers lie. Needs no extra; with the extra 'train' images have a convolutional network.
    """
    from modeltoll.leak.fit_novelty import NoveltyPlan, PrivateData  # noqa: PLC0415
    from modeltoll.leak.fit_novelty import fit_novelty as fit  # noqa: PLC0415
    from modeltoll.leak.layered_novelty import NoveltyTerms  # noqa: PLC0415
    from modeltoll.leak.novelty_report import report_novelty  # noqa: PLC0415

    data = PrivateData(
        load_rows(options.inputs, options.shape, codes=options.codes),
        None if options.labels is None else array_of(options.labels, "labels"),
    )
    corruptions = _kinds(options.kinds, data.rows)
    rows = {name: _kind_rows(path, data.rows) for name, path in _named_files(options.kind or [])}
    plan = NoveltyPlan(
        corruptions,
        rows,
        options.network,
        NoveltyTerms(options.neighbours, max_points=options.points, seed=options.seed),
    )
    note.print(data_line(data.rows, (*(each.name for each in corruptions), *rows)), soft_wrap=True)
    fitted = fit(data, plan, stage)
    with stage("Measuring rows that were kept back") as progress:
        report = report_novelty(fitted, corruptions, progress, options.seed)
    fitted.measure.save(options.out)
    note.print(network_line(report), soft_wrap=True)
    if options.json_file is not None:
        write_json(report_json(report), options.json_file)
    if options.json_file != "-":
        print_table(report_headings(report), report_lines(report))
    note.print(f"novelty: {options.out}", soft_wrap=True)


def _kinds(stated: str | None, private: PrivateRows) -> tuple[Corruption, ...]:
    """The corruptions that were named, or the usual ones of such data; those of images need images."""
    from modeltoll.leak.corruptions import NO_KINDS, parse_kinds, usual_kinds  # noqa: PLC0415

    usual = NO_KINDS if private.codes else usual_kinds(private.shape)
    try:
        found = parse_kinds(stated or usual)
    except SettingsError as error:
        raise SettingsError([f"--kinds: {fault}" for fault in error.faults]) from None
    if unsuited := [kind.name for kind in found if not kind.suits(private.shape)]:
        raise SettingsError([f"--kinds: {', '.join(unsuited)} are of images; state the images' --shape"])
    return found


def _named_files(stated: list[str]) -> list[tuple[str, Path]]:
    """The names and files of ``NAME=rows.npy``."""
    parts = [each.partition("=") for each in stated]
    faults = [
        f"--kind: {each!r} is not NAME=ROWS.npy" for each, part in zip(stated, parts, strict=True) if not all(part)
    ]
    if len({name for name, _, _ in parts}) < len(parts):
        faults.append("--kind: a name occurs twice")
    if faults:
        raise SettingsError(faults)
    return [(name, Path(path)) for name, _, path in parts]


def _kind_rows(path: Path, private: PrivateRows) -> NDArray[np.float64]:
    """Rows (m, d) of a kind.

    Raises:
        CalibrationError: the file cannot be read, or its rows are of another width than the private data.
    """
    rows = load_rows(path, codes=private.codes or None).inputs
    if rows.shape[1] != private.inputs.shape[1]:
        raise CalibrationError(
            f"{path} has rows of {rows.shape[1]} numbers, the private data of {private.inputs.shape[1]}"
        )
    return rows


def _fit_logistic(private: tuple[Any, Any], teachers: int, seed: int, cores: int, checkpoints: Path) -> Any:
    """Train logistic teachers; finished ones are kept in the folder ``checkpoints``."""
    from joblib import effective_n_jobs  # noqa: PLC0415

    from modeltoll.leak.teachers.fit_sklearn import TeacherPlan, fit_teachers  # noqa: PLC0415

    plan, begin = TeacherPlan(teachers, seed=seed), time.perf_counter()
    with stage("Training the teachers") as progress:

        def report(done: int, most: int) -> None:
            progress(done, most)
            if done == 1:
                left = (time.perf_counter() - begin) * (most - 1) / min(effective_n_jobs(cores), most - 1)
                _announce(left)

        return fit_teachers(*private, plan, cores, report, checkpoints)


def _announce(left: float) -> None:
    """Say how long the training will take, where that is more than a few minutes, and what would make it shorter."""
    if left < _LONG_SECONDS:
        return
    note.print(f"the first teacher is trained; the others need about {duration(left)}", soft_wrap=True)
    if left >= _HOURS:
        advice = (
            "fewer rows or columns of private data take less time: pooled images, or the numbers of an embedding; what "
            "is trained is kept, so that Ctrl-C loses at most the teachers in training"
        )
        warn([advice])


def _fit_networks(kind: str, private: tuple[Any, Any, Shape], teachers: int, seed: int, checkpoints: Path) -> Any:
    """Train network teachers; finished ones are kept in the folder ``checkpoints`` until all are trained."""
    with requires_extra("train"):
        from modeltoll.leak.teachers.fit_torch import MNISTNET, PERCEPTRON, fit_network_teachers  # noqa: PLC0415
    plans = {"perceptron": PERCEPTRON, "mnistnet": MNISTNET}
    if kind not in plans:
        raise SettingsError([f"--kind: there is no {kind!r}; there are: logistic, {', '.join(plans)}"])
    plan = replace(plans[kind], seed=seed)
    with stage("Training the teachers") as progress:
        return fit_network_teachers(*private, plan, teachers=teachers, checkpoints=checkpoints, progress=progress)
