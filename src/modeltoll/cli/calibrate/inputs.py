"""Where honest rows and thieves' come from: a file of rows or of leaks, or the ledger's log."""

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
    """Honest rows without copies; those that the model was trained on are refused where that data is at hand."""
    from modeltoll.gateway.setup.calibrate import read_rows  # noqa: PLC0415
    from modeltoll.pricing.leak_samples import count_training_rows, first_occurrences  # noqa: PLC0415

    rows = read_rows(inputs)
    raw = [path for path in private if path.suffix == ".npy"]
    for path in raw:
        if known := count_training_rows(rows, read_rows(path)):
            raise CalibrationError(
                f"{known} of the {len(rows)} honest rows stand in {path}: the model knows them; leave them out"
            )
    if not raw:
        warn(
            ["whether the model was trained on these rows is not known here: name its training rows with --trained-on"]
        )
    places = first_occurrences(rows)
    if len(places) < len(rows):
        warn([f"{len(rows) - len(places)} of the {len(rows)} honest rows are copies of others and were left out"])
    return rows[places]


def recorded_leaks(path: Path, measures: tuple[str, ...]) -> Leaks:
    """The sample of a file of leaks that is meant for calibration."""
    from modeltoll.pricing.leak_samples import CALIBRATION, HONEST, read_leaks, select_measures  # noqa: PLC0415

    samples = read_leaks(path)
    for name in (CALIBRATION, HONEST):
        if name in samples:
            return select_measures(samples[name], measures)
    raise CalibrationError(f"{path} holds no sample called {CALIBRATION!r} or {HONEST!r}")


def thief_rows(path: Path, goal: CalibrationTarget, *, asking: bool) -> dict[str, Leaks]:
    """The samples of a file of leaks that are not honest, or what the rows of a file give away."""
    from modeltoll.gateway.setup.calibrate import ask_leaks, read_rows  # noqa: PLC0415
    from modeltoll.pricing.leak_samples import select_measures, thief_samples  # noqa: PLC0415

    if path.suffix != ".npy":
        return {name: select_measures(leaks, goal.measures) for name, leaks in thief_samples(path).items()}
    if not asking:
        raise SettingsError(["--thieves: rows to ask for go with --inputs; give recorded leaks, .npz"])
    with stage("Asking for thieves' rows") as progress:
        return {path.stem: asyncio.run(ask_leaks(goal.loaded, goal.model, read_rows(path), progress))}


async def logged_leaks(goal: CalibrationTarget) -> Leaks:
    """What a gateway in shadow mode wrote into its ledger's log."""
    from modeltoll.ledger.locate import open_ledger  # noqa: PLC0415
    from modeltoll.pricing.leak_samples import leaks_of_log  # noqa: PLC0415

    if goal.loaded is None:
        raise SettingsError(["--from-ledger: give the gateway's settings, which name the ledger"])
    lines: list[tuple[int, str, LogEntry]] = []
    async with open_ledger(goal.loaded.ledger.url, create=False) as ledger:
        while page := await ledger.log(lines[-1][0] if lines else 0, 1000):
            lines += page
    logged = leaks_of_log(lines, goal.model, goal.measures, "shadow")
    warn(logged.warnings)
    return logged.leaks
