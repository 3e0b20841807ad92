"""Slow measures of inputs run while the model server works, with the same result as after the answer."""

from __future__ import annotations

import asyncio
import gc
import threading

import numpy as np
import pytest

from modeltoll.errors import RequestError, UpstreamError
from modeltoll.gateway.core import early_measurement
from modeltoll.gateway.core.credit import Credit, CreditTerms
from modeltoll.gateway.upstream.upstream import NO_HEAD
from modeltoll.testing.model_servers import FakeUpstream


class Depth:
    """A measure of inputs; it records the threads it runs in, and whether the evidence held an answer."""

    name = "entropy"  # what the tariff prices

    def __init__(self, *, inputs_alone=True):
        self.inputs_alone = inputs_alone
        self.threads, self.had_answer = [], []
        self.started, self.may_finish = threading.Event(), threading.Event()
        self.may_finish.set()

    def measure(self, evidence):
        self.threads.append(threading.current_thread())
        self.had_answer.append(evidence.scores is not None)
        self.started.set()
        assert self.may_finish.wait(10)
        if (evidence.inputs > 1e6).any():
            raise RequestError("too deep")
        return np.abs(evidence.inputs).mean(axis=1)


class Waiting(FakeUpstream):
    """A model server that answers once the measure has started, and then lets the measure finish."""

    depth = None

    async def predict(self, path, body, content_type="application/json", head=NO_HEAD):
        assert await asyncio.to_thread(self.depth.started.wait, 10)
        answer = await super().predict(path, body, content_type, head)
        self.depth.may_finish.set()
        return answer


@pytest.fixture
def depth(harness):
    measure = Depth()
    harness.measures = (measure,)
    return measure


@pytest.fixture
def always_early(monkeypatch):
    """Every measurement runs in a thread, however short."""
    monkeypatch.setattr(early_measurement, "MIN_THREAD_SECONDS", -1.0)


def test_inputs_are_measured_while_the_model_server_works(harness, depth):
    """Each waits for the other: one after the other, they would never end."""
    depth.may_finish.clear()
    harness.upstream = Waiting(harness.upstream.handler)
    harness.upstream.depth = depth
    result = harness.handle(harness.infer_body([[1, 2], [3, 5]]))
    (bill,) = harness.log()
    assert bill.leaks == ((1.5,), (4.0,))
    assert result.mode == "sealed"
    assert depth.had_answer == [False]


def test_a_quick_measure_runs_after_the_answer_in_the_same_thread(harness, depth, monkeypatch):
    """The first measurement finds out how long it takes; the leaks are the same."""
    monkeypatch.setattr(early_measurement, "MIN_THREAD_SECONDS", 1e9)
    gate = harness.gate()
    for _ in range(2):
        harness.handle(harness.infer_body([[1, 2]]), gate=gate)
    assert [thread is threading.main_thread() for thread in depth.threads] == [False, True]
    assert depth.had_answer == [False, True]
    assert [bill.leaks for bill in harness.log()] == [((1.5,),)] * 2


def test_a_measure_that_does_not_declare_inputs_alone_runs_after_the_answer(harness, always_early):
    depth = Depth(inputs_alone=False)
    harness.measures = (depth,)
    harness.handle(harness.infer_body([[1, 2]]))
    assert depth.had_answer == [True]
    assert depth.threads == [threading.main_thread()]


def test_an_error_in_the_inputs_is_raised_once_the_model_server_has_answered(harness, depth, always_early):
    with pytest.raises(RequestError, match="too deep"):
        harness.handle(harness.infer_body([[1e9, 2]]))
    assert len(harness.upstream.requests) == 1
    assert harness.account() is None
    assert harness.log() == []


def test_without_an_answer_its_error_is_raised_and_the_measures_error_is_discarded(
    harness, depth, always_early, caplog
):
    harness.upstream.handler = UpstreamError("the model server does not answer")
    for deep in (1.0, 1e9):
        with pytest.raises(UpstreamError):
            harness.handle(harness.infer_body([[deep, 2]]))
    gc.collect()
    assert not caplog.records  # asyncio logs exceptions that were never retrieved
    assert harness.account() is None


def test_a_cancelled_request_cancels_its_measurement(harness, depth, always_early):
    """Whether it is cancelled while the model server works, or while only the measure does."""

    async def go():
        for stuck in (True, False):
            harness.upstream = Stuck(harness.upstream.handler, stuck=stuck)
            depth.started.clear()
            depth.may_finish.clear()
            handling = asyncio.create_task(harness.gate().handle(harness.request(harness.infer_body([[1, 2]]))))
            assert await asyncio.to_thread(depth.started.wait, 10)
            await asyncio.sleep(0)
            handling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await handling
            depth.may_finish.set()

    asyncio.run(go())
    assert harness.account() is None


class Stuck(FakeUpstream):
    """A model server that never answers, where it is ``stuck``."""

    def __init__(self, says, *, stuck):
        super().__init__(says)
        self.stuck = stuck

    async def predict(self, path, body, content_type="application/json", head=NO_HEAD):
        if self.stuck:
            await asyncio.Event().wait()
        return await super().predict(path, body, content_type, head)


def test_inputs_that_cannot_be_measured_have_used_the_model_servers_time(harness, depth, always_early):
    """The refusal gave the reservation back, so that the model worked for nothing for ever."""
    modes = []
    harness.credit = CreditTerms(Credit(1e-9, 5.0), Credit(1e-9, 5.0))
    gate = harness.gate()
    for start in range(8):
        try:
            modes.append(harness.handle(harness.infer_body([[1e7, start]]), gate=gate).mode)
        except RequestError as error:
            modes.append(str(error))
    assert modes == ["too deep"] * 5 + ["admission"] * 3
    assert len(harness.upstream.requests) == 5


def test_a_number_that_no_measure_reads_is_refused_before_the_model_server_is_asked(harness, depth):
    depth.input_width = 2
    for number in (1e101, -1e200):
        with pytest.raises(RequestError, match="too large"):
            harness.handle(harness.infer_body([[1.0, number]]))
    assert harness.upstream.requests == []
    assert harness.standing().unsettled == 0.0
