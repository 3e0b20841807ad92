"""No answer of a server that writes JSON with the shortest digits is longer than the bound of its request."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll import wire
from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.json_path import JsonPath
from modeltoll.gateway.protocols.label_lists import LabelLists
from modeltoll.gateway.protocols.mlflow import MlflowScoring
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.gateway.protocols.tensorflow_serving import TensorFlowServing
from modeltoll.records import Answer

OIP, V1, MLFLOW, LISTS = OpenInference(), TensorFlowServing(), MlflowScoring(), LabelLists()
PATH = JsonPath("/p", "rows", "result.scores")
SERVICE = ServiceDescription("model", "the/output", "logits", classes=3)
PRINTABLE = st.characters(exclude_categories=("C", "Z"), include_characters=" ")  # as str.isprintable has it
NAMES = st.lists(st.text(PRINTABLE, min_size=1, max_size=12), min_size=3, max_size=3, unique=True)
TABLES = st.integers(1, 5).flatmap(
    lambda rows: st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=rows, max_size=rows
    )
)
STYLES = st.sampled_from(
    [{}, {"separators": (",", ":")}, {"ensure_ascii": False}, {"ensure_ascii": False, "separators": (",", ":")}]
)


def oip_request(rows, **members):
    tensor = {"name": "x", "shape": [rows, 1], "datatype": "FP64", "data": [0] * rows}
    return json.dumps({"inputs": [tensor], **members}).encode()


def oip_answer(table, name, **members):
    output = {"name": name, "datatype": "FP64", "shape": [len(table), 3], "parameters": {"content_type": "np"}}
    flat = [number for row in table for number in row]
    return {"model_name": "model", "model_version": "12", "outputs": [{**output, "data": flat}], **members}


SERVERS = {
    "oip": (OIP, oip_request, lambda table, names: oip_answer(table, "the/output", id="1f0c" * 9)),
    "oip with an id": (
        OIP,
        lambda rows: oip_request(rows, id="ü" * 1000),
        lambda table, names: oip_answer(table, "the/output", id="ü" * 1000),
    ),
    "v1": (
        V1,
        lambda rows: json.dumps({"instances": [[0]] * rows}).encode(),
        lambda table, names: {"predictions": [{"the/output": row} for row in table]},
    ),
    "v1 in columns": (
        V1,
        lambda rows: json.dumps({"inputs": [[0]] * rows}).encode(),
        lambda table, names: {"outputs": {"the/output": table}},
    ),
    "mlflow": (
        MLFLOW,
        lambda rows: json.dumps({"inputs": [[0]] * rows}).encode(),
        lambda table, names: {"predictions": [dict(zip(names, row, strict=True)) for row in table]},
    ),
    "json": (
        PATH,
        lambda rows: json.dumps({"rows": [[0]] * rows}).encode(),
        lambda table, names: {"result": {"scores": table}},
    ),
    "labels": (
        LISTS,
        lambda rows: json.dumps({"inputs": ["x"] * rows, "raw_scores": True}).encode(),
        lambda table, names: [
            [{"label": name, "score": score} for name, score in zip(names, row, strict=True)] for row in table
        ],
    ),
}


@settings(max_examples=60)
@given(st.sampled_from(list(SERVERS)), TABLES, NAMES, STYLES)
def test_no_answer_that_is_evidence_is_longer_than_its_bound(server, table, names, style):
    protocol, write, says = SERVERS[server]
    service = replace(SERVICE, labels=tuple(names))
    parsed = protocol.read(write(len(table)), service)
    body = json.dumps(says(table, names), **style).encode(errors="surrogatepass")
    try:
        protocol.evidence(parsed, Answer(200, "application/json", body), service)
    except AnswerError:
        return  # numbers so far apart that their softmax is none
    assert parsed.answer_bound is not None
    assert len(body) <= parsed.answer_bound


@pytest.mark.parametrize("server", SERVERS)
def test_the_bound_depends_on_the_number_of_rows_and_the_settings_alone(server):
    protocol, write, _ = SERVERS[server]
    service = replace(SERVICE, labels=("a", "b", "c"))
    bounds = [protocol.read(write(rows), service).answer_bound for rows in (1, 2, 3)]
    assert bounds[2] - bounds[1] == bounds[1] - bounds[0] > 0
    other = write(2).replace(b"0", b"7").replace(b'"x"', b'"y"')
    if protocol is not OIP:
        assert protocol.read(other, service).answer_bound == bounds[1]


def test_raw_tensors_are_bounded_by_eight_bytes_a_number():
    service = replace(SERVICE, classes=1000)
    for members in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "the/output", "parameters": {"binary_data": True}}]},
    ):
        parsed = OIP.read(oip_request(4, **members), service)
        scores = np.random.default_rng(0).normal(size=(4, 1000)).astype("<f8")
        output = {
            "name": "the/output",
            "datatype": "FP64",
            "shape": [4, 1000],
            "parameters": {"binary_data_size": 32_000},
        }
        head = json.dumps({"model_name": "model", "model_version": "1", "outputs": [output]}).encode()
        answer = Answer(
            200, wire.with_binary_length("application/octet-stream", str(len(head))), head + scores.tobytes()
        )
        assert OIP.evidence(parsed, answer, service).rows == 4
        assert len(answer.body) <= parsed.answer_bound <= len(answer.body) + 1024


def test_classes_shown_are_bounded_by_the_longest_label():
    service = replace(SERVICE, kind="probabilities", labels=("a", "b", "a label of some length"))
    shown = {"outputs": [{"name": "the/output", "parameters": {"classification": 1}}]}
    bounds = {OIP.read(oip_request(rows, **shown), service).answer_bound for rows in (2, 2)}
    assert len(bounds) == 1
    for place, label in enumerate(service.labels):
        data = [f"{1 / 3!r}:{place}:{label}"] * 2
        output = {"name": "the/output", "datatype": "BYTES", "shape": [2, 1], "data": data}
        assert len(json.dumps({"model_name": "model", "outputs": [output]})) <= min(bounds)
    assert OIP.read(oip_request(2, **shown), replace(service, labels=())).answer_bound is None


@given(st.lists(st.text(min_size=1, max_size=30), min_size=3, max_size=6, unique=True), STYLES)
def test_the_bound_of_the_best_label_is_the_same_for_every_label(names, style):
    """The length of a padded answer does not tell which label it shows."""
    service = replace(SERVICE, kind="probabilities", classes=None, labels=tuple(names), partial=True)
    texts = ["short", "a text that is longer than the other"]
    bounds = set()
    for text in texts:
        bounds.add(LISTS.read(json.dumps({"inputs": text, "parameters": {"top_k": 1}}).encode(), service).answer_bound)
    assert len(bounds) == 1
    for name in names:
        body = json.dumps([[{"label": name, "score": 0.123456789012345678}]], **style).encode(errors="surrogatepass")
        assert len(body) <= min(bounds)


@pytest.mark.parametrize(
    "service",
    [replace(SERVICE, classes=None), replace(SERVICE, unmeasured=("features",)), replace(SERVICE, kind="embeddings")],
)
def test_there_is_no_bound_where_the_settings_do_not_say_what_an_answer_holds(service):
    for protocol, write, _ in SERVERS.values():
        if protocol is not LISTS:
            assert protocol.read(write(1), service).answer_bound is None
    measured_alone = oip_request(1, outputs=[{"name": "the/output"}])
    bound = OIP.read(measured_alone, service).answer_bound
    assert (bound is None) == (not service.unmeasured)
