"""What would free honest callers from suspicion, what kinds cost against strangers, and kinds of callers for everyone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from modeltoll.pricing.calibration import KIND_PRICE_ROWS
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.kind_laws import smoothed_law
from modeltoll.pricing.kinds import CALLER, DECLARED, FittedKind
from modeltoll.pricing.rehearsal import rehearse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modeltoll.pricing.calibration import Calibration
    from modeltoll.pricing.kinds import HeldBack
    from modeltoll.records import Floats, Progress

__all__ = [
    "MOST_CALLER_KINDS",
    "RHO_STEPS",
    "STRANGER_ROWS",
    "KindCost",
    "Remedy",
    "StrangerTrial",
    "callers_for_all",
    "family_of",
    "kind_costs",
    "remedies",
    "try_strangers",
]

RHO_STEPS = (0.35, 0.5, 0.75, 1.0)  # tolerances that are tried for a suspected caller
MOST_CALLER_KINDS = 32  # of callers whose logs count for everyone
STRANGER_ROWS = 10_000  # of the one account with which a stranger is tried


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
    found = []
    for done, suspect in enumerate(suspects, start=1):
        found.append(_remedy(calibration, suspect, unmarked, seed))
        if progress is not None:
            progress(done, len(suspects))
    return tuple(found)


def _remedy(calibration: Calibration, suspect: HeldBack, unmarked: Mapping[str, FittedKind], seed: int) -> Remedy:
    own, freed = unmarked.get(suspect.name) if suspect.role == CALLER else None, False
    if own is not None:
        freed = not rehearse(replace(calibration, kinds=(*calibration.kinds, own)), [suspect], seed)[0].suspected
    for rho in RHO_STEPS:
        if rho > calibration.suspicion.rho:
            wider = replace(calibration, suspicion=replace(calibration.suspicion, rho=rho))
            if not rehearse(wider, [suspect], seed)[0].suspected:
                return Remedy(suspect.name, suspect.role, suspect.label, freed, rho)
    return Remedy(suspect.name, suspect.role, suspect.label, freed, None)


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


@dataclass(frozen=True, slots=True)
class KindCost:
    """The price of a family of declared kinds: what each stranger would pay without it. ``strangers``: in their order."""

    family: str
    strangers: tuple[StrangerTrial, ...]


def family_of(kind: str) -> str:
    """The family of a declared kind: ``blur`` of ``blur:0.05``."""
    return kind.partition(":")[0]


def kind_costs(
    calibration: Calibration, strangers: Sequence[HeldBack], seed: int = 0, progress: Progress | None = None
) -> tuple[KindCost, ...]:
    """What each stranger would pay if one family of declared kinds were left out, for each family."""
    families = list(Counter(family_of(kind.name) for kind in calibration.kinds if kind.role == DECLARED))
    found = []
    for done, family in enumerate(families, start=1):
        kept = tuple(kind for kind in calibration.kinds if kind.role != DECLARED or family_of(kind.name) != family)
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
