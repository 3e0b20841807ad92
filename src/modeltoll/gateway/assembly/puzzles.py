"""Puzzles as the settings name them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from modeltoll.gateway.core.puzzle_selector import OfferedPuzzle, PuzzleSelector
from modeltoll.plugins import call_factory, check_made
from modeltoll.puzzle.precomputed import PRECOMPUTED_KIB, REFILL_SHARE, PrecomputedPool
from modeltoll.puzzle.registry import PUZZLES, PuzzleContext

if TYPE_CHECKING:
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.settings.served_models import PuzzleSettings
    from modeltoll.puzzle.puzzle import Puzzle
    from modeltoll.puzzle.registry import PuzzleSpec
    from modeltoll.records import MachineProfile

__all__ = ["build_precomputed_pool", "build_puzzle_selector"]


def build_puzzle_selector(
    settings: PuzzleSettings, profile: MachineProfile, precomputed: PrecomputedPool | None = None
) -> PuzzleSelector:
    """A model's puzzles. ``precomputed`` holds evaluations of Argon2id made ahead.

    Raises:
        SettingsError: a puzzle cannot be made, such as a time lock for a profile that does not know how fast its machine
            squares.
    """
    context = PuzzleContext(
        profile,
        settings.disclose,
        settings.blind_seconds,
        settings.max_memory_kib,
        settings.suspected_memory_kib,
        precomputed,
    )
    offers = tuple(_offer(PUZZLES.find(name), context) for name in settings.allow)
    below = settings.sha256_below_ms / 1000
    return PuzzleSelector(offers, settings.modes, below, settings.disclose, settings.blind_seconds)


def _offer(spec: PuzzleSpec, context: PuzzleContext) -> OfferedPuzzle:
    what = PUZZLES.describe(spec.name)
    puzzle: Puzzle = call_factory(spec.factory, {"context": context}, what)
    check_made(puzzle, spec.name, ("within", "make", "solve", "check"), what)
    return OfferedPuzzle(spec, puzzle)


def build_precomputed_pool(settings: Settings, workers: int = 1) -> PrecomputedPool | None:
    """What is made ahead for the puzzles of all models, or None where none of them takes so much memory.

    The pools of all ``workers`` processes of a gateway take ``REFILL_SHARE`` of one core together.
    """
    highest = max(model.puzzle.highest_memory_kib for model in settings.models.values())
    memories = tuple(memory for memory in PRECOMPUTED_KIB if memory <= highest)
    if not memories:
        return None
    return PrecomputedPool(random.SystemRandom(), memories_kib=memories, share=REFILL_SHARE / workers)
