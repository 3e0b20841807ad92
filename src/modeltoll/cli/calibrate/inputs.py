"""Reads honest rows and thieves' rows: from files of inputs or leaks, or from the ledger's log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeltoll.cli.terminal import stage, warn
from modeltoll.errors import CalibrationError, SettingsError

if TYPE_CHECKING:
    from modeltoll.cli.calibrate.target import CalibrationTarget
    from modeltoll.records import Leaks, LogEntry

__all__ = ["logged_leaks", "recorded_leaks", "thief_rows", "unseen_rows"]


def unseen_rows(inputs: Path, private: Sequence[Path]) -> Any:
    """Honest inputs without duplicates, checked against the training inputs in ``private``.

    Raises:
        CalibrationError: some of the inputs are training inputs.
    """
    from modeltoll.gateway.setup.honest_rows import read_rows  # noqa: PLC0415
    from modeltoll.pricing.leak_samples import count_training_rows, first_occurrences  # noqa: PLC0415

    rows = read_rows(inputs)
    row_files = [path for path in private if path.suffix == ".npy"]
    for path in row_files:
        if known_rows := count_training_rows(rows, read_rows(path)):
            raise CalibrationError(
                f"{known_rows} of the {len(rows)} honest rows are also in {path}, on which the model was trained; leave them out"
            )
    if not row_files:
        warn(["whether the model was trained on these rows is not known; name its training inputs with --trained-on"])
    firsts = first_occurrences(rows)
    if len(firsts) < len(rows):
        warn([f"{len(rows) - len(firsts)} of the {len(rows)} honest rows are copies of others and were left out"])
    return rows[firsts]


def recorded_leaks(path: Path, measures: tuple[str, ...]) -> Leaks:
    """The calibration sample of a file of leaks, or else its honest sample.

    Raises:
        CalibrationError: the file has neither.
    """
    from modeltoll.pricing.leak_samples import CALIBRATION, HONEST, read_leaks, select_measures  # noqa: PLC0415

    samples = read_leaks(path)
    for name in (CALIBRATION, HONEST):
        if name in samples:
            return select_measures(samples[name], measures)
    raise CalibrationError(f"{path} holds no sample called {CALIBRATION!r} or {HONEST!r}")


def thief_rows(path: Path, target: CalibrationTarget, *, inputs_given: bool) -> dict[str, Leaks]:
    """Leaks of thieves' rows by sample: of a file of leaks, or measured on inputs that are sent to the model server."""
    from modeltoll.gateway.setup.calibrate import ask_leaks, read_rows  # noqa: PLC0415
    from modeltoll.pricing.leak_samples import select_measures, thief_samples  # noqa: PLC0415

    if path.suffix != ".npy":
        return {name: select_measures(leaks, target.measures) for name, leaks in thief_samples(path).items()}
    if not inputs_given:
        raise SettingsError(["--thieves: inputs to send, .npy, go with --inputs; give recorded leaks, .npz"])
    with stage("Sending thieves' rows") as progress:
        return {path.stem: asyncio.run(ask_leaks(target.loaded, target.model, read_rows(path), progress))}


async def logged_leaks(target: CalibrationTarget) -> Leaks:
    """Leaks that a gateway in shadow mode wrote to its ledger's log."""
    from modeltoll.ledger.from_url import open_ledger  # noqa: PLC0415
    from modeltoll.pricing.logged_leaks import leaks_of_log  # noqa: PLC0415

    if target.loaded is None:
        raise SettingsError(["--from-ledger: give the gateway's settings, which name the ledger"])
    entries: list[tuple[int, str, LogEntry]] = []
    async with open_ledger(target.loaded.ledger.url, create=False) as ledger:
        while page := await ledger.log(entries[-1][0] if entries else 0, 1000):
            entries += page
    logged = leaks_of_log(entries, target.model, target.measures, "shadow")
    warn(logged.warnings)
    return logged.leaks
