"""Run the demo: train a victim, start the gateway, let an honest caller and thieves query it, and train clones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from modeltoll.demo.clones import TestSet, train_clone
from modeltoll.demo.data import DATA_LOADERS, DataSizes, DemoData
from modeltoll.demo.http_callers import TimedAnswer, scores
from modeltoll.demo.scenario import (
    BANK,
    FRESH,
    HONEST,
    JITTERED,
    NOISE,
    PICTURES,
    REPEATED,
    SHIFTED,
    SPECIALIST,
    SPREAD,
    DemoScenario,
    Task,
    honest_tasks,
    thief_tasks,
)
from modeltoll.demo.servers import DemoServers, train_victim
from modeltoll.demo.summary import CallerSummary, CallerTraffic, SummaryLine, summarise
from modeltoll.gateway.setup.calibrate import CalibrationRequest
from modeltoll.pricing.calibration import CalibrationProvenance
from modeltoll.pricing.fit import CalibrationTerms, HoldoutSplit, RowCosts
from modeltoll.puzzle.benchmark import measure_profile

if TYPE_CHECKING:
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import LogEntry, Progress

__all__ = ["DemoOutcome", "Options", "Stage", "calibration_request", "run"]

Stage: TypeAlias = (
    "Callable[[str], AbstractContextManager[Progress]]"  # a step with a title; gives its progress callback
)

_SHARES = (0.1, 0.3, 1.0)
_RUNG_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """The demo's options. ``budget`` is the work in seconds that each thief solves; further work is only computed."""

    data: str = "digits"
    data_dir: Path | None = None
    trees: int = 150
    sizes: DataSizes = field(default_factory=DataSizes)
    budget: float = 1.5
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class DemoOutcome:
    """The results that the report shows. ``undefended_seconds`` is the median for one row without the gateway.

    ``honest``: the honest callers by title, first the one who sends all classes. ``compared`` counts opened answers, ``changed`` those that differ from the model server's.
    """

    options: Options
    victim_accuracy: float
    undefended_seconds: float
    calibration: Calibration
    honest: Mapping[str, CallerSummary]
    thieves: tuple[SummaryLine, ...]
    compared: int
    changed: int
    seconds: float


def _summarise(
    traffic: Sequence[CallerTraffic], log_entries: Sequence[LogEntry], direct: Mapping[bytes, TimedAnswer]
) -> dict[str, CallerSummary]:
    """Summaries by caller. The callers ran one after another, so the log entries of each are consecutive."""
    summaries, start = {}, 0
    for caller in traffic:
        end = start + len(caller.requests)
        summaries[caller.name] = summarise(caller, log_entries[start:end], direct)
        start = end
    return summaries


class _LineBuilder:
    """Makes the table's lines: trains the clones of each caller on growing shares of its rows."""

    def __init__(self, direct: Mapping[bytes, TimedAnswer], test_set: TestSet, seed: int) -> None:
        self._direct, self._test_set, self._seed = direct, test_set, seed

    def line(self, name: str, summary: CallerSummary, task: Task, *, labels_only: bool = False) -> SummaryLine:
        """A line of the table, with the clone's quality after growing shares of the wanted rows."""
        rows = task.rows[task.wanted]
        wanted = [request.body for request, want in zip(task.requests, task.wanted, strict=True) if want]
        answers = np.array([scores(self._direct[body].body or b"") for body in wanted])
        ends = np.flatnonzero(task.wanted) + 1
        curve = []
        for share in _SHARES:
            count = max(2, round(share * len(rows)))
            clone = train_clone(rows[:count], answers[:count], self._test_set, self._seed, labels_only=labels_only)
            end = int(ends[count - 1])
            without = float(summary.seconds_without[:end][task.wanted[:end]].sum())
            curve.append((without, float(summary.seconds_with[:end].sum()), clone))
        return SummaryLine(name, summary, curve[-1][2], tuple(curve))


def run(options: Options, folder: Path, stage: Stage, command: str) -> DemoOutcome:
    """Run the demo in ``folder``, which is used by this run only; ``command`` is recorded in the tariff's provenance.

    Raises:
        DataError: the data set is missing. ModeltollError: a server did not start, or failed.
    """
    begin, rng = time.perf_counter(), np.random.default_rng(options.seed)
    data = DATA_LOADERS[options.data](options.sizes, options.data_dir, rng)
    servers = DemoServers.on_free_ports(folder)
    with stage("Training the victim") as progress:
        forest = train_victim(data, options.trees, options.seed, progress)
    predicted = forest.predict_proba(data.test_x)
    confident = data.test_x[int(predicted.max(axis=1).argmax())]
    honest, thieves = honest_tasks(data, options.sizes), thief_tasks(data, confident, options.sizes, rng)
    with stage("Measuring this machine"):
        profile = measure_profile(_RUNG_SECONDS, "this machine", time.perf_counter)
    servers.write_settings(data, [key for task in (*honest, *thieves) for key in task.keys], profile)
    scenario = DemoScenario(servers, profile, options.budget)
    with servers.victim(forest):
        with stage("Calibrating on unseen digits") as progress:
            request = calibration_request(options.seed, command)
            calibration = servers.calibrate(data, options.sizes.of_kind, request, progress)
        with stage("Sending the thieves' requests directly") as progress:
            scenario.run_directly(thieves, progress)
        with servers.gateway():
            _run_through_gateway(scenario, honest, {_title(task, data): task for task in thieves}, stage)
    summaries = _summarise(scenario.traffic, servers.log_entries(), scenario.direct)
    test_set = TestSet(data.test_x, data.test_y, predicted.argmax(axis=1))
    with stage("Training clones") as progress:
        lines = _lines(
            summaries,
            {_title(task, data): task for task in thieves},
            _LineBuilder(scenario.direct, test_set, options.seed),
            progress,
        )
    return DemoOutcome(
        options=options,
        victim_accuracy=float((predicted.argmax(axis=1) == data.test_y).mean()),
        undefended_seconds=float(np.median(summaries[HONEST].seconds_without)),
        calibration=calibration,
        honest={title: summaries[name] for name, title in _HONEST_TITLES.items()},
        thieves=lines,
        compared=sum(summary.solved for summary in summaries.values()),
        changed=sum(summary.changed for summary in summaries.values()),
        seconds=time.perf_counter() - begin,
    )


def _run_through_gateway(
    scenario: DemoScenario, honest: Sequence[Task], thieves: Mapping[str, Task], stage: Stage
) -> None:
    """Honest callers first, then the thieves by title."""
    for task in honest:
        with stage(f"{_HONEST_TITLES[task.name].capitalize()}, with and without the toll") as progress:
            scenario.run_honest(task, progress)
    for title, thief in thieves.items():
        with stage(f"A thief: {title}") as progress:
            scenario.run_thief(thief, progress)


_CLASS_ROWS = 25  # of a digit that make it a kind: there are too few digits for the default
_HONEST_TITLES = {HONEST: "honest caller", SPECIALIST: "honest, one class", SHIFTED: "honest, blurred digits"}
_TITLE_SUFFIXES = {
    PICTURES: "",
    SPREAD: ", many accounts",
    REPEATED: ", diluted, repeated",
    JITTERED: ", diluted, jittered",
    FRESH: ", fresh honest fillers",
    BANK: ", after a bank of honest rows",
}


def _title(task: Task, data: DemoData) -> str:
    """A thief's title: the images it sends, and its evasion."""
    return "noise" if task.name == NOISE else data.kind + _TITLE_SUFFIXES[task.name]


def calibration_request(seed: int, command: str) -> CalibrationRequest:
    """How the demo's tariff is calibrated; ``command`` is recorded in its provenance."""
    provenance = CalibrationProvenance(
        "digits that the victim has not seen", command, datetime.now(UTC).isoformat(timespec="seconds")
    )
    terms = CalibrationTerms(class_rows=_CLASS_ROWS)
    return CalibrationRequest(terms, RowCosts(), HoldoutSplit(seed=seed), provenance)


def _lines(
    summaries: Mapping[str, CallerSummary], thieves: Mapping[str, Task], builder: _LineBuilder, progress: Progress
) -> tuple[SummaryLine, ...]:
    """The thieves' lines. CopyCat and Knockoff send the same requests; one trains on labels, the other on probabilities."""
    lines = []
    for done, (title, task) in enumerate(thieves.items(), start=1):
        summary = summaries[task.name]
        if task.name == PICTURES:
            lines.append(builder.line(f"CopyCat: {title}", summary, task, labels_only=True))
        lines.append(builder.line(f"Knockoff: {title}", summary, task))
        progress(done, len(thieves))
    return tuple(lines)
