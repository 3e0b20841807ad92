"""What can change an answer is part of each row's fingerprint, or refused; unknown members are refused by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.json_path import JsonPath
from modeltoll.gateway.protocols.label_lists import LabelLists
from modeltoll.gateway.protocols.mlflow import MlflowScoring
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.gateway.protocols.tensorflow_serving import TensorFlowServing
from modeltoll.records import Answer

SERVICE = ServiceDescription("m", "p", "probabilities", classes=3, max_rows=64, labels=("a", "b", "c"))
OIP, V1, MLFLOW, LISTS = OpenInference(), TensorFlowServing(), MlflowScoring(), LabelLists()
PATH = JsonPath("/p", "rows[*].x", "scores")
X = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}


def read(protocol, document, service=SERVICE):
    return protocol.read(document if isinstance(document, bytes) else json.dumps(document).encode(), service)


NAMED = {
    "oip: a member": (OIP, lambda n: {"inputs": [X], "n": n}),
    "oip: a parameter": (OIP, lambda n: {"inputs": [X], "parameters": {"n": n}}),
    "oip: a member of a tensor": (OIP, lambda n: {"inputs": [{**X, "n": n}]}),
    "oip: a parameter of a tensor": (OIP, lambda n: {"inputs": [{**X, "parameters": {"n": n}}]}),
    "oip: a member of an output": (OIP, lambda n: {"inputs": [X], "outputs": [{"name": "p", "n": n}]}),
    "oip: a parameter of an output": (
        OIP,
        lambda n: {"inputs": [X], "outputs": [{"name": "p", "parameters": {"n": n}}]},
    ),
    "v1": (V1, lambda n: {"instances": [[1]], "n": n}),
    "mlflow: a member": (MLFLOW, lambda n: {"inputs": [[1]], "n": n}),
    "mlflow: a parameter": (MLFLOW, lambda n: {"inputs": [[1]], "params": {"n": n}}),
    "labels: a member": (LISTS, lambda n: {"inputs": "x", "n": n}),
    "labels: a parameter": (LISTS, lambda n: {"inputs": "x", "parameters": {"n": n}}),
    "json": (PATH, lambda n: {"rows": [{"x": [1]}], "n": n}),
}


@pytest.mark.parametrize(("protocol", "document"), NAMED.values(), ids=NAMED)
def test_a_member_that_is_not_known_is_refused_by_name_and_may_be_allowed(protocol, document):
    with pytest.raises(RequestError, match="'n'"):
        read(protocol, document(0))
    allowed = replace(SERVICE, allow_members=("n",))
    values = (0, 1, 2**53, 2**53 + 1, "a", None, [0], {"x": 0})
    assert len({read(protocol, document(value), allowed).fingerprints for value in values}) == len(values)
    for wrong in (2**64, "\ud800"):
        with pytest.raises(RequestError):
            read(protocol, document(wrong), allowed)


def test_another_models_name_is_refused_even_where_the_member_is_allowed():
    with pytest.raises(RequestError, match="model_name"):
        read(OIP, {"inputs": [X], "model_name": "other"}, replace(SERVICE, allow_members=("model_name",)))


@pytest.mark.parametrize("name", ["shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"])
def test_shared_memory_is_refused_even_where_it_is_allowed_or_zero(name):
    with pytest.raises(RequestError, match=name):
        read(OIP, {"inputs": [{**X, "parameters": {name: 0}}]}, replace(SERVICE, allow_members=(name,)))


TWO = replace(SERVICE, unmeasured=("q",))
CHANGES = {
    "classes shown": (
        OIP,
        {"inputs": [X], "outputs": [{"name": "p", "parameters": {"classification": 1}}]},
        {"inputs": [X]},
    ),
    "outputs": (OIP, {"inputs": [X], "outputs": [{"name": "p"}]}, {"inputs": [X]}),
    "a tensor's codec": (OIP, {"inputs": [{**X, "parameters": {"content_type": "np"}}]}, {"inputs": [X]}),
    "the request's codec": (OIP, {"inputs": [X], "parameters": {"content_type": "pd"}}, {"inputs": [X]}),
    "top_k": (LISTS, {"inputs": "x", "parameters": {"top_k": 1}}, {"inputs": "x"}),
    "raw scores": (LISTS, {"inputs": "x", "raw_scores": True}, {"inputs": "x"}),
    "function": (LISTS, {"inputs": "x", "parameters": {"function_to_apply": "none"}}, {"inputs": "x"}),
    "truncation": (LISTS, {"inputs": "x", "truncate": True}, {"inputs": "x"}),
    "side": (
        LISTS,
        {"inputs": "x", "truncate": True, "truncation_direction": "Left"},
        {"inputs": "x", "truncate": True},
    ),
}


@pytest.mark.parametrize(("protocol", "document", "plain"), CHANGES.values(), ids=CHANGES)
def test_what_changes_the_answer_changes_the_fingerprint(protocol, document, plain):
    assert read(protocol, document, TWO).fingerprints != read(protocol, plain, TWO).fingerprints


def test_another_signature_that_is_allowed_makes_other_rows():
    allowing = replace(SERVICE, allow_members=("signature_name",))
    prints = [read(V1, {"instances": [[1]], "signature_name": name}, allowing).fingerprints for name in ("a", "b")]
    assert prints[0] != prints[1]
    assert read(V1, {"instances": [[1]], "signature_name": "serving_default"}, allowing).fingerprints not in prints


SAME = {
    "an id": (OIP, {"inputs": [X], "id": "7"}, {"inputs": [X]}),
    "the model's name": (OIP, {"inputs": [X], "model_name": "m"}, {"inputs": [X]}),
    "the model's name at the server": (OIP, {"inputs": [X], "model_name": "server's"}, {"inputs": [X]}),
    "no name of the model": (OIP, {"inputs": [X], "model_name": None}, {"inputs": [X]}),
    "a priority": (OIP, {"inputs": [X], "parameters": {"priority": 1, "timeout": 5}}, {"inputs": [X]}),
    "raw outputs": (OIP, {"inputs": [X], "parameters": {"binary_data_output": True}}, {"inputs": [X]}),
    "the one output": (
        OIP,
        {"inputs": [X], "outputs": [{"name": "p", "parameters": {"binary_data": False}}]},
        {"inputs": [X]},
    ),
    "the default signature": (V1, {"instances": [[1]], "signature_name": "serving_default"}, {"instances": [[1]]}),
    "columns": (V1, {"inputs": {"x": [[1]]}}, {"instances": [{"x": [1.0]}]}),
    "no parameters": (MLFLOW, {"inputs": [[1]], "params": {}}, {"instances": [[1]]}),
    "all labels": (LISTS, {"inputs": "x", "parameters": {"top_k": 9}}, {"inputs": ["x"], "parameters": {"top_k": 3}}),
}


@pytest.mark.parametrize(("protocol", "document", "plain"), SAME.values(), ids=SAME)
def test_what_changes_no_answer_changes_no_fingerprint(protocol, document, plain):
    service = replace(SERVICE, served_as="server's")
    assert read(protocol, document, service).fingerprints == read(protocol, plain, service).fingerprints


REFUSED = {
    "an output that is not served": (OIP, {"inputs": [X], "outputs": [{"name": "hidden"}]}, "not served"),
    "an output twice": (OIP, {"inputs": [X], "outputs": [{"name": "p"}, {"name": "p"}]}, "twice"),
    "another output alone": (OIP, {"inputs": [X], "outputs": [{"name": "q"}]}, "must be among"),
    "another model's name": (OIP, {"inputs": [X], "model_name": "other"}, "model_name"),
    "an empty name of a model": (OIP, {"inputs": [X], "model_name": ""}, "model_name"),
    "a name of a model that is no text": (OIP, {"inputs": [X], "model_name": ["m"]}, "model_name"),
    "an id that is no text": (OIP, {"inputs": [X], "id": 7}, "'id'"),
    "a giant id": (OIP, {"inputs": [X], "id": "x" * 1025}, "'id'"),
    "a priority that is no number": (OIP, {"inputs": [X], "parameters": {"priority": "x"}}, "priority"),
    "a choice that is none": (OIP, {"inputs": [X], "parameters": {"binary_data_output": 1}}, "binary_data_output"),
    "a codec that is none": (OIP, {"inputs": [X], "parameters": {"content_type": 1}}, "content_type"),
    "another signature": (V1, {"instances": [[1]], "signature_name": "features"}, "signature_name"),
    "a signature that is none": (V1, {"instances": [[1]], "signature_name": 1}, "signature_name"),
    "no labels": (LISTS, {"inputs": "x", "parameters": {"top_k": 0}}, "top_k"),
    "a truncation that is none": (LISTS, {"inputs": "x", "truncate": 1}, "truncate"),
    "a side that is none": (LISTS, {"inputs": "x", "truncation_direction": "up"}, "truncation_direction"),
    "half a surrogate pair": (LISTS, b'{"inputs": "\\ud800"}', "not Unicode"),
    "half a surrogate pair in a row": (V1, b'{"instances": [["\\udfff"]]}', "not Unicode"),
    "half a surrogate pair in a tensor": (
        OIP,
        {"inputs": [{**X, "datatype": "BYTES", "data": ["\ud800", ""]}]},
        "'data'",
    ),
    "an index that is none": (MLFLOW, {"dataframe_split": {"data": [[1]], "index": [["x"]]}}, "'index'"),
    "an index too long": (MLFLOW, {"dataframe_split": {"data": [[1]], "index": [1, 2]}}, "'index'"),
    "a column of another kind": (MLFLOW, {"dataframe_split": {"columns": [None], "data": [[1]]}}, "list of names"),
    "BF16 in JSON": (OIP, {"inputs": [{**X, "datatype": "BF16"}]}, "raw bytes only"),
    "a column under another name, where the expression finds null": (
        JsonPath("/predict", "rows[*].[a, b]", "scores"),
        {"rows": [{"a": 1, "c": 2}]},
        "not served",
    ),
    "a second row member": (PATH, {"rows": [{"x": [1], "y": [2]}]}, "not served"),
    "a row without the member": (PATH, {"rows": [{"x": [1]}, {}]}, "not served"),
    "a text beside the rows": (JsonPath("/p", "[0]", "@"), [[[1]], "seed"], "beside its inputs"),
}


@pytest.mark.parametrize(("protocol", "document", "reason"), REFUSED.values(), ids=REFUSED)
def test_members_of_another_form_are_refused(protocol, document, reason):
    with pytest.raises(RequestError, match=reason):
        read(protocol, document, TWO)


def said(text):
    return Answer(200, "application/json", text.encode())


P = '{"name":"p","shape":[1,3],"datatype":"FP64","data":[0.5,0.25,0.25]%s}'
HIDDEN = {
    "oip: a member": (OIP, {"inputs": [X]}, '{"outputs":[%s],"hidden":[0.1]}' % (P % "")),
    "oip: a text": (OIP, {"inputs": [X]}, '{"outputs":[%s],"explanation":"cat"}' % (P % "")),
    "oip: a member of the tensor": (OIP, {"inputs": [X]}, '{"outputs":[%s]}' % (P % ',"logits":[1,2,3]')),
    "oip: a parameter": (OIP, {"inputs": [X]}, '{"outputs":[%s],"parameters":{"logit":1.5}}' % (P % "")),
    "oip: a tensor's parameter": (OIP, {"inputs": [X]}, '{"outputs":[%s]}' % (P % ',"parameters":{"top":"cat"}')),
    "oip: numbers in a known parameter": (
        OIP,
        {"inputs": [X]},
        '{"outputs":[%s]}' % (P % ',"parameters":{"content_type":[0.1,0.2]}'),
    ),
    "oip: a long name": (
        OIP,
        {"inputs": [X]},
        '{"outputs":[%s],"model_name":"x%s"}'.replace("x%s", "x" * 2000) % (P % ""),
    ),
    "oip: an output twice over": (OIP, {"inputs": [X]}, '{"outputs":[],"outputs":[%s]}' % (P % "")),
    "v1: predictions twice": (
        V1,
        {"instances": [[1]]},
        '{"predictions":[[9,9,9]],"predictions":[{"p":[0.5,0.25,0.25]}]}',
    ),
    "json: a text": (PATH, {"rows": [{"x": [1]}]}, '{"scores":[[0.5,0.25,0.25]],"label":"cat"}'),
    "json: a truth": (PATH, {"rows": [{"x": [1]}]}, '{"scores":[[0.5,0.25,0.25]],"sure":true}'),
    "json: a name": (PATH, {"rows": [{"x": [1]}]}, '{"scores":[[0.5,0.25,0.25]],"cat":{}}'),
}


@pytest.mark.parametrize(("protocol", "document", "answer"), HIDDEN.values(), ids=HIDDEN)
def test_nothing_that_shows_the_model_leaves_unmeasured(protocol, document, answer):
    with pytest.raises(AnswerError):
        protocol.evidence(read(protocol, document), said(answer), SERVICE)


def test_what_servers_say_of_themselves_may_go_out():
    head = '{"model_name":"m","model_version":"1","id":"a","parameters":{"sequence_id":0,"sequence_start":false},'
    answer = said(head + '"outputs":[%s]}' % (P % ',"parameters":{"content_type":"np"}'))
    assert OIP.evidence(read(OIP, {"inputs": [X]}), answer, SERVICE).scores.tolist() == [[0.5, 0.25, 0.25]]
    listed = replace(SERVICE, unmeasured=("took",))
    more = said('{"parameters":{"took":0.5},"outputs":[%s]}' % (P % ""))
    assert OIP.evidence(read(OIP, {"inputs": [X]}), more, listed).rows == 1
