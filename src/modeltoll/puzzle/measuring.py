"""What this machine's puzzles take: profiles that give a reference second its meaning, and rates for a person to read.

Rates are those of the solver itself, checks included, found by letting it work at puzzles that have no solution.
"""

from __future__ import annotations

import math
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from modeltoll.errors import SolveStopped
from modeltoll.puzzle.counter import LADDER, PARTS, PARTS_ABOVE, Argon2idCounter, Sha256Counter
from modeltoll.puzzle.evaluation import ARGON2ID, HASHCASH, LANES, PASSES, SEED_BYTES, SHA256
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.puzzle import Puzzle, Watch
from modeltoll.puzzle.scan import CHECK_BYTES
from modeltoll.puzzle.solve import solve
from modeltoll.records import Challenge, MachineProfile, Part, Work

if TYPE_CHECKING:
    import random

__all__ = ["MEASURED_LADDER", "PuzzleRate", "measure_profile", "measure_puzzles", "measure_rate"]

MEASURED_LADDER = LADDER[:9]  # 256 KiB to 64 MiB
_ENDLESS = 2**52  # counters: no machine comes to their end
_FEWEST = 8  # evaluations that a rate is taken over, however long they last
_REPEATS = 7  # makes and checks, of which the median counts
_DRAWS = 400  # puzzles behind a coefficient of variation
_SMALL, _LARGE = 48.0, 256.0  # expected evaluations of a puzzle of one part, and of four


@dataclass(frozen=True, slots=True)
class PuzzleRate:
    """One row of ``bench-puzzle``. ``make_ms`` and ``check_ms`` are medians on one core.

    ``cv`` is the coefficient of variation of the evaluations that a puzzle needs, over 400 small puzzles;
    ``cv_theory`` is 1 / sqrt(3 parts) for hidden counters (a sum of uniforms) and 1 for hashcash (geometric).
    """

    puzzle: str
    parameters: str
    cores: int
    evaluations_per_second: float
    make_ms: float
    check_ms: float
    cv: float
    cv_theory: float


class _Meter:
    """Hears the solver's progress, and has it cancelled when enough was heard. Starting up does not count."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._first: tuple[int, float] | None = None
        self._evaluations = 0
        self._elapsed = 0.0

    def hear(self, done: int, _most: int) -> None:
        if done == 0:
            return
        now = self._clock()
        if self._first is None:
            self._first = (done, now)
        self._evaluations = done - self._first[0]
        self._elapsed = now - self._first[1]

    def full(self) -> bool:
        return self._elapsed >= self._seconds and self._evaluations >= _FEWEST

    def rate(self) -> float:
        return self._evaluations / self._elapsed


def measure_rate(puzzle: str, memory_kib: int, cores: int, seconds: float, clock: Callable[[], float]) -> float:
    """Evaluations per second of the solver on so many cores, over at least ``seconds`` of ``clock`` (> 0).

    Raises:
        SolveStopped: the machine gives no memory or no helper process.
    """
    if seconds <= 0:
        raise ValueError("a rate is measured over more than 0 seconds")
    check = b"" if puzzle == HASHCASH else bytes(CHECK_BYTES)
    costs = (PASSES, LANES) if puzzle == ARGON2ID else (0, 0)
    challenge = Challenge(puzzle, (Part(bytes(SEED_BYTES), _ENDLESS, check),), memory_kib, *costs)
    meter = _Meter(seconds, clock)
    try:
        solve(challenge, Watch(progress=meter.hear, cancelled=meter.full, cores=cores, clock=clock))
    except SolveStopped:
        if not meter.full():
            raise
    return meter.rate()


def measure_profile(
    seconds_per_rung: float, name: str, clock: Callable[[], float], ladder: Sequence[int] = MEASURED_LADDER
) -> MachineProfile:
    """The rates of one core of this machine. ``clock`` is in seconds, ``time.perf_counter`` outside of tests.

    Raises:
        SolveStopped: the machine does not give the memory of a rung.
    """
    source = (
        f"measured over {seconds_per_rung:g} s a rung with argon2-cffi {version('argon2-cffi')} "
        f"on {platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    sha256 = measure_rate(SHA256, 0, 1, seconds_per_rung, clock)
    argon2id = {memory: measure_rate(ARGON2ID, memory, 1, seconds_per_rung, clock) for memory in ladder}
    return MachineProfile(name, source, sha256, argon2id)


@dataclass(frozen=True, slots=True)
class _Case:
    """A puzzle at one shape. ``twin`` has the same shape and draws alike, but is cheap to make."""

    puzzle: Puzzle
    twin: Puzzle
    parameters: str
    memory_kib: int
    parts: int

    @property
    def work(self) -> Work:
        evaluations = _SMALL if self.parts == 1 else _LARGE
        return Work(evaluations, 1, evaluations)

    @property
    def cv_theory(self) -> float:
        return 1.0 if self.puzzle.name == HASHCASH else 1 / math.sqrt(3 * self.parts)


def _cases(ladder: Sequence[int]) -> Iterator[_Case]:
    """Each rung with one part, as the ladder leaves it; the top rung and SHA-256 with four parts too."""
    assert _SMALL <= PARTS_ABOVE < _LARGE
    unit = MachineProfile("unit", "an evaluation a second", 1.0, dict.fromkeys(ladder, 1.0))
    rungs = {memory: Argon2idCounter(unit, ladder=(memory,), max_memory_kib=memory) for memory in ladder}
    shapes = [(memory, 1) for memory in ladder] + [(memory, PARTS) for memory in ladder[-1:]]
    for memory, parts in shapes:
        yield _Case(rungs[memory], rungs[ladder[0]], f"m={memory}KiB t=1 p=1 parts={parts}", memory, parts)
    fast = Sha256Counter(unit)
    for parts in (1, PARTS):
        yield _Case(fast, fast, f"parts={parts}", 0, parts)
    paper = Hashcash(unit)
    yield _Case(paper, paper, "SHA-256", 0, 1)


def measure_puzzles(
    seconds: float,
    cores: Sequence[int],
    clock: Callable[[], float],
    rng: random.Random,
    ladder: Sequence[int] = MEASURED_LADDER,
) -> list[PuzzleRate]:
    """A row for every puzzle, every rung of the ladder (KiB, ascending) and every number of cores.

    Each rate is taken over ``seconds`` of ``clock``, in seconds.

    Raises:
        SolveStopped: the machine gives no memory or no helper process.
    """
    rows: list[PuzzleRate] = []
    rates: dict[tuple[str, int, int], float] = {}
    for case in _cases(ladder):
        make_ms, check_ms = _times(case, clock, rng)
        cv = _variation(case, rng)
        for count in cores:
            key = (case.puzzle.name, case.memory_kib, count)
            if key not in rates:
                rates[key] = measure_rate(*key, seconds, clock)
            rows.append(
                PuzzleRate(case.puzzle.name, case.parameters, count, rates[key], make_ms, check_ms, cv, case.cv_theory)
            )
    return rows


def _times(case: _Case, clock: Callable[[], float], rng: random.Random) -> tuple[float, float]:
    making: list[float] = []
    checking: list[float] = []
    for _ in range(_REPEATS):
        begin = clock()
        challenge, solution = case.puzzle.make(case.work, rng)
        making.append(clock() - begin)
        solution = solution or case.puzzle.solve(challenge, Watch())
        begin = clock()
        case.puzzle.check(challenge, solution)
        checking.append(clock() - begin)
    return 1000 * statistics.median(making), 1000 * statistics.median(checking)


def _variation(case: _Case, rng: random.Random) -> float:
    """Of the evaluations needed, known from the solution: a solver counts up from 0 in every part."""
    needed: list[int] = []
    for _ in range(_DRAWS):
        challenge, solution = case.twin.make(case.work, rng)
        solution = solution or case.twin.solve(challenge, Watch())
        needed.append(sum(n + 1 for n in solution.counters))
    return statistics.stdev(needed) / statistics.fmean(needed)
