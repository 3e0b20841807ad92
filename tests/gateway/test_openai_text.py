"""One model behind all of OpenAI's endpoints of generated text: one tariff, one account, and each request its own endpoint's."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from modeltoll.errors import AnswerError, RequestError, UnknownModel
from modeltoll.gateway.protocols.openai_chat import OpenAIChat
from modeltoll.gateway.protocols.openai_completions import OpenAICompletions
from modeltoll.gateway.protocols.openai_responses import OpenAIResponses
from modeltoll.gateway.protocols.openai_text import OpenAIText
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.records import Answer
from modeltoll.testing.protocols import ProtocolTrial, check_protocol

TEXT = OpenAIText()
SERVICE = ServiceDescription("llm", "", "tokens", max_rows=64, logprobs="raw")
ASKED = {
    "/v1/chat/completions": (OpenAIChat(), {"messages": [{"role": "user", "content": "hi"}]}),
    "/v1/completions": (OpenAICompletions(), {"prompt": "hi"}),
    "/v1/responses": (OpenAIResponses(), {"input": "hi"}),
}


def token(*chances):
    known = [{"token": str(i), "logprob": math.log(p)} for i, p in enumerate(chances or (0.5, 0.5))]
    return {"token": "x", "logprob": known[0]["logprob"], "top_logprobs": known}


def lists():
    half = math.log(0.5)
    return {"tokens": ["x"], "token_logprobs": [half], "top_logprobs": [{"x": half, "y": half}], "text_offset": [0]}


PART = {"type": "output_text", "text": "x", "annotations": [], "logprobs": [token()]}
SAID = {
    "/v1/chat/completions": {
        "choices": [{"index": 0, "message": {"content": "x"}, "logprobs": {"content": [token()]}}]
    },
    "/v1/completions": {"choices": [{"index": 0, "text": "x", "logprobs": lists()}]},
    "/v1/responses": {"status": "completed", "output": [{"type": "message", "content": [PART]}]},
}


def answer(document):
    return Answer(200, "application/json", json.dumps(document).encode())


def read(protocol, members):
    return protocol.read(json.dumps({"model": "llm", **members}).encode(), SERVICE)


@pytest.mark.parametrize("path", ASKED)
def test_a_request_is_read_as_its_own_endpoint_reads_it(path):
    alone, members = ASKED[path]
    found, expected = read(TEXT, members), read(alone, members)
    assert (found.fingerprints, found.forward, found.note) == (expected.fingerprints, expected.forward, expected.note)
    assert found.route == path
    (table,) = TEXT.evidence(found, answer(SAID[path]), SERVICE).tokens
    assert table[0, :2] == pytest.approx([0.5, 0.5])


def test_the_same_text_at_three_endpoints_is_three_rows():
    assert len({read(TEXT, members).fingerprints for _, members in ASKED.values()}) == 3


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("other", ASKED)
def test_an_answer_of_another_endpoint_is_not_released(path, other):
    """So that it does not matter at which path a request was sent."""
    parsed = read(TEXT, ASKED[path][1])
    if path == other:
        assert TEXT.evidence(parsed, answer(SAID[other]), SERVICE).rows == 1
        return
    with pytest.raises(AnswerError):
        TEXT.evidence(parsed, answer(SAID[other]), SERVICE)


@pytest.mark.parametrize(
    "members", [{}, {"messages": None}, {"messages": [{}], "prompt": "hi"}, {"input": "a", "prompt": "b"}]
)
def test_a_request_is_for_one_endpoint(members):
    with pytest.raises(RequestError, match="'messages', 'prompt' and 'input'"):
        read(TEXT, members)


def test_another_model_is_not_found():
    with pytest.raises(UnknownModel):
        TEXT.read(b'{"model": "other", "prompt": "hi"}', SERVICE)


def completions(scores):
    def choice(chances):
        known = {str(i): math.log(p) for i, p in enumerate(chances)}
        return {"tokens": ["0"], "token_logprobs": [math.log(chances[0])], "top_logprobs": [known], "text_offset": [0]}

    rows = scores.tolist()
    return answer({"choices": [{"index": i, "text": "0", "logprobs": choice(row)} for i, row in enumerate(rows)]})


def shown(found):
    return np.array([table[0, :4] for table in found.tokens if len(table)])


def test_it_keeps_the_law_of_serving_protocols():
    """Of completions: messages may have members of any name, which are all in the fingerprint."""
    ask = lambda texts: json.dumps({"model": "llm", "prompt": list(texts)}).encode()  # noqa: E731  an argument of the trial
    check_protocol(ProtocolTrial(TEXT, SERVICE, ["a", "b", "日本"], ask, completions, scores_of=shown))
