"""All puzzles by name. A new one is one file and one line here, or an entry point ``modeltoll.puzzles``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modeltoll.names import ARGON2ID, HASHCASH, HASHCASH_SHA1, MODES, REDEEM, SEALED, SHA256, TIMELOCK
from modeltoll.plugins import Registry

if TYPE_CHECKING:
    from modeltoll.plugins import Factory
    from modeltoll.puzzle.precomputed import PrecomputedPool
    from modeltoll.records import MachineProfile

__all__ = ["PUZZLES", "PuzzleContext", "PuzzleSpec"]

_FACTORIES = "modeltoll.puzzle.factories"


@dataclass(frozen=True, slots=True)
class PuzzleContext:
    """What a model's puzzles are made from: the machine of all seconds, and the settings of ``puzzle``.

    Memory is in KiB. ``stock`` holds argon2id's evaluations made ahead, where there are any.
    """

    profile: MachineProfile
    disclose: Literal["exact", "coarse", "blind"] = "coarse"
    blind_seconds: float = 0.0
    max_memory_kib: int = 64 << 10
    suspected_memory_kib: int = 256 << 10
    stock: PrecomputedPool | None = None


@dataclass(frozen=True, slots=True)
class PuzzleSpec:
    """What settings, assembly and the choice among puzzles need to know of one before it is made.

    ``factory`` takes the keyword argument ``context``, a ``PuzzleContext``, and returns a ``Puzzle`` of that name; it
    raises ``SettingsError`` where it cannot. Where several puzzles would do, that of the lowest ``preference`` is taken.
    ``modes`` are those that the puzzle can serve. ``fast_hash``: special hardware computes it much faster than a
    processor, so it is for small tolls where a ``memory_hard`` one is allowed, which callers under suspicion always get.
    ``precomputed``: its evaluations are made ahead.
    """

    name: str
    factory: Factory
    preference: int
    modes: tuple[str, ...] = MODES
    fast_hash: bool = False
    memory_hard: bool = False
    precomputed: bool = False

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
        PuzzleSpec(HASHCASH, f"{_FACTORIES}:hashcash", 40, (REDEEM,), fast_hash=True),
        PuzzleSpec(HASHCASH_SHA1, f"{_FACTORIES}:hashcash_sha1", 50, (REDEEM,), fast_hash=True),
        PuzzleSpec(TIMELOCK, f"{_FACTORIES}:timelock", 30, (SEALED,)),
    ),
)
