"""Requests and answers as other servers and clients write them: each is measured where it can be, and refused in words else."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from modeltoll import wire
from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.label_lists import LabelLists
from modeltoll.gateway.protocols.mlflow import MlflowScoring
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.openai_chat import OpenAIChat
from modeltoll.gateway.protocols.openai_embeddings import OpenAIEmbeddings
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.gateway.protocols.tensorflow_serving import TensorFlowServing
from modeltoll.leak.measure import check_readable
from modeltoll.records import Answer

V1, ML, OIP, LABELS = TensorFlowServing(), MlflowScoring(), OpenInference(), LabelLists()
THREE = ServiceDescription("m", "p", "probabilities", 3, unmeasured=("model_version", "databricks_output"))
BINARY = ServiceDescription("m", "p", "probabilities")
PLAIN = ServiceDescription("m", "p", "probabilities", 3, batched=False)
TEXTS = ServiceDescription("m", "", "probabilities", labels=("neg", "pos"))
P = [0.6, 0.3, 0.1]
PAIR = [{"label": "neg", "score": 0.9}, {"label": "pos", "score": 0.1}]
URL_SAFE = base64.urlsafe_b64encode(bytes(range(248, 256))).decode()


def body(document):
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def tensor(data, shape, datatype="FP32", name="x"):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def predicted(*rows, **more):
    return {"predictions": list(rows), **more}


SHAPES = {
    "V1, a member beside predictions": (V1, THREE, {"instances": [[1]]}, predicted(P, model_version="3")),
    "V1, one probability": (V1, BINARY, {"instances": [[1]]}, predicted([0.87])),
    "V1, a flat list of probabilities": (V1, BINARY, {"instances": [[1], [2]]}, predicted(0.87, 0.1)),
    "V1, base64 without padding": (V1, THREE, {"instances": [{"b64": "aW1nMQ"}]}, predicted(P)),
    "V1, base64 in lines": (V1, THREE, {"instances": [{"b64": "aW1n\naW1n"}]}, predicted(P)),
    "V1, base64 for URLs": (V1, THREE, {"instances": [{"b64": URL_SAFE}]}, predicted(P)),
    "V1, ragged tokens": (V1, THREE, {"instances": [[1, 2, 3], [4, 5]]}, predicted(P, P)),
    "V1, the largest UINT64": (V1, THREE, {"instances": [[2**64 - 1], [2**64 - 2]]}, predicted(P, P)),
    "V1, NaN of a Python client": (V1, THREE, b'{"instances": [[NaN, 1]]}', predicted(P)),
    "MLflow, a text": (ML, THREE, {"inputs": "good film"}, predicted(P)),
    "MLflow, named scalars": (ML, THREE, {"inputs": {"text": "good film"}}, predicted(P)),
    "MLflow, Databricks' member": (ML, THREE, {"inputs": [[1]]}, predicted(P, databricks_output={"trace": None})),
    "MLflow, a byte order mark": (ML, THREE, b"\xef\xbb\xbf" + body({"inputs": [[1]]}), predicted(P)),
    "MLflow, a record that lacks a column": (
        ML,
        THREE,
        {"dataframe_records": [{"a": 1, "b": "red"}, {"a": 2}]},
        predicted(P, P),
    ),
    "MLflow, an index of texts": (
        ML,
        THREE,
        {"dataframe_split": {"columns": ["a"], "index": ["x"], "data": [[1]]}},
        predicted(P),
    ),
    "OIP, null in a tensor of floats": (
        OIP,
        THREE,
        {"inputs": [tensor([None, 1], [1, 2])]},
        {"outputs": [tensor(P, [1, 3], name="p")]},
    ),
    "OIP, no batch dimension": (
        OIP,
        PLAIN,
        {"inputs": [tensor(list(range(12)), [3, 2, 2])]},
        {"outputs": [tensor(P, [3], name="p")]},
    ),
    "OIP, nested, no batch dimension": (
        OIP,
        PLAIN,
        {"inputs": [tensor([[1, 2], [3, 4]], [2, 2])]},
        {"outputs": [tensor(P, [3], name="p")]},
    ),
    "OIP, one probability": (
        OIP,
        BINARY,
        {"inputs": [tensor([1, 2], [1, 2])]},
        {"outputs": [tensor([0.87], [1, 1], name="p")], "model_version": None, "parameters": None},
    ),
    "texts, raw_scores: null": (LABELS, TEXTS, {"inputs": "a", "raw_scores": None, "truncate": None}, PAIR),
    "texts, a pair as TEI reads it": (LABELS, TEXTS, {"inputs": ["premise", "hypothesis"]}, PAIR),
    "texts, a batch of one pair": (LABELS, TEXTS, {"inputs": [["premise", "hypothesis"]]}, [PAIR]),
    "texts, a pair as transformers read it": (LABELS, TEXTS, {"inputs": {"text": "a", "text_pair": "b"}}, PAIR),
}


@pytest.mark.parametrize(("protocol", "service", "request_", "answer"), SHAPES.values(), ids=SHAPES)
def test_the_shape_is_measured(protocol, service, request_, answer):
    parsed = protocol.read(body(request_), service)
    evidence = protocol.evidence(parsed, Answer(200, "application/json", body(answer)), service)
    assert evidence.scores.shape == (len(parsed.fingerprints), max(2, service.classes or 0))
    assert evidence.scores.sum(axis=1) == pytest.approx(np.ones(evidence.rows))
    assert len(set(parsed.fingerprints)) == evidence.rows


def fp32(first, service=THREE, *, datatype="FP32"):
    tensor_ = f'{{"name": "x", "shape": [1, 2], "datatype": "{datatype}", "data": [{first}, 1]}}'
    return OIP.read(f'{{"inputs": [{tensor_}]}}'.encode(), service)


MISSING = {
    "V1, rows": [(V1, b'{"instances": [[%s, 1]]}' % value) for value in (b"null", b"NaN")],
    "V1, columns": [(V1, b'{"inputs": {"a": [%s, 1.5]}}' % value) for value in (b"null", b"NaN")],
    "MLflow, frames": [
        (ML, b'{"dataframe_split": {"columns": ["a", "b"], "data": [[%s, 1]]}}' % value) for value in (b"null", b"NaN")
    ],
    "MLflow, records": [
        (ML, b'{"dataframe_records": [{%s"b": 1}, {"a": 2, "b": 1}]}' % value)
        for value in (b"", b'"a": null, ', b'"a": "NaN", ')
    ],
}


@pytest.mark.parametrize("requests", MISSING.values(), ids=MISSING)
def test_null_and_nan_are_two_values_of_a_row(requests):
    """A server may read them as two; then they are two rows."""
    assert len({protocol.read(request, THREE).fingerprints[0] for protocol, request in requests}) == len(requests)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_null_and_nan_are_two_values_of_a_tensor(datatype):
    null, nan, other = (fp32(first, datatype=datatype) for first in ("null", "NaN", "0"))
    assert len({parsed.fingerprints for parsed in (null, nan, other)}) == 3
    assert np.isnan([null.inputs[0, 0], nan.inputs[0, 0]]).all()
    raw = struct.pack({"FP16": "<ee", "FP32": "<ff", "FP64": "<dd"}[datatype], np.nan, 1)
    sent = {"name": "x", "shape": [1, 2], "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [sent]}).encode()
    content_type = wire.with_binary_length("application/octet-stream", str(len(head)))
    assert OIP.read(head + raw, THREE, content_type).fingerprints == nan.fingerprints


def test_an_unlisted_member_beside_predictions_is_still_refused():
    for protocol, request_ in ((V1, {"instances": [[1]]}), (ML, {"inputs": [[1]]})):
        parsed = protocol.read(body(request_), THREE)
        for found in (predicted(P, hidden=[0.5]), {"model_version": "3"}):
            with pytest.raises(AnswerError, match="nothing else"):
                protocol.evidence(parsed, Answer(200, "application/json", body(found)), THREE)


def test_a_declared_tolerance_takes_rounded_scores_and_no_others():
    parsed = V1.read(body({"instances": [[1]]}), THREE)
    rounded = Answer(200, "application/json", body(predicted([0.6, 0.3, 0.095])))
    with pytest.raises(AnswerError, match="rounded"):
        V1.evidence(parsed, rounded, THREE)
    lenient = replace(THREE, tolerance=0.01)
    assert V1.evidence(parsed, rounded, lenient).scores.sum() == pytest.approx(1.0)
    with pytest.raises(AnswerError):
        V1.evidence(parsed, Answer(200, "application/json", body(predicted([0.6, 0.3, 0.05]))), lenient)


class Reads:
    """A measure of rows of two numbers."""

    name, input_width, reads_missing = "novelty", 2, False


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (None, "texts"),
        ([[1.0]], "has 1 numbers"),
        ([[np.nan, 1.0]], "missing"),
        ([[np.nan, 1e200]], "too large"),
        ([[np.nan, -1e200]], "too large"),
    ],
)
def test_a_measure_of_inputs_refuses_what_it_cannot_read_and_nan_hides_nothing(rows, reason):
    measure = Reads()
    with pytest.raises(RequestError, match=reason):
        check_readable(measure, None if rows is None else np.array(rows))
    measure.reads_missing = True
    check_readable(measure, np.array([[np.nan, 1.0]]))


CHAT = ServiceDescription("m", "", "tokens")


def completion(**choice):
    message = {"role": "assistant", "content": "a"}
    known = [{"token": "a", "logprob": -0.5, "bytes": [97]}, {"token": "b", "logprob": None, "bytes": None}]
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": known}
    return body({"choices": [{"message": message, "logprobs": {"content": [token]}, **choice}]})


@pytest.mark.parametrize("member", ["n", "stream", "logprobs", "top_logprobs", "stop", "temperature", "tools", "user"])
def test_a_chat_member_that_is_null_is_one_that_is_absent(member):
    plain = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    prints = [OpenAIChat().read(body(one), CHAT).fingerprints for one in (plain, {**plain, member: None})]
    assert prints[0] == prints[1]


def test_chat_answers_without_indices_and_with_null_for_minus_infinity_are_measured():
    parsed = OpenAIChat().read(body({"model": "m", "messages": [{"role": "user", "content": "x"}]}), CHAT)
    (table,) = OpenAIChat().evidence(parsed, Answer(200, "application/json", completion()), CHAT).tokens
    assert table.sum() == pytest.approx(np.exp(-0.5))


def test_calls_of_tools_without_log_probabilities_are_refused_by_the_name_of_the_parameter():
    request_ = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": []}
    parsed = OpenAIChat().read(body(request_), CHAT)
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    found = completion(message={"role": "assistant", "content": None, "tool_calls": [call]}, logprobs=None)
    with pytest.raises(AnswerError, match="leave 'tools' out"):
        OpenAIChat().evidence(parsed, Answer(200, "application/json", found), CHAT)


@pytest.mark.parametrize("member", ["encoding_format", "dimensions", "user"])
def test_a_member_of_embeddings_that_is_null_is_one_that_is_absent(member):
    service, plain = ServiceDescription("m", "", "embeddings"), {"model": "m", "input": "x"}
    prints = [OpenAIEmbeddings().read(body(one), service).fingerprints for one in (plain, {**plain, member: None})]
    assert prints[0] == prints[1]
