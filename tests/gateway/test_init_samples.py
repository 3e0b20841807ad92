"""What init learns of servers that need a certain request: MLflow's signatures, models without a dimension of rows, FastAPI."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from modeltoll.gateway.protocols.protocol import DeclaredInput
from modeltoll.gateway.settings.load import load_settings
from modeltoll.gateway.setup.check import check_gateway
from modeltoll.gateway.setup.discover import NothingDiscovered, discover
from modeltoll.gateway.setup.settings_template import first_settings
from modeltoll.records import Answer
from modeltoll.testing.model_servers import FakeUpstream, serving

COLUMNS = (
    "['age': double (optional), 'married': boolean (required), 'job': string (optional), 'since': datetime (required)]"
)
TENSOR = "[Tensor('float64', (-1, 2, 3))]"


def answer(document, status=200):
    return Answer(status, "application/json", json.dumps(document).encode())


def mlflow(signature, predictions, seen=None):
    """A scoring server as MLflow's: its refusal of an empty frame shows the model's signature."""

    def says(path, body):
        if path in ("/", "/ping", "/version"):
            return answer({})
        if path != "/invocations" or not body:
            return answer({}, 404)
        document = json.loads(body)
        if document == {"dataframe_split": {"columns": [], "data": []}}:
            message = f"Failed to enforce schema of data 'Empty' with schema '{signature}'. Error: Input is empty."
            return answer({"error_code": "INVALID_PARAMETER_VALUE", "message": message}, 400)
        if seen is not None:
            seen.append(document)
        return answer({"predictions": predictions})

    return FakeUpstream(says)


def found(upstream):
    (one,) = asyncio.run(discover(upstream, None))
    return one


def test_mlflows_typed_columns_are_asked_with_values_of_their_types():
    seen = []
    one = found(mlflow(COLUMNS, [[0.2, 0.5, 0.3]], seen))
    assert (one.kind, one.classes, one.guessed) == ("probabilities", 3, "")
    assert one.inputs == tuple(DeclaredInput(name, 1) for name in ("age", "married", "job", "since"))
    ((row,),) = [request["dataframe_split"]["data"] for request in seen]
    assert [type(value) for value in row] == [float, bool, str, str]


def test_mlflows_tensors_are_asked_with_tensors_of_their_shape():
    seen = []
    one = found(mlflow(TENSOR, [[3.0, -1.0]] * 4, seen))
    assert (one.kind, one.classes, one.guessed, one.inputs) == ("logits", 2, "", ())
    assert np.asarray(seen[0]["inputs"]).shape == (4, 2, 3)


@pytest.mark.parametrize("predictions", [[0], ["spam"]])
def test_a_model_that_answers_labels_is_marked_with_what_makes_it_answer_probabilities(predictions):
    one = found(mlflow(COLUMNS, predictions))
    assert one.kind == "labels"
    assert "predict_proba" in one.guessed
    assert "NOT SURE" in first_settings("http://h:1", [one])


@pytest.mark.parametrize("signature", ["['tags': Array(string) (required)]", "none", ""])
def test_a_signature_that_no_sample_is_known_for_leaves_the_answer_open(signature):
    one = found(mlflow(signature, [[0.5, 0.5]]))
    assert "no answer was seen" in one.guessed


def without_rows(path, body):
    """A model of one row a request, as Triton's without batches: shapes do not begin with -1."""
    if path != "/v2/models/plain/infer":
        tensor = {"name": "x", "datatype": "FP32", "shape": [2, 3]}
        described = {"name": "plain", "inputs": [tensor], "outputs": [{**tensor, "name": "p", "shape": [4]}]}
        return answer([{"name": "plain"}] if path.endswith("/index") else described)
    (tensor,) = json.loads(body)["inputs"]
    if tensor["shape"] != [2, 3]:
        return answer({"error": f"unexpected shape for input 'x': {tensor['shape']}"}, 400)
    scores = np.exp(np.asarray(tensor["data"])[:4])
    output = {"name": "p", "datatype": "FP32", "shape": [4], "data": (scores / scores.sum()).tolist()}
    return answer({"model_name": "plain", "outputs": [output]})


def test_a_model_without_a_dimension_of_rows_is_found_and_its_settings_pass_the_check(tmp_path):
    one = found(FakeUpstream(without_rows))
    assert (one.kind, one.classes, one.guessed, one.batched) == ("probabilities", 4, "", False)
    assert one.inputs == (DeclaredInput("x", 6, "FP32"),)

    async def application(scope, receive, send):
        message = await receive()
        said = without_rows(scope["path"], message.get("body", b""))
        await send(
            {"type": "http.response.start", "status": said.status, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": said.body})

    with serving(application) as url:
        (tmp_path / "modeltoll.yaml").write_text(first_settings(url, [one]))
        settings = load_settings(tmp_path / "modeltoll.yaml")
        assert not settings.models["plain"].batched
        report = asyncio.run(check_gateway(settings))
    assert report.good, report


def test_a_server_with_services_of_its_own_is_refused_with_their_paths_and_none_of_them_is_asked():
    asked = []
    body = {"requestBody": {"content": {"application/json": {"schema": {}}}}}
    paths = {
        "/classify": {"post": body},
        "/upload": {"post": {"requestBody": {"content": {"multipart/form-data": {}}}}},
    }
    paths |= {"/health": {"get": {}}, "/users/{id}": {"post": body}}

    def says(path, body):
        asked.append((path, body))
        return answer({"openapi": "3.1.0", "paths": paths}) if path == "/openapi.json" else answer({}, 404)

    with pytest.raises(NothingDiscovered, match=r"with --path /classify$"):
        asyncio.run(discover(FakeUpstream(says), None))
    assert all(path != "/classify" for path, _ in asked)
