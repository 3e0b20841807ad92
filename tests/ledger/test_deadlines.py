"""Deadlines: what is not done in time is ended, in order, and nothing else."""

import asyncio

import pytest

from modeltoll.ledger.deadlines import Deadlines


class FakeLoop:
    """Time that stands still until it is told, and the timers that were set."""

    def __init__(self):
        self.now = 100.0
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, when, callback):
        self.timers.append((when, callback))

    def go_on(self, seconds):
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, callback in due:
            callback()


@pytest.fixture
def loop():
    return FakeLoop()


@pytest.fixture
def future():
    """Makes futures that are not done."""
    real = asyncio.new_event_loop()
    yield real.create_future
    real.close()


def test_what_is_not_done_in_time_is_ended_in_order(loop, future):
    late = []
    deadlines = Deadlines(loop, 5.0, late.append)
    deadlines.add(future(), "first")
    loop.go_on(1.0)
    deadlines.add(future(), "second")
    loop.go_on(3.9)
    assert late == []
    loop.go_on(0.1)
    assert late == ["first"]
    loop.go_on(1.0)
    assert late == ["first", "second"]


def test_what_is_done_is_not_ended_and_the_next_one_is_at_its_own_time(loop, future):
    late, done = [], future()
    deadlines = Deadlines(loop, 5.0, late.append)
    deadlines.add(done, "done")
    loop.go_on(2.0)
    deadlines.add(future(), "waits")
    done.set_result(None)
    loop.go_on(4.9)
    assert late == []
    loop.go_on(0.1)
    assert late == ["waits"]


def test_there_is_one_timer_and_none_where_nothing_waits(loop, future):
    deadlines = Deadlines(loop, 5.0, list)
    for _ in range(100):
        done = future()
        deadlines.add(done, ())
        done.set_result(None)
        loop.go_on(0.01)
    assert len(loop.timers) == 1
    loop.go_on(5.0)
    assert loop.timers == []


def test_after_a_rest_it_watches_again(loop, future):
    late = []
    deadlines = Deadlines(loop, 5.0, late.append)
    deadlines.add(future(), "first")
    loop.go_on(60.0)
    deadlines.add(future(), "second")
    assert late == ["first"]
    loop.go_on(5.0)
    assert late == ["first", "second"]


def test_ending_one_may_add_another(loop, future):
    late = []

    def end(item):
        late.append(item)
        if item < 3:
            deadlines.add(future(), item + 1)

    deadlines = Deadlines(loop, 5.0, end)
    deadlines.add(future(), 1)
    for _ in range(3):
        loop.go_on(5.0)
    assert late == [1, 2, 3]
