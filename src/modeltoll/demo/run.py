"""The demo's story: a victim, a toll house, an honest caller, thieves, and what each of them paid."""

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
from modeltoll.demo.data import WORLDS, DataSizes, DemoData
from modeltoll.demo.http_callers import PaidAnswer, scores
from modeltoll.demo.scenario import (
    HONEST,
    JITTERED,
    NOISE,
    PICTURES,
    REPEATED,
    SPREAD,
    Scenario,
    Task,
    honest_task,
    thief_tasks,
)
from modeltoll.demo.servers import DemoServers, train_victim
from modeltoll.demo.summary import CallerSummary, PaidRequest, SummaryLine, summarise
from modeltoll.gateway.setup.calibrate import CalibrationRequest
from modeltoll.pricing.calibration import CalibrationProvenance
from modeltoll.pricing.fit import CalibrationTerms, HoldoutSplit, RowCosts
from modeltoll.puzzle.benchmark import measure_profile

if TYPE_CHECKING:
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import LogEntry, Progress

__all__ = ["DemoOutcome", "Options", "Stage", "requested_lines", "run"]

Stage: TypeAlias = "Callable[[str], AbstractContextManager[Progress]]"  # names a step, and hears how far it is

_SHARES = (0.1, 0.3, 1.0)
_RUNG_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """What may be chosen. ``budget`` is the work, in seconds, that each thief really does before it is computed."""

    data: str = "digits"
    data_dir: Path | None = None
    trees: int = 150
    sizes: DataSizes = field(default_factory=DataSizes)
    budget: float = 2.0
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class DemoOutcome:
    """All that the report shows; ``undefended_seconds`` is the median for one row."""

    options: Options
    victim_accuracy: float
    undefended_seconds: float
    calibration: Calibration
    honest: CallerSummary
    thieves: tuple[SummaryLine, ...]
    compared: int
    changed: int
    seconds: float


def _summarise(
    visits: Sequence[PaidRequest], bills: Sequence[LogEntry], direct: Mapping[bytes, PaidAnswer]
) -> dict[str, CallerSummary]:
    """The visits went through the gateway one after another, so each left a run of lines in its log."""
    accounts, start = {}, 0
    for visit in visits:
        end = start + len(visit.asked)
        accounts[visit.name] = summarise(visit, bills[start:end], direct)
        start = end
    return accounts


class _Run:
    """Where clones are trained, each visit's and kind's once for every share of its rows."""

    def __init__(self, direct: Mapping[bytes, PaidAnswer], exam: TestSet, seed: int) -> None:
        self._direct, self._exam, self._seed = direct, exam, seed

    def line(self, name: str, account: CallerSummary, errand: Task, *, labels_only: bool = False) -> SummaryLine:
        """A line of the table, with the clone's quality after growing shares of what was bought."""
        rows = errand.rows[errand.wanted]
        wanted = [question.body for question, want in zip(errand.questions, errand.wanted, strict=True) if want]
        answers = np.array([scores(self._direct[body].body or b"") for body in wanted])
        ends = np.flatnonzero(errand.wanted) + 1
        curve = []
        for share in _SHARES:
            count = max(2, round(share * len(rows)))
            clone = train_clone(rows[:count], answers[:count], self._exam, self._seed, labels_only=labels_only)
            end = int(ends[count - 1])
            without = float(account.seconds_without[:end][errand.wanted[:end]].sum())
            curve.append((without, float(account.seconds_with[:end].sum()), clone))
        return SummaryLine(name, account, curve[-1][2], tuple(curve))


def run(options: Options, folder: Path, stage: Stage, command: str) -> DemoOutcome:
    """Run the demo in ``folder``, its own; ``command`` is noted in the tariff as where it came from.

    Raises:
        DataError: the data set is not at hand. ModeltollError: a server did not start, or failed.
    """
    begin, rng = time.perf_counter(), np.random.default_rng(options.seed)
    world = WORLDS[options.data](options.sizes, options.data_dir, rng)
    street = DemoServers.laid(folder)
    with stage("Training the victim") as progress:
        forest = train_victim(world, options.trees, options.seed, progress)
    said = forest.predict_proba(world.test_x)
    confident = world.test_x[int(said.max(axis=1).argmax())]
    honest, thieves = honest_task(world), thief_tasks(world, confident, options.sizes, rng)
    with stage("Measuring this machine"):
        profile = measure_profile(_RUNG_SECONDS, "this machine", time.perf_counter)
    street.write_settings(world.private_x, [key for errand in (honest, *thieves) for key in errand.keys], profile)
    market = Scenario(street, profile, options.budget)
    with street.victim(forest):
        with stage("Calibrating on unseen digits") as progress:
            calibration = street.calibrate(world.calibration, requested_lines(options.seed, command), progress)
        with stage("Asking the thieves' questions directly") as progress:
            market.ask(thieves, progress)
        with street.gateway():
            with stage("An honest caller, with and without the toll") as progress:
                market.honest(honest, progress)
            for errand in thieves:
                with stage(f"A thief: {_title(errand, world)}") as progress:
                    market.steal(errand, progress)
    accounts = _summarise(market.visits, street.bills(), market.direct)
    exam = TestSet(world.test_x, world.test_y, said.argmax(axis=1))
    with stage("Training clones") as progress:
        lines = _lines(
            accounts,
            {_title(errand, world): errand for errand in thieves},
            _Run(market.direct, exam, options.seed),
            progress,
        )
    return DemoOutcome(
        options=options,
        victim_accuracy=float((said.argmax(axis=1) == world.test_y).mean()),
        undefended_seconds=float(np.median(accounts[HONEST].seconds_without)),
        calibration=calibration,
        honest=accounts[HONEST],
        thieves=lines,
        compared=sum(account.solved for account in accounts.values()),
        changed=sum(account.changed for account in accounts.values()),
        seconds=time.perf_counter() - begin,
    )


_MANNERS = {
    PICTURES: "",
    SPREAD: ", many accounts",
    REPEATED: ", diluted, repeated",
    JITTERED: ", diluted, jittered",
}


def _title(errand: Task, world: DemoData) -> str:
    """What a thief asks for, and how."""
    return "noise" if errand.name == NOISE else world.kind + _MANNERS[errand.name]


def requested_lines(seed: int, command: str) -> CalibrationRequest:
    """How the demo's tariff is made; ``command`` is noted in it."""
    provenance = CalibrationProvenance(
        "digits that the victim has not seen", command, datetime.now(UTC).isoformat(timespec="seconds")
    )
    return CalibrationRequest(CalibrationTerms(), RowCosts(), HoldoutSplit(seed=seed), provenance)


def _lines(
    accounts: Mapping[str, CallerSummary], thieves: Mapping[str, Task], workshop: _Run, progress: Progress
) -> tuple[SummaryLine, ...]:
    """CopyCat and Knockoff ask the same questions; one keeps the labels, the other the probabilities."""
    lines = []
    for done, (title, errand) in enumerate(thieves.items(), start=1):
        account = accounts[errand.name]
        if errand.name == PICTURES:
            lines.append(workshop.line(f"CopyCat: {title}", account, errand, labels_only=True))
        lines.append(workshop.line(f"Knockoff: {title}", account, errand))
        progress(done, len(thieves))
    return tuple(lines)
