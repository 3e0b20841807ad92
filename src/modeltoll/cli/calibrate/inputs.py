"""Reads honest rows, kinds and strangers: from files of inputs or leaks, or from the ledger's log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modeltoll.cli.calibrate.ledger_log import known_honest_names, logged_samples
from modeltoll.cli.terminal import stage, warn
from modeltoll.errors import CalibrationError, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from modeltoll.cli.calibrate.sources import NamedFile, RowSources
    from modeltoll.cli.calibrate.target import CalibrationTarget
    from modeltoll.gateway.setup.honest_rows import CalibrationInputs, RowsToSend
    from modeltoll.gateway.setup.row_table import RowTable
    from modeltoll.pricing.fit import FitSamples
    from modeltoll.records import Leaks

__all__ = ["recorded_samples", "rows_to_send", "thief_rows"]


def rows_to_send(sources: RowSources, target: CalibrationTarget) -> CalibrationInputs:
    """Honest inputs without duplicates, checked against the training inputs, with those of kinds and strangers.

    Raises:
        CalibrationError: some of the inputs are training inputs, or a file cannot be read.
        SettingsError: a kind or a caller is unknown, or the rows are no images.
    """
    from modeltoll.gateway.setup import honest_rows, row_files  # noqa: PLC0415

    if sources.requests is not None:
        warn(["recorded requests are sent as they are: kinds and generic strangers cannot be made of them"])
        return honest_rows.CalibrationInputs(
            honest=row_files.read_requests(sources.requests),
            kinds=_files_to_send(sources.kind_files),
            strangers=_files_to_send(sources.stranger_files),
        )
    assert sources.inputs is not None
    table = row_files.read_table(sources.inputs)
    rows = table.take(_unseen(table, [*sources.trained_on, *target.private]))
    shape = honest_rows.shape_of_rows(table.shape, sources.shape)
    kinds: tuple[RowsToSend, ...] = ()
    if sources.kinds is not None:
        kinds = honest_rows.corrupted_rows(sources.kinds, rows, shape, sources.kind_rows, sources.seed)
    return honest_rows.CalibrationInputs(
        honest=rows,
        kinds=(*kinds, *_files_to_send(sources.kind_files)),
        strangers=(*honest_rows.generic_strangers(rows, shape, sources.seed), *_files_to_send(sources.stranger_files)),
        callers=rows.callers,
        known_honest=known_honest_names(sources.known_honest, rows.callers, {}),
    )


def _unseen(table: RowTable, private: Sequence[Path]) -> Any:
    """The indices of rows without copies, after a check against the training inputs in ``private``."""
    from modeltoll.gateway.setup.row_files import read_table  # noqa: PLC0415
    from modeltoll.gateway.setup.row_table import common_rows  # noqa: PLC0415
    from modeltoll.pricing.leak_samples import first_occurrences  # noqa: PLC0415

    row_files = [file for file in private if file.suffix != ".npz"]  # which holds a fitted measure
    for file in row_files:
        if known_rows := common_rows(table, read_table(file)):
            raise CalibrationError(
                f"{known_rows} of the {len(table)} rows of {table.source} are also in {file}, on which the model was trained; leave them out"
            )
    if not row_files:
        warn(["whether the model was trained on these rows is not known; name its training inputs with --trained-on"])
    firsts = first_occurrences(table.numbers)
    if len(firsts) < len(table):
        warn([f"{len(table) - len(firsts)} of the {len(table)} honest rows are copies of others and were left out"])
    return firsts


def _files_to_send(files: Iterable[NamedFile]) -> tuple[RowsToSend, ...]:
    from modeltoll.gateway.setup.honest_rows import RowsToSend  # noqa: PLC0415
    from modeltoll.gateway.setup.row_files import read_table  # noqa: PLC0415

    return tuple(RowsToSend.of(file.name, read_table(file.path)) for file in files)


def recorded_samples(sources: RowSources, target: CalibrationTarget) -> FitSamples:
    """The samples of a file of leaks, or those of the ledger's log, with the kinds and strangers of further files.

    Raises:
        CalibrationError: a file lacks a sample, or cannot be read.
        SettingsError: a caller is unknown, or rows are to be sent without settings.
    """
    from modeltoll.pricing.kinds import DECLARED, KindSample, StrangerSample  # noqa: PLC0415

    samples = _of_file(sources, target) if sources.leaks is not None else asyncio.run(logged_samples(sources, target))
    kinds = [
        KindSample(name, DECLARED, leaks) for name, leaks in _further(sources.kind_files, target, honest=True).items()
    ]
    strangers = [
        StrangerSample(name, leaks) for name, leaks in _further(sources.stranger_files, target, honest=False).items()
    ]
    return replace(samples, kinds=(*samples.kinds, *kinds), strangers=(*samples.strangers, *strangers))


def _of_file(sources: RowSources, target: CalibrationTarget) -> FitSamples:
    from modeltoll.pricing.fit import FitSamples  # noqa: PLC0415
    from modeltoll.pricing.kinds import DECLARED, KindSample  # noqa: PLC0415
    from modeltoll.pricing.leak_samples import (  # noqa: PLC0415
        CALIBRATION,
        HONEST,
        declared_samples,
        read_callers,
        read_leaks,
    )

    path = sources.leaks
    assert path is not None
    samples = read_leaks(path)
    name = next((each for each in (CALIBRATION, HONEST) if each in samples), None)
    if name is None:
        raise CalibrationError(f"{path} holds no sample called {CALIBRATION!r} or {HONEST!r}")
    honest = _chosen(samples[name], target)
    callers = read_callers(path, name, len(honest.values))
    kinds = [KindSample(kind, DECLARED, _chosen(leaks, target)) for kind, leaks in declared_samples(path).items()]
    return FitSamples(honest, kinds, (), callers, known_honest_names(sources.known_honest, callers, {}))


def _chosen(leaks: Leaks, target: CalibrationTarget) -> Leaks:
    """The target's measures, and the same fitted without kinds where they were recorded."""
    from modeltoll.pricing.leak_samples import select_measures, with_clean  # noqa: PLC0415

    return select_measures(leaks, with_clean(leaks.measures, target.measures))


def _further(files: Iterable[NamedFile], target: CalibrationTarget, *, honest: bool) -> dict[str, Leaks]:
    """The leaks of further files by name: of recorded ones, or measured on inputs that are sent to the model server."""
    from modeltoll.gateway.setup.calibrate import sample_leaks  # noqa: PLC0415
    from modeltoll.gateway.setup.honest_rows import RowsToSend  # noqa: PLC0415
    from modeltoll.gateway.setup.row_files import read_table  # noqa: PLC0415
    from modeltoll.pricing.leak_samples import read_leaks, thief_samples  # noqa: PLC0415

    found: dict[str, Leaks] = {}
    sent = []
    for file in files:
        if file.path.suffix == ".npz":
            samples = read_leaks(file.path) if honest else thief_samples(file.path)
            if file.name and file.name not in samples:
                raise CalibrationError(f"{file.path} holds no sample called {file.name!r}")
            found |= {name: _chosen(samples[name], target) for name in ([file.name] if file.name else samples)}
        elif target.loaded is None:
            raise SettingsError([f"{file.path}: give the gateway's settings, so that these rows can be sent"])
        else:
            sent.append(RowsToSend.of(file.name, read_table(file.path)))
    if sent:
        with stage("Sending rows of kinds and strangers") as progress:
            leaks = asyncio.run(sample_leaks(target.loaded, target.model, sent, progress))
        found |= {rows.name: each for rows, each in zip(sent, leaks, strict=True)}
    return found


def thief_rows(path: Path, target: CalibrationTarget, *, inputs_given: bool) -> dict[str, Leaks]:
    """Leaks of thieves' rows by sample: of a file of leaks, or measured on inputs that are sent to the model server."""
    from modeltoll.gateway.setup.calibrate import sample_leaks  # noqa: PLC0415
    from modeltoll.gateway.setup.honest_rows import RowsToSend  # noqa: PLC0415
    from modeltoll.gateway.setup.row_files import read_table  # noqa: PLC0415
    from modeltoll.pricing.leak_samples import select_measures, thief_samples  # noqa: PLC0415

    if path.suffix == ".npz":
        return {name: select_measures(leaks, target.measures) for name, leaks in thief_samples(path).items()}
    if not inputs_given:
        raise SettingsError(["--thieves: inputs to send go with --inputs or --requests; give recorded leaks, .npz"])
    with stage("Sending thieves' rows") as progress:
        rows = RowsToSend.of(path.stem, read_table(path))
        leaks = asyncio.run(sample_leaks(target.loaded, target.model, [rows], progress))[0]
    return {path.stem: select_measures(leaks, target.measures)}
