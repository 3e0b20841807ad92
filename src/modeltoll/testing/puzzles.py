"""The law of the puzzle room: what every ``Puzzle`` must keep, in one call."""

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

_NEIGHBOURS = 8  # wrong counters tried around each right one
_SIGMAS = 4.5  # of the mean: a right puzzle fails once in some 150,000 seeds


def check_puzzle(
    puzzle: Puzzle,
    profile: MachineProfile,
    rng: random.Random,
    *,
    evaluations: float = 40.0,
    draws: int = 200,
    disclose: Literal["exact", "coarse", "blind"] | None = None,
) -> None:
    """Assert that a puzzle made for ``profile`` keeps its promises, at work of about so many evaluations.

    ``evaluations`` are meant at 256 KiB, or of SHA-256, and are at least 1; keep them small, for some puzzles are
    solved. ``disclose`` says what a hidden counter publishes; None where the puzzle hides nothing (hashcash).

    Raises:
        AssertionError: a promise is broken.
    """
    shape, _ = puzzle.make(Work(0.0, 1, 0.0), rng)
    seconds = evaluations / profile.rate(shape.memory_kib)
    work = Work(seconds, 1, seconds)
    made = [puzzle.make(work, rng) for _ in range(draws)]
    check_names_and_memory(puzzle, work, rng)
    check_only_the_solution_solves(puzzle, *made[0])
    check_seeds_never_repeat([challenge for challenge, _ in made])
    check_bounds(made, disclose)
    check_mean(puzzle, made, work, profile)


def check_names_and_memory(puzzle: Puzzle, work: Work, rng: random.Random) -> None:
    """A challenge bears its puzzle's name; what a client has of memory is not exceeded, but for the first rung."""
    least = puzzle.within(0).make(work, rng)[0].memory_kib
    for memory_kib in (0, 256, 700, 1024, 4096, 65536):
        challenge, _ = puzzle.within(memory_kib).make(work, rng)
        assert challenge.puzzle == puzzle.name, "a challenge bears another name than its puzzle"
        assert challenge.memory_kib <= max(memory_kib, least), f"more memory than the {memory_kib} KiB of the client"


def check_only_the_solution_solves(puzzle: Puzzle, challenge: Challenge, known: Solution | None) -> None:
    """What the solver finds is accepted; nothing before it is, and no part can be skipped, doubled or exchanged."""
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
    foreign = replace(challenge, puzzle=challenge.puzzle + "x")
    assert not puzzle.check(foreign, found), "a challenge of another puzzle is accepted"


def check_seeds_never_repeat(challenges: list[Challenge]) -> None:
    """Every part of every challenge has a seed of its own, of 16 bytes."""
    seeds = [part.seed for challenge in challenges for part in challenge.parts]
    assert len(set(seeds)) == len(seeds), "a seed occurs twice"
    assert all(len(seed) == 16 for seed in seeds), "a seed is not 16 bytes long"


def check_bounds(made: list[tuple[Challenge, Solution | None]], disclose: str | None) -> None:
    """No bound is at or below its secret; a coarse one is a power of two; a blind one is always the same."""
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
        assert {len(challenge.parts) for challenge, _ in made} == {1}, "the number of parts tells of the work"


def check_mean(
    puzzle: Puzzle, made: list[tuple[Challenge, Solution | None]], work: Work, profile: MachineProfile
) -> None:
    """The evaluations that the puzzles need have the mean that the work asks for, within 4.5 standard errors.

    A solver counts up from 0 in every part, so a known solution tells how many it needs.
    """
    needed = [
        _evaluations(challenge, solution or puzzle.solve(challenge, SolveControl())) for challenge, solution in made
    ]
    asked = statistics.fmean(work.seconds * profile.rate(challenge.memory_kib) for challenge, _ in made)
    error = statistics.stdev(needed) / math.sqrt(len(needed))
    assert abs(statistics.fmean(needed) - asked) <= _SIGMAS * error + 1e-9, (
        f"{asked:.4g} evaluations were asked for, {statistics.fmean(needed):.4g} ± {error:.2g} are needed"
    )


def _evaluations(challenge: Challenge, solution: Solution) -> int:
    assert len(solution.counters) == len(challenge.parts), "not one counter per part"
    return sum(n + 1 for n in solution.counters)
