"""The plug of evasions: the same stolen rows, asked for in another way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from modeltoll.records import Caller

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.records import Bools, Floats
    from modeltoll.simulation.scenarios import Scenario

__all__ = ["CARD", "CORE", "Cover", "Evasion", "EvasionPlan"]

CORE, CARD = "core", "card"  # who solves


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """What a thief can hide among.

    ``honest`` (n, measures) are unseen rows of the victim's kind, ``jittered`` (n, measures) ever new copies of one
    easy row, ``easy`` (1, measures) that row. ``undefended``: seconds of a row without a gateway. ``price``: the
    seconds (rows,) that rows (rows, measures) cost a new caller. ``replayable``: the toll takes a solution again.
    """

    honest: Floats
    jittered: Floats
    easy: Floats
    undefended: float
    price: Callable[[Floats], Floats]
    replayable: bool


@dataclass(frozen=True, slots=True, eq=False)
class EvasionPlan:
    """How the rows are asked for: the scene, of which kind the accounts are, and who solves (``CORE`` or ``CARD``).

    ``solves`` (rows,) marks the rows whose puzzle is solved; others pass with an older solution. None: all.
    """

    scenario: Scenario
    caller: Caller = field(default_factory=lambda: Caller("key:thief"))
    solver: str = CORE
    solves: Bools | None = None


class Evasion(Protocol):
    """A way to ask for stolen rows. Pure: the same rows, crowd and generator give the same disguise."""

    @property
    def name(self) -> str:
        """As the tables name it."""
        ...

    @property
    def family(self) -> str:
        """Evasions that differ in ``level`` alone share it, and are one line of a figure."""
        ...

    @property
    def level(self) -> float:
        """How far it goes: accounts, fillers per row, times the undefended time."""
        ...

    def plan(self, stolen: Floats, cover: Cover, rng: np.random.Generator) -> EvasionPlan:
        """Ask for the rows (rows, measures), in their order, each once at most; fillers are not wanted."""
        ...
