"""Kinds of honest rows and samples of strangers: as recorded for a fit, and as a calibration stores them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers, Leaks

__all__ = [
    "ALL_TRAFFIC",
    "CALLER",
    "CLASS",
    "DECLARED",
    "STRANGER",
    "FittedKind",
    "FittedStranger",
    "HeldBack",
    "KindSample",
    "StrangerSample",
]

ALL_TRAFFIC: Final = "all traffic"
DECLARED: Final = "declared"
CLASS: Final = "class"
CALLER: Final = "caller"
STRANGER: Final = "stranger"  # the role of rows held back that are no kind's


@dataclass(frozen=True, slots=True, eq=False)
class KindSample:
    """Leaks of honest rows of one kind.

    ``role``: ``declared``, a corruption or a file of the operator's, which counts for every caller; ``class``, the rows of
    one predicted class, found among all traffic; ``caller``, the log of one caller known to be honest, which counts for
    that caller alone. ``name``: of a caller its pseudonym in the ledger's log. ``label``: a caller's name for people.
    """

    name: str
    role: Literal["declared", "class", "caller"]
    leaks: Leaks
    label: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class StrangerSample:
    """Leaks of rows as a thief might send them. ``name``: of the source. ``generic``: made by the program, not given."""

    name: str
    leaks: Leaks
    generic: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class HeldBack:
    """Rows of a kind or a stranger that a calibration was not fitted to. ``role``: of the kind, or ``stranger``.

    ``leaks``: by the priced measures, with predicted classes where there are any. ``clean`` (rows, measures): by the same
    measures fitted without kinds; None where they were not recorded. ``generic``: of a stranger that the program made.
    """

    name: str
    role: str
    leaks: Leaks
    label: str = ""
    clean: Floats | None = None
    generic: bool = False

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.leaks.values)


@dataclass(frozen=True, slots=True, eq=False)
class FittedKind:
    """A kind of a calibration. ``role``: ``all traffic`` (the first kind), or as in ``KindSample``.

    ``counts`` (cells,): of its rows. ``scores`` (measures, rows): their leaks, ascending for each measure, of kinds by
    which rows are priced (all traffic apart, whose scores the calibration itself holds); else None.
    """

    name: str
    role: Literal["all traffic", "declared", "class", "caller"]
    counts: Integers
    scores: Floats | None = None
    label: str = ""

    @property
    def rows(self) -> int:
        """The number of its rows."""
        return int(self.counts.sum())


@dataclass(frozen=True, slots=True, eq=False)
class FittedStranger:
    """A stranger of a calibration: the ``counts`` (cells,) of its rows. ``generic`` ones do not enter the row price."""

    name: str
    counts: Integers
    generic: bool = False
