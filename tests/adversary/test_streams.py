"""A thief at a stream: its length before it is opened, the white space before it, its cutting, and what is hidden in it."""

from __future__ import annotations

import asyncio
import json
import math
import selectors
from itertools import pairwise, product

import numpy as np
import pytest
import yaml

from chat_streams import DONE, Exchange, StreamingUpstream, chunk, event, said, stream_of, token
from modeltoll import wire
from modeltoll.errors import AnswerError
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.core.padding import answer_bound, padded_length
from modeltoll.gateway.protocols.openai_chat import OpenAIChat
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.gateway.public.streaming import EarlyHead
from modeltoll.gateway.settings.load import load_settings
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.records import Leaks

PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "which label?"}]
LABELS = ("no", "yes", "internationalization")
FORMS = [
    {"stream_options": {"include_usage": usage}} | ({} if top is None else {"logprobs": True, "top_logprobs": top})
    for usage, top in product((False, True), (None, 0, 1, 5, 20))
]
SERVICE = ServiceDescription("llm", "", "tokens", logprobs="raw")


# --- what a thief learns of the length


def length_of(texts, offset, members):
    """The padded length of a stream that says these texts, asked for in this form."""
    parsed = OpenAIChat().read(
        json.dumps({"messages": MESSAGES, "model": "llm", "stream": True, **members}).encode(), SERVICE
    )
    reader = parsed.stream()
    released = reader.feed(stream_of(*said(*texts)))
    evidence = OpenAIChat().evidence(parsed, reader.finish(), SERVICE)
    return padded_length(len(released), answer_bound(parsed, evidence, offset), offset)


@pytest.mark.parametrize("members", FORMS, ids=str)
@pytest.mark.parametrize("limit", [{"max_tokens": 4}, {}])
def test_the_length_tells_no_label_in_whatever_form_it_is_asked_for(members, limit):
    for offset in (0.0, 0.3, 0.99):
        assert len({length_of([label], offset, limit | members) for label in LABELS}) == 1


@pytest.mark.parametrize("offset", [0.0, 0.37, 0.9])
def test_ten_forms_of_one_stream_tell_of_its_tokens_what_one_of_them_tells(offset):
    """Each form has its own bytes per token: without a common step, each would tell another bound of the number of tokens."""
    counts = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)
    steps = {}
    for place, members in enumerate(FORMS):
        lengths = [length_of(["word"] * count, offset, members) for count in counts]
        assert lengths == sorted(lengths)
        steps[place] = tuple(a == b for a, b in pairwise(lengths))
    assert len(set(steps.values())) == 1


# --- what a thief learns of the time


class _InstantSelector(selectors.DefaultSelector):
    """Waits for nothing: the clock of its loop is moved on instead."""

    loop = None

    def select(self, timeout=None):
        found = super().select(0)
        if timeout and not found:
            self.loop.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time."""

    def __init__(self):
        self.now = 0.0
        selector = _InstantSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self):
        return self.now


def sent_by(first_event, end):
    """When the head of a toll and its white space are sent, and whether the head is out at the end."""
    sent = []

    async def send(message):
        sent.append((round(asyncio.get_running_loop().time(), 3), message["type"], message.get("body", b"")))

    async def run():
        head = EarlyHead(send, "llm", 10.0)
        await asyncio.sleep(first_event)
        head.first_event()
        await asyncio.sleep(end - first_event)
        return await head.stop()

    loop = VirtualLoop()
    try:
        return loop.run_until_complete(run()), sent
    finally:
        loop.close()


@pytest.mark.parametrize("ended", [EarlyHead.stop, EarlyHead.cancel])
def test_a_first_event_that_comes_after_the_end_sends_no_head(ended):
    sent = []

    async def send(message):
        sent.append(message)

    async def run():
        head = EarlyHead(send, "llm", 10.0)
        if (stopping := ended(head)) is not None:
            assert not await stopping
        head.first_event()
        await asyncio.sleep(40.0)
        return await head.stop()

    loop = VirtualLoop()
    try:
        assert not loop.run_until_complete(run())
    finally:
        loop.close()
    assert not sent


@pytest.mark.parametrize("quarter", [0.0, 2.5, 40.0])
def test_white_space_tells_neither_when_in_a_quarter_the_first_event_came_nor_how_many_there_were(quarter):
    found = [sent_by(quarter + first, quarter + 47.0) for first in (0.01, 0.5, 1.0, 2.0, 2.49)]
    assert all(one == found[0] for one in found)
    is_out, sent = found[0]
    assert is_out
    head = quarter + 12.5
    assert [at for at, kind, _ in sent if kind == "http.response.start"] == [head]
    spaces = [(at, body) for at, kind, body in sent if kind == "http.response.body"]
    assert spaces == [(head, b" "), (head + 10, b" "), (head + 20, b" "), (head + 30, b" ")]


@pytest.mark.parametrize("first", [0.0, 4.0, 9.99, 10.0, 25.0])
def test_nothing_is_sent_within_ten_seconds_after_the_first_event_and_the_head_soon_after(first):
    assert sent_by(first, first + 9.999) == (False, [])
    is_out, sent = sent_by(first, first + 12.501)
    assert is_out
    assert sent[0][0] >= first + 10.0


# --- a whole gateway


@pytest.fixture
def gateway(tmp_path):
    """``gateway(upstream, **members)``: the public application of a chat model in front of this upstream, and its ledger."""

    def start(upstream, **members):
        leaks = Leaks(("tokens",), np.random.default_rng(0).random((400, 1)) * 6)
        terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
        costs = RowCosts(undefended_seconds=1e-4, unit_seconds=1e-4)
        save_calibration(fit_calibration("llm", leaks, costs, terms), tmp_path / "llm.json")
        output = {"kind": "tokens", "logprobs": "raw"}
        model = {"protocol": "openai-chat", "tariff": "llm.json", "output": output, "measures": [{"name": "tokens"}]}
        document = {
            "upstream": {"url": "http://127.0.0.1:1"},
            "ledger": {"url": "memory://"},
            "models": {"llm": model | {"puzzle": {"allow": ["sha256"]}}},
            **members,
        }
        path = tmp_path / "modeltoll.yaml"
        path.write_text(yaml.safe_dump(document))
        return build_gateway(load_settings(path), upstream)

    return start


def asked(gateway, *requests):
    """The exchanges of some requests of one caller, one after the other."""

    async def run():
        exchanges = []
        async with gateway.open():
            for members in requests:
                document = {"model": "llm", "messages": MESSAGES, "stream": True, **members}
                exchanges.append(await Exchange(gateway.public, PATH, document, key=None).end())
            return exchanges, [entry for _, _, entry in await gateway.ledger.log(0, 1000)]

    return asyncio.run(run())


def test_cutting_a_stream_otherwise_changes_neither_the_price_nor_the_length(gateway):
    stream = stream_of(*said(*"abcdefgh"))
    cuts = [
        (stream,),
        tuple(stream[at : at + 3] for at in range(0, len(stream), 3)),
        tuple(stream.splitlines(keepends=True)),
    ]
    lengths, prices = set(), set()
    for script in cuts:
        (exchange,), (entry,) = asked(gateway(StreamingUpstream(*script)), {"seed": 1})
        lengths.add(len(wire.decode_toll(exchange.body).payload))
        prices.add(entry.work.seconds)
    assert len(lengths) == len(prices) == 1


def test_what_is_said_one_letter_per_event_costs_as_much_as_its_tokens(gateway):
    """Many events of no token each show a text that is longer than what is measured."""
    script = [event(chunk({"content": letter})) for letter in "a long text"] + [event(chunk(finish="stop")), DONE]
    (exchange,), log = asked(gateway(StreamingUpstream(*script)), {})
    assert exchange.status == 502
    assert log == []


HIDDEN = {
    "numbers of calls": [chunk({"tool_calls": [{"index": ord(letter)}]}) for letter in "text"],
    "identifiers of events": [chunk(id=letter) for letter in "text"],
    "fingerprints of the system": [chunk(system_fingerprint=letter) for letter in "text"],
    "reasons": [chunk(finish=letter) for letter in "text"],
    "roles": [chunk({"role": letter}) for letter in "text"],
    "identifiers of one call": [chunk({"tool_calls": [{"index": 0, "id": letter}]}) for letter in "text"],
    "names of events": [b"event: " + letter.encode() + b"\ndata: {}\n\n" for letter in "text"],
    "numbers of choices": [chunk(index=ord(letter)) for letter in "text"],
}


@pytest.mark.parametrize("events", HIDDEN.values(), ids=HIDDEN)
def test_what_varies_from_event_to_event_is_measured_or_refused(gateway, events):
    written = [one if isinstance(one, bytes) else event(one) for one in events]
    script = [*map(event, list(said("a", counted=False))[:2]), *written, event(chunk(finish="stop")), DONE]
    (exchange,), log = asked(gateway(StreamingUpstream(*script)), {})
    assert exchange.status == 502
    assert log == []


KEPT_OUT = {
    "comments": [b": " + letter.encode() + b"\n\n" for letter in "XYZQ"],
    "identifiers that the standard knows": [b"id: " + letter.encode() + b"\ndata:\n\n" for letter in "XYZQ"],
    "times to wait": [b"retry: " + letter.encode() + b"\n\n" for letter in "XYZQ"],
    "unknown fields": [b"note: " + letter.encode() + b"\n\n" for letter in "XYZQ"],
    "padding": [event(chunk(obfuscation=letter)) for letter in "XYZQ"],
}


@pytest.mark.parametrize("events", KEPT_OUT.values(), ids=KEPT_OUT)
def test_what_is_no_part_of_an_answer_is_left_out(events):
    parsed = OpenAIChat().read(json.dumps({"messages": MESSAGES, "model": "llm", "stream": True}).encode(), SERVICE)
    released = parsed.stream().feed(b"".join(events))
    assert not set(b"XYZQ") & set(released)


def test_a_caller_above_its_credit_pays_before_a_stream_is_opened(gateway):
    upstream = StreamingUpstream(*map(event, said("a", counted=False)), DONE)
    app = gateway(upstream, callers={"anonymous_credit": {"seconds": 1e-4, "units": 1}})
    exchanges, _ = asked(app, *[{"seed": seed} for seed in range(8)])
    tolls = [wire.decode_toll(exchange.body) for exchange in exchanges]
    assert tolls[-1].admission
    assert upstream.opened == sum(not toll.admission for toll in tolls) < 8


def test_a_stream_that_is_broken_off_again_and_again_uses_up_the_credit(gateway):
    """A thief who makes the server fail in a way that cannot be measured does not get the model's time for nothing."""
    spoilt = [event(chunk({"content": "a text that is not measured"})), event(chunk(finish="stop")), DONE]
    app = gateway(StreamingUpstream(*spoilt), callers={"anonymous_credit": {"seconds": 1e-4, "units": 1}})
    exchanges, _ = asked(app, *[{"seed": seed} for seed in range(8)])
    assert [exchange.status for exchange in exchanges][:1] == [502]
    assert exchanges[-1].status == 402
    assert wire.decode_toll(exchanges[-1].body).admission


def test_a_sure_stream_is_cheap_and_an_unsure_one_dear_token_by_token(gateway):
    """The price is that of all tokens, not of the first or the last ones."""
    sure, unsure = token("a", 0.999), token("a", *[0.05] * 20)
    prices = []
    for tokens in ([sure] * 8, [*[sure] * 4, *[unsure] * 4], [unsure] * 8):
        script = [event(chunk({"content": "a"}, [one])) for one in tokens] + [event(chunk(finish="stop")), DONE]
        _, (entry,) = asked(gateway(StreamingUpstream(*script)), {})
        prices.append(entry.leaks[0][0])
    assert prices[0] < 0.1
    assert prices[1] == pytest.approx(prices[2] / 2, rel=0.02)
    assert prices[2] == pytest.approx(8 * math.log(20), rel=0.01)


def test_a_reader_that_has_failed_shows_no_log_probabilities_either():
    parsed = OpenAIChat().read(json.dumps({"messages": MESSAGES, "model": "llm", "stream": True}).encode(), SERVICE)
    reader = parsed.stream()
    released = reader.feed(event(chunk(note=1)) + event(chunk({"content": "a"}, [token("a")])))
    assert b"0.69" not in released
    with pytest.raises(AnswerError):
        reader.finish()
