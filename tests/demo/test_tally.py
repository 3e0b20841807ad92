"""The demo's arithmetic: who waited how long, and what it took."""

import numpy as np
import pytest

from modeltoll.demo.http_callers import DemoRequest, PaidAnswer
from modeltoll.demo.summary import PaidRequest, summarise
from modeltoll.records import LogEntry, Work


def bill(seconds, leak=1.0):
    return LogEntry(0.0, "victim", 1, ("entropy",), ((leak,),), (0.5,), Work(seconds, 1, seconds), "sealed")


def visit(bodies, wanted=None):
    asked = [DemoRequest(b"q%d" % number, "key") for number in range(len(bodies))]
    bought = [PaidAnswer(0.1, body) for body in bodies]
    return PaidRequest("caller", 1, asked, bought, np.ones(len(bodies), bool) if wanted is None else np.array(wanted))


def direct(bodies):
    return {b"q%d" % number: PaidAnswer(0.05, body) for number, body in enumerate(bodies)}


def test_solved_tolls_count_as_waited_and_others_as_computed():
    account = summarise(visit([b"a", None]), [bill(3.0), bill(7.0)], direct([b"a", b"b"]))
    assert account.seconds_with == pytest.approx([0.1, 7.1])
    assert account.seconds_without == pytest.approx([0.05, 0.05])
    assert account.solved == 1
    assert account.ratio == pytest.approx(7.2 / 0.1)
    assert account.leaks == (2.0,)


def test_fillers_count_in_what_is_paid_but_not_in_what_would_be_asked_without_a_toll():
    account = summarise(visit([b"a", b"b"], [False, True]), [bill(1.0), bill(1.0)], direct([b"a", b"b"]))
    assert account.ratio == pytest.approx(0.2 / 0.05)


def test_an_answer_that_differs_from_the_model_servers_is_seen():
    account = summarise(visit([b"a", b"x"]), [bill(1.0), bill(1.0)], direct([b"a", b"b"]))
    assert account.changed == 1


def test_a_log_that_lacks_a_line_is_refused():
    with pytest.raises(ValueError, match="2 requests but 1 lines"):
        summarise(visit([b"a", b"b"]), [bill(1.0)], direct([b"a", b"b"]))
