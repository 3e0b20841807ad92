"""Suites run: each theft once, then every experiment that rests on it. What is done already is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.checks import live_agrees, live_unchanged
from modeltoll.bench.defences.table import DEFENCES, TRUTH
from modeltoll.bench.evasions.table import PLAIN
from modeltoll.bench.experiment import HONEST, Experiment, Origin
from modeltoll.bench.gauges import measure_all
from modeltoll.bench.ground import Ground, survey
from modeltoll.bench.honest.workload import WORKLOADS
from modeltoll.bench.noticeboard import note_rows, noticeboard, unwatched
from modeltoll.bench.pricing import Site, price_honest, price_theft
from modeltoll.bench.result_files import StoredResults
from modeltoll.bench.stealing import Loot, Theft, kept, steal, took
from modeltoll.bench.store import sweep
from modeltoll.bench.targets import TARGETS, Room, Workshop
from modeltoll.bench.thieves import Equip, equip
from modeltoll.bench.tolls import CONFORMAL, DEFAULT, lay
from modeltoll.errors import ModeltollError
from modeltoll.pricing.recorded import chosen
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from modeltoll.bench.experiment import Result
    from modeltoll.bench.thieves import Equipping
    from modeltoll.records import Floats, Progress

__all__ = [
    "LONG_SECONDS",
    "Errand",
    "Outcome",
    "Run",
    "errands",
    "prepare",
    "run_all",
    "run_errand",
    "theft_of",
]

LONG_SECONDS = 600.0  # a theft that took longer with the first seed is not repeated with others


@dataclass(frozen=True, slots=True)
class Run:
    """How a suite is run: where everything is, and what the results will say of their origin.

    ``live``: so many rows of every plain theft under our toll are driven through a real gateway, too.
    """

    workshop: Workshop
    results: Path
    origin: Origin
    equipping: Equipping = equip
    live: int = 0


@dataclass(frozen=True, slots=True)
class Errand:
    """Experiments that rest on one theft (None: on none). Errands share nothing, and may be run anywhere."""

    theft: Theft | None
    experiments: tuple[Experiment, ...]

    @property
    def title(self) -> str:
        """What to call it on a screen."""
        first = self.experiments[0]
        told = "" if self.theft is None or self.theft.answers == TRUTH else f", {self.theft.answers}"
        rows = "" if self.theft is None else f", {self.theft.queries:,} rows"
        return f"{first.dataset}, {first.attack}{told}{rows}, seed {first.seed}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an errand: its results, or ``left``, the reason why there are none; ``failed``: it was an error."""

    errand: Errand
    results: tuple[Result, ...]
    left: str = ""
    failed: bool = False


def theft_of(experiment: Experiment) -> Theft | None:
    """The theft that an experiment rests on; defences that change nothing that is told share one."""
    if experiment.attack == HONEST:
        return None
    answers = experiment.defence if experiment.defence in DEFENCES else TRUTH
    return Theft(
        experiment.dataset,
        experiment.attack,
        experiment.profile,
        experiment.queries,
        experiment.seed,
        answers,
        experiment.foreign,
    )


def _drivable(experiment: Experiment) -> bool:
    """Whether its rows can be driven through a gateway as they are."""
    plain = (experiment.evasion, experiment.defence, experiment.tariff) == (PLAIN, TRUTH, CONFORMAL)
    return plain and experiment.attack != HONEST


def _done(experiment: Experiment, stored: StoredResults, *, live: bool) -> bool:
    document = stored.get(experiment)
    return document is not None and not (live and _drivable(experiment) and document["live"] is None)


def errands(experiments: Iterable[Experiment], results: Path, *, live: bool = False) -> list[Errand]:
    """What is still to be done, grouped by theft; experiments whose result lies there already, packed or not, are left out.

    First everything with seed 0, one data set after another, since making one ready takes a while.

    ``live``: so are those that were driven through a gateway, not others that could be.

    Raises:
        Damaged: something there is not a result.
    """
    stored = StoredResults(results)
    groups: dict[tuple[Theft | None, str], list[Experiment]] = {}
    for experiment in dict.fromkeys(experiments):
        if not _done(experiment, stored, live=live):
            groups.setdefault((theft_of(experiment), experiment.dataset), []).append(experiment)
    found = [Errand(theft, tuple(group)) for (theft, _), group in groups.items()]
    datasets = list(dict.fromkeys(errand.experiments[0].dataset for errand in found))
    return sorted(found, key=lambda errand: (errand.experiments[0].seed, datasets.index(errand.experiments[0].dataset)))


@lru_cache(maxsize=1)
def _room(name: str, workshop: Workshop) -> Room:
    return TARGETS[name].ready(workshop, unwatched)


@lru_cache(maxsize=4)
def _ground(name: str, workshop: Workshop) -> Ground:
    return survey(TARGETS[name], workshop.cache, lambda: _room(name, workshop))


def prepare(name: str, workshop: Workshop, progress: Progress) -> None:
    """Train and measure what a target needs, where that is not in the cache: before several processes want it at once.

    Raises:
        DataError: its data sets are not at hand.
    """
    survey(TARGETS[name], workshop.cache, lambda: TARGETS[name].ready(workshop, progress))


def _guess(room: Room, ground: Ground, target: str) -> Callable[[Floats], Floats]:
    """What a thief with a perfect guess knows: the price of each image under our tariff, (n,), in units."""
    tariff = lay(ground, CONFORMAL, DEFAULT, target).tariff
    gauges = {name: room.gauges[name] for name in tariff.measures}

    def price(images: Floats) -> Floats:
        leaks = measure_all(gauges, room.victim.scores(images), images)
        return tariff.assess(Leaks(tariff.measures, leaks), np.random.default_rng(0)).factors

    return price


def _loot(theft: Theft, run: Run, ground: Ground, progress: Progress) -> Loot:
    """The theft's, run now where it is not in the cache."""

    def stolen() -> Loot:
        room, target = _room(theft.target, replace(run.workshop, foreign=theft.foreign)), TARGETS[theft.target]
        equipped = run.equipping(Equip(theft.attack, theft.profile, target.school, room.classes))
        answering = DEFENCES[theft.answers](ground).answer
        return steal(theft, equipped, room, answering, _guess(room, ground, theft.target), progress)

    return kept(theft, run.workshop.cache, stolen)


def _driven(site: Site, result: Result, loot: Loot, run: Run) -> Result:
    """The result with what came of driving its first rows through a gateway."""
    from modeltoll.bench.live import Trip, drive  # noqa: PLC0415  few runs need a gateway

    plan, calibration = site.experiment, site.laid.calibration
    assert calibration is not None  # the conformal toll has one
    room = _room(plan.dataset, replace(run.workshop, foreign=plan.foreign))
    gauges = {name: room.gauges[name] for name in site.laid.measures}
    images = loot.images[: run.live]
    leaks = chosen(site.ground.leaks(loot.leaks[: len(images)]), site.laid.measures)
    live = drive(Trip(images, leaks.values, gauges, room.victim, calibration))
    found = (live_agrees(live.measured_seconds, live.computed_seconds, live.rows), live_unchanged(live.changed))
    return replace(result, live=asdict(live), checks=(*result.checks, *found))


def _too_long(theft: Theft, cache: Path) -> bool:
    """Whether it took so long with the first seed that once must do."""
    first = took(replace(theft, seed=0), cache) if theft.seed else None
    return first is not None and first > LONG_SECONDS


def run_errand(errand: Errand, run: Run, progress: Progress = unwatched) -> Outcome:
    """Steal, unless that was done before; price every experiment, and write each result as soon as it is there.

    What is missing or breaks a rule fails this errand alone; results that were written stay. ``progress`` hears of the
    rows that a theft has asked for.
    """
    try:
        return _run(errand, run, progress)
    except ModeltollError as error:
        return Outcome(errand, (), str(error), failed=True)


def _run(errand: Errand, run: Run, progress: Progress) -> Outcome:
    name, cache, loot = errand.experiments[0].dataset, run.workshop.cache, None
    if errand.theft is not None and _too_long(errand.theft, cache):
        return Outcome(errand, (), f"its first seed took more than {LONG_SECONDS:g} s")
    ground = _ground(name, run.workshop)
    if errand.theft is not None:
        loot = _loot(errand.theft, run, ground, progress)
    results = []
    for experiment in errand.experiments:
        if loot is None and WORKLOADS[experiment.workload].kind not in ground.kinds:
            continue
        site = Site.of(experiment, ground, run.origin)
        result = price_honest(site) if loot is None else price_theft(site, loot)
        if run.live and loot is not None and _drivable(experiment):
            result = _driven(site, result, loot, run)
        result.write(run.results)
        results.append(result)
    return Outcome(errand, tuple(results), "" if results else "there are no such images here")


def run_all(
    found: Sequence[Errand], run: Run, jobs: int, progress: Callable[[Errand], Progress] = lambda _: unwatched
) -> Iterator[Outcome]:
    """Every errand's outcome, as each is done: one after another, or in so many processes.

    ``progress`` gives what hears of an errand's rows while it is at work.
    """
    if jobs == 1:
        yield from (run_errand(errand, run, progress(errand)) for errand in found)
        return
    from joblib import Parallel, delayed  # noqa: PLC0415  an extra

    with noticeboard([progress(errand) for errand in found]) as board:
        calls = (delayed(run_errand)(one, run, partial(note_rows, board, place)) for place, one in enumerate(found))
        try:
            yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)
        finally:  # an interruption kills the processes, whatever they are writing
            sweep(run.results)
            sweep(run.workshop.cache)
