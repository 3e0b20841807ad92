"""The protocol of evasions: the same stolen rows, sent in another way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from modeltoll.records import Caller

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.records import Bools, Floats
    from modeltoll.simulation.scenarios import Scenario
    from modeltoll.simulation.traffic import Rows

__all__ = ["CPU_CORE", "EASY", "GPU", "JITTERED", "Cover", "Evasion", "EvasionPlan"]

CPU_CORE, GPU = "core", "card"  # solvers
EASY, JITTERED = "easy", "jittered"  # fillers


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """What an evasion can use besides the stolen rows.

    ``honest`` are unseen rows of the victim's own distribution. ``fillers``: one easy row (``EASY``), and distinct copies
    of it (``JITTERED``). ``undefended``: seconds per row without a gateway. ``price``: the seconds (rows,) that rows cost a new caller.
    ``replayable``: the toll accepts a solution twice.
    """

    honest: Rows
    fillers: Mapping[str, Rows]
    undefended: float
    price: Callable[[Rows], Floats]
    replayable: bool


@dataclass(frozen=True, slots=True, eq=False)
class EvasionPlan:
    """How the rows are sent: the scenario, the caller of all accounts, and the solver (``CPU_CORE`` or ``GPU``).

    ``solves`` (rows,) marks the rows whose puzzle is solved; the others use an older solution. None: all are solved.
    """

    scenario: Scenario
    caller: Caller = field(default_factory=lambda: Caller("key:thief"))
    solver: str = CPU_CORE
    solves: Bools | None = None


class Evasion(Protocol):
    """A way to send stolen rows. Pure: the same rows, cover and generator give the same plan."""

    @property
    def name(self) -> str:
        """The name in tables."""
        ...

    @property
    def family(self) -> str:
        """The common name of evasions that differ in ``level`` only; they are one curve of a chart."""
        ...

    @property
    def level(self) -> float:
        """The strength: accounts, fillers per row, or multiples of the undefended time."""
        ...

    def plan(self, stolen: Rows, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """The plan for the stolen rows: in their order, each wanted at most once; fillers are not wanted."""
        ...
