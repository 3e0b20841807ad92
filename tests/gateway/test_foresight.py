"""Inputs are measured while the model server works, where that takes long, and nothing else is different for it."""

from __future__ import annotations

import asyncio
import gc
import threading

import numpy as np
import pytest

from modeltoll.errors import RequestError, UpstreamError
from modeltoll.gateway.core import early_measurement
from modeltoll.testing.protocols import FakeUpstream


class Depth:
    """A measure of inputs, which notes in which threads it was asked, and whether it was shown an answer."""

    name = "entropy"  # what the tariff prices

    def __init__(self, *, inputs_alone=True):
        self.inputs_alone = inputs_alone
        self.threads, self.shown = [], []
        self.at_work, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()

    def measure(self, evidence):
        self.threads.append(threading.current_thread())
        self.shown.append(evidence.scores is not None)
        self.at_work.set()
        assert self.may_end.wait(10)
        if (evidence.inputs > 1e6).any():
            raise RequestError("too deep")
        return np.abs(evidence.inputs).mean(axis=1)


class Waiting(FakeUpstream):
    """A model server that answers once the measure is at work, and then lets it end."""

    depth = None

    async def predict(self, path, body, content_type="application/json"):
        assert await asyncio.to_thread(self.depth.at_work.wait, 10)
        answer = await super().predict(path, body, content_type)
        self.depth.may_end.set()
        return answer


@pytest.fixture
def depth(town):
    measure = Depth()
    town.measures = (measure,)
    return measure


@pytest.fixture
def always(monkeypatch):
    """However short the work, it is done ahead."""
    monkeypatch.setattr(early_measurement, "WORTH", -1.0)


def test_inputs_are_measured_while_the_model_server_works(town, depth):
    """Each waits for the other: one after the other, they would never end."""
    depth.may_end.clear()
    town.upstream = Waiting(town.upstream.handler)
    town.upstream.depth = depth
    passage = town.visit(town.ask([[1, 2], [3, 5]]))
    (bill,) = town.log()
    assert bill.leaks == ((1.5,), (4.0,))
    assert passage.mode == "sealed"
    assert depth.shown == [False]


def test_what_is_measured_quickly_is_measured_afterwards_in_the_same_thread(town, depth, monkeypatch):
    """The first look finds out how long it takes; the leaks are the same."""
    monkeypatch.setattr(early_measurement, "WORTH", 1e9)
    gate = town.gate()
    for _ in range(2):
        town.visit(town.ask([[1, 2]]), gate=gate)
    assert [thread is threading.main_thread() for thread in depth.threads] == [False, True]
    assert depth.shown == [False, True]
    assert [bill.leaks for bill in town.log()] == [((1.5,),)] * 2


def test_a_measure_that_claims_nothing_waits_for_the_answer(town, always):
    depth = Depth(inputs_alone=False)
    town.measures = (depth,)
    town.visit(town.ask([[1, 2]]))
    assert depth.shown == [True]
    assert depth.threads == [threading.main_thread()]


def test_what_is_wrong_with_the_inputs_is_said_once_the_model_server_has_answered(town, depth, always):
    with pytest.raises(RequestError, match="too deep"):
        town.visit(town.ask([[1e9, 2]]))
    assert len(town.upstream.requests) == 1
    assert town.account() is None
    assert town.log() == []


def test_where_there_is_no_answer_its_error_counts_and_nothing_is_left_behind(town, depth, always, caplog):
    town.upstream.handler = UpstreamError("the model server does not answer")
    for deep in (1.0, 1e9):
        with pytest.raises(UpstreamError):
            town.visit(town.ask([[deep, 2]]))
    gc.collect()
    assert not caplog.records  # asyncio complains of errors that nobody heard
    assert town.account() is None


def test_a_caller_who_leaves_takes_the_look_with_him(town, depth, always):
    """Whether he leaves while the model server works, or while only the measure does."""

    async def go():
        for stuck in (True, False):
            town.upstream = Stuck(town.upstream.handler, stuck=stuck)
            depth.at_work.clear()
            depth.may_end.clear()
            visiting = asyncio.create_task(town.gate().visit(town.request(town.ask([[1, 2]]))))
            assert await asyncio.to_thread(depth.at_work.wait, 10)
            await asyncio.sleep(0)
            visiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await visiting
            depth.may_end.set()

    asyncio.run(go())
    assert town.account() is None


class Stuck(FakeUpstream):
    """A model server that never answers, where it is ``stuck``."""

    def __init__(self, says, *, stuck):
        super().__init__(says)
        self.stuck = stuck

    async def predict(self, path, body, content_type="application/json"):
        if self.stuck:
            await asyncio.Event().wait()
        return await super().predict(path, body, content_type)
