"""Which puzzle a toll is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll import wire

if TYPE_CHECKING:
    from modeltoll.puzzle.puzzle import Puzzle
    from modeltoll.records import Work

__all__ = ["PuzzleSelector"]

_ORDER = (wire.SHA256, wire.ARGON2ID, wire.TIMELOCK, *wire.HASHCASHES)  # what is preferred where several will do
_FAST = (wire.SHA256, *wire.HASHCASHES)
_UNFIT = {wire.SEALED: wire.HASHCASHES, wire.REDEEM: (wire.TIMELOCK,)}


@dataclass(frozen=True, slots=True)
class PuzzleSelector:
    """Which puzzles a road offers; a client only ever chooses among them, or a thief would take what his machines like.

    ``sha256_below`` is in reference seconds: no fast hash is offered for dearer tolls where argon2id is. ``modes``
    lists what may be asked for, the default first; each has a puzzle that it can be done with.
    """

    puzzles: Mapping[str, Puzzle]
    modes: tuple[str, ...] = (wire.SEALED, wire.REDEEM)
    sha256_below: float = 0.02

    def choose(self, work: Work, accept: wire.Accept) -> tuple[Puzzle, str]:
        """The puzzle and the mode for this work and this client. For a caller under suspicion argon2id stands alone."""
        mode = accept.mode if accept.mode in self.modes else self.modes[0]
        names = [name for name in _ORDER if name in self.puzzles and name not in _UNFIT[mode]]
        if wire.ARGON2ID in names and work.suspected:
            names = [wire.ARGON2ID]
        elif wire.ARGON2ID in names and work.seconds >= self.sha256_below:
            names = [name for name in names if name not in _FAST]
        welcome = [name for name in names if name in accept.puzzles]
        return self.puzzles[(welcome or names)[0]].within(accept.memory_kib), mode
