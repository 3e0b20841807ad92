"""Suites run: each theft once, then every experiment that rests on it. What is done already is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.artifact_files import remove_partial_files
from modeltoll.bench.attack_setup import AttackFactory, prepare_attack
from modeltoll.bench.baseline import Baseline, measure_baseline
from modeltoll.bench.checks import live_agrees, live_unchanged
from modeltoll.bench.defences.registry import DEFENCES, TRUTH
from modeltoll.bench.evaluate import ExperimentContext, evaluate_honest, evaluate_theft
from modeltoll.bench.evasions.registry import PLAIN
from modeltoll.bench.experiment import HONEST, Experiment, Provenance
from modeltoll.bench.extraction import ExtractionRun, StolenData, cached_seconds, load_cached, run_extraction
from modeltoll.bench.honest.workload import WORKLOADS
from modeltoll.bench.leak_measures import measure_all
from modeltoll.bench.result_files import StoredResults
from modeltoll.bench.shared_progress import no_progress, note_rows, shared_progress
from modeltoll.bench.targets import TARGETS, PreparedTarget, Workspace
from modeltoll.bench.toll_schemes import CONFORMAL, DEFAULT, build_toll
from modeltoll.errors import ModeltollError
from modeltoll.pricing.leak_samples import select_measures
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from modeltoll.bench.attack_setup import Equipping
    from modeltoll.bench.experiment import Result
    from modeltoll.records import Floats, Progress

__all__ = [
    "LONG_SECONDS",
    "Job",
    "JobResult",
    "RunSettings",
    "extraction_of",
    "pending_jobs",
    "prepare",
    "run_all",
    "run_job",
]

LONG_SECONDS = 600.0  # a theft that took longer with the first seed is not repeated with others


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a suite is run: where everything is, and what the results will say of their origin.

    ``live``: so many rows of every plain theft under our toll are driven through a real gateway, too.
    """

    workshop: Workspace
    results: Path
    origin: Provenance
    equipping: Equipping = prepare_attack
    live: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """Experiments that rest on one theft (None: on none). Errands share nothing, and may be run anywhere."""

    theft: ExtractionRun | None
    experiments: tuple[Experiment, ...]

    @property
    def title(self) -> str:
        """What to call it on a screen."""
        first = self.experiments[0]
        told = "" if self.theft is None or self.theft.answers == TRUTH else f", {self.theft.answers}"
        rows = "" if self.theft is None else f", {self.theft.queries:,} rows"
        return f"{first.dataset}, {first.attack}{told}{rows}, seed {first.seed}"


@dataclass(frozen=True, slots=True)
class JobResult:
    """What came of an errand: its results, or ``left``, the reason why there are none; ``failed``: it was an error."""

    errand: Job
    results: tuple[Result, ...]
    left: str = ""
    failed: bool = False


def extraction_of(experiment: Experiment) -> ExtractionRun | None:
    """The theft that an experiment rests on; defences that change nothing that is told share one."""
    if experiment.attack == HONEST:
        return None
    answers = experiment.defence if experiment.defence in DEFENCES else TRUTH
    return ExtractionRun(
        experiment.dataset,
        experiment.attack,
        experiment.profile,
        experiment.queries,
        experiment.seed,
        answers,
        experiment.foreign,
    )


def _can_run_live(experiment: Experiment) -> bool:
    """Whether its rows can be driven through a gateway as they are."""
    plain = (experiment.evasion, experiment.defence, experiment.tariff) == (PLAIN, TRUTH, CONFORMAL)
    return plain and experiment.attack != HONEST


def _done(experiment: Experiment, stored: StoredResults, *, live: bool) -> bool:
    document = stored.get(experiment)
    return document is not None and not (live and _can_run_live(experiment) and document["live"] is None)


def pending_jobs(experiments: Iterable[Experiment], results: Path, *, live: bool = False) -> list[Job]:
    """What is still to be done, grouped by theft; experiments whose result lies there already, packed or not, are left out.

    First everything with seed 0, one data set after another, since making one ready takes a while.

    ``live``: so are those that were driven through a gateway, not others that could be.

    Raises:
        DamagedFile: something there is not a result.
    """
    stored = StoredResults(results)
    groups: dict[tuple[ExtractionRun | None, str], list[Experiment]] = {}
    for experiment in dict.fromkeys(experiments):
        if not _done(experiment, stored, live=live):
            groups.setdefault((extraction_of(experiment), experiment.dataset), []).append(experiment)
    found = [Job(theft, tuple(group)) for (theft, _), group in groups.items()]
    datasets = list(dict.fromkeys(errand.experiments[0].dataset for errand in found))
    return sorted(found, key=lambda errand: (errand.experiments[0].seed, datasets.index(errand.experiments[0].dataset)))


@lru_cache(maxsize=1)
def _target(name: str, workshop: Workspace) -> PreparedTarget:
    return TARGETS[name].ready(workshop, no_progress)


@lru_cache(maxsize=4)
def _baseline(name: str, workshop: Workspace) -> Baseline:
    return measure_baseline(TARGETS[name], workshop.cache, lambda: _target(name, workshop))


def prepare(name: str, workshop: Workspace, progress: Progress) -> None:
    """Train and measure what a target needs, where that is not in the cache: before several processes want it at once.

    Raises:
        DataError: its data sets are not at hand.
    """
    measure_baseline(TARGETS[name], workshop.cache, lambda: TARGETS[name].ready(workshop, progress))


def _price_oracle(room: PreparedTarget, ground: Baseline, target: str) -> Callable[[Floats], Floats]:
    """What a thief with a perfect guess knows: the price of each image under our tariff, (n,), in units."""
    tariff = build_toll(ground, CONFORMAL, DEFAULT, target).tariff
    gauges = {name: room.gauges[name] for name in tariff.measures}

    def price(images: Floats) -> Floats:
        leaks = measure_all(gauges, room.victim.scores(images), images)
        return tariff.assess(Leaks(tariff.measures, leaks), np.random.default_rng(0)).factors

    return price


def _stolen_data(theft: ExtractionRun, run: RunSettings, ground: Baseline, progress: Progress) -> StolenData:
    """The theft's, run now where it is not in the cache."""

    def stolen() -> StolenData:
        room, target = _target(theft.target, replace(run.workshop, foreign=theft.foreign)), TARGETS[theft.target]
        equipped = run.equipping(AttackFactory(theft.attack, theft.profile, target.school, room.classes))
        answering = DEFENCES[theft.answers](ground).answer
        return run_extraction(theft, equipped, room, answering, _price_oracle(room, ground, theft.target), progress)

    return load_cached(theft, run.workshop.cache, stolen)


def _with_live_run(site: ExperimentContext, result: Result, loot: StolenData, run: RunSettings) -> Result:
    """The result with what came of driving its first rows through a gateway."""
    from modeltoll.bench.live_gateway import LiveRun, run_live  # noqa: PLC0415  few runs need a gateway

    plan, calibration = site.experiment, site.laid.calibration
    assert calibration is not None  # the conformal toll has one
    room = _target(plan.dataset, replace(run.workshop, foreign=plan.foreign))
    gauges = {name: room.gauges[name] for name in site.laid.measures}
    images = loot.images[: run.live]
    leaks = select_measures(site.ground.leaks(loot.leaks[: len(images)]), site.laid.measures)
    live = run_live(LiveRun(images, leaks.values, gauges, room.victim, calibration))
    found = (live_agrees(live.measured_seconds, live.computed_seconds, live.rows), live_unchanged(live.changed))
    return replace(result, live=asdict(live), checks=(*result.checks, *found))


def _takes_too_long(theft: ExtractionRun, cache: Path) -> bool:
    """Whether it took so long with the first seed that once must do."""
    first = cached_seconds(replace(theft, seed=0), cache) if theft.seed else None
    return first is not None and first > LONG_SECONDS


def run_job(errand: Job, run: RunSettings, progress: Progress = no_progress) -> JobResult:
    """Steal, unless that was done before; price every experiment, and write each result as soon as it is there.

    What is missing or breaks a rule fails this errand alone; results that were written stay. ``progress`` hears of the
    rows that a theft has asked for.
    """
    try:
        return _run(errand, run, progress)
    except ModeltollError as error:
        return JobResult(errand, (), str(error), failed=True)


def _run(errand: Job, run: RunSettings, progress: Progress) -> JobResult:
    name, cache, loot = errand.experiments[0].dataset, run.workshop.cache, None
    if errand.theft is not None and _takes_too_long(errand.theft, cache):
        return JobResult(errand, (), f"its first seed took more than {LONG_SECONDS:g} s")
    ground = _baseline(name, run.workshop)
    if errand.theft is not None:
        loot = _stolen_data(errand.theft, run, ground, progress)
    results = []
    for experiment in errand.experiments:
        if loot is None and WORKLOADS[experiment.workload].kind not in ground.kinds:
            continue
        site = ExperimentContext.of(experiment, ground, run.origin)
        result = evaluate_honest(site) if loot is None else evaluate_theft(site, loot)
        if run.live and loot is not None and _can_run_live(experiment):
            result = _with_live_run(site, result, loot, run)
        result.write(run.results)
        results.append(result)
    return JobResult(errand, tuple(results), "" if results else "there are no such images here")


def run_all(
    found: Sequence[Job], run: RunSettings, jobs: int, progress: Callable[[Job], Progress] = lambda _: no_progress
) -> Iterator[JobResult]:
    """Every errand's outcome, as each is done: one after another, or in so many processes.

    ``progress`` gives what hears of an errand's rows while it is at work.
    """
    if jobs == 1:
        yield from (run_job(errand, run, progress(errand)) for errand in found)
        return
    from joblib import Parallel, delayed  # noqa: PLC0415  an extra

    with shared_progress([progress(errand) for errand in found]) as board:
        calls = (delayed(run_job)(one, run, partial(note_rows, board, place)) for place, one in enumerate(found))
        try:
            yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)
        finally:  # an interruption kills the processes, whatever they are writing
            remove_partial_files(run.results)
            remove_partial_files(run.workshop.cache)
