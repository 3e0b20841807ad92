"""Puzzles as the settings name them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypedDict

from modeltoll import wire
from modeltoll.errors import SettingsError
from modeltoll.gateway.core.puzzle_selector import PuzzleSelector
from modeltoll.puzzle.counter import Argon2idCounter, Sha256Counter
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.precomputed import PRECOMPUTED_KIB, PrecomputedPool
from modeltoll.puzzle.timelock import TimeLock, Trapdoor

if TYPE_CHECKING:
    from modeltoll.gateway.settings.load import Settings
    from modeltoll.gateway.settings.models import PuzzleSettings
    from modeltoll.puzzle.counter import Disclose
    from modeltoll.puzzle.puzzle import Puzzle
    from modeltoll.records import MachineProfile

__all__ = ["build_precomputed_pool", "build_puzzle_selector"]


class _PuzzleContext(TypedDict):
    """What hidden counters tell of their work."""

    disclose: Disclose
    blind_seconds: float


def build_puzzle_selector(
    settings: PuzzleSettings, profile: MachineProfile, stock: PrecomputedPool | None = None
) -> PuzzleSelector:
    """A model's puzzles. ``stock`` holds argon2id's evaluations made ahead.

    Raises:
        SettingsError: a time lock is asked for, and the profile does not know how fast its machine squares.
    """
    if wire.TIMELOCK in settings.allow and profile.squarings <= 0:
        raise SettingsError(["profile: it has no squarings, which a time lock needs; modeltoll bench-puzzle --save"])
    told: _PuzzleContext = {"disclose": settings.disclose, "blind_seconds": settings.blind_seconds}
    makers: Mapping[str, Callable[[], Puzzle]] = {
        wire.ARGON2ID: lambda: Argon2idCounter(
            profile,
            max_memory_kib=settings.max_memory_kib,
            suspected_memory_kib=settings.suspected_memory_kib,
            precomputed=stock,
            **told,
        ),
        wire.SHA256: lambda: Sha256Counter(profile, **told),
        wire.HASHCASH: lambda: Hashcash(profile),
        wire.HASHCASH_SHA1: lambda: Hashcash(profile, digest="sha1", bits_only=True),
        wire.TIMELOCK: lambda: TimeLock(profile, Trapdoor.generate()),
    }
    return PuzzleSelector(
        {name: makers[name]() for name in settings.allow}, settings.modes, settings.sha256_below_ms / 1000
    )


def build_precomputed_pool(settings: Settings) -> PrecomputedPool | None:
    """What is made ahead for the puzzles of all models, or None where none of them takes so much memory."""
    highest = max(model.puzzle.highest_memory_kib for model in settings.models.values())
    memories = tuple(memory for memory in PRECOMPUTED_KIB if memory <= highest)
    return PrecomputedPool(random.SystemRandom(), memories_kib=memories) if memories else None
