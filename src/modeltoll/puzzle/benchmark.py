"""Benchmark puzzles on this machine: machine profiles, which define the reference second, and tables of rates.

Rates are those of the solver, including its checks, measured on puzzles without a solution. A profile has the rates
without native kernels (argon2-cffi, hashlib, Python's ``pow``), even if this machine has faster ones: no caller then waits longer
than the tariff intends, and callers with native kernels wait less.
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
from modeltoll.puzzle.functions import ARGON2ID, CHECK_BYTES, HASHCASHES, LANES, PASSES, SEED_BYTES, SHA256, TIMELOCK
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.native_kernels import Kernel, kernels
from modeltoll.puzzle.puzzle import Puzzle, SolveControl
from modeltoll.puzzle.solver import solve, solve_timelock
from modeltoll.puzzle.squaring import MODULUS_BYTES, Squarer, squarers
from modeltoll.puzzle.timelock import TimeLock, Trapdoor
from modeltoll.records import MachineProfile, Work
from modeltoll.toll_records import Challenge, Part, Solution

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

MEASURED_LADDER = LADDER[:11]  # 64 KiB to 64 MiB, the memory for callers without suspicion
_UNREACHABLE = 2**52  # a range of counters that no machine exhausts
_MIN_EVALUATIONS = 8  # evaluations per measurement, however long they take
_REPEATS = 7  # of making and checking, for the median
_DRAWS, _FEW_DRAWS = 1000, 20  # puzzles per coefficient of variation; few where it is 0 by design
_SMALL, _LARGE = 48.0, 256.0  # expected evaluations of a puzzle of one part, and of four parts


@dataclass(frozen=True, slots=True)
class PuzzleRate:
    """One row of ``bench-puzzle``. ``make_ms``, ``check_ms``: medians in milliseconds on one core.

    ``cv``: coefficient of variation of the evaluations per solution, over 1000 small puzzles. ``cv_theory``:
    1 / sqrt(3 parts) for hidden counters (a sum of uniforms), 1 for hashcash (geometric), 0 for time locks (constant).
    """

    puzzle: str
    parameters: str
    cores: int
    evaluations_per_second: float
    make_ms: float
    check_ms: float
    cv: float
    cv_theory: float


class _RateMeter:
    """Measures the rate of a solver from its progress reports, after the first one, and cancels it when done."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._first: tuple[int, float] | None = None
        self._evaluations = 0
        self._elapsed = 0.0

    def record(self, done: int, _most: int) -> None:
        if done == 0:
            return
        now = self._clock()
        if self._first is None:
            self._first = (done, now)
        self._evaluations = done - self._first[0]
        self._elapsed = now - self._first[1]

    def done(self) -> bool:
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
    """Evaluations per second of the solver on ``cores`` cores, over at least ``seconds`` (> 0) of ``clock``.

    ``kernel`` defaults to the solver's choice. For time locks use ``measure_squarings``.

    Raises:
        SolveStopped: the memory cannot be allocated, or a helper process cannot start.
    """
    check = b"" if puzzle in HASHCASHES else bytes(CHECK_BYTES)
    costs = (PASSES, LANES) if puzzle == ARGON2ID else (0, 0)
    challenge = Challenge(puzzle, (Part(bytes(SEED_BYTES), _UNREACHABLE, check),), memory_kib, *costs)
    return _measured_rate(lambda control: solve(challenge, control, kernel), cores, seconds, clock)


def measure_squarings(squarer: Squarer, seconds: float, clock: Callable[[], float]) -> float:
    """Squarings per second modulo 2048 bits on one core, over at least ``seconds`` (> 0) of ``clock``."""
    part = Part(bytes(SEED_BYTES), _UNREACHABLE, bytes(CHECK_BYTES))
    challenge = Challenge(TIMELOCK, (part,), modulus=b"\xff" * MODULUS_BYTES)
    return _measured_rate(lambda control: solve_timelock(challenge, control, squarer), 1, seconds, clock)


def _measured_rate(
    work: Callable[[SolveControl], Solution], cores: int, seconds: float, clock: Callable[[], float]
) -> float:
    if seconds <= 0:
        raise ValueError("the seconds of a measurement must be above 0")
    meter = _RateMeter(seconds, clock)
    try:
        work(SolveControl(progress=meter.record, cancelled=meter.done, cores=cores, clock=clock))
    except SolveStopped:
        if not meter.done():
            raise
    return meter.rate()


def measure_profile(
    seconds_per_rung: float, name: str, clock: Callable[[], float], ladder: Sequence[int] = MEASURED_LADDER
) -> MachineProfile:
    """Measure the rates of one core of this machine.

    Args:
        seconds_per_rung: least duration of each measurement.
        name: of the profile.
        clock: seconds; ``time.perf_counter`` outside of tests.
        ladder: memory of argon2id in KiB.

    Raises:
        SolveStopped: the memory of a rung cannot be allocated.
    """
    source = (
        f"measured over {seconds_per_rung:g} s a rung with argon2-cffi {version('argon2-cffi')}, hashlib and pow "
        f"on {platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    python = native_kernels.PYTHON
    sha256 = measure_rate(SHA256, 0, 1, seconds_per_rung, clock, python)
    argon2id = {memory: measure_rate(ARGON2ID, memory, 1, seconds_per_rung, clock, python) for memory in ladder}
    squarings = measure_squarings(squaring.PYTHON, seconds_per_rung, clock)
    return MachineProfile(name, source, sha256, argon2id, squarings)


_Rate = Callable[[int, float, Callable[[], float]], float]  # (cores, seconds, clock) -> evaluations per second


@dataclass(frozen=True, slots=True)
class _Case:
    """A puzzle of one shape. ``cheap_twin``: same shape and distribution, but cheap to make and to solve."""

    puzzle: Puzzle
    cheap_twin: Puzzle
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
    known: dict[int, float] = {}  # by cores; the shapes of one puzzle share it

    def rate(cores: int, seconds: float, clock: Callable[[], float]) -> float:
        if cores not in known:
            known[cores] = measure_rate(puzzle, memory_kib, cores, seconds, clock, kernel)
        return known[cores]

    return rate


def _squaring_rate(squarer: Squarer, _cores: int, seconds: float, clock: Callable[[], float]) -> float:
    return measure_squarings(squarer, seconds, clock)


def _cases(ladder: Sequence[int]) -> Iterator[_Case]:
    """Each rung and each kernel with one part; the top rung and the fastest kernel also with four parts."""
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
    lock = TimeLock(unit, Trapdoor.generate())
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
    """Measure every puzzle, every rung of the ladder (KiB, ascending), every kernel and every number of cores.

    Each measurement takes at least ``seconds`` of ``clock``, which is in seconds.

    Raises:
        SolveStopped: the memory cannot be allocated, or a helper process cannot start.
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
    """Coefficient of variation of the evaluations per solution; the solver counts up from 0 in every part."""
    needed: list[int] = []
    for _ in range(case.draws):
        challenge, _ = case.cheap_twin.make(case.work, rng)
        needed.append(sum(n + 1 for n in case.cheap_twin.solve(challenge, SolveControl()).counters))
    return statistics.stdev(needed) / statistics.fmean(needed)
