"""Selects the puzzle of a toll."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.names import MODES
from modeltoll.puzzle.puzzle import published_wait

if TYPE_CHECKING:
    from modeltoll import wire
    from modeltoll.puzzle.puzzle import Disclose, Puzzle
    from modeltoll.puzzle.registry import PuzzleSpec
    from modeltoll.records import Work

__all__ = ["OfferedPuzzle", "PuzzleSelector"]


@dataclass(frozen=True, slots=True)
class OfferedPuzzle:
    """A puzzle that a model's tolls may use, and what the registry says of it."""

    spec: PuzzleSpec
    puzzle: Puzzle


@dataclass(frozen=True, slots=True)
class PuzzleSelector:
    """The puzzles of one model. A client only ever chooses among them: it would take what its hardware does best.

    ``sha256_below`` is in reference seconds: no fast hash is offered for larger tolls where a memory-hard puzzle is.
    ``modes`` lists what may be asked for, the default first; each has a puzzle that it can be done with.
    ``disclose``, ``blind_seconds``: what tolls publish. The choice depends on that alone, not on the work.
    """

    offers: tuple[OfferedPuzzle, ...]
    modes: tuple[str, ...] = MODES
    sha256_below: float = 0.001
    disclose: Disclose = "coarse"
    blind_seconds: float = 0.0

    @property
    def puzzles(self) -> Mapping[str, Puzzle]:
        """The puzzles by name."""
        return {offer.spec.name: offer.puzzle for offer in self.offers}

    @property
    def most_seconds(self) -> float:
        """The most work of one toll: larger ones of a blind model cost ``blind_seconds``."""
        return self.blind_seconds if self.disclose == "blind" else math.inf

    def published_seconds(self, seconds: float) -> float:
        """All that a caller is told of work of so many seconds: half the published wait."""
        return published_wait(seconds, self.disclose, self.blind_seconds) / 2

    def choose(self, work: Work, accept: wire.Accept, mode: str = "") -> tuple[Puzzle, str]:
        """The puzzle and the mode for this work and this client.

        ``mode``: the mode to use where the model has it, instead of the one that the client asks for; empty: that one.

        The mean wait that is published decides whether a fast hash is offered. Callers under suspicion get a
        memory-hard puzzle, and so do all callers of a blind model.
        """
        mode = mode or accept.mode
        mode = mode if mode in self.modes else self.modes[0]
        offers = [offer for offer in self.offers if mode in offer.spec.modes]
        hard = [offer for offer in offers if offer.spec.memory_hard]
        mean_wait = self.published_seconds(work.seconds)
        if hard and (work.suspected or self.disclose == "blind"):
            offers = hard
        elif hard and mean_wait >= self.sha256_below:
            offers = [offer for offer in offers if not offer.spec.fast_hash]
        welcome = [offer for offer in offers if offer.spec.name in accept.puzzles]
        chosen = min(welcome or offers, key=lambda offer: offer.spec.preference)
        return chosen.puzzle.within(accept.memory_kib), mode
