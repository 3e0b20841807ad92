"""Admission tolls: the request is processed once its token is redeemed, and the answer may then cost another toll."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modeltoll import wire
from modeltoll.client.purse import Purse
from modeltoll.errors import SealBroken, TollTooDear
from modeltoll.records import Answer

ANSWER = Answer(200, "application/json", b"[1]")


@pytest.fixture
def admission_url(toll_server, toll, toll_response):
    """``admission_url(toll)``: the URL of a request with an admission toll, after which come further tolls or the answer."""

    def serve(*further):
        remaining = [toll_response(each, path=wire.REDEEM_PATH, **{"x-behind": "yes"}) for each in further]
        toll_server.handlers[wire.REDEEM_PATH] = lambda request, body: (
            remaining.pop(0) if remaining else toll_server.redeem(request, body)
        )
        return toll_server.serve_response(toll_response(replace(toll(ANSWER, "redeem"), admission=True)))

    return serve


@pytest.mark.parametrize("mode", ["sealed", "redeem"])
def test_the_toll_after_an_admission_toll_is_paid(any_driver, toll_server, key, toll, admission_url, mode):
    purse = Purse()
    url = admission_url(toll(ANSWER, mode))
    response = any_driver.send(any_driver.toll(purse), "POST", url, headers=key)
    assert response.content == ANSWER.body
    assert response.headers["content-type"] == ANSWER.content_type
    assert toll_server.paths() == ["/infer", *[wire.REDEEM_PATH] * (1 if mode == "sealed" else 2)]
    assert len(purse.payments) == 2
    assert all(headers.get("authorization") == key["authorization"] for _, _, headers, _ in toll_server.received)
    assert all(headers["toll-accept"] == purse.accept_header for _, _, headers, _ in toll_server.received)
    if mode == "sealed":
        assert response.headers["x-behind"] == "yes"


def test_the_answer_may_follow_an_admission_toll(any_driver, toll_server, key, admission_url):
    response = any_driver.send(any_driver.toll(), "GET", admission_url(), headers=key)
    assert (response.content, response.headers["x-redeemed"]) == (ANSWER.body, "yes")
    assert toll_server.paths() == ["/infer", wire.REDEEM_PATH]


def test_admission_may_be_asked_for_three_times(any_driver, toll_server, key, toll, admission_url):
    purse = Purse()
    again = replace(toll(ANSWER, "redeem"), admission=True)
    url = admission_url(again, again, toll(ANSWER))
    assert any_driver.send(any_driver.toll(purse), "POST", url, headers=key).content == ANSWER.body
    assert (toll_server.paths(), len(purse.payments)) == (["/infer", *[wire.REDEEM_PATH] * 3], 4)


def test_a_seventeenth_admission_toll_is_an_error(any_driver, toll_server, key, toll, admission_url):
    purse = Purse()
    again = replace(toll(ANSWER, "redeem"), admission=True)
    with pytest.raises(SealBroken, match="again and again"):
        any_driver.send(any_driver.toll(purse), "GET", admission_url(*[again] * 16), headers=key)
    assert (toll_server.paths(), len(purse.payments)) == (["/infer", *[wire.REDEEM_PATH] * 16], 16)


def test_the_toll_after_an_admission_toll_has_the_same_limits(any_driver, key, toll, admission_url):
    url = admission_url(toll(ANSWER, "sealed", 1e12))
    with pytest.raises(TollTooDear):
        any_driver.send(any_driver.toll(Purse(1.0)), "GET", url, headers=key)
