"""The test of whether a caller can be honest: the evidence M from counts of cells, and its restarts.

log M = log numerator - sup over P of sum c_k log p_k - N log(1 + rho0), for counts c of N rows. If each row's law given
the past is cellwise at most (1 + rho0) p for some p in P, chosen anew for each row by anybody who sees the past, M ever
reaches 1 / alpha with probability at most alpha: for a law theta let p* maximise sum theta_k log p_k over P; by the
first-order conditions sum p_k theta_k / p*_k <= 1 for all p in P, so the product over the rows of
theta / ((1 + rho0) p*) is a non-negative supermartingale, and so is its mean over the numerator's mixture, which M never
exceeds (Ville 1939).

A caller could send honest rows first and steal under their cover. So the test also runs on blocks of the last rows: the
evidence is a mixture over the test of all rows (weight 1/2) and, for each block length, tests that start with each block
(weight 1/10 each, of which block i has 1 / (i (i + 1)), the blocks to come standing at 1): a mixture of stopped
supermartingales, so the promise holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.evidence_records import FoldedBlock
from modeltoll.pricing.convex_null import ConvexNull
from modeltoll.pricing.quick_screen import QuickScreen
from modeltoll.record_init import quick_init

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.evidence_records import EvidenceState
    from modeltoll.pricing.evidence_numerator import EvidenceNumerator
    from modeltoll.pricing.kind_laws import KindLaws
    from modeltoll.records import Bools, Floats

__all__ = ["Component", "EvidenceTest", "Finding", "components", "log_future", "log_sum", "log_weight", "with_carried"]

_LOG_HALF = math.log(0.5)
_NEGLIGIBLE = 5.0  # nats below the limit at which one component no longer decides
_NEGLIGIBLE_BLOCK = 16.0  # the same of a finished block, of which there may be many
_NOTHING = 40.0  # nats below another component at which a sum does not notice one
_FIT_PER_ROW = 0.01  # nats per row to which the law that fits a suspect best is searched


@lru_cache(maxsize=4096)
def log_weight(restarts: int, number: int) -> float:
    """Logarithm of the weight of block ``number`` (from 1) of one of so many block lengths."""
    return _LOG_HALF - math.log(restarts * number * (number + 1))


@lru_cache(maxsize=4096)
def log_future(restarts: int, number: int) -> float:
    """Logarithm of the weight of all blocks after block ``number``, which stand at 1."""
    return _LOG_HALF - math.log(restarts * (number + 1))


def log_sum(logs: Sequence[float]) -> float:
    """Logarithm of the sum of the exponentials."""
    highest = max(logs, default=-math.inf)
    if not math.isfinite(highest):
        return highest
    return highest + math.log(sum([math.exp(log - highest) for log in logs]))


@quick_init
@dataclass(frozen=True, slots=True)
class Component:
    """One test of the mixture. ``restart``: the place of its block length, None for the test of all rows. ``number``: of
    its block. ``finished``: its block has ended. ``log_weight``: logarithm of its weight. ``counts`` (cells,).
    """

    restart: int | None
    number: int
    finished: bool
    log_weight: float
    counts: tuple[int, ...]


@quick_init
@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What the test concludes from one account. ``log_evidence``: a lower bound. ``leading``: of a suspect, the component
    with the largest share of the evidence. ``folded``: finished blocks, evaluated.
    """

    log_evidence: float
    leading: Component | None = None
    folded: tuple[FoldedBlock, ...] = ()


def components(state: EvidenceState) -> list[Component]:
    """The tests of an account that its counts decide: of all rows, the current blocks, finished blocks not yet added."""
    restarts = len(state.blocks)
    found = [Component(None, 1, False, _LOG_HALF, state.counts)]
    for restart, (counts, number, block) in enumerate(zip(state.blocks, state.numbers, state.finished, strict=True)):
        found.append(Component(restart, number, False, log_weight(restarts, number), counts))
        if block is not None:
            weight = log_weight(restarts, block.number)
            found.append(Component(restart, block.number, True, weight, block.counts))
    return found


def _decided(state: EvidenceState) -> float:
    """Logarithm of what does not depend on the counts: finished blocks that were added, and blocks to come."""
    return _log_decided(state.finished_log, state.numbers)


@lru_cache(maxsize=4096)  # it changes when a block ends
def _log_decided(finished_log: float, numbers: tuple[int, ...]) -> float:
    return log_sum([finished_log, *[log_future(len(numbers), number) for number in numbers]])


class EvidenceTest:
    """The test against the kinds of ``laws``. Pure.

    ``tolerances``: rho, in the null, and rho0, per row. ``limits``: the log evidence from which on a caller is suspected,
    and that from which on more changes nothing.
    """

    def __init__(
        self,
        laws: KindLaws,
        numerator: EvidenceNumerator,
        tolerances: tuple[float, float],
        limits: tuple[float, float],
        quick: QuickScreen | None = None,
    ) -> None:
        """``quick``: that of a test with the same numerator and ``rho0`` against fewer kinds, in place of an own one."""
        rho, rho0 = tolerances
        self._numerator = numerator
        self._limit, self._ceiling = limits
        self._null = ConvexNull(laws.caps, rho)
        everything, mean = laws.laws[:1], laws.laws.mean(axis=0, keepdims=True)
        mixtures = np.concatenate([laws.laws, mean, 0.5 * (everything + laws.laws[1:])])
        self._log_laws: Floats = np.ascontiguousarray(np.log(mixtures).T)
        self._tax = math.log1p(rho0)
        dirichlet = numerator.dirichlet
        likely = np.concatenate([everything, mean])
        self.quick = QuickScreen(dirichlet, likely, self._tax) if quick is None and dirichlet is not None else quick
        self.cell_count = laws.laws.shape[1]

    def _screened(self, counts: Floats) -> tuple[Floats, Floats]:
        """The logarithm of the numerator less the tax, and an upper bound of log M, each (histograms,).

        The supremum over P is at least the likelihood of any law in P: here of each kind alone, of each mixed half and half
        with all traffic, and of all kinds mixed.
        """
        rows = counts.sum(axis=1)
        numerators = self._numerator.log(counts, rows) - self._tax * rows
        return numerators, numerators - (counts @ self._log_laws).max(axis=1)

    def log_evidence(self, counts: Floats, below: Floats | float, above: Floats | float) -> Floats:
        """Lower bounds (histograms,) of log M, within 0.1 where the search ends in time.

        A histogram whose log M is surely under ``below`` gets minus infinity, and one whose log M is over ``above`` may
        get any number from there on; each one number or (histograms,).
        """
        below, above = np.broadcast_to(below, len(counts)), np.broadcast_to(above, len(counts))
        numerators, most = self._screened(counts)
        return self._certified(counts, numerators, most, below, above)

    def _certified(self, counts: Floats, numerators: Floats, most: Floats, below: Floats, above: Floats) -> Floats:
        evidence = np.full(len(counts), -np.inf)
        left = np.flatnonzero(most >= below)
        if len(left):
            numerators, below, above = numerators[left], below[left], above[left]
            fit = self._null.fit(counts[left], numerators - below, numerators - above)
            evidence[left] = np.where(numerators - fit.lower >= below, numerators - fit.upper, -np.inf)
        return evidence

    def fitted(self, counts: Floats) -> Floats:
        """Of each histogram the law in P that fits best, (histograms, cells); of cells without rows, 0."""
        return self._null.fit(counts, tolerance=np.maximum(0.1, _FIT_PER_ROW * counts.sum(axis=1))).laws

    def frequent(self, counts: Floats) -> Bools:
        """The cells (histograms, cells) whose share of the rows exceeds that of the law in P that fits best."""
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        exceed: Bools = shares > self.fitted(counts) * (1.0 + 1e-9)
        return exceed

    def values(self, state: EvidenceState) -> list[tuple[Component, float]]:
        """The components of an account, each with a lower bound of its log M within 0.1; not screened."""
        parts = components(state)
        logs = self.log_evidence(np.array([part.counts for part in parts], dtype=np.float64), -np.inf, np.inf)
        return list(zip(parts, logs.tolist(), strict=True))

    def total(self, state: EvidenceState) -> float:
        """A lower bound of the logarithm of the evidence of this tariff, within 0.1; not screened."""
        return log_sum([_decided(state), *[part.log_weight + log for part, log in self.values(state)]])

    def judge(self, state: EvidenceState, carried_log: float | None = None) -> Finding:
        """The finding for one account, as cheaply as it can be had: components are searched only as far as they decide."""
        decided = _decided(state)
        if self._is_surely_honest(state, carried_log):
            return Finding(with_carried(decided, carried_log))
        parts = components(state)
        places: dict[tuple[int, ...], int] = {}
        indices = [places.setdefault(part.counts, len(places)) for part in parts]
        counts = np.array(list(places), dtype=np.float64)
        numerators, most = self._screened(counts)
        highest = most.tolist()
        bounds = [part.log_weight + highest[place] for part, place in zip(parts, indices, strict=True)]
        suspect = with_carried(log_sum([decided, *bounds]), carried_log) >= self._limit
        if not suspect and not any(state.finished):
            return Finding(with_carried(decided, carried_log))
        below, above = self._decisive(parts, indices, suspect=suspect)
        logs = np.full(len(counts), -np.inf)
        if suspect:  # first the one that may decide alone; what adds nothing to it is not searched
            first = [indices[bounds.index(max(bounds))]]
            logs[first] = self._certified(counts[first], numerators[first], most[first], below[first], above[first])
            found = max(part.log_weight for part, place in zip(parts, indices, strict=True) if place == first[0])
            found += float(logs[first[0]])
            adding = {
                place
                for part, place, bound in zip(parts, indices, bounds, strict=True)
                if part.finished or bound > found - _NOTHING
            } - set(first)
            below[[place for place in range(len(counts)) if place not in adding]] = np.inf
        logs = np.maximum(logs, self._certified(counts, numerators, most, below, above)).tolist()
        terms = [part.log_weight + logs[place] for part, place in zip(parts, indices, strict=True)]
        evidence = with_carried(log_sum([decided, *terms]), carried_log)
        folded = tuple(
            FoldedBlock(part.restart, part.number, term)
            for part, term in zip(parts, terms, strict=True)
            if part.finished and part.restart is not None
        )
        leading = parts[terms.index(max(terms))] if evidence >= self._limit else None
        return Finding(evidence, leading, folded)

    def _is_surely_honest(self, state: EvidenceState, carried_log: float | None) -> bool:
        """Whether the evidence is below the limit, and no finished block is to be added, as far as a quick look tells.

        The weights of the tests, and of blocks to come, sum to at most 1. So the evidence is at most the sum of what is
        finished and of the largest M, or 1; and with that of earlier tariffs at most the larger one of the two.
        """
        if self.quick is None or any(state.finished) or (carried_log or 0.0) >= self._limit:
            return False
        half = self._limit + _LOG_HALF
        is_below = self.quick.is_below
        return 0.0 <= half > state.finished_log and all(is_below(one, half) for one in {state.counts, *state.blocks})

    def _decisive(self, parts: Sequence[Component], indices: Sequence[int], *, suspect: bool) -> tuple[Floats, Floats]:
        """How far each histogram is to be searched: ``below`` and ``above`` of ``log_evidence``.

        ``indices``: of the parts' histograms. Without a suspect, finished blocks alone are searched.
        """
        number = max(indices) + 1
        below, above = np.full(number, np.inf), np.full(number, -np.inf)
        for part, place in zip(parts, indices, strict=True):
            if suspect or part.finished:
                least = self._limit - part.log_weight - (_NEGLIGIBLE_BLOCK if part.finished else _NEGLIGIBLE)
                below[place] = min(below[place], least)
                above[place] = max(above[place], self._ceiling - _LOG_HALF - part.log_weight)
        return below, above


def with_carried(log_evidence: float, carried_log: float | None) -> float:
    """Logarithm of the mixture of the evidence and that of earlier tariffs, half each."""
    return log_evidence if carried_log is None else _LOG_HALF + log_sum([log_evidence, carried_log])
