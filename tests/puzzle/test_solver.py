"""The laws of the solver."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import threading
from _thread import start_new_thread
from dataclasses import replace

import argon2.exceptions
import pytest

from modeltoll import wire, wire_challenge, wire_messages
from modeltoll.errors import SolveStopped, TollMalformed
from modeltoll.puzzle import functions, proof, searchers, squaring
from modeltoll.puzzle import solver as solving
from modeltoll.puzzle.counter import Argon2idCounter, Sha256Counter
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.native_kernels import PYTHON, kernels
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.registry import PUZZLES
from modeltoll.puzzle.solver import solve
from modeltoll.records import MachineProfile, Work
from modeltoll.toll_records import Challenge, Part

PROFILE = MachineProfile("test", "made up", 1000.0, {256: 1000.0})
ARGON2ID = Argon2idCounter(PROFILE, max_memory_kib=256)
HOPELESS = Part(bytes(16), 2**52, bytes(16))  # no counter has this check
ENDLESS = {
    "sha256": Challenge("sha256", (HOPELESS,)),
    "hashcash": Challenge("hashcash", (Part(bytes(16), 2**53 - 1),)),
    "hashcash-sha1": Challenge("hashcash-sha1", (Part(bytes(16), 2**53 - 1),)),
    "timelock": Challenge("timelock", (HOPELESS,), modulus=b"\xff" * 256),
    "argon2id": Challenge("argon2id", (HOPELESS,), 256, 1, 1),
}


def threads():
    """How many there are; ``threading`` does not list those of the solver. Those of earlier tests may end meanwhile."""
    return len(sys._current_frames())


def soon(condition):
    """Whether the condition holds within ten seconds; a thread ends shortly after its last report."""
    return any(condition() or threading.Event().wait(0.01) for _ in range(1000))


def work(seconds):
    return Work(seconds, 1, seconds)


class Started(list):
    """The helper processes that were started."""

    @property
    def all_ended(self):
        return all(process.returncode is not None for process in self)


@pytest.fixture
def helpers(monkeypatch):
    started = Started()
    popen = subprocess.Popen

    def start(*given, **options):
        started.append(popen(*given, **options))
        return started[-1]

    monkeypatch.setattr(searchers.subprocess, "Popen", start)
    return started


def after(looks):
    """A callable that answers False so many times, and True from then on."""
    left = iter([False] * looks)
    return lambda: next(left, True)


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.12])
def test_argon2id_is_solved_on_any_number_of_cores(cores, seconds):
    challenge, solution = ARGON2ID.make(work(seconds), random.Random(1))
    assert solve(challenge, SolveControl(cores=cores)) == solution


SCANNED = [
    *itertools.product([Sha256Counter(PROFILE), Hashcash(PROFILE)], kernels()),
    (Hashcash(PROFILE, digest="sha1"), PYTHON),  # which alone knows SHA-1
]


@pytest.mark.parametrize(("puzzle", "kernel"), SCANNED, ids=lambda one: one.name)
def test_one_core_and_two_solve_the_same(puzzle, kernel, helpers):
    """Long work on two cores goes to two threads, or two processes which are gone when it is done."""
    kernel = replace(kernel, chunk=1 << 8)  # so that little work is long
    challenge, _ = puzzle.make(work(30.0), random.Random(2))
    alone = solve(challenge, SolveControl(), kernel)
    assert not helpers
    together = solve(challenge, SolveControl(cores=2), kernel)
    assert len(helpers) == (0 if kernel.threads else 2)
    assert helpers.all_ended
    assert puzzle.check(challenge, together)
    if puzzle.name == "sha256":
        assert together == alone


def test_short_work_starts_no_process(helpers):
    challenge, solution = Sha256Counter(PROFILE).make(work(1.0), random.Random(3))
    assert solve(challenge, SolveControl(cores=8)) == solution
    assert not helpers


def test_a_frozen_application_is_never_started_again(helpers, monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(SolveStopped):
        solve(ENDLESS["sha256"], SolveControl(cores=2, cancelled=after(2)), PYTHON)
    assert not helpers


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("puzzle", ENDLESS)
def test_cancelling_stops_the_work_and_leaves_nothing_behind(puzzle, cores, helpers):
    before = threads()
    with pytest.raises(SolveStopped, match="cancelled"):
        solve(ENDLESS[puzzle], SolveControl(cores=cores, cancelled=after(3)))
    assert helpers.all_ended
    assert soon(lambda: threads() <= before)


class Searching:
    """Argon2id whose search is replaced."""

    def __init__(self, search):
        self.search = search


@pytest.mark.parametrize("cores", [1, 2])
def test_cancelling_does_not_wait_for_a_long_evaluation(cores, monkeypatch):
    """One of 256 MiB takes longer than a cancelled caller waits: it ends later, and its thread with it."""
    ended, evaluating = threading.Event(), []

    def evaluate(*_):
        evaluating.append(None)
        ended.wait(60)
        evaluating.pop()

    monkeypatch.setattr(searchers, "argon2id", lambda *_, **__: Searching(evaluate))
    before = threads()
    with pytest.raises(SolveStopped, match="cancelled"):
        solve(replace(ENDLESS["argon2id"], memory_kib=262144), SolveControl(cores=cores, cancelled=after(2)))
    assert len(evaluating) == cores
    ended.set()
    assert soon(lambda: threads() <= before)


@pytest.mark.parametrize("name", [kernel.name for kernel in kernels()])
def test_a_kernel_is_polled_every_few_milliseconds(name):
    """There are so few counters between two polls that 2 M/s (plain Python: 0.1 M/s) are enough to stop within 50 ms."""
    (kernel,) = (kernel for kernel in kernels() if kernel.name == name)
    heard = []
    with pytest.raises(SolveStopped):
        solve(ENDLESS["sha256"], SolveControl(progress=lambda done, _: heard.append(done), cancelled=after(2)), kernel)
    slowest = {"python": 0.1e6, "plain": 0.5e6}.get(name, 2e6)
    assert heard[1] - heard[0] <= 0.05 * slowest


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("puzzle", ENDLESS)
def test_an_interrupt_passes_through_and_leaves_nothing_behind(puzzle, cores, helpers):
    def interrupt(done, _most):
        if done:
            raise KeyboardInterrupt

    before = threads()
    with pytest.raises(KeyboardInterrupt):
        solve(ENDLESS[puzzle], SolveControl(cores=cores, progress=interrupt))
    assert helpers.all_ended
    assert soon(lambda: threads() <= before)


# An interrupt within Popen leaves its pipes to the garbage collector, whose warning is about those.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("puzzle", ["argon2id", "sha256"])
def test_whenever_an_interrupt_comes_no_thread_goes_on(puzzle):
    """Also where it strikes while threads start or are waited for: one that went on would keep Python from ending."""

    def strike(*_):
        raise KeyboardInterrupt

    def interrupted_after(seconds):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        solve(ENDLESS[puzzle], SolveControl(cores=2))

    rng = random.Random(5)
    before, handler = threads(), signal.signal(signal.SIGALRM, strike)
    try:
        for _ in range(300):
            with pytest.raises(KeyboardInterrupt):
                interrupted_after(rng.uniform(1e-5, 2e-3))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert soon(lambda: threads() <= before)


def test_a_lack_of_threads_stops_the_work(monkeypatch):
    """The first runs when the second cannot start; it ends all the same."""
    given = iter([start_new_thread])

    def start(function, arguments):
        try:
            return next(given)(function, arguments)
        except StopIteration:
            raise RuntimeError("can't start new thread") from None

    before = threads()
    monkeypatch.setattr(solving, "start_new_thread", start)
    with pytest.raises(SolveStopped, match="thread"):
        solve(ENDLESS["argon2id"], SolveControl(cores=2))
    assert soon(lambda: threads() <= before)


def test_a_deadline_that_has_passed_stops_before_any_work(monkeypatch):
    monkeypatch.setattr(searchers, "argon2id", lambda *_, **__: Searching(lambda *_: pytest.fail("work was done")))
    with pytest.raises(SolveStopped, match="deadline"):
        solve(ENDLESS["argon2id"], SolveControl(deadline=5.0, clock=lambda: 5.0))


def test_a_deadline_is_kept_on_the_given_clock():
    ticks = iter(range(100))
    with pytest.raises(SolveStopped, match="deadline"):
        solve(ENDLESS["sha256"], SolveControl(deadline=3.0, clock=lambda: next(ticks)))
    assert next(ticks) == 4


@pytest.mark.parametrize("cores", [1, 2])
def test_a_puzzle_without_a_solution_is_malformed(cores):
    for puzzle, memory in (("sha256", 0), ("argon2id", 256)):
        costs = (1, 1) if memory else (0, 0)
        challenge = Challenge(puzzle, (Part(bytes(16), 5, bytes(16)),), memory, *costs)
        with pytest.raises(TollMalformed, match="no counter"):
            solve(challenge, SolveControl(cores=cores))


def test_nothing_at_or_above_the_bound_is_tried():
    """A bound that is one too low hides the solution: the server must publish a valid bound."""
    challenge, solution = Sha256Counter(PROFILE).make(work(0.05), random.Random(4))
    (part,), (n,) = challenge.parts, solution.counters
    assert solve(replace(challenge, parts=(replace(part, bound=n + 1),)), SolveControl()) == solution
    with pytest.raises(TollMalformed):
        solve(replace(challenge, parts=(replace(part, bound=n),)), SolveControl())


@pytest.mark.parametrize(
    "challenge",
    [
        Challenge("scrypt", (HOPELESS,)),
        Challenge("sha256", ()),
        Challenge("sha256", (HOPELESS,), 256, 1, 1),
        Challenge("argon2id", (HOPELESS,), 0, 1, 1),
        Challenge("argon2id", (HOPELESS,), 256, 3, 1),
        Challenge("argon2id", (HOPELESS,), 256, 1, 4),
    ],
)
def test_unknown_puzzles_and_parameters_are_refused(challenge):
    with pytest.raises(TollMalformed):
        solve(challenge, SolveControl())


@pytest.mark.parametrize("cores", [1, 2])
def test_a_lack_of_memory_stops_the_work(cores, monkeypatch):
    def refuse(*_given):
        raise argon2.exceptions.HashingError("Memory allocation error")

    monkeypatch.setattr(searchers, "argon2id", lambda *_, **__: Searching(refuse))
    with pytest.raises(SolveStopped, match="memory"):
        solve(ENDLESS["argon2id"], SolveControl(cores=cores))


def test_a_helper_that_ends_stops_the_work(helpers):
    def kill(done, _most):
        if done:
            helpers[0].kill()

    with pytest.raises(SolveStopped, match="helper"):
        solve(ENDLESS["sha256"], SolveControl(cores=2, progress=kill), PYTHON)
    assert helpers.all_ended


@pytest.mark.parametrize("cores", [1, 2])
def test_progress_grows_and_never_passes_its_end(cores):
    challenge, _ = ARGON2ID.make(work(0.3), random.Random(5))
    heard = []
    solve(challenge, SolveControl(cores=cores, progress=lambda done, most: heard.append((done, most))))
    assert [most for _, most in heard] == [sum(part.bound for part in challenge.parts)] * len(heard)
    assert all(0 <= done <= most for done, most in heard)
    assert cores > 1 or heard == sorted(heard)


def test_hashcash_reports_no_total():
    challenge, _ = Hashcash(PROFILE).make(work(0.1), random.Random(6))
    heard = []
    solve(challenge, SolveControl(progress=lambda _done, most: heard.append(most)))
    assert set(heard) == {0}


def test_the_registry_has_the_puzzles_of_the_wire_and_sizes_agree():
    assert set(PUZZLES.built_in) == set(wire.PUZZLES)
    assert functions.SEED_BYTES == wire_challenge.SEED_BYTES
    assert functions.CHECK_BYTES == wire_challenge.CHECK_BYTES
    assert squaring.MODULUS_BYTES == wire_challenge.MODULUS_BYTES
    assert proof.PROOF_BYTES == wire_messages.PROOF_BYTES


def test_a_client_loads_no_numpy():
    """The solver, the seal and the wire, in a fresh interpreter."""
    code = (
        "import sys, modeltoll.puzzle.solver, modeltoll.puzzle.seal, modeltoll.wire;"
        "print(sorted({'numpy', 'scipy', 'sklearn', 'msgspec', 'starlette', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
