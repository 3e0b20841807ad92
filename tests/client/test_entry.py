"""Entry tolls: a request that is dealt with only when its token is redeemed, and may then cost a toll for its answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modeltoll import wire
from modeltoll.client.purse import Purse
from modeltoll.errors import SealBroken, TollTooDear
from modeltoll.records import Answer

ANSWER = Answer(200, "application/json", b"[1]")


@pytest.fixture
def entrance(house, toll, reply):
    """``entrance(toll)``: the URL of a request whose entry costs a toll; behind it stands another one, or the answer."""

    def offer(*behind):
        left = [reply(one, **{"x-behind": "yes"}) for one in behind]
        house.handlers[wire.REDEEM_PATH] = lambda request, body: left.pop(0) if left else house.redeem(request, body)
        return house.say(reply(replace(toll(ANSWER, "redeem"), admission=True)))

    return offer


@pytest.mark.parametrize("mode", ["sealed", "redeem"])
def test_behind_an_entry_the_answer_is_paid_for_and_arrives_as_it_was(any_way, house, key, toll, entrance, mode):
    purse = Purse()
    url = entrance(toll(ANSWER, mode))
    response = any_way.send(any_way.toll(purse), "POST", url, headers=key)
    assert response.content == ANSWER.body
    assert response.headers["content-type"] == ANSWER.content_type
    assert house.paths() == ["/infer", *[wire.REDEEM_PATH] * (1 if mode == "sealed" else 2)]
    assert len(purse.payments) == 2
    assert all(headers.get("authorization") == key["authorization"] for _, _, headers, _ in house.seen)
    assert all(headers["toll-accept"] == purse.wishes for _, _, headers, _ in house.seen)
    if mode == "sealed":
        assert response.headers["x-behind"] == "yes"


def test_behind_an_entry_there_may_be_the_answer_itself(any_way, house, key, entrance):
    response = any_way.send(any_way.toll(), "GET", entrance(), headers=key)
    assert (response.content, response.headers["x-redeemed"]) == (ANSWER.body, "yes")
    assert house.paths() == ["/infer", wire.REDEEM_PATH]


def test_behind_an_entry_there_is_no_second_one(any_way, house, key, toll, entrance):
    purse = Purse()
    again = replace(toll(ANSWER, "redeem"), admission=True)
    with pytest.raises(SealBroken, match="a toll on a toll"):
        any_way.send(any_way.toll(purse), "GET", entrance(again), headers=key)
    assert (house.paths(), len(purse.payments)) == (["/infer", wire.REDEEM_PATH], 1)


def test_the_toll_behind_an_entry_has_the_same_limits(any_way, key, toll, entrance):
    url = entrance(toll(ANSWER, "sealed", 1e12))
    with pytest.raises(TollTooDear):
        any_way.send(any_way.toll(Purse(1.0)), "GET", url, headers=key)
