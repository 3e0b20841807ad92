"""A purse refuses tolls above its limits before any work, and counts unfinished work with the time used."""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll import wire
from modeltoll.client.machine_memory import available_kib, default_memory_kib, usable_cores
from modeltoll.client.purse import Purse
from modeltoll.errors import SolveStopped, TollTooDear
from modeltoll.puzzle.functions import check_of, evaluate
from modeltoll.records import Answer, MachineProfile
from modeltoll.testing.clock import FakeClock
from modeltoll.toll_records import Challenge, Part, Toll

ANSWER = Answer(200, "a/b", b"body")
UNIT = MachineProfile("unit", "an evaluation takes a second", 1.0, {256: 1.0})
SEED = b"s" * 16
FIRST, NEVER = check_of(evaluate(SEED, 0, 0)), b"\0" * 16


def unsolvable(expected):
    """A toll with this many expected evaluations and no solution."""
    return Toll("redeem", Challenge("sha256", (Part(SEED, 2 * expected - 1, NEVER),)), b"token", 1, 1.0)


def solvable(expected):
    """A toll with this many expected evaluations, solved by counter 0."""
    return Toll("redeem", Challenge("sha256", (Part(SEED, 2 * expected - 1, FIRST),)), b"token", 1, 1.0)


@pytest.fixture
def clock():
    return FakeClock(1000.0)


@pytest.fixture
def no_solving(monkeypatch):
    """Solving fails the test."""

    def fail(*_):
        raise AssertionError("work was done")

    monkeypatch.setattr("modeltoll.client.purse.solve", fail)


def test_a_toll_at_the_limit_is_paid_and_recorded():
    purse = Purse(10.0, profile=UNIT, max_seconds_per_hour=10.0)
    solution = purse.pay(solvable(10))
    assert solution.counters == (0,)
    (payment,) = purse.payments
    assert (payment.expected, payment.rows, payment.puzzle, payment.mode) == (10.0, 1, "sha256", "redeem")


@pytest.mark.usefixtures("no_solving")
def test_too_many_seconds_are_refused_before_any_work():
    purse = Purse(9.99, profile=UNIT)
    with pytest.raises(TollTooDear, match=r"about 10 s of work, the limit is 9.99 s \(max_seconds\)") as caught:
        purse.pay(unsolvable(10))
    assert (caught.value.seconds, caught.value.limit) == (10.0, 9.99)
    assert purse.payments == ()


def test_the_callback_allow_decides_about_tolls_above_the_limit():
    """It is called once per toll above the limit; a refused toll does not count toward the hour."""
    asked, replies = [], [True, False]

    def allow(toll, expected):
        asked.append((toll.rows, expected))
        return replies.pop(0)

    purse = Purse(5.0, profile=UNIT, max_seconds_per_hour=30.0, allow=allow)
    purse.pay(solvable(5))
    purse.pay(solvable(10))
    with pytest.raises(TollTooDear, match="refused it") as caught:
        purse.pay(solvable(11))
    assert (asked, caught.value.seconds) == ([(1, 10.0), (1, 11.0)], 11.0)
    assert [payment.expected for payment in purse.payments] == [5.0, 10.0]
    purse.pay(solvable(5))


def test_an_allowed_toll_still_counts_toward_the_hour():
    purse = Purse(5.0, profile=UNIT, max_seconds_per_hour=9.0, allow=lambda *_: True)
    with pytest.raises(TollTooDear, match="max_seconds_per_hour"):
        purse.pay(solvable(10))


def test_the_callback_paid_gets_each_payment():
    payments = []
    purse = Purse(10.0, profile=UNIT, paid=payments.append)
    purse.pay(solvable(10))
    with pytest.raises(TollTooDear):
        purse.pay(solvable(11))
    assert tuple(payments) == purse.payments != ()


@pytest.mark.usefixtures("no_solving")
def test_too_much_memory_is_refused_before_any_work():
    sold = Toll("sealed", Challenge("argon2id", (Part(SEED, 1, NEVER),), 8192, 1, 1), b"", 1, 1.0)
    with pytest.raises(TollTooDear, match=r"8192 KiB of memory, the limit is 8191 KiB \(memory_kib\)"):
        Purse(memory_kib=8191).pay(sold)
    assert Purse(memory_kib=8192).decide(sold) > 0


@pytest.mark.usefixtures("no_solving")
def test_a_toll_above_the_hourly_limit_is_refused_before_any_work():
    for limit in (0.0, 9.0):
        with pytest.raises(TollTooDear, match="max_seconds_per_hour") as caught:
            Purse(profile=UNIT, max_seconds_per_hour=limit).pay(unsolvable(10))
        assert (caught.value.seconds, caught.value.limit) == (10.0, limit)


def test_after_an_hour_the_whole_limit_is_available_again(clock):
    purse = Purse(profile=UNIT, max_seconds_per_hour=2.0, clock=clock)
    for wait in (0.0, 1800.0, 1800.0):
        clock.advance(wait)
        purse.pay(solvable(1))
    with pytest.raises(TollTooDear, match=r"0 s are left of this hour's 2 s"):
        purse.pay(solvable(1))
    clock.advance(1800.0)
    purse.pay(solvable(1))


@given(
    steps=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 3), st.booleans()), max_size=30),
    limit=st.integers(0, 8),
)
def test_an_hour_never_exceeds_its_limit(steps, limit):
    """With tolls that are solved and tolls that are cancelled; a toll within the limit is never refused."""
    clock = FakeClock(0.0)
    purse = Purse(profile=UNIT, max_seconds_per_hour=float(limit), clock=clock)
    taken = []
    for wait, expected, solved in steps:
        clock.advance(wait)
        now = clock()
        left = limit - sum(seconds for at, seconds in taken if at > now - 3600.0)

        def half_way(expected=expected):
            clock.advance(expected / 2)
            return True

        try:
            purse.pay(solvable(expected) if solved else unsolvable(expected), None if solved else half_way)
        except TollTooDear:
            assert expected > left
            continue
        except SolveStopped:
            assert not solved
        assert expected <= left
        taken.append((now, expected if solved else expected / 2))


@pytest.mark.parametrize(("worked", "left"), [(0.0, 10.0), (4.0, 6.0), (10.0, 0.0), (15.0, 0.0)])
def test_cancelled_work_counts_with_the_time_used(clock, worked, left):
    """At most with the expected seconds; two cores count twice."""

    def cancelled():
        clock.advance(worked / 2)
        return True

    purse = Purse(profile=UNIT, max_seconds_per_hour=10.0, clock=clock, cores=2)
    with pytest.raises(SolveStopped):
        purse.pay(unsolvable(10), cancelled)
    with pytest.raises(TollTooDear) as caught:
        purse.pay(unsolvable(11))
    assert caught.value.limit == pytest.approx(left)
    assert purse.payments == ()


def test_work_cancelled_after_an_hour_frees_nothing(clock):
    purse = Purse(profile=UNIT, max_seconds_per_hour=10.0, clock=clock)

    def cancelled():
        clock.advance(3600.0)
        purse.pay(solvable(1))
        return True

    with pytest.raises(SolveStopped):
        purse.pay(unsolvable(10), cancelled)
    with pytest.raises(TollTooDear) as caught:
        purse.pay(unsolvable(10))
    assert caught.value.limit == 9.0


def test_an_interrupt_frees_unused_seconds():
    def interrupt(*_):
        raise KeyboardInterrupt

    purse = Purse(profile=UNIT, max_seconds_per_hour=10.0, progress=interrupt, clock=FakeClock())
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            purse.pay(unsolvable(10))


def test_concurrent_threads_stay_within_the_hourly_limit():
    purse = Purse(profile=UNIT, max_seconds_per_hour=50.0)
    start = threading.Barrier(8)

    def spend(_):
        start.wait()
        paid = 0
        for _ in range(25):
            try:
                purse.pay(solvable(1))
                paid += 1
            except TollTooDear:
                pass
        return paid

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(spend, range(8))) == 50
    assert len(purse.payments) == 50


def test_the_deadline_is_for_each_toll(clock):
    looks = []

    def tick(done, most):
        looks.append((done, most))
        clock.advance(3.0)

    endless = Toll("redeem", Challenge("argon2id", (Part(SEED, 10**6, NEVER),), 256, 1, 1), b"token", 1, 1.0)
    purse = Purse(math.inf, deadline_seconds=7.0, clock=clock, progress=tick)
    for _ in range(2):
        with pytest.raises(SolveStopped, match="deadline"):
            purse.pay(endless)
    assert len(looks) == 6
    assert looks[0] == (0, 10**6)
    assert 0 < looks[1][0] < looks[2][0]


def test_a_payments_seconds_are_the_solving_time(clock):
    purse = Purse(clock=clock, progress=lambda *_: clock.advance(2.0))
    purse.pay(solvable(1))
    assert purse.payments[0].seconds == 2.0


def test_the_number_of_recorded_payments_is_bounded():
    purse = Purse()
    purse._payments.extend([None] * 10_000)
    purse.pay(solvable(1))
    assert len(purse.payments) == 10_000
    assert purse.payments[-1].mode == "redeem"


@pytest.mark.parametrize("name", ["max_seconds", "max_seconds_per_hour", "deadline_seconds"])
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_invalid_limits_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        Purse(**{name: value})


@pytest.mark.parametrize("nothing", [{"cores": 0}, {"memory_kib": 0}])
def test_a_purse_needs_cores_and_memory(nothing):
    with pytest.raises(ValueError, match="at least 1 core"):
        Purse(**nothing)


MIB = 1024


@pytest.mark.parametrize(
    ("available", "solvers", "offered"),
    [
        (16 * 1024 * MIB, 16, 256 * MIB),
        (8 * 1024 * MIB, 16, 256 * MIB),
        (8 * 1024 * MIB - 1, 16, 64 * MIB),
        (2 * 1024 * MIB, 4, 256 * MIB),
        (1024 * MIB, 4, 64 * MIB),
        (128 * MIB, 1, 32 * MIB),
        (2 * MIB, 1, MIB),
        (0, 4, 64 * MIB),
    ],
)
def test_a_purse_offers_large_memory_where_the_machine_has_it(available, solvers, offered):
    """256 MiB if all solvers together take at most half of the memory; unknown memory counts as little."""
    assert default_memory_kib(available, solvers) == offered


def test_the_limit_of_a_control_group_counts_as_the_machines_memory(tmp_path):
    limit, none, missing = tmp_path / "memory.max", tmp_path / "none", tmp_path / "missing"
    limit.write_text(f"{300 << 20}\n")
    none.write_text("max\n")
    assert available_kib([none, limit, missing]) == 300 * MIB
    assert available_kib([none, missing]) > 300 * MIB


@pytest.mark.parametrize(
    ("limit", "most"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", None), (None, None)],
)
def test_the_cores_of_a_control_group_count_and_not_those_of_the_machine(tmp_path, monkeypatch, limit, most):
    """A container of two cores and 4 GiB on a machine of 64 cores has 256 MiB for each of its solvers."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    path = tmp_path / "cpu.max"
    if limit is not None:
        path.write_text(f"{limit}\n")
    assert usable_cores(path) == (most or 64)


def test_a_purse_announces_what_it_offers_and_refuses_more(monkeypatch):
    monkeypatch.setattr("modeltoll.client.purse.available_kib", lambda: 1024 * MIB * (os.cpu_count() or 1))
    purse = Purse()
    assert (purse.memory_kib, wire.parse_accept(purse.accept_header).memory_kib) == (256 * MIB, 256 * MIB)
    monkeypatch.setattr("modeltoll.client.purse.available_kib", lambda: 256 * MIB)
    small = Purse()
    assert small.accept_header == "argon2id, sha256; mode=sealed; memory=64MiB; receipts"
    sold = Toll("sealed", Challenge("argon2id", (Part(SEED, 1, NEVER),), 128 * MIB, 1, 1), b"", 1, 1.0)
    assert purse.decide(sold) > 0
    with pytest.raises(TollTooDear, match="memory_kib"):
        small.decide(sold)
