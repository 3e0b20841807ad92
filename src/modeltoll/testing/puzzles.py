"""Conformance suite for puzzles: ``check_puzzle(puzzle, profile, rng, disclose=...)``."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from modeltoll.names import HASHCASHES
from modeltoll.puzzle.proof import proof_of
from modeltoll.puzzle.puzzle import Puzzle, SolveControl, published_wait
from modeltoll.records import MachineProfile, Work
from modeltoll.toll_records import Challenge, Solution

if TYPE_CHECKING:
    import random

__all__ = ["check_puzzle"]

_NEIGHBOURS = 8  # wrong counters tried below each right one
_SAME_WAIT = 12  # works that publish the same wait, whose challenges are compared
_LEAST_SUSPECTED_KIB = 8 << 10  # a caller under suspicion may be asked for so much, whatever it offers
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
        evaluations: expected evaluations per puzzle, at its least memory or of SHA-256, 1 or more. Some puzzles are
            solved, so keep it small.
        draws: number of puzzles that are made.
        disclose: what the puzzle claims to publish of its work; None for puzzles that publish all of it (hashcash).

    Raises:
        AssertionError: the puzzle violates the protocol; the message says how.
    """
    template, _ = puzzle.make(Work(0.0, 1, 0.0), rng)
    seconds = evaluations / profile.rate(template.memory_kib)
    work = Work(seconds, 1, seconds)
    made = [puzzle.make(work, rng) for _ in range(draws)]
    _check_names_and_memory(puzzle, work, rng)
    _check_making(puzzle, work)
    _check_only_the_solution_is_accepted(puzzle, *made[0])
    _check_seeds_are_unique([challenge for challenge, _ in made])
    _check_proofs(puzzle, made)
    _check_bounds(made)
    if disclose is not None:
        _check_shape(puzzle, work, disclose, rng)
    _check_mean(puzzle, made, work, profile)


def _check_making(puzzle: Puzzle, work: Work) -> None:
    """The time that making takes is known before, whatever the work and the client's memory."""
    for each in (work, replace(work, seconds=0.0), replace(work, seconds=1e3 * work.seconds)):
        for limited in (puzzle, puzzle.within(0)):
            assert 0.0 <= limited.making_seconds(each) < math.inf, "the time of making is no number of seconds"


def _check_names_and_memory(puzzle: Puzzle, work: Work, rng: random.Random) -> None:
    """A challenge has its puzzle's name, and takes no more memory than the client has, except at the smallest size."""
    least = puzzle.within(0).make(work, rng)[0].memory_kib
    for memory_kib in (0, 256, 700, 1024, 4096, 65536):
        challenge, _ = puzzle.within(memory_kib).make(work, rng)
        assert challenge.puzzle == puzzle.name, "a challenge has another name than its puzzle"
        assert challenge.memory_kib <= max(memory_kib, least), (
            f"a challenge takes more than the client's {memory_kib} KiB"
        )
        suspected, _ = puzzle.within(memory_kib).make(replace(work, surcharge=2.0), rng)
        assert suspected.memory_kib <= max(memory_kib, least, _LEAST_SUSPECTED_KIB), (
            f"under suspicion a challenge takes more than the client's {memory_kib} KiB"
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


def _check_proofs(puzzle: Puzzle, made: list[tuple[Challenge, Solution | None]]) -> None:
    """The maker and the solver derive the same proof; it is of one toll alone, and nothing published is part of it.

    So a token cannot be redeemed from what the toll shows. Hashcash has no secret and is redeemed by its counters.
    """
    if puzzle.name in HASHCASHES:
        assert not any(solution and solution.secret for _, solution in made), "hashcash has no secret"
        return
    first, known = made[0]
    assert known is not None, "the maker does not know the solution, so that it can neither seal nor make a token"
    found = puzzle.solve(first, SolveControl())
    solved = [(first, found), *((challenge, solution) for challenge, solution in made if solution is not None)]
    for _, solution in solved:
        assert len(solution.secret) == 16 * len(solution.counters), "a secret is not 16 bytes per part"
    assert proof_of(found) == proof_of(known), "the solver and the maker derive different proofs"
    assert len({proof_of(solution) for _, solution in solved}) == len(made), "two tolls have one proof"
    for challenge, solution in solved:
        _check_secret_is_not_published(challenge, solution)


def _check_secret_is_not_published(challenge: Challenge, solution: Solution) -> None:
    secret = solution.secret
    published = b"".join([part.seed + part.check for part in challenge.parts]) + challenge.modulus
    for half in [secret[at : at + 16] for at in range(0, len(secret), 16)]:
        assert half not in published, "a secret is published in its challenge"
        assert any(half), "a secret is zero"
    proof = proof_of(solution)
    assert proof not in published, "a proof is published in its challenge"


def _check_bounds(made: list[tuple[Challenge, Solution | None]]) -> None:
    """Every bound is above its counter."""
    assert min(part.bound for challenge, _ in made for part in challenge.parts) >= 1, "a bound is below 1"
    for challenge, solution in made:
        counters = solution.counters if solution is not None else ()
        for part, n in zip(challenge.parts, counters, strict=False):
            assert 0 <= n < part.bound, f"the counter {n} is not below its bound {part.bound}"


def _check_shape(puzzle: Puzzle, work: Work, disclose: Literal["exact", "coarse", "blind"], rng: random.Random) -> None:
    """Challenges of works that publish the same wait have the same shape: memory, parts and bounds."""
    if disclose == "exact":
        return
    if disclose == "coarse":
        half = published_wait(work.seconds, "coarse") / 2  # the works above half of it, and it, publish the same
        seconds = [
            half * share for share in (0.5001, *(0.5 + step / _SAME_WAIT / 2 for step in range(1, _SAME_WAIT + 1)))
        ]
    else:
        seconds = [0.0, *(work.seconds * 2.0**step for step in range(-_SAME_WAIT // 2, _SAME_WAIT // 2))]
    for suspicion in (1.0, 2.0):
        shapes = {
            _shape(puzzle.make(Work(second, 1, second, surcharge=suspicion), rng)[0])
            for second in seconds
            for _ in range(4)
        }
        assert len(shapes) == 1, f"works that publish the same wait have challenges of {len(shapes)} shapes"


def _shape(challenge: Challenge) -> tuple[object, ...]:
    """All of a challenge but its random members."""
    bounds = tuple(part.bound for part in challenge.parts)
    checks = tuple(len(part.check) for part in challenge.parts)
    moduli = len(challenge.modulus)
    return challenge.puzzle, bounds, checks, challenge.memory_kib, challenge.passes, challenge.lanes, moduli


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
