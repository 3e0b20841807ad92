"""Allowances of a day: refused before the model server is asked, counted exactly, and never a toll."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from modeltoll.errors import AllowanceSpent, LedgerError
from modeltoll.gateway.assembly.build import build_identifier
from modeltoll.gateway.callers.identify import CallerIdentifier, Tier, hash_key
from modeltoll.gateway.settings.gateway import Settings
from modeltoll.records import Caller, DailyQuota, DailyUsage
from modeltoll.testing.model_servers import serving

DAY = 86_400


def caller(**limits):
    return Caller("key:alice", quota=DailyQuota(**limits))


def spent(harness, day=None):
    day = int(harness.clock() // DAY) if day is None else day
    return asyncio.run(harness.ledger.spent(harness.alice, day))


def test_rows_beyond_the_days_are_refused_before_the_model_server_is_asked(harness):
    alice = caller(rows=3)
    harness.handle(harness.infer_body([[1, 2], [3, 4]]), alice)
    with pytest.raises(AllowanceSpent, match="of this day's 3 rows 1 are left, and the request has 2") as caught:
        harness.handle(harness.infer_body([[5, 6], [7, 8]]), alice)
    assert caught.value.status == 403
    assert len(harness.upstream.requests) == 1
    assert harness.account().rows == 2
    harness.handle(harness.infer_body([5, 6]), alice)  # what is left can be had
    assert spent(harness).rows == 3


def test_the_toll_that_reaches_the_days_work_ends_the_day(harness):
    body = harness.infer_body([1, 2])
    price = harness.handle(body).work.seconds
    alice = caller(work=1.5 * price)
    assert [harness.handle(body, alice).mode for _ in range(2)] == ["sealed", "sealed"]
    with pytest.raises(AllowanceSpent, match="s of work are used up"):
        harness.handle(body, alice)
    assert spent(harness).work == pytest.approx(2 * price)


def test_a_new_day_brings_a_new_allowance_and_the_refusal_says_when(harness):
    harness.clock.now = 20_000 * DAY + DAY - 90.5
    alice = caller(rows=1)
    harness.handle(harness.infer_body([1, 2]), alice)
    with pytest.raises(AllowanceSpent) as caught:
        harness.handle(harness.infer_body([1, 2]), alice)
    assert caught.value.retry_after == 91
    harness.clock.advance(90.5)
    harness.handle(harness.infer_body([1, 2]), alice)
    assert spent(harness) == DailyUsage(20_001, 1, spent(harness).work)


def test_requests_at_the_same_time_get_what_is_covered_and_no_row_more(harness):
    """All of them pass the first look; the step that counts is one."""
    gate, alice = harness.gate(), caller(rows=5)

    async def all_at_once():
        visits = [gate.handle(harness.request(harness.infer_body([n, 0]), alice)) for n in range(20)]
        return await asyncio.gather(*visits, return_exceptions=True)

    ends = asyncio.run(all_at_once())
    assert sum(isinstance(end, AllowanceSpent) for end in ends) == 15
    assert spent(harness).rows == 5
    assert len(harness.log()) == 5


def test_what_goes_out_without_a_toll_takes_rows_and_no_work(harness):
    harness.handle(harness.infer_body([1, 2]), Caller("key:alice", exempt=True, quota=DailyQuota(rows=9)))
    assert (spent(harness).rows, spent(harness).work) == (1, 0.0)


def test_shadow_mode_and_callers_without_an_allowance_are_not_counted(harness):
    harness.handle(harness.infer_body([1, 2]))
    harness.mode = "shadow"
    for _ in range(3):
        harness.handle(harness.infer_body([1, 2]), caller(rows=1))
    assert spent(harness).rows == 0


def test_without_the_ledger_the_gates_configuration_decides(harness):
    class Deaf(type(harness.ledger)):
        async def spent(self, caller, day):
            raise LedgerError("the ledger does not answer")

        spend = spent

    alice, harness.ledger.__class__ = caller(rows=1), Deaf
    Deaf.spend = lambda self, caller, more, allowance: self.spent(caller, more.day)
    with pytest.raises(LedgerError):
        harness.handle(harness.infer_body([1, 2]), alice)
    assert harness.upstream.requests == []
    harness.without_ledger = True
    result = harness.handle(harness.infer_body([1, 2]), alice)
    assert (result.in_ledger, result.toll is not None) == (False, True)


def test_over_http_it_is_a_problem_that_no_library_tries_again(harness):
    """403 with RFC 9457 members, the protocol's own error, and when it is over."""
    harness.identifier = CallerIdentifier({hash_key("alice-key"): caller(rows=1)})
    with serving(harness.application()) as url:
        answers = [
            httpx.post(
                url + harness.path,
                content=harness.infer_body([1, 2]),
                headers={"x-api-key": "alice-key", "content-type": "application/json"},
            )
            for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [402, 403]
    problem = json.loads(answers[1].content)
    assert problem["type"] == "urn:modeltoll:problems:allowance"
    assert (problem["status"], problem["error"]) == (403, problem["detail"])
    assert 0 < int(answers[1].headers["retry-after"]) <= DAY
    assert "www-authenticate" not in answers[1].headers
    assert harness.metric('modeltoll_refusals_total{error="AllowanceSpent"}') == 1


def test_allowances_come_from_the_tiers_of_the_settings():
    model = {"tariff": "t", "output": {"name": "p", "kind": "logits"}, "measures": [{"name": "gap"}]}
    tiers = {"strict": {"daily_rows": 100}, "small": {"daily_work_seconds": 60}}
    keys = [{"name": tier, "sha256": digit * 64, "tier": tier} for tier, digit in zip(tiers, "ab", strict=True)]
    identifier = build_identifier(
        Settings(upstream={"url": "http://a"}, models={"m": model}, callers={"tiers": tiers, "keys": keys})
    )
    assert identifier.keys["a" * 64] == Caller("key:strict", markup=4.0, quota=DailyQuota(rows=100))
    assert identifier.keys["b" * 64] == Caller("key:small", quota=DailyQuota(work=60.0))
    assert identifier.anonymous_tier == Tier()
