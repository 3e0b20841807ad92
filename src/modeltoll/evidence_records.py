"""The frozen records of suspicion: what a ledger keeps of an account's rows, and what a tariff concludes from it.

This module imports the standard library alone. A *cell* is one of the classes into which a tariff sorts rows by their
p-values. The evidence is a mixture of tests: one over all rows of an account, and for each number in ``RESTART_ROWS`` one
that starts anew with each block of about so many rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.record_init import quick_init

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "EVIDENCE_SECONDS",
    "RESTART_ROWS",
    "EvidenceState",
    "EvidenceUpdate",
    "FinishedBlock",
    "FoldedBlock",
    "Verdict",
]

RESTART_ROWS = (64, 256, 1024, 4096, 16384)
EVIDENCE_SECONDS = 90 * 86_400.0  # after which the evidence of an account starts anew


@quick_init
@dataclass(frozen=True, slots=True)
class FinishedBlock:
    """A block that has ended, whose evidence is not added yet: its ``number``, from 1, and its ``counts`` (cells,)."""

    number: int
    counts: tuple[int, ...]


@quick_init
@dataclass(frozen=True, slots=True)
class EvidenceState:
    """What the ledger keeps of the fresh rows of one account.

    ``counts`` (cells,): all rows since ``since`` (seconds since the epoch). For each number in ``RESTART_ROWS``:
    ``blocks``, the counts (cells,) of the current block; ``numbers``, its number from 1; ``finished``, the block before it
    while its evidence is not added, else None. ``finished_log``: natural logarithm of what the finished blocks add to the
    evidence; minus infinity for nothing. ``log_evidence``: logarithm of the evidence that the latest bill stored, 0 before.
    ``carried_log``: that of the tariffs before the present one; None where there was none.
    """

    counts: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...]
    numbers: tuple[int, ...]
    finished: tuple[FinishedBlock | None, ...]
    since: float
    finished_log: float = -math.inf
    log_evidence: float = 0.0
    carried_log: float | None = None

    @classmethod
    def new(cls, cells: int, since: float, carried_log: float | None = None) -> EvidenceState:
        """That of an account without rows."""
        nothing, restarts = (0,) * cells, len(RESTART_ROWS)
        return cls(nothing, (nothing,) * restarts, (1,) * restarts, (None,) * restarts, since, carried_log=carried_log)

    @property
    def cells(self) -> int:
        """The number of cells."""
        return len(self.counts)

    @property
    def rows(self) -> int:
        """The number of fresh rows since ``since``."""
        return sum(self.counts)


@quick_init
@dataclass(frozen=True, slots=True)
class FoldedBlock:
    """The evidence of a finished block. ``restart``: the index in ``RESTART_ROWS``. ``number``: of the block.

    ``log_term``: logarithm of what the block adds, its weight included.
    """

    restart: int
    number: int
    log_term: float


@quick_init
@dataclass(frozen=True, slots=True)
class EvidenceUpdate:
    """What a bill stores of the evidence of one account, where the account is still of this ``tariff`` (its identity).

    ``account``: the name of the caller or group. ``log_evidence``: replaces the stored one. Each of ``folded`` is added to
    ``finished_log`` (log of the sum of the two exponentials) and its block removed, if that is still the finished block of
    its number; else nothing is done.
    """

    account: str
    tariff: str
    log_evidence: float
    folded: tuple[FoldedBlock, ...] = ()


@quick_init
@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What a tariff concludes from an account.

    ``surcharge``: the multiplier (>= 1) on the rows of a caller under suspicion; ``group_surcharge``: the same for its
    groups, on rarer rows. ``log_evidence``: a lower bound of the logarithm of the evidence against the caller.
    ``frequent`` (cells,): of a suspected caller, the cells whose share of its rows exceeds that of the honest law that
    fits it best; else None. ``updates``: what the bill stores, for the caller and its groups. ``own_kind``: the name of the
    kind of the caller's own log, for the price of its rows; empty for none.
    """

    surcharge: float = 1.0
    group_surcharge: float = 1.0
    log_evidence: float = 0.0
    frequent: NDArray[np.bool_] | None = None
    updates: tuple[EvidenceUpdate, ...] = ()
    own_kind: str = ""

    @property
    def suspected(self) -> bool:
        """Whether the caller itself, and not only a group of it, is under suspicion."""
        return self.surcharge > 1.0
