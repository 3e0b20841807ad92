"""What this machine's puzzles take: profiles that give a reference second its meaning, and rates for a person to read.

Rates are those of the solver itself, checks included, found by letting it work at puzzles that have no solution.
A profile holds the rates of a plain install (hashlib, Python's ``pow``), whatever faster ones this machine has: a
caller never waits longer than the tariff means, and who has a compiled kernel waits less.
"""

from __future__ import annotations

import math
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from modeltoll.errors import SolveStopped
from modeltoll.puzzle import native_kernels, squaring
from modeltoll.puzzle.counter import LADDER, PARTS, PARTS_ABOVE, Argon2idCounter, Sha256Counter
from modeltoll.puzzle.functions import ARGON2ID, HASHCASHES, LANES, PASSES, SEED_BYTES, SHA256, TIMELOCK
from modeltoll.puzzle.hash_scan import CHECK_BYTES
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.native_kernels import Kernel, kernels
from modeltoll.puzzle.puzzle import Puzzle, SolveControl
from modeltoll.puzzle.solver import solve, solve_timelock
from modeltoll.puzzle.squaring import MODULUS_BYTES, Squarer, squarers
from modeltoll.puzzle.timelock import TimeLock, Trapdoor
from modeltoll.records import Challenge, MachineProfile, Part, Solution, Work

if TYPE_CHECKING:
    import random

__all__ = [
    "MEASURED_LADDER",
    "PuzzleRate",
    "measure_profile",
    "measure_puzzles",
    "measure_rate",
    "measure_squarings",
]

MEASURED_LADDER = LADDER[:9]  # 256 KiB to 64 MiB, what a caller meets who is not under suspicion
_UNREACHABLE = 2**52  # counters: no machine comes to their end
_MIN_EVALUATIONS = 8  # evaluations that a rate is taken over, however long they last
_REPEATS = 7  # makes and checks, of which the median counts
_DRAWS, _FEW_DRAWS = 1000, 20  # puzzles behind a coefficient of variation; few where it is 0 by design
_SMALL, _LARGE = 48.0, 256.0  # expected evaluations of a puzzle of one part, and of four


@dataclass(frozen=True, slots=True)
class PuzzleRate:
    """One row of ``bench-puzzle``. ``make_ms`` and ``check_ms`` are medians on one core.

    ``cv`` is the coefficient of variation of the evaluations that a puzzle needs, over 1000 small puzzles;
    ``cv_theory`` is 1 / sqrt(3 parts) for hidden counters (a sum of uniforms), 1 for hashcash (geometric) and 0 for
    time locks (all of one length).
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
        return self._elapsed >= self._seconds and self._evaluations >= _MIN_EVALUATIONS

    def rate(self) -> float:
        return self._evaluations / self._elapsed


def measure_rate(
    puzzle: str,
    memory_kib: int,
    cores: int,
    seconds: float,
    clock: Callable[[], float],
    kernel: Kernel | None = None,
) -> float:
    """Evaluations per second of the solver on so many cores, over at least ``seconds`` of ``clock`` (> 0).

    ``kernel`` is the one that the solver would choose, if not given. Time locks: ``measure_squarings``.

    Raises:
        SolveStopped: the machine gives no memory or no helper process.
    """
    check = b"" if puzzle in HASHCASHES else bytes(CHECK_BYTES)
    costs = (PASSES, LANES) if puzzle == ARGON2ID else (0, 0)
    challenge = Challenge(puzzle, (Part(bytes(SEED_BYTES), _UNREACHABLE, check),), memory_kib, *costs)
    return _measured_rate(lambda watch: solve(challenge, watch, kernel), cores, seconds, clock)


def measure_squarings(squarer: Squarer, seconds: float, clock: Callable[[], float]) -> float:
    """Squarings per second modulo 2048 bits; a second core would not help."""
    part = Part(bytes(SEED_BYTES), _UNREACHABLE, bytes(CHECK_BYTES))
    challenge = Challenge(TIMELOCK, (part,), modulus=b"\xff" * MODULUS_BYTES)
    return _measured_rate(lambda watch: solve_timelock(challenge, watch, squarer), 1, seconds, clock)


def _measured_rate(
    work: Callable[[SolveControl], Solution], cores: int, seconds: float, clock: Callable[[], float]
) -> float:
    if seconds <= 0:
        raise ValueError("a rate is measured over more than 0 seconds")
    meter = _Meter(seconds, clock)
    try:
        work(SolveControl(progress=meter.hear, cancelled=meter.full, cores=cores, clock=clock))
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
        f"measured over {seconds_per_rung:g} s a rung with argon2-cffi {version('argon2-cffi')}, hashlib and pow "
        f"on {platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    sha256 = measure_rate(SHA256, 0, 1, seconds_per_rung, clock, native_kernels.PYTHON)
    argon2id = {memory: measure_rate(ARGON2ID, memory, 1, seconds_per_rung, clock) for memory in ladder}
    squarings = measure_squarings(squaring.PYTHON, seconds_per_rung, clock)
    return MachineProfile(name, source, sha256, argon2id, squarings)


_Rate = Callable[[int, float, Callable[[], float]], float]  # (cores, seconds, clock) -> evaluations per second


@dataclass(frozen=True, slots=True)
class _Case:
    """A puzzle at one shape. ``twin`` has the same shape and draws alike, but is cheap to make and to solve."""

    puzzle: Puzzle
    twin: Puzzle
    parameters: str
    rate: _Rate
    parts: int = 1
    draws: int = _DRAWS
    theory: float | None = field(default=None)

    @property
    def work(self) -> Work:
        evaluations = _SMALL if self.parts == 1 else _LARGE
        return Work(evaluations, 1, evaluations)

    @property
    def cv_theory(self) -> float:
        return 1 / math.sqrt(3 * self.parts) if self.theory is None else self.theory


def _counter_rate(puzzle: str, memory_kib: int, kernel: Kernel | None = None) -> _Rate:
    known: dict[int, float] = {}  # by cores: shapes of one puzzle share it

    def rate(cores: int, seconds: float, clock: Callable[[], float]) -> float:
        if cores not in known:
            known[cores] = measure_rate(puzzle, memory_kib, cores, seconds, clock, kernel)
        return known[cores]

    return rate


def _squaring_rate(squarer: Squarer, _cores: int, seconds: float, clock: Callable[[], float]) -> float:
    return measure_squarings(squarer, seconds, clock)


def _cases(ladder: Sequence[int]) -> Iterator[_Case]:
    """Each rung and each kernel with one part; the top rung and the fastest kernel with four parts too."""
    assert _SMALL <= PARTS_ABOVE < _LARGE
    unit = MachineProfile("unit", "an evaluation a second", 1.0, dict.fromkeys(ladder, 1.0), 1.0)
    fast = Sha256Counter(unit)
    for memory in ladder:
        slow, rate = Argon2idCounter(unit, ladder=(memory,), max_memory_kib=memory), _counter_rate(ARGON2ID, memory)
        for parts in (1, PARTS) if memory == ladder[-1] else (1,):
            yield _Case(slow, fast, f"m={memory}KiB t=1 p=1 parts={parts}", rate, parts)
    for number, here in enumerate(kernels()):
        rate = _counter_rate(SHA256, 0, here)
        for parts in (1, PARTS) if number == 0 else (1,):
            yield _Case(fast, fast, f"kernel={here.name} parts={parts}", rate, parts)
    for digest in ("sha256", "sha1"):
        paper = Hashcash(unit, digest=digest)
        yield _Case(paper, paper, digest, _counter_rate(paper.name, 0), theory=1.0)
    lock = TimeLock(unit, Trapdoor.draw())
    for squarer in squarers():
        rate = partial(_squaring_rate, squarer)
        yield _Case(lock, lock, f"2048 bits, {squarer.name}", rate, draws=_FEW_DRAWS, theory=0.0)


def measure_puzzles(
    seconds: float,
    cores: Sequence[int],
    clock: Callable[[], float],
    rng: random.Random,
    ladder: Sequence[int] = LADDER,
) -> list[PuzzleRate]:
    """A row for every puzzle, every rung of the ladder (KiB, ascending), every kernel and every number of cores.

    Each rate is taken over ``seconds`` of ``clock``, in seconds.

    Raises:
        SolveStopped: the machine gives no memory or no helper process.
    """
    rows: list[PuzzleRate] = []
    for case in _cases(ladder):
        make_ms, check_ms = _times(case, clock, rng)
        cv = _variation(case, rng)
        rows += [
            PuzzleRate(
                case.puzzle.name,
                case.parameters,
                count,
                case.rate(count, seconds, clock),
                make_ms,
                check_ms,
                cv,
                case.cv_theory,
            )
            for count in cores
        ]
    return rows


def _times(case: _Case, clock: Callable[[], float], rng: random.Random) -> tuple[float, float]:
    making: list[float] = []
    checking: list[float] = []
    for _ in range(_REPEATS):
        begin = clock()
        challenge, solution = case.puzzle.make(case.work, rng)
        making.append(clock() - begin)
        solution = solution or case.puzzle.solve(challenge, SolveControl())
        begin = clock()
        case.puzzle.check(challenge, solution)
        checking.append(clock() - begin)
    return 1000 * statistics.median(making), 1000 * statistics.median(checking)


def _variation(case: _Case, rng: random.Random) -> float:
    """Of the evaluations that solving took: the solver counts up from 0 in every part."""
    needed: list[int] = []
    for _ in range(case.draws):
        challenge, _ = case.twin.make(case.work, rng)
        needed.append(sum(n + 1 for n in case.twin.solve(challenge, SolveControl()).counters))
    return statistics.stdev(needed) / statistics.fmean(needed)
