"""Embeddings and vLLM's classification: what is priced is what the model reads, and nothing else goes out."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols import openai_embeddings, vllm_classify
from modeltoll.gateway.protocols.openai_embeddings import OpenAIEmbeddings
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.gateway.protocols.vllm_classify import VllmClassify
from modeltoll.records import Answer

VECTORS = ServiceDescription("m", "", "embeddings")
SCORES = ServiceDescription("m", "", "probabilities", classes=2)
CASES = [
    (OpenAIEmbeddings(), VECTORS, openai_embeddings._MEMBERS),
    (VllmClassify(), SCORES, vllm_classify._MEMBERS),
]
EACH = pytest.mark.parametrize(("protocol", "service", "members"), CASES, ids=["embeddings", "classify"])
STATE = [0.5] * 4096
DATA = {
    "embeddings": {"embedding": [0.5, -0.25]},
    "probabilities": {"probs": [0.75, 0.25], "num_classes": 2, "label": "a"},
}


def read(protocol, service, **members):
    return protocol.read(json.dumps({"model": "m", "input": ["a", "b"], **members}).encode(), service)


def answered(protocol, service, document):
    parsed = read(protocol, service, input="a")
    return protocol.evidence(parsed, Answer(200, "application/json", json.dumps(document).encode()), service)


def answer(service, members=(), row=()):
    return {
        "id": "1",
        "object": "list",
        "created": 1,
        "model": "m",
        "data": [{"index": 0, **DATA[service.kind], **dict(row)}],
        "usage": {"prompt_tokens": 1, "total_tokens": 1, "completion_tokens": 0, "prompt_tokens_details": None},
        **dict(members),
    }


@EACH
def test_each_member_that_is_read_is_in_every_rows_fingerprint(protocol, service, members):
    plain = read(protocol, service).fingerprints
    assert len(set(plain)) == 2
    for name in sorted(members.read - {"model", "input"}):
        values = ("float", "base64") if name == "encoding_format" else (1, 2)
        one, other = (read(protocol, service, **{name: value}).fingerprints for value in values)
        assert len({*plain, *one, *other}) == 6, name
        assert read(protocol, service, **{name: None}).fingerprints == plain, name


@EACH
def test_a_harmless_member_makes_no_other_row(protocol, service, members):
    for name in members.harmless:
        assert read(protocol, service, **{name: "x"}).fingerprints == read(protocol, service).fingerprints


@EACH
def test_what_asks_for_more_and_what_is_unknown_is_refused_by_name(protocol, service, members):
    for name in (*members.unmeasured, *members.outside, "logits"):
        with pytest.raises(RequestError, match=f"'{name}'"):
            read(protocol, service, **{name: "x"})
    allowed = replace(service, allow_members=("logits",))
    assert not {*read(protocol, allowed, logits=1).fingerprints} & {*read(protocol, allowed, logits=2).fingerprints}


@EACH
def test_whole_numbers_are_exact(protocol, service, members):
    one, other = (read(protocol, service, truncate_prompt_tokens=2**53 + i).fingerprints for i in range(2))
    assert one != other


@EACH
@pytest.mark.parametrize("value", ["1e999", "-1e999"])
def test_a_number_that_is_not_finite_is_refused(protocol, service, members, value):
    for name in ("truncate_prompt_tokens", "user"):
        with pytest.raises(RequestError):
            protocol.read(f'{{"model": "m", "input": "a", "{name}": {value}}}'.encode(), service)


@EACH
def test_an_ordinary_answer_is_released(protocol, service, members):
    assert answered(protocol, service, answer(service)).rows == 1


UNMEASURED = {
    "numbers beside the data": ({"hidden_states": STATE}, {}),
    "numbers in the usage": ({"usage": {"state": STATE}}, {}),
    "a text as the model's name": ({"model": "word " * 300}, {}),
    "numbers beside a row": ({}, {"logits": [0.5, 0.25]}),
    "token numbers beside a row": ({}, {"prompt_token_ids": [1, 2]}),
    "numbers in place of an index": ({}, {"object": STATE, "label": STATE}),
}


@EACH
@pytest.mark.parametrize(("beside", "row"), UNMEASURED.values(), ids=UNMEASURED)
def test_an_answer_that_holds_anything_else_is_not_released(protocol, service, members, beside, row):
    with pytest.raises(AnswerError, match="not measured"):
        answered(protocol, service, answer(service, beside, row))


@EACH
def test_an_operator_may_let_a_member_out_unmeasured(protocol, service, members):
    listed = replace(service, unmeasured=("hidden_states",))
    assert answered(protocol, listed, answer(service, {"hidden_states": STATE})).rows == 1


def test_vectors_in_base64_are_read_exactly():
    vector = np.random.default_rng(0).normal(size=1000).astype("<f4")
    written = base64.b64encode(vector.tobytes()).decode()
    inputs = answered(CASES[0][0], VECTORS, answer(VECTORS, row={"embedding": written})).inputs
    assert np.array_equal(inputs[0], vector.astype(np.float64))


@pytest.mark.parametrize("embedding", [[[0.5, 0.25], [0.5, 0.25]], [[0.5]], [], "", None, {"dense": [0.5]}])
def test_what_is_not_one_vector_per_text_is_not_released(embedding):
    with pytest.raises(AnswerError):
        answered(CASES[0][0], VECTORS, answer(VECTORS, row={"embedding": embedding}))


def test_a_count_of_classes_is_that_of_the_scores():
    with pytest.raises(AnswerError, match="counts other classes"):
        answered(CASES[1][0], SCORES, answer(SCORES, row={"num_classes": 12345}))


def test_the_bound_of_an_answer_is_made_of_the_requests_shape_and_the_settings():
    embeddings, classify = CASES[0][0], CASES[1][0]
    assert read(embeddings, VECTORS).answer_bound is None
    assert read(embeddings, VECTORS, dimensions=True).answer_bound is None
    floats = read(embeddings, VECTORS, dimensions=256).answer_bound
    assert floats == read(embeddings, VECTORS, dimensions=256, input=["other", "texts"]).answer_bound
    assert read(embeddings, VECTORS, dimensions=256, encoding_format="base64").answer_bound < floats
    assert read(embeddings, VECTORS, dimensions=4096).answer_bound is None  # beyond 64 KiB
    rows = [{"object": "embedding", "index": i, "embedding": [-1.2345678901234567e-100] * 256} for i in range(2)]
    assert len(json.dumps({**answer(VECTORS), "data": rows})) <= floats
    assert read(classify, replace(SCORES, classes=None)).answer_bound is None
    bound = read(classify, SCORES).answer_bound
    rows = [
        {"index": i, "label": "x" * 256, "probs": [1.2345678901234567e-100] * 2, "num_classes": 2} for i in range(2)
    ]
    assert len(json.dumps({**answer(SCORES), "data": rows})) <= bound
