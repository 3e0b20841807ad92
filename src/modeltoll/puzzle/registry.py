"""All puzzles by name. A new one is one file and one line here, or an entry point ``modeltoll.puzzles``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modeltoll.names import ARGON2ID, HASHCASH, HASHCASH_SHA1, MODES, REDEEM, SHA256, TIMELOCK
from modeltoll.plugins import Registry, load_reference

if TYPE_CHECKING:
    from modeltoll.plugins import Factory
    from modeltoll.puzzle.precomputed import PrecomputedPool
    from modeltoll.puzzle.puzzle import SolveControl
    from modeltoll.records import MachineProfile
    from modeltoll.toll_records import Challenge, Solution

__all__ = ["PUZZLES", "PuzzleContext", "PuzzleSpec", "puzzle_solver"]

_NAME = re.compile(r"[a-z0-9-]{1,32}")
_FACTORIES = "modeltoll.puzzle.factories"


@dataclass(frozen=True, slots=True)
class PuzzleContext:
    """What a model's puzzles are made from: the machine of all seconds, and the settings of ``puzzle``.

    Memory is in KiB. ``precomputed`` holds evaluations of Argon2id made ahead, where there are any.
    """

    profile: MachineProfile
    disclose: Literal["exact", "coarse", "blind"] = "coarse"
    blind_seconds: float = 0.0
    max_memory_kib: int = 64 << 10
    suspected_memory_kib: int = 256 << 10
    precomputed: PrecomputedPool | None = None


@dataclass(frozen=True, slots=True)
class PuzzleSpec:
    """The properties of a puzzle that settings, assembly and the choice among puzzles use before it is made.

    ``factory`` takes the keyword argument ``context``, a ``PuzzleContext``, and returns a ``Puzzle`` of that name; it
    raises ``SettingsError`` where it cannot. Where several puzzles fit, that of the lowest ``preference`` is taken.
    ``modes`` are those that the puzzle can serve. ``fast_hash``: special hardware computes it much faster than a
    processor, so it is for small tolls where a ``memory_hard`` one is allowed, which callers under suspicion always get.
    ``precomputed``: its evaluations are made ahead. ``publishes_work``: its challenge shows its exact work whatever
    ``disclose`` says, so that it is not for ``blind``. ``solver`` is what a client solves it with, ``(challenge, control) ->
    Solution`` as ``Puzzle.solve``; the built-in puzzles have one in common. Names are small letters, digits and ``-``.
    """

    name: str
    factory: Factory
    preference: int
    modes: tuple[str, ...] = MODES
    fast_hash: bool = False
    memory_hard: bool = False
    precomputed: bool = False
    publishes_work: bool = False
    solver: Factory = "modeltoll.puzzle.solver:solve"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not a puzzle's name: use small letters, digits and '-'")

    @property
    def names(self) -> tuple[str, ...]:
        """Its one name."""
        return (self.name,)


PUZZLES: Registry[PuzzleSpec] = Registry(
    "puzzle",
    "modeltoll.puzzles",
    PuzzleSpec,
    (
        PuzzleSpec(ARGON2ID, f"{_FACTORIES}:argon2id", 20, memory_hard=True, precomputed=True),
        PuzzleSpec(SHA256, f"{_FACTORIES}:sha256", 10, fast_hash=True),
        PuzzleSpec(HASHCASH, f"{_FACTORIES}:hashcash", 40, (REDEEM,), fast_hash=True, publishes_work=True),
        PuzzleSpec(HASHCASH_SHA1, f"{_FACTORIES}:hashcash_sha1", 50, (REDEEM,), fast_hash=True, publishes_work=True),
        PuzzleSpec(TIMELOCK, f"{_FACTORIES}:timelock", 30, publishes_work=True),
    ),
)


def puzzle_solver(name: str) -> Callable[[Challenge, SolveControl], Solution]:
    """What solves the puzzle of that name.

    Raises:
        SettingsError: there is no such puzzle that can be used.
    """
    solver: Callable[[Challenge, SolveControl], Solution] = load_reference(
        PUZZLES.find(name).solver, PUZZLES.describe(name), "solver"
    )
    return solver
