"""The summaries of the demo's callers: waits, work and ratios."""

import numpy as np
import pytest

from modeltoll.demo.http_callers import DemoRequest, TimedAnswer
from modeltoll.demo.summary import CallerTraffic, summarise
from modeltoll.records import LogEntry, Work


def log_entry(seconds, leak=1.0, surcharge=1.0):
    work = Work(seconds, 1, seconds, surcharge=surcharge)
    return LogEntry(0.0, "victim", 1, ("entropy",), ((leak,),), (0.5,), work, "sealed")


def traffic(bodies, wanted=None):
    requests = [DemoRequest(b"q%d" % number, "key") for number in range(len(bodies))]
    answers = [TimedAnswer(0.1, body) for body in bodies]
    return CallerTraffic(
        "caller", 1, requests, answers, np.ones(len(bodies), bool) if wanted is None else np.array(wanted)
    )


def direct(bodies):
    return {b"q%d" % number: TimedAnswer(0.05, body) for number, body in enumerate(bodies)}


def test_solved_tolls_count_with_the_measured_wait_and_others_with_the_computed_work():
    summary = summarise(traffic([b"a", None]), [log_entry(3.0), log_entry(7.0)], direct([b"a", b"b"]))
    assert summary.seconds_with == pytest.approx([0.1, 7.1])
    assert summary.seconds_without == pytest.approx([0.05, 0.05])
    assert summary.solved == 1
    assert summary.ratio == pytest.approx(7.2 / 0.1)
    assert summary.leaks == (2.0,)


def test_fillers_count_with_the_toll_but_not_without():
    summary = summarise(traffic([b"a", b"b"], [False, True]), [log_entry(1.0), log_entry(1.0)], direct([b"a", b"b"]))
    assert summary.ratio == pytest.approx(0.2 / 0.05)


def test_an_answer_that_differs_from_the_model_servers_is_counted():
    summary = summarise(traffic([b"a", b"x"]), [log_entry(1.0), log_entry(1.0)], direct([b"a", b"b"]))
    assert summary.changed == 1


def test_suspicion_begins_with_the_first_request_under_a_surcharge():
    entries = [log_entry(1.0), log_entry(1.0, surcharge=3.0)]
    summary = summarise(traffic([b"a", b"b"]), entries, direct([b"a", b"b"]))
    assert summary.suspected.tolist() == [False, True]
    assert summary.first_suspected == 2
    assert summarise(traffic([b"a"]), entries[:1], direct([b"a"])).first_suspected is None


def test_a_log_that_lacks_an_entry_is_refused():
    with pytest.raises(ValueError, match="2 requests but 1 log entries"):
        summarise(traffic([b"a", b"b"]), [log_entry(1.0)], direct([b"a", b"b"]))
