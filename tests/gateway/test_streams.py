"""Streams through the gate: priced ones are collected and sealed, all others go out as they come and are measured then."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from chat_streams import (
    DONE,
    EVENT_STREAM,
    Exchange,
    StreamingUpstream,
    chunk,
    documents_in,
    event,
    said,
    token,
    usage_chunk,
)
from modeltoll import wire
from modeltoll.errors import UpstreamError, UpstreamTimeout
from modeltoll.gateway.core.credit import Credit, CreditTerms
from modeltoll.gateway.protocols.event_stream import KEEP_ALIVE
from modeltoll.gateway.upstream.hang_up import HangUpUpstream
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.records import Answer

PATH = "/v1/chat/completions"
GREETING = list(said("Hello", " world"))
EVENTS = [event(document) for document in GREETING] + [DONE]


def ask(**members):
    return {"model": "digits", "messages": [{"role": "user", "content": "hi"}], "stream": True, **members}


def talk(harness, upstream, *, document=None, act=None, **options):
    """The exchange of one request, once it is over. ``act(exchange)`` is awaited meanwhile."""
    harness.upstream = upstream

    async def run():
        exchange = Exchange(harness.application(), PATH, ask() if document is None else document, **options)
        if act is not None:
            await act(exchange)
        return await exchange.end()

    return asyncio.run(run())


def opened(harness, exchange):
    """The answer that an exchange's toll seals."""
    toll = wire.decode_toll(exchange.body)
    return toll, harness.opened(toll).answer


def contents(events):
    return [one["choices"][0]["delta"].get("content") for one in documents_in(events) if one["choices"]]


# --- priced: collected and sealed


def test_a_priced_stream_is_sealed_whole_with_every_event(chats):
    exchange = talk(chats, StreamingUpstream(*EVENTS))
    assert exchange.status == 402
    toll, answer = opened(chats, exchange)
    assert (answer.status, answer.content_type) == (200, EVENT_STREAM)
    assert contents(answer.body) == ["", "Hello", " world", None]
    assert answer.body.endswith(DONE)
    assert b"usage" not in answer.body
    assert toll.rows == 1
    (entry,) = chats.log()
    assert (entry.rows, entry.mode, entry.measures) == (1, "sealed", ("tokens",))
    assert entry.work.seconds > 0
    assert (chats.upstream.opened, chats.upstream.closed) == (1, 1)


def test_a_stream_costs_what_the_whole_answer_costs(chats):
    talk(chats, StreamingUpstream(*EVENTS))
    message = {"role": "assistant", "content": "Hello world"}
    tokens = [token("Hello"), token(" world")]
    choice = {"index": 0, "message": message, "logprobs": {"content": tokens}, "finish_reason": "stop"}
    whole = Answer(200, "application/json", json.dumps({"id": "1", "choices": [choice]}).encode())
    upstream = StreamingUpstream()
    upstream.handler = lambda path, body: whole
    talk(chats, upstream, document=ask(stream=False))
    first, second = chats.log()
    assert first.leaks == second.leaks
    assert first.work == second.work


def test_cutting_and_comments_leave_no_trace_in_what_is_sealed(chats):
    stream = b"".join(EVENTS)
    cut = [stream[at : at + 5] for at in range(0, len(stream), 5)]
    commented = [b": thinking\n\n" + one for one in EVENTS]
    bodies = {
        opened(chats, talk(chats, StreamingUpstream(*script)))[1].body for script in (EVENTS, [stream], cut, commented)
    }
    assert len(bodies) == 1


def test_nothing_goes_out_before_the_price_is_known(chats):
    release = asyncio.Event()

    async def act(exchange):
        for _ in range(50):
            await asyncio.sleep(0)
        assert (exchange.status, exchange.chunks) == (None, [])
        release.set()

    exchange = talk(chats, StreamingUpstream(*EVENTS[:3], release, *EVENTS[3:]), act=act)
    assert exchange.status == 402


BROKEN = {
    "an error": event({"error": {"message": "Hello world", "type": "server_error", "code": 500}}),
    "an event named error": b"event: error\ndata: Hello world\n\n",
    "what is not measured": event(chunk({"content": "Hello"}, [token("Hello")], note="Hello world")) + DONE,
    "more text than tokens": event(chunk({"content": "Hello world" * 9}, [token("H")])) + DONE,
    "an end half way": b"",
    "half an event": EVENTS[1][:-10],
    "no JSON": b"data: Hello world\n\n" + DONE,
    "more tokens than were reported": event(usage_chunk(99)) + DONE,
    "a connection that is lost": UpstreamError("the model server does not answer"),
}


@pytest.mark.parametrize("end", BROKEN.values(), ids=BROKEN)
def test_nothing_of_a_broken_stream_is_released(chats, end):
    exchange = talk(chats, StreamingUpstream(*EVENTS[:2], end))
    assert exchange.status == 502
    assert b"Hello" not in exchange.body
    assert b"world" not in exchange.body
    assert "error" in json.loads(exchange.body)
    assert chats.log() == []
    assert chats.upstream.closed == 1


def test_a_server_that_pauses_for_too_long_is_a_time_out(chats):
    exchange = talk(
        chats, StreamingUpstream(*EVENTS[:2], UpstreamTimeout("the model server's stream paused for too long"))
    )
    assert exchange.status == 504


def test_what_was_reserved_comes_back_only_where_the_server_failed(chats):
    talk(chats, StreamingUpstream(*EVENTS[:2], BROKEN["a connection that is lost"]))
    assert chats.standing().unsettled == 0
    talk(chats, StreamingUpstream(*EVENTS[:2], BROKEN["what is not measured"]))
    assert chats.standing().unsettled > 0


def test_a_stream_above_the_limit_is_refused(chats):
    chats.runtime = replace(chats.runtime, max_answer=500)
    exchange = talk(chats, StreamingUpstream(*EVENTS))
    assert exchange.status == 502
    assert "larger than 500 bytes" in exchange.body.decode()
    assert chats.standing().unsettled > 0  # for the model has worked: its time must not be had for nothing without end


def test_a_stream_that_ends_with_an_error_is_no_way_to_the_model_s_time_for_nothing(chats):
    talk(chats, StreamingUpstream(*EVENTS[:2], BROKEN["an event named error"]))
    assert chats.standing().unsettled > 0


def test_a_server_that_streams_nothing_is_handled_as_always(chats):
    upstream = StreamingUpstream(
        b'{"error": {"message": "too long a prompt"}}', status=400, content_type="application/json"
    )
    exchange = talk(chats, upstream)
    assert exchange.status == 400
    assert json.loads(exchange.body)["error"]["message"] == "too long a prompt"
    choice = {
        "index": 0,
        "message": {"content": "yes"},
        "logprobs": {"content": [token("yes")]},
        "finish_reason": "stop",
    }
    whole = json.dumps({"id": "1", "choices": [choice]}).encode()
    exchange = talk(chats, StreamingUpstream(whole[:9], whole[9:], content_type="application/json"))
    assert exchange.status == 402
    _, answer = opened(chats, exchange)
    assert answer.content_type == "application/json"
    assert json.loads(answer.body)["choices"][0]["logprobs"] is None


@pytest.mark.parametrize("key", ["alice-key", "vip-key"])
def test_a_caller_who_leaves_ends_the_server_s_stream(chats, key):
    upstream = StreamingUpstream(*EVENTS[:2], asyncio.Event())

    async def act(exchange):
        await upstream.is_open.wait()
        exchange.hang_up()

    exchange = talk(chats, HangUpUpstream(upstream), act=act, key=key)
    assert exchange.status == (499 if key == "alice-key" else 200)
    assert (upstream.opened, upstream.closed) == (1, 1)
    assert chats.log() == []


def test_a_client_that_opens_no_seals_redeems_its_stream(chats):
    exchange = talk(chats, StreamingUpstream(*EVENTS), accept="sha256, argon2id")
    toll = wire.decode_toll(exchange.body)
    assert toll.mode == "redeem"

    async def redeem():
        redemption = json.loads(chats.redemption(toll))
        return await Exchange(chats.application(), wire.REDEEM_PATH, redemption).end()

    redeemed = asyncio.run(redeem())
    assert (redeemed.status, redeemed.headers["content-type"]) == (200, EVENT_STREAM)
    assert contents(redeemed.body) == ["", "Hello", " world", None]


def test_a_stream_whose_admission_was_paid_goes_out_whole_for_what_is_prepaid(chats):
    chats.credit = CreditTerms(Credit(0.0, 0.0), Credit(0.0, 0.0))
    exchange = talk(chats, StreamingUpstream(*EVENTS))
    toll = wire.decode_toll(exchange.body)
    assert toll.admission
    assert chats.upstream.opened == 0

    async def redeem():
        redemption = json.loads(chats.redemption(toll))
        return await Exchange(chats.application(), wire.REDEEM_PATH, redemption).end()

    redeemed = asyncio.run(redeem())
    assert chats.upstream.opened == 1
    assert redeemed.status == 200
    assert contents(redeemed.body) == ["", "Hello", " world", None]
    assert redeemed.headers["toll-receipt"].endswith("mode=prepaid")


# --- priced and slow: the head of a toll, and white space


def slowly(chats, *rest, spaces=3):
    """A stream that goes on once some white space has come."""
    chats.white_space_seconds = 0.01
    release = asyncio.Event()

    async def act(exchange):
        await exchange.until(lambda: len(exchange.chunks) >= spaces)
        assert (exchange.status, set(exchange.chunks)) == (402, {b" "})
        assert exchange.headers["www-authenticate"] == 'Payment realm="digits", method="pow", intent="charge"'
        assert exchange.headers["content-type"] == "application/json"
        assert exchange.headers["x-accel-buffering"] == "no"
        release.set()

    return talk(chats, StreamingUpstream(EVENTS[0], release, *rest), act=act)


def test_a_slow_stream_gets_the_head_of_its_toll_and_white_space_before_the_body(chats):
    exchange = slowly(chats, *EVENTS[1:])
    _, answer = opened(chats, exchange)
    assert contents(answer.body) == ["", "Hello", " world", None]
    assert exchange.body.lstrip(b" ").startswith(b"{")


def test_before_the_first_event_nothing_is_sent_however_long_it_takes(chats):
    chats.white_space_seconds = 0.001

    async def act(exchange):
        await asyncio.sleep(0.05)
        assert exchange.status is None
        release.set()

    release = asyncio.Event()
    exchange = talk(chats, StreamingUpstream(KEEP_ALIVE, release, *EVENTS), act=act)
    assert exchange.status == 402


class FreeTariff(ConformalTariff):
    """Asks nothing."""

    def work(self, *args):
        return replace(super().work(*args), seconds=0.0)


def test_a_free_answer_after_the_head_of_a_toll_is_sealed_by_the_least_work(chats, chat_calibration):
    chats.tariff = FreeTariff(chat_calibration)
    quick = talk(chats, StreamingUpstream(*EVENTS))
    assert (quick.status, contents(quick.body)) == (200, ["", "Hello", " world", None])
    assert quick.headers["toll-receipt"].startswith("rows=1; work=0")
    slow = slowly(chats, *EVENTS[1:])
    toll, answer = opened(chats, slow)
    assert answer.body == quick.body
    assert toll.typical_seconds < 1e-3
    assert [entry.mode for entry in chats.log()] == ["free", "free"]
    assert chats.standing().unsettled == 0


@pytest.mark.parametrize("end", BROKEN.values(), ids=BROKEN)
def test_an_error_after_the_head_of_a_toll_is_a_problem_without_a_toll(chats, end):
    exchange = slowly(chats, end)
    problem = json.loads(exchange.body)
    assert problem["type"].startswith("urn:")
    assert problem["status"] == 502
    assert "message" in problem["error"]
    assert "toll" not in problem
    assert wire.find_toll(exchange.body) is None
    assert b"Hello" not in exchange.body
    assert chats.log() == []


# --- not priced: as it comes


@pytest.fixture(params=["shadow", "exempt"])
def live(request, chats):
    """A harness, and how to ask it for a stream that nobody pays for."""
    chats.mode = "shadow" if request.param == "shadow" else "enforce"
    key = "alice-key" if request.param == "shadow" else "vip-key"

    def run(*script, **options):
        return talk(chats, HangUpUpstream(StreamingUpstream(*script)), key=key, **options)

    run.harness, run.mode = chats, request.param
    return run


def test_events_go_out_as_they_come_and_a_receipt_follows(live):
    steps = [asyncio.Event() for _ in range(5)]

    async def act(exchange):
        for at, step in enumerate(steps):
            await exchange.until(lambda at=at: exchange.status == 200 and len(exchange.chunks) >= at)
            assert len(exchange.chunks) == at
            step.set()

    pieces = [*EVENTS[:4], EVENTS[4] + EVENTS[5]]
    exchange = live(*(part for pair in zip(steps, pieces, strict=True) for part in pair), act=act)
    assert exchange.status == 200
    assert exchange.headers["content-type"] == EVENT_STREAM
    assert exchange.headers["x-from"] == "server"
    assert contents(exchange.body) == ["", "Hello", " world", None]
    (entry,) = live.harness.log()
    assert (entry.mode, entry.measures) == (live.mode, ("tokens",))
    receipt = exchange.chunks[-1].decode()
    assert receipt.startswith(": Toll-Receipt: rows=1; work=")
    assert receipt.endswith("\n\n")
    assert exchange.chunks[-2].endswith(DONE)


def test_comments_go_out_at_once(live):
    async def act(exchange):
        await exchange.until(lambda: exchange.chunks == [KEEP_ALIVE])
        release.set()

    release = asyncio.Event()
    live(b": wait\n\n", release, *EVENTS, act=act)


def test_in_shadow_mode_a_caller_who_leaves_half_way_is_counted(chats):
    chats.mode = "shadow"
    upstream = StreamingUpstream(*EVENTS[:2], asyncio.Event())

    async def act(exchange):
        await exchange.until(lambda: len(exchange.chunks) == 2)
        exchange.hang_up()

    talk(chats, HangUpUpstream(upstream), act=act)
    (entry,) = chats.log()
    assert entry.reason == "answer: the caller left before the end of the stream"
    assert upstream.closed == 1


def test_a_caller_who_leaves_after_the_last_event_is_measured_all_the_same(live):
    async def act(exchange):
        await exchange.until(lambda: any(DONE in one for one in exchange.chunks))
        exchange.hang_up()

    live(*EVENTS, asyncio.Event(), act=act)
    (entry,) = live.harness.log()
    assert entry.measures == ("tokens",)


def test_an_error_in_the_middle_is_an_event_of_the_protocol_and_the_last_one(live):
    failed = event({"error": {"message": "out of memory: 0.12345", "type": "server_error", "code": 500}})
    exchange = live(*EVENTS[:2], failed, *EVENTS[2:])
    last = documents_in(exchange.body)[-1]
    assert last["error"]["message"] == "out of memory: #"
    assert last["error"]["type"] == "server_error"
    assert DONE not in exchange.body
    assert b"Toll-Receipt" not in exchange.body
    lost = live(*EVENTS[:2], UpstreamError("the model server does not answer"))
    assert documents_in(lost.body)[-1]["error"]["message"] == "the model server does not answer"
    assert live.harness.metric('modeltoll_refusals_total{error="UpstreamRefused"}') == 1
    assert live.harness.metric('modeltoll_refusals_total{error="UpstreamError"}') == 1


def test_the_first_event_is_timed(live):
    live(KEEP_ALIVE, *EVENTS)
    assert live.harness.metric('modeltoll_first_event_seconds_count{model="digits"}') == 1


def test_in_shadow_mode_a_stream_that_cannot_be_measured_passes_and_is_counted(chats):
    chats.mode = "shadow"
    odd = event(chunk({"content": "Hello"}, note="text"))
    exchange = talk(chats, StreamingUpstream(odd, *EVENTS))
    assert documents_in(exchange.body)[0]["note"] == "text"
    assert contents(exchange.body)[1:] == ["", "Hello", " world", None]
    (entry,) = chats.log()
    assert entry.reason.startswith("answer: ")
    assert chats.metric('modeltoll_unmeasured_requests_total{model="digits",reason="answer"}') == 1


def test_in_shadow_mode_the_stream_of_a_request_that_cannot_be_read_passes_as_it_comes(chats):
    chats.mode = "shadow"
    release = asyncio.Event()
    raw = b"event: delta\nid: 7\ndata: anything\n\n"

    async def act(exchange):
        await exchange.until(lambda: exchange.chunks == [raw])
        release.set()

    exchange = talk(chats, StreamingUpstream(raw, release, DONE), document=ask(unknown=1), act=act)
    assert exchange.chunks[:2] == [raw, DONE]
    (entry,) = chats.log()
    assert entry.reason.startswith("request: 'unknown'")


def test_an_exempt_caller_s_stream_that_cannot_be_measured_ends_with_an_error(chats):
    exchange = talk(chats, StreamingUpstream(*EVENTS[:2]), key="vip-key")
    assert "before its answer was complete" in documents_in(exchange.body)[-1]["error"]["message"]
    assert chats.log() == []


def test_in_shadow_mode_a_server_that_knows_no_log_probabilities_is_asked_again_without_them(chats):
    chats.mode = "shadow"

    class Strict(StreamingUpstream):
        def stream(self, path, body, *rest):
            strict = "top_logprobs" in json.loads(body)
            self.status, self.content_type = (400, "application/json") if strict else (200, EVENT_STREAM)
            self.script = (b"{}",) if strict else tuple(EVENTS)
            return super().stream(path, body, *rest)

    exchange = talk(chats, Strict())
    assert (exchange.status, chats.upstream.opened, chats.upstream.closed) == (200, 2, 2)
    assert contents(exchange.body) == ["", "Hello", " world", None]
