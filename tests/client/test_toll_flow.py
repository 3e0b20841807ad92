"""The flow of a toll without I/O: its steps, its order, and what it leaves behind however it ends."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll import wire
from modeltoll.client.purse import Purse
from modeltoll.client.receipts import Flight
from modeltoll.client.toll_call import TollCall, resolved_path
from modeltoll.client.toll_flow import (
    ProbeStep,
    RedeemStep,
    ResendStep,
    SolveStep,
    StepResponse,
    WaitStep,
    may_be_toll,
    toll_flow,
)
from modeltoll.errors import SealBroken, TollError, TollMalformed, TollTooDear
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.records import Answer, MachineProfile
from modeltoll.testing.clock import FakeClock

ANSWER = Answer(200, "a/b", b"body")
UNIT = MachineProfile("unit", "an evaluation takes a second", 1.0, {256: 1.0})
URL = "http://127.0.0.1:8080/infer"
CREDENTIALS = {"authorization": "Bearer k", "x-api-key": "x"}


def call_of(purse=None, url=URL, headers=CREDENTIALS, **options):
    return TollCall(purse or Purse(), url, headers, **options)


def body_of(toll, path="/infer"):
    return wire.encode_toll(toll, "toll", path)


def flow_of(toll, purse=None, **options):
    return toll_flow(call_of(purse, **options), body_of(toll))


@pytest.fixture
def admission(toll):
    return replace(toll(ANSWER, "redeem"), admission=True)


@pytest.fixture
def sealed(toll):
    return toll(ANSWER, receipt=b"receipt")


def ended(flow, result):
    """The result of a flow that ends with this."""
    with pytest.raises(StopIteration) as end:
        flow.send(result)
    return end.value.value


def test_the_flow_refuses_before_its_first_step(toll):
    with pytest.raises(TollTooDear):
        next(flow_of(toll(ANSWER), Purse(1.0, profile=UNIT)))


def test_a_body_without_toll_ends_the_flow():
    assert ended(toll_flow(call_of(), b'{"price": {"usd": 5}}'), None) is None


@pytest.mark.parametrize("mode", ["sealed", "redeem"])
def test_the_flow_yields_its_steps_to_a_driver(toll, mode):
    sold = toll(ANSWER, mode)
    flow = flow_of(sold)
    step = next(flow)
    assert isinstance(step, SolveStep)
    result = step.run(None)
    if mode == "sealed":
        assert result == ANSWER
    else:
        redemption = flow.send(result)
        assert isinstance(redemption, RedeemStep)
        assert redemption.path == wire.REDEEM_PATH
        sent = wire.decode_redemption(redemption.body)
        assert (sent.token, len(sent.proof), sent.counters) == (sold.payload, 32, ())
        result = StepResponse(200)
    assert ended(flow, result) == (ANSWER if mode == "sealed" else None)


def test_a_puzzle_without_a_secret_sends_its_counters(toll):
    flow = flow_of(toll(ANSWER, "redeem", maker=Hashcash(UNIT)))
    solution = next(flow).run(None)
    sent = wire.decode_redemption(flow.send(solution).body)
    assert (sent.proof, sent.counters) == (b"", solution.counters)


@pytest.mark.parametrize(
    ("path", "prefix"),
    [("/infer", ""), ("/v2/models/m/infer", ""), ("/v2/models/m/infer", "/api/eu"), ("/infer", "/a"), ("/a//b", "")],
)
@pytest.mark.parametrize("target", [wire.REDEEM_PATH, wire.SETTLE_PATH])
def test_a_reference_leads_to_the_gateways_own_path_below_any_prefix(path, prefix, target):
    """The gateway sees ``path``, the client ``prefix + path``."""
    assert resolved_path(prefix + path, wire.relative_reference(path, target)) == prefix + target


@given(st.text("/ab.%", max_size=12), st.integers(0, 64))
def test_no_reference_leads_above_the_root(path, steps):
    resolved = resolved_path("/" + path, "../" * steps + wire.REDEEM_PATH[1:])
    assert resolved.startswith("/")
    assert resolved.endswith(wire.REDEEM_PATH)


@pytest.mark.parametrize("name", ["redeem", "settle"])
@pytest.mark.parametrize("reference", ["http://h/.well-known/modeltoll/redeem", "//h/x", "/x", "x", "../" * 65, "", 5])
def test_an_absolute_reference_is_malformed_and_costs_nothing(toll, name, reference):
    sold = toll(ANSWER, "redeem") if name == "redeem" else toll(ANSWER, receipt=b"r")
    body = body_of(sold).replace(
        f'"{name}":".well-known/modeltoll/{name}"'.encode(), f'"{name}":{json.dumps(reference)}'.encode()
    )
    assert body != body_of(sold)
    with pytest.raises(TollMalformed):
        next(toll_flow(call_of(), body))


def test_the_receipt_of_an_opened_seal_is_kept_with_its_account(sealed):
    purse = Purse()
    call = call_of(purse, "http://h:80/api/infer?a=b", owner="me")
    flow = toll_flow(call, body_of(sealed))
    assert ended(flow, next(flow).run(None)) == ANSWER
    settlement = purse.receipts.take_for_settlement("me")
    assert settlement.url == "http://h/api" + wire.SETTLE_PATH
    assert settlement.headers == {
        "Authorization": "Bearer k",
        "X-Api-Key": "x",
        "Content-Type": "application/json",
    }
    assert wire.decode_settlement(settlement.body) == (b"receipt",)
    assert "Bearer" not in repr(settlement)


def test_a_receipt_is_kept_when_the_call_is_given_up_after_the_work(sealed):
    """The work is done and the gateway counts it, whoever waits for the answer."""
    purse = Purse()
    flow = flow_of(sealed, purse)
    next(flow).run(None)
    flow.close()
    assert len(purse.receipts) == 1


def test_a_receipt_that_no_gateway_would_read_is_not_kept(toll):
    purse = Purse()
    for receipt in (b"r" * 257, b""):
        flow = flow_of(replace(toll(ANSWER, receipt=receipt), settles=True), purse)
        next(flow).run(None)
    assert len(purse.receipts) == 0


def solve(flow):
    """Solve the first toll of a flow, whose redeem path leads to a gateway; returns the redeem step."""
    step = next(flow)
    if isinstance(step, ProbeStep):
        step = flow.send(StepResponse(204))
    return flow.send(step.run(None))


def dear(toll):
    return toll(ANSWER, "redeem", 0.5)


@pytest.mark.parametrize("status", [200, 302, 403, 404, 405, 410])
def test_a_redeem_path_that_leads_to_no_gateway_is_noticed_before_work(toll, status):
    purse = Purse(1.0, profile=UNIT)
    flow = flow_of(dear(toll), purse)
    probe = next(flow)
    assert (type(probe), probe.path, probe.body) == (ProbeStep, wire.REDEEM_PATH, b"{}")
    assert probe.reads(status, {})
    with pytest.raises(TollMalformed, match=rf"no work was done.*{wire.REDEEM_PATH}.*{status}"):
        flow.send(StepResponse(status))
    assert purse.payments == ()
    assert isinstance(next(flow_of(dear(toll), purse)), ProbeStep)  # it may be mended by then


@pytest.mark.parametrize("status", [204, 400, 401, 429, 500, 503])
def test_a_redeem_path_that_may_lead_to_a_gateway_is_asked_once(toll, status):
    purse = Purse(1.0, profile=UNIT)
    flow = flow_of(dear(toll), purse)
    next(flow)
    assert isinstance(flow.send(StepResponse(status)), SolveStep)
    assert isinstance(next(flow_of(dear(toll), purse)), SolveStep)


def test_work_of_less_than_a_round_trip_is_done_without_asking(toll):
    assert isinstance(next(flow_of(toll(ANSWER, "redeem"), Purse())), SolveStep)


def test_after_an_admission_toll_comes_the_answer_or_one_more_toll(admission, sealed):
    flow = flow_of(admission)
    solve(flow)
    assert ended(flow, StepResponse(200)) is None
    purse = Purse()
    flow = flow_of(admission, purse, url="http://h/api/infer")
    assert solve(flow).path == "/api" + wire.REDEEM_PATH
    step = flow.send(StepResponse(402, body_of(sealed, wire.REDEEM_PATH)))
    assert ended(flow, step.run(None)) == ANSWER
    assert purse.receipts.take_for_settlement(None).url == "http://h/api" + wire.SETTLE_PATH


def test_admission_may_be_asked_for_sixteen_times(admission):
    """A payment may not have been enough, or its token may have expired; each counts in the purse."""
    purse = Purse()
    flow = flow_of(admission, purse)
    again = StepResponse(402, body_of(admission, wire.REDEEM_PATH))
    solve(flow)
    for _ in range(15):
        assert flow.send(flow.send(again).run(None)).path == wire.REDEEM_PATH
    assert len(purse.payments) == 16
    with pytest.raises(SealBroken, match="again and again"):
        flow.send(again)
    expected = purse.expected(admission)
    flow = flow_of(admission, limited := Purse(2.5 * expected))
    solve(flow)
    for _ in range(2):
        flow.send(flow.send(again).run(None))
    with pytest.raises(SealBroken, match="again and again"):
        flow.send(again)
    assert len(limited.payments) == 3
    flow = flow_of(admission, limited := Purse(max_seconds_per_hour=2 * purse.expected(admission)))
    solve(flow)
    flow.send(flow.send(again).run(None))
    step = flow.send(again)
    with pytest.raises(TollTooDear, match="max_seconds_per_hour"):
        step.run(None)
    assert len(limited.payments) == 2


@pytest.mark.parametrize("response", [StepResponse(402, b"{}"), StepResponse(302), StepResponse(402)])
def test_after_an_admission_toll_a_redirect_or_a_price_in_money_is_an_error(admission, response):
    flow = flow_of(admission)
    solve(flow)
    with pytest.raises(SealBroken, match="another toll"):
        flow.send(response)


def test_after_a_redeemed_toll_another_toll_is_an_error(toll, sealed):
    flow = flow_of(toll(ANSWER, "redeem"))
    solve(flow)
    with pytest.raises(SealBroken, match="another toll"):
        flow.send(StepResponse(402, body_of(sealed, wire.REDEEM_PATH)))


def test_the_toll_after_an_admission_toll_must_be_within_the_limits(toll):
    flow = flow_of(replace(toll(ANSWER, "redeem", 0.5), admission=True), Purse(1.0, profile=UNIT))
    solve(flow)
    with pytest.raises(TollTooDear):
        flow.send(StepResponse(402, body_of(toll(ANSWER), wire.REDEEM_PATH)))


def test_a_call_with_receipts_asks_again_with_them_before_it_pays_for_admission(admission, sealed):
    purse = Purse()
    call = call_of(purse, repeatable=True)
    purse.receipts.add(call.account, wire.SETTLE_PATH, b"earlier")
    flow = toll_flow(call, body_of(admission))
    step = next(flow)
    assert isinstance(step, WaitStep)
    assert step.ready()
    assert isinstance(flow.send(None), ResendStep)
    assert purse.payments == ()
    step = flow.send(StepResponse(402, body_of(sealed)))
    assert ended(flow, step.run(None)) == ANSWER


@pytest.mark.parametrize(
    "response", [StepResponse(200), StepResponse(402), StepResponse(402, b"{}"), StepResponse(403)]
)
def test_what_answers_the_second_request_is_the_answer_unless_it_is_a_toll(admission, response):
    purse = Purse()
    call = call_of(purse, repeatable=True)
    purse.receipts.add(call.account, wire.SETTLE_PATH, b"earlier")
    flow = toll_flow(call, body_of(admission))
    next(flow)
    flow.send(None)
    assert ended(flow, response) is None
    assert purse.payments == ()


def test_a_call_asks_again_once(admission):
    """Then it pays, whatever receipts there are."""
    purse = Purse()
    call = call_of(purse, repeatable=True)
    purse.receipts.add(call.account, wire.SETTLE_PATH, b"earlier")
    flow = toll_flow(call, body_of(admission))
    next(flow)
    flow.send(None)
    assert isinstance(flow.send(StepResponse(402, body_of(admission))), SolveStep)


@pytest.mark.parametrize(
    "other",
    [
        {"repeatable": False},
        {"url": "http://127.0.0.1:8081/infer"},
        {"url": "https://127.0.0.1:8080/infer"},
        {"headers": {"authorization": "Bearer other", "x-api-key": "x"}},
        {"headers": {"authorization": "Bearer k"}},
    ],
    ids=str,
)
def test_receipts_of_another_account_and_bodies_that_can_be_sent_once_do_not_help(admission, other):
    purse = Purse()
    purse.receipts.add(call_of(purse).account, wire.SETTLE_PATH, b"earlier")
    flow = toll_flow(call_of(purse, **({"repeatable": True} | other)), body_of(admission))
    assert isinstance(next(flow), SolveStep)


def test_admission_waits_for_the_earlier_tolls_of_the_account(admission, sealed):
    """Not for those that come later, so that it ends however many there are."""
    purse = Purse()
    call = call_of(purse, repeatable=True)
    early, late, waiting = (toll_flow(call, body_of(toll)) for toll in (sealed, sealed, admission))
    early_step = next(early)
    step = next(waiting)
    assert not step.ready()
    next(late)
    assert ended(early, early_step.run(None)) == ANSWER
    assert step.ready()
    assert isinstance(waiting.send(None), ResendStep)
    late.close()


def test_a_thread_does_not_wait_for_a_toll_that_it_is_solving_itself(admission, sealed):
    """A callback of the purse may send a request with the same client."""
    purse = Purse(1e-9, allow=lambda *_: bool(steps.append(next(toll_flow(call, body_of(admission))))) or True)
    call, steps = call_of(purse, repeatable=True), []
    flow = toll_flow(call, body_of(sealed))
    step = next(flow)
    assert not isinstance(next(toll_flow(call, body_of(admission))), SolveStep)
    step.run(None)
    assert isinstance(steps[0], SolveStep)


def test_a_wait_ends_at_the_purses_deadline(admission, sealed):
    clock = FakeClock(0.0)
    purse = Purse(deadline_seconds=5.0, clock=clock)
    call = call_of(purse, repeatable=True)
    earlier, waiting = toll_flow(call, body_of(sealed)), toll_flow(call, body_of(admission))
    next(earlier)
    step = next(waiting)
    clock.advance(4.9)
    assert not step.ready()
    clock.advance(0.2)
    assert step.ready()
    earlier.close()


def test_of_two_calls_for_admission_one_pays_and_the_other_asks_again_then(admission):
    """What the first has paid may leave room for both. Otherwise all of many calls at once would pay."""
    call = call_of(Purse(), repeatable=True)
    first, second = (toll_flow(call, body_of(admission)) for _ in range(2))
    step, waiting = next(first), next(second)
    assert isinstance(step, SolveStep)
    assert not waiting.ready()
    with ThreadPoolExecutor(1) as pool:
        solution = pool.submit(step.run, None).result()
    assert isinstance(first.send(solution), RedeemStep)
    assert not waiting.ready()
    assert ended(first, StepResponse(200)) is None
    assert waiting.ready()
    assert isinstance(second.send(None), ResendStep)


def test_calls_go_on_one_by_one_as_others_end(admission, sealed):
    """Of two paid tolls each lets one of five calls go on, in their order; one that goes on in vain is the next."""
    call = call_of(purse := Purse(), repeatable=True)
    paid = [toll_flow(call, body_of(sealed)) for _ in range(2)]
    assert all(isinstance(next(flow), SolveStep) for flow in paid)
    flows = [toll_flow(call, body_of(admission)) for _ in range(5)]
    steps = [next(flow) for flow in flows]
    assert [step.ready() for step in steps] == [False] * 5
    paid[0].close()
    assert [step.ready() for step in steps] == [True, False, False, False, False]
    flows[0].send(None)
    steps[0] = flows[0].send(StepResponse(402, body_of(admission)))  # in vain: the other toll is being paid
    assert [step.ready() for step in steps] == [False] * 5
    paid[1].close()
    assert [step.ready() for step in steps] == [True, False, False, False, False]
    flows[0].send(None)
    assert isinstance(flows[0].send(StepResponse(402, body_of(admission))), SolveStep)  # nothing else may help
    assert [step.ready() for step in steps[1:]] == [False] * 4
    flows[0].close()
    for flow, step in zip(flows[1:], steps[1:], strict=True):
        assert step.ready()
        assert isinstance(flow.send(None), ResendStep)
        flow.send(StepResponse(402, body_of(sealed)))
        assert sum(other.ready() for other in steps[1:]) == flows.index(flow)
        flow.close()
    assert purse.receipts._flights == purse.receipts._queues == {}


@pytest.mark.parametrize("ends", ["close", "throw", "refused", "broken", "answered", "dropped"])
def test_a_toll_is_no_longer_being_paid_however_it_ends(toll, sealed, ends):
    purse = Purse(0.0 if ends == "refused" else 30.0)
    call = call_of(purse)
    body = body_of(toll(Answer(302, "", b""), receipt=b"r") if ends == "broken" else sealed)
    flow = toll_flow(call, body)
    if ends == "refused":
        with pytest.raises(TollTooDear):
            next(flow)
    else:
        step = next(flow)
        assert purse.receipts.may_help(call.account, call.path, Flight())
        end(flow, step, ends)
    del flow
    for one in (receipts := purse.receipts).take_for_request(call.account, call.path):
        assert one.receipt in (b"r", b"receipt")
    assert not receipts.may_help(call.account, call.path, Flight())


def end(flow, step, ends):
    if ends == "close":
        flow.close()
    elif ends == "throw":
        with pytest.raises(KeyboardInterrupt):
            flow.throw(KeyboardInterrupt())
    elif ends == "broken":
        with pytest.raises(TollError) as caught:
            step.run(None)
        with pytest.raises(TollError):
            flow.throw(caught.value)
    elif ends == "answered":
        ended(flow, step.run(None))


@pytest.mark.parametrize(
    ("status", "kind", "may"),
    [
        (402, "application/json", True),
        (402, "Application/Problem+JSON; charset=utf-8", True),
        (402, "text/html", False),
        (402, None, False),
        (200, "application/json", False),
        (401, "application/json", False),
    ],
)
def test_only_a_402_of_json_may_be_a_toll(status, kind, may):
    assert may_be_toll(status, {} if kind is None else {"content-type": kind}) is may
