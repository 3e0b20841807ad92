"""Allowances of a day: refused before the model server is asked, counted exactly, and never a toll."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from modeltoll.errors import AllowanceSpent, LedgerError
from modeltoll.gateway.assembly.build import build_callers
from modeltoll.gateway.callers.identify import CallerIdentifier, Tier, hash_key
from modeltoll.gateway.settings.load import Settings
from modeltoll.records import Caller, DailyQuota, DailyUsage
from modeltoll.testing.protocols import serving

DAY = 86_400


def caller(**limits):
    return Caller("key:alice", quota=DailyQuota(**limits))


def spent(town, day=None):
    day = int(town.clock() // DAY) if day is None else day
    return asyncio.run(town.ledger.spent(town.alice, day))


def test_rows_beyond_the_days_are_refused_before_the_model_server_is_asked(town):
    alice = caller(rows=3)
    town.visit(town.ask([[1, 2], [3, 4]]), alice)
    with pytest.raises(AllowanceSpent, match="of this day's 3 rows 1 are left, and the request has 2") as caught:
        town.visit(town.ask([[5, 6], [7, 8]]), alice)
    assert caught.value.status == 403
    assert len(town.upstream.requests) == 1
    assert town.account().rows == 2
    town.visit(town.ask([5, 6]), alice)  # what is left can be had
    assert spent(town).rows == 3


def test_the_toll_that_reaches_the_days_work_ends_the_day(town):
    body = town.ask([1, 2])
    price = town.visit(body).work.seconds
    alice = caller(work=1.5 * price)
    assert [town.visit(body, alice).mode for _ in range(2)] == ["sealed", "sealed"]
    with pytest.raises(AllowanceSpent, match="s of work are used up"):
        town.visit(body, alice)
    assert spent(town).work == pytest.approx(2 * price)


def test_a_new_day_brings_a_new_allowance_and_the_refusal_says_when(town):
    town.clock.now = 20_000 * DAY + DAY - 90.5
    alice = caller(rows=1)
    town.visit(town.ask([1, 2]), alice)
    with pytest.raises(AllowanceSpent) as caught:
        town.visit(town.ask([1, 2]), alice)
    assert caught.value.retry_after == 91
    town.clock.advance(90.5)
    town.visit(town.ask([1, 2]), alice)
    assert spent(town) == DailyUsage(20_001, 1, spent(town).work)


def test_requests_at_the_same_time_get_what_is_covered_and_no_row_more(town):
    """All of them pass the first look; the step that counts is one."""
    gate, alice = town.gate(), caller(rows=5)

    async def all_at_once():
        visits = [gate.visit(town.request(town.ask([n, 0]), alice)) for n in range(20)]
        return await asyncio.gather(*visits, return_exceptions=True)

    ends = asyncio.run(all_at_once())
    assert sum(isinstance(end, AllowanceSpent) for end in ends) == 15
    assert spent(town).rows == 5
    assert len(town.log()) == 5


def test_what_goes_out_without_a_toll_takes_rows_and_no_work(town):
    town.visit(town.ask([1, 2]), Caller("key:alice", exempt=True, quota=DailyQuota(rows=9)))
    assert (spent(town).rows, spent(town).work) == (1, 0.0)


def test_shadow_mode_and_callers_without_an_allowance_are_not_counted(town):
    town.visit(town.ask([1, 2]))
    town.mode = "shadow"
    for _ in range(3):
        town.visit(town.ask([1, 2]), caller(rows=1))
    assert spent(town).rows == 0


def test_while_the_ledger_does_not_answer_the_road_decides(town):
    class Deaf(type(town.ledger)):
        async def spent(self, caller, day):
            raise LedgerError("the ledger does not answer")

        spend = spent

    alice, town.ledger.__class__ = caller(rows=1), Deaf
    Deaf.spend = lambda self, caller, more, allowance: self.spent(caller, more.day)
    with pytest.raises(LedgerError):
        town.visit(town.ask([1, 2]), alice)
    assert town.upstream.requests == []
    town.without_ledger = True
    passage = town.visit(town.ask([1, 2]), alice)
    assert (passage.remembered, passage.toll is not None) == (False, True)


def test_over_http_it_is_a_problem_that_no_library_tries_again(town):
    """403 with RFC 9457 members, the protocol's own error, and when it is over."""
    town.callers = CallerIdentifier({hash_key("alice-key"): caller(rows=1)})
    with serving(town.application()) as url:
        answers = [
            httpx.post(url + town.path, content=town.ask([1, 2]), headers={"x-api-key": "alice-key"}) for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [402, 403]
    problem = json.loads(answers[1].content)
    assert problem["type"] == "urn:modeltoll:problems:allowance"
    assert (problem["status"], problem["error"]) == (403, problem["detail"])
    assert 0 < int(answers[1].headers["retry-after"]) <= DAY
    assert "www-authenticate" not in answers[1].headers
    assert town.metric('modeltoll_refusals_total{error="AllowanceSpent"}') == 1


def test_allowances_come_from_the_tiers_of_the_settings():
    model = {"tariff": "t", "output": {"name": "p", "kind": "logits"}, "measures": [{"name": "gap"}]}
    tiers = {"strict": {"daily_rows": 100}, "small": {"daily_work_seconds": 60}}
    keys = [{"name": tier, "sha256": digit * 64, "tier": tier} for tier, digit in zip(tiers, "ab", strict=True)]
    callers = build_callers(
        Settings(upstream={"url": "http://a"}, models={"m": model}, callers={"tiers": tiers, "keys": keys})
    )
    assert callers.keys["a" * 64] == Caller("key:strict", markup=4.0, quota=DailyQuota(rows=100))
    assert callers.keys["b" * 64] == Caller("key:small", quota=DailyQuota(work=60.0))
    assert callers.newcomers == Tier()
