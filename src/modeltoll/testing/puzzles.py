"""Conformance suite for puzzles: ``check_puzzle(puzzle, profile, rng, disclose=...)``."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from modeltoll.puzzle.puzzle import Puzzle, SolveControl
from modeltoll.records import Challenge, MachineProfile, Solution, Work

if TYPE_CHECKING:
    import random

__all__ = ["check_puzzle"]

_NEIGHBOURS = 8  # wrong counters tried below each right one
_SIGMAS = 4.5  # standard errors of the mean: a correct puzzle fails for one seed in about 150,000


def check_puzzle(
    puzzle: Puzzle,
    profile: MachineProfile,
    rng: random.Random,
    *,
    evaluations: float = 40.0,
    draws: int = 200,
    disclose: Literal["exact", "coarse", "blind"] | None = None,
) -> None:
    """Check a puzzle against the ``Puzzle`` protocol.

    Args:
        puzzle: the puzzle, made for ``profile``.
        profile: the machine that converts reference seconds to evaluations.
        rng: source of the puzzles' secrets.
        evaluations: expected evaluations per puzzle, at 256 KiB or of SHA-256, 1 or more. Some puzzles are solved, so
            keep it small.
        draws: number of puzzles that are made.
        disclose: which bound the puzzle publishes for its hidden counter; None for puzzles without one (hashcash).

    Raises:
        AssertionError: the puzzle violates the protocol; the message says how.
    """
    template, _ = puzzle.make(Work(0.0, 1, 0.0), rng)
    seconds = evaluations / profile.rate(template.memory_kib)
    work = Work(seconds, 1, seconds)
    made = [puzzle.make(work, rng) for _ in range(draws)]
    _check_names_and_memory(puzzle, work, rng)
    _check_only_the_solution_is_accepted(puzzle, *made[0])
    _check_seeds_are_unique([challenge for challenge, _ in made])
    _check_bounds(made, disclose)
    _check_mean(puzzle, made, work, profile)


def _check_names_and_memory(puzzle: Puzzle, work: Work, rng: random.Random) -> None:
    """A challenge has its puzzle's name, and takes no more memory than the client has, except at the smallest size."""
    least = puzzle.within(0).make(work, rng)[0].memory_kib
    for memory_kib in (0, 256, 700, 1024, 4096, 65536):
        challenge, _ = puzzle.within(memory_kib).make(work, rng)
        assert challenge.puzzle == puzzle.name, "a challenge has another name than its puzzle"
        assert challenge.memory_kib <= max(memory_kib, least), (
            f"a challenge takes more than the client's {memory_kib} KiB"
        )


def _check_only_the_solution_is_accepted(puzzle: Puzzle, challenge: Challenge, known: Solution | None) -> None:
    """The solver's solution is accepted; no smaller counter is, and no part can be left out, doubled or replaced."""
    found = puzzle.solve(challenge, SolveControl())
    assert puzzle.check(challenge, found), "the solver's solution is refused"
    if known is not None:
        assert puzzle.check(challenge, known), "the maker's solution is refused"
        assert found == known, "the solver and the maker know different solutions"
    counters = found.counters
    lengths = [(), counters[:-1], (*counters, 0), counters * 2]
    below = [
        (*counters[:index], wrong, *counters[index + 1 :])
        for index, n in enumerate(counters)
        for wrong in [*range(max(0, n - _NEIGHBOURS), n), -1, 2**64]
    ]
    for wrong in lengths + below:
        assert not puzzle.check(challenge, Solution(wrong)), f"{wrong} is accepted, {counters} is right"
    other = replace(challenge, puzzle=challenge.puzzle + "x")
    assert not puzzle.check(other, found), "a challenge of another puzzle is accepted"


def _check_seeds_are_unique(challenges: list[Challenge]) -> None:
    """Every part of every challenge has another seed, of 16 bytes."""
    seeds = [part.seed for challenge in challenges for part in challenge.parts]
    assert len(set(seeds)) == len(seeds), "a seed occurs twice"
    assert all(len(seed) == 16 for seed in seeds), "a seed is not 16 bytes long"


def _check_bounds(made: list[tuple[Challenge, Solution | None]], disclose: str | None) -> None:
    """Every bound is above its secret; coarse bounds are powers of two; blind bounds are all equal."""
    bounds = [part.bound for challenge, _ in made for part in challenge.parts]
    assert min(bounds) >= 1, "a bound is below 1"
    for challenge, solution in made:
        counters = solution.counters if solution is not None else ()
        for part, n in zip(challenge.parts, counters, strict=False):
            assert 0 <= n < part.bound, f"the secret {n} is not below its bound {part.bound}"
    if disclose == "coarse":
        assert all(bound & (bound - 1) == 0 for bound in bounds), "a coarse bound is not a power of two"
    if disclose == "blind":
        assert len(set(bounds)) == 1, "blind bounds differ"
        assert {len(challenge.parts) for challenge, _ in made} == {1}, "the number of parts depends on the work"


def _check_mean(
    puzzle: Puzzle, made: list[tuple[Challenge, Solution | None]], work: Work, profile: MachineProfile
) -> None:
    """The mean number of evaluations is what the work states, within 4.5 standard errors.

    A solver counts up from 0 in every part, so the solution gives the number of evaluations.
    """
    needed = [
        _evaluations(challenge, solution or puzzle.solve(challenge, SolveControl())) for challenge, solution in made
    ]
    stated = statistics.fmean(work.seconds * profile.rate(challenge.memory_kib) for challenge, _ in made)
    error = statistics.stdev(needed) / math.sqrt(len(needed))
    assert abs(statistics.fmean(needed) - stated) <= _SIGMAS * error + 1e-9, (
        f"the work states {stated:.4g} evaluations, the puzzles need {statistics.fmean(needed):.4g} ± {error:.2g}"
    )


def _evaluations(challenge: Challenge, solution: Solution) -> int:
    assert len(solution.counters) == len(challenge.parts), "the numbers of counters and parts differ"
    return sum(n + 1 for n in solution.counters)
