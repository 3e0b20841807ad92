"""What would free honest callers from suspicion, what kinds cost against strangers, and kinds of callers for everyone."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from modeltoll.pricing.calibration import KIND_PRICE_ROWS
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.kind_laws import smoothed_law
from modeltoll.pricing.kinds import CALLER, CLASS, DECLARED, STRANGER, FittedKind, HeldBack
from modeltoll.pricing.leak_samples import rows_of
from modeltoll.pricing.rehearsal import is_suspected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import Floats, Progress

__all__ = [
    "CLASSES",
    "MOST_CALLER_KINDS",
    "RAREST_SHARE",
    "RHO_STEPS",
    "STRANGER_ROWS",
    "KindCost",
    "Remedy",
    "StrangerTrial",
    "callers_for_all",
    "family_of",
    "kind_costs",
    "rarest_rows",
    "remedies",
    "try_strangers",
]

RHO_STEPS = (0.35, 0.5, 0.75, 1.0)  # tolerances that are tried for a suspected caller
MOST_CALLER_KINDS = 32  # of callers whose logs count for everyone
STRANGER_ROWS = 10_000  # of the one account with which a stranger is tried
RAREST_SHARE = 0.1  # of all traffic's rows, by each measure, that stand for a stranger where there are no inputs
CLASSES = "classes"  # the family of predicted classes


@dataclass(frozen=True, slots=True)
class Remedy:
    """What would free a caller or a kind that is suspected. ``name``, ``role``, ``label``: as in ``KindReport``.

    ``own_log``: whether its own log as a kind would. ``rho``: the smallest of ``RHO_STEPS`` that would; None: none of them.
    """

    name: str
    role: str
    label: str
    own_log: bool
    rho: float | None


def remedies(
    calibration: Calibration,
    suspects: Sequence[HeldBack],
    unmarked: Mapping[str, FittedKind],
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Remedy, ...]:
    """Try what would free each suspect. ``unmarked``: kinds of callers that are not part of the calibration, by name."""
    wider = [rho for rho in RHO_STEPS if rho > calibration.suspicion.rho]
    tariffs: dict[float, ConformalTariff] = {}

    def freed(suspect: HeldBack, rho: float) -> bool:
        if rho not in tariffs:
            terms = replace(calibration.suspicion, rho=rho)
            tariffs[rho] = ConformalTariff(replace(calibration, suspicion=terms))
        return not is_suspected(tariffs[rho], suspect, seed)

    found = []
    for done, suspect in enumerate(suspects, start=1):
        own = _freed_by_own_log(calibration, suspect, unmarked, seed)
        place = bisect_left(wider, True, key=partial(freed, suspect))  # a larger rho never adds evidence
        rho = wider[place] if place < len(wider) else None
        found.append(Remedy(suspect.name, suspect.role, suspect.label, own, rho))
        if progress is not None:
            progress(done, len(suspects))
    return tuple(found)


def _freed_by_own_log(
    calibration: Calibration, suspect: HeldBack, unmarked: Mapping[str, FittedKind], seed: int
) -> bool:
    own = unmarked.get(suspect.name) if suspect.role == CALLER else None
    if own is None:
        return False
    marked = ConformalTariff(replace(calibration, kinds=(*calibration.kinds, own)))
    return not is_suspected(marked, suspect, seed)


@dataclass(frozen=True, slots=True)
class StrangerTrial:
    """What a stranger pays who sends ``STRANGER_ROWS`` rows, drawn from those held back, from one account.

    ``units``: mean price of its rows, suspicion included. ``units_before``: before suspicion. ``suspected_at``: the first
    row at which it is suspected; None: never.
    """

    name: str
    generic: bool
    units: float
    units_before: float
    suspected_at: int | None


def try_strangers(calibration: Calibration, strangers: Sequence[HeldBack], seed: int = 0) -> tuple[StrangerTrial, ...]:
    """Try each stranger under the tariff of this calibration. The same seed draws the same rows."""
    tariff = ConformalTariff(calibration)
    return tuple(_try_stranger(tariff, stranger, np.random.default_rng(seed)) for stranger in strangers)


def _try_stranger(tariff: ConformalTariff, stranger: HeldBack, rng: np.random.Generator) -> StrangerTrial:
    assessment = tariff.assess(stranger.leaks, rng)
    drawn = rng.integers(stranger.rows, size=STRANGER_ROWS)
    one_account = np.zeros(STRANGER_ROWS, np.int64)
    running = tariff.suspicion.running(assessment.cells[drawn], one_account, np.ones(STRANGER_ROWS, np.bool_))
    surcharges = tariff.suspicion.surcharge_at(running.log_evidence)
    marked = tariff.row_units(
        replace(
            assessment,
            factors=assessment.factors[drawn],
            rarest=assessment.rarest[drawn],
            cells=assessment.cells[drawn],
            leaks=replace(assessment.leaks, values=assessment.leaks.values[drawn], classes=None),
        ),
        surcharges,
        running.frequent,
        clean=None if stranger.clean is None else stranger.clean[drawn],
    )
    suspected = np.flatnonzero(surcharges > 1.0)
    return StrangerTrial(
        name=stranger.name,
        generic=stranger.generic,
        units=float(marked.mean()),
        units_before=float(assessment.factors.mean()),
        suspected_at=int(suspected[0]) + 1 if len(suspected) else None,
    )


def rarest_rows(traffic: HeldBack, measures: Sequence[str]) -> tuple[HeldBack, ...]:
    """Strangers made of leaks alone, for where there are no inputs: whoever sends only rows as rare as the rarest tenth.

    One for each measure. ``traffic``: rows held back of all traffic. They are tried, and are no part of a calibration.
    """
    found = []
    for name in measures:
        leaks = traffic.leaks.values[:, traffic.leaks.measures.index(name)]
        rarest = np.argsort(-leaks, kind="stable")[: max(1, round(RAREST_SHARE * len(leaks)))]
        found.append(HeldBack(f"rarest tenth by {name}", STRANGER, rows_of(traffic.leaks, rarest), generic=True))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class KindCost:
    """The price of a family of declared kinds, or of predicted classes as kinds: what each stranger would pay without it.

    ``strangers``: in their order.
    """

    family: str
    strangers: tuple[StrangerTrial, ...]


def family_of(kind: FittedKind) -> str:
    """The family of a kind: ``blur`` of the declared kind ``blur:0.05``, ``CLASSES`` of a predicted class, else empty."""
    if kind.role == CLASS:
        return CLASSES
    return kind.name.partition(":")[0] if kind.role == DECLARED else ""


def kind_costs(
    calibration: Calibration, strangers: Sequence[HeldBack], seed: int = 0, progress: Progress | None = None
) -> tuple[KindCost, ...]:
    """What each stranger would pay if one family of kinds were left out, for each family."""
    families = [family for family in Counter(map(family_of, calibration.kinds)) if family]
    found = []
    for done, family in enumerate(families, start=1):
        kept = tuple(kind for kind in calibration.kinds if family_of(kind) != family)
        found.append(KindCost(family, try_strangers(replace(calibration, kinds=kept), strangers, seed)))
        if progress is not None:
            progress(done, len(families))
    return tuple(found)


def callers_for_all(calibration: Calibration) -> Calibration:
    """The calibration with the logs of its callers as kinds for everyone too, at most ``MOST_CALLER_KINDS`` clusters of them.

    Callers whose rows fall into cells alike (Ward's method, on the square roots of their laws) become one kind.
    """
    callers = [kind for kind in calibration.kinds if kind.role == CALLER]
    clusters = _clusters(callers, calibration.kinds[0])
    added = [
        _merged(number, [caller for caller, cluster in zip(callers, clusters, strict=True) if cluster == number])
        for number in sorted(set(clusters))
    ]
    return replace(calibration, kinds=(*calibration.kinds, *added))


def _clusters(callers: Sequence[FittedKind], traffic: FittedKind) -> list[int]:
    if len(callers) <= MOST_CALLER_KINDS:
        return list(range(1, len(callers) + 1))
    parent = traffic.counts / traffic.rows
    laws = np.array([smoothed_law(kind.counts, parent) for kind in callers])
    found: list[int] = fcluster(linkage(np.sqrt(laws), "ward"), MOST_CALLER_KINDS, "maxclust").tolist()
    return found


def _merged(number: int, callers: Sequence[FittedKind]) -> FittedKind:
    counts = np.sum([kind.counts for kind in callers], axis=0)
    scores: list[Floats] = [kind.scores for kind in callers if kind.scores is not None]
    merged = np.sort(np.concatenate(scores, axis=1), axis=1) if counts.sum() >= KIND_PRICE_ROWS else None
    label = ", ".join(kind.label or kind.name for kind in callers)
    return FittedKind(f"callers {number}", DECLARED, counts, merged, label)
