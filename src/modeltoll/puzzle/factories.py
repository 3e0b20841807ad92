"""How the built-in puzzles are made for a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.errors import SettingsError
from modeltoll.puzzle.counter import Argon2idCounter, Sha256Counter
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.timelock import TimeLock, Trapdoor

if TYPE_CHECKING:
    from modeltoll.puzzle.puzzle import Puzzle
    from modeltoll.puzzle.registry import PuzzleContext

__all__ = ["argon2id", "hashcash", "hashcash_sha1", "sha256", "timelock"]


def argon2id(context: PuzzleContext) -> Puzzle:
    """A hidden counter of Argon2id."""
    return Argon2idCounter(
        context.profile,
        max_memory_kib=context.max_memory_kib,
        suspected_memory_kib=context.suspected_memory_kib,
        disclose=context.disclose,
        blind_seconds=context.blind_seconds,
        precomputed=context.precomputed,
    )


def sha256(context: PuzzleContext) -> Puzzle:
    """A hidden counter of SHA-256."""
    return Sha256Counter(context.profile, disclose=context.disclose, blind_seconds=context.blind_seconds)


def hashcash(context: PuzzleContext) -> Puzzle:
    """SHA-256 below a target of any value."""
    return Hashcash(context.profile)


def hashcash_sha1(context: PuzzleContext) -> Puzzle:
    """The paper's: SHA-1, whole zero bits."""
    return Hashcash(context.profile, digest="sha1", bits_only=True)


def timelock(context: PuzzleContext) -> Puzzle:
    """Squarings modulo a number whose factors are drawn here.

    Raises:
        SettingsError: the profile has no rate of squarings.
    """
    if context.profile.squarings <= 0:
        raise SettingsError(["profile: it has no squarings, which a time lock needs; modeltoll bench-puzzle --save"])
    return TimeLock(context.profile, Trapdoor.generate())
