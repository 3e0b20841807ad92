"""Suspicion: a sequential test of whether a caller can be any honest caller, and the surcharge that follows from it.

An honest caller sends rows of one kind, or of any mixture of kinds, or of one after another. The evidence against them
(``evidence_test``) ever reaches 1 / alpha with probability at most alpha.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.evidence_records import RESTART_ROWS, EvidenceUpdate, Verdict
from modeltoll.pricing.evidence_numerator import EvidenceNumerator
from modeltoll.pricing.evidence_test import EvidenceTest, with_carried
from modeltoll.pricing.kind_laws import KindLaws
from modeltoll.pricing.running_evidence import RunningEvidence, RunningTerms, running_evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.evidence_records import EvidenceState
    from modeltoll.pricing.cells import Cells
    from modeltoll.pricing.evidence_test import Component, Finding
    from modeltoll.pricing.kinds import FittedKind, FittedStranger
    from modeltoll.pricing.quick_screen import QuickScreen
    from modeltoll.records import Account, Bools, Floats, Integers

__all__ = ["GROUP_SETTLED_ROWS", "Suspicion", "SuspicionTerms"]

GROUP_SETTLED_ROWS = 200  # settled rows from which on a caller pays no surcharge of its groups
_MAXIMUM_OF_GROUPS, _RARE_OF_GROUPS = 10.0, 0.1  # bounds, so that nobody can make a neighbour a thief


@dataclass(frozen=True, slots=True)
class SuspicionTerms:
    """The parameters of suspicion and of its surcharge.

    ``alpha``: bound on the probability that an honest caller is ever suspected. ``rho``: the tolerance of the null; a caller
    whose law is in every cell at most 1 + rho times that of a mixture of kinds counts as honest. ``rho0``: a further
    tolerance per row, for the kinds' laws are estimates. ``maximum``: the largest surcharge, a multiplier. ``rare_below``:
    rows whose smallest clean p-value is below it are surcharged. ``group_maximum``, ``group_rare_below``: the same for the
    surcharge of a suspected group, at most 10 and 0.1. It is for callers with fewer than ``GROUP_SETTLED_ROWS`` settled rows.

    Raises:
        CalibrationError: a term is out of range.
    """

    alpha: float = 1e-6
    rho: float = 0.25
    rho0: float = 0.02
    maximum: float = 100.0
    rare_below: float = 0.5
    group_maximum: float = 10.0
    group_rare_below: float = 0.1

    def __post_init__(self) -> None:
        ranges = {"alpha": (1e-300, 0.5), "rho": (0.0, 10.0), "rho0": (0.0, 10.0)}
        ranges |= {"maximum": (1.0, 1e6), "rare_below": (0.0, 1.0)}
        ranges |= {"group_maximum": (1.0, _MAXIMUM_OF_GROUPS), "group_rare_below": (0.0, _RARE_OF_GROUPS)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise CalibrationError(f"'suspicion.{name}' must lie in {low:g}..{high:g}")


class Suspicion:
    """The suspicion of one calibration. Pure; a caller's verdict takes a fraction of a millisecond.

    ``kinds``: all traffic first, then those that count for every caller. ``strangers``: in the numerator. ``restart_rows``:
    the lengths of the blocks.

    Raises:
        CalibrationError: a kind or a stranger has no rows, or other cells.
    """

    def __init__(
        self,
        cells: Cells,
        kinds: Sequence[FittedKind],
        strangers: Sequence[FittedStranger],
        terms: SuspicionTerms,
        restart_rows: tuple[int, ...] = RESTART_ROWS,
    ) -> None:
        self.cells, self.terms = cells, terms
        self.laws = KindLaws.of(kinds, cells.widths)
        self._numerator = EvidenceNumerator(self.laws.laws, cells.shape, strangers)
        limit = -math.log(terms.alpha)
        self._running_terms = RunningTerms(limit, limit + 2.0 * math.log(terms.maximum), restart_rows)
        self._test = self._test_against(self.laws)
        self._own_tests: dict[int, tuple[FittedKind, EvidenceTest]] = {}

    def _test_against(self, laws: KindLaws, quick: QuickScreen | None = None) -> EvidenceTest:
        terms, running = self.terms, self._running_terms
        return EvidenceTest(laws, self._numerator, (terms.rho, terms.rho0), (running.limit, running.ceiling), quick)

    def _test_for(self, own: FittedKind | None) -> EvidenceTest:
        """The test for a caller whose own log is a kind, or for all others."""
        if own is None:
            return self._test
        known = self._own_tests.get(id(own))
        if known is None:
            known = own, self._test_against(self.laws.with_kind(own), self._test.quick)
            self._own_tests[id(own)] = known
        return known[1]

    def verdict(self, account: Account, own: FittedKind | None = None) -> Verdict:
        """What the evidence says of the caller of ``account`` and of its groups.

        ``own``: the kind of this caller's own log, for this caller alone; evidence of earlier tariffs is ignored then.

        Raises:
            CalibrationError: the evidence of the account or of a group is not of this calibration's cells.
        """
        found = self._judge(account, own)
        updates = _changed(account, found)
        highest = 0.0
        for group in account.groups:
            of_group = self._judge(group, None)
            updates += _changed(group, of_group)
            highest = max(highest, of_group.log_evidence)
        if account.settled_rows >= GROUP_SETTLED_ROWS:
            highest = 0.0
        surcharge = self._surcharge(found.log_evidence)
        frequent = None
        if found.leading is not None and surcharge > 1.0:
            frequent = self._test_for(own).frequent(np.array([found.leading.counts], dtype=np.float64))[0]
        group_surcharge = self._surcharge(highest, group=True)
        return Verdict(surcharge, group_surcharge, found.log_evidence, frequent, updates)

    def _judge(self, account: Account, own: FittedKind | None) -> Finding:
        state = account.evidence
        if state.cells != self.cells.count:
            raise CalibrationError(
                "the account belongs to another tariff", private=f"it has {state.cells} cells, not {self.cells.count}"
            )
        return self._test_for(own).judge(state, state.carried_log if own is None else None)

    def log_evidence(self, state: EvidenceState, own: FittedKind | None = None) -> float:
        """The logarithm of the evidence, never above the exact value and within about 0.1 of it."""
        total = self._test_for(own).total(state)
        return total if own is not None else with_carried(total, state.carried_log)

    def components(self, state: EvidenceState, own: FittedKind | None = None) -> list[tuple[Component, float]]:
        """The tests of which the evidence is a mixture, each with the logarithm of its M: all rows first, then blocks."""
        return self._test_for(own).values(state)

    def fitted(self, counts: Integers, own: FittedKind | None = None) -> Floats:
        """The honest law (cells,) that fits counts (cells,) best; of cells without rows, 0."""
        law: Floats = self._test_for(own).fitted(np.array([counts], dtype=np.float64))[0]
        return law

    def running(
        self, cells: Integers, accounts: Integers, counted: Bools, own: FittedKind | None = None
    ) -> RunningEvidence:
        """The evidence after each of the interleaved rows of many accounts, as if each row were a request of its own.

        ``cells``, ``accounts`` (rows,): of each row. ``counted`` (rows,): False where the account has sent the row before.
        """
        return running_evidence(self._test_for(own), self._running_terms, cells, accounts, counted)

    def _surcharge(self, log_evidence: float, *, group: bool = False) -> float:
        if log_evidence <= self._running_terms.limit:
            return 1.0
        return float(self.surcharge_at(log_evidence, group=group))

    def surcharge_at(self, log_evidence: float | Floats, *, group: bool = False) -> Floats:
        """min(maximum, sqrt(alpha M)) where M >= 1 / alpha, else 1, in any shape; ``group`` selects the maximum."""
        highest = math.log(self.terms.group_maximum if group else self.terms.maximum)
        excess = 0.5 * (log_evidence - self._running_terms.limit)
        surcharge: Floats = np.exp(np.minimum(np.maximum(excess, 0.0), highest))
        return surcharge


def _changed(account: Account, found: Finding) -> tuple[EvidenceUpdate, ...]:
    """What the bill stores of one account; nothing where that would change nothing."""
    if not found.folded and found.log_evidence == account.evidence.log_evidence:
        return ()
    return (EvidenceUpdate(account.caller.name, account.tariff, found.log_evidence, found.folded),)
