"""A model server is found, settings are written for it, and settings are tried before anybody else asks."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace

import numpy as np
import pytest
import yaml
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner

from modeltoll.cli import app
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.protocols.probe import DiscoveredModel
from modeltoll.gateway.protocols.protocol import DeclaredInput
from modeltoll.gateway.settings.load import load_settings
from modeltoll.gateway.setup.settings_template import first_settings
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.testing.model_servers import serving

RUNNER = CliRunner()


def get(path, said):
    return Route(path, lambda _: said if isinstance(said, Response) else JSONResponse(said))


def post(path, answer):
    async def say(request):
        said = answer(json.loads(await request.body() or b"{}"))
        return said if isinstance(said, Response) else JSONResponse(said)

    return Route(path, say, methods=["POST"])


def refused(_):
    return JSONResponse({"error": "no"}, 404)


OK = PlainTextResponse("ok")


def oip(scores, *, lists=True, shape=(-1, 2), ready=OK):
    outputs = [
        {"name": "label", "datatype": "INT64", "shape": [-1, 1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3]},
    ]
    metadata = {"name": "iris", "inputs": [{"name": "x", "datatype": "FP64", "shape": list(shape)}], "outputs": outputs}

    def infer(document):
        rows = document["inputs"][0]["shape"][0]
        data = [float(score) for score in scores] * rows
        output = {"name": "predict_proba", "shape": [rows, 3], "datatype": "FP64", "data": data}
        return {"model_name": "iris", "outputs": [output]}

    return [
        get("/v2/health/ready", ready),
        get("/v2/models/iris", metadata),
        post("/v2/models/iris/infer", infer),
        *([post("/v2/repository/index", lambda _: [{"name": "iris", "state": "READY"}])] if lists else ()),
    ]


def openai(name, **paths):
    routes = [get("/v1/models", {"object": "list", "data": [{"id": name, "object": "model"}]}), get("/health", OK)]
    return [*routes, *(post(f"/{path.replace('__', '/')}", answer) for path, answer in paths.items())]


def classify(document):
    one = {"index": 0, "label": "a", "probs": [0.7, 0.2, 0.1], "num_classes": 3}
    return {"id": "1", "object": "list", "created": 1, "model": document["model"], "data": [one], "usage": {}}


def chat(document):
    token = {"token": "a", "logprob": -0.1, "top_logprobs": [{"token": "a", "logprob": -0.1}]}
    message = {"role": "assistant", "content": "a"}
    choice = {"index": 0, "message": message, "logprobs": {"content": [token]}, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "model": document["model"], "choices": [choice]}


def completion(document):
    lists = {"tokens": ["a"], "token_logprobs": [-0.1], "top_logprobs": [{"a": -0.1}], "text_offset": [0]}
    choice = {"index": 0, "text": "a", "logprobs": lists, "finish_reason": "length"}
    return {"id": "1", "object": "text_completion", "model": document["model"], "choices": [choice]}


def responded(document):
    token = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": [{"token": "a", "logprob": -0.1}]}
    part = {"type": "output_text", "text": "a", "annotations": [], "logprobs": [token]}
    message = {"id": "2", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return {"id": "1", "object": "response", "model": document["model"], "status": "completed", "output": [message]}


TEXTS = {"v1__chat__completions": chat, "v1__completions": completion, "v1__responses": responded}


def embedding(document):
    return {
        "object": "list",
        "model": document["model"],
        "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}],
    }


def tensorflow(document):
    return {"predictions": [[4.0, -2.0]] * len(document["instances"])}


SIGNATURE = {"inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "5"}]}}}}
TENSORFLOW = [
    get("/v1/models/wine", {"model_version_status": [{"state": "AVAILABLE"}]}),
    get("/v1/models/wine/metadata", {"metadata": {"signature_def": {"signature_def": {"serving_default": SIGNATURE}}}}),
    post("/v1/models/wine:predict", tensorflow),
]
TEI = [
    get("/info", {"model_id": "org/mood", "model_type": {"classifier": {"id2label": {"1": "bad", "0": "good"}}}}),
    get("/health", OK),
    post("/predict", lambda _: [{"label": "good", "score": 0.9}, {"label": "bad", "score": 0.1}]),
]
SERVERS = {
    "oip": (
        oip([0.2, 0.3, 0.5]),
        None,
        {"protocol": "oip", "kind": "probabilities", "classes": 3, "name": "predict_proba"},
    ),
    "oip of logits": (oip([2, -3, 0.5]), None, {"protocol": "oip", "kind": "logits", "classes": 3}),
    "oip that lists nothing": (oip([0.2, 0.3, 0.5], lists=False), "iris", {"protocol": "oip", "kind": "probabilities"}),
    "tei": (TEI, None, {"protocol": "labels", "labels": ["good", "bad"]}),
    "tei of embeddings": (
        [get("/info", {"model_id": "org/e", "model_type": {"embedding": {"pooling": "cls"}}})],
        None,
        {"protocol": "openai-embeddings", "served_as": "org/e"},
    ),
    "vllm": (
        openai("org/mood", classify=classify),
        None,
        {"protocol": "vllm-classify", "classes": 3, "served_as": "org/mood"},
    ),
    "embeddings": (openai("e", v1__embeddings=embedding, classify=refused), None, {"protocol": "openai-embeddings"}),
    "chat": (openai("c", v1__chat__completions=chat), None, {"protocol": "openai-chat", "kind": "tokens"}),
    "completions": (
        openai("c", v1__completions=completion),
        None,
        {"protocol": "openai-completions", "kind": "tokens"},
    ),
    "responses": (openai("c", v1__responses=responded), None, {"protocol": "openai-responses", "kind": "tokens"}),
    "chats, completions and responses": (openai("c", **TEXTS), None, {"protocol": "openai", "kind": "tokens"}),
    "tensorflow": (TENSORFLOW, "wine", {"protocol": "v1", "kind": "logits", "classes": 2}),
    "kserve": ([get("/v1/models", {"models": ["wine"]}), *TENSORFLOW], None, {"protocol": "v1", "kind": "logits"}),
    "mlflow": ([get("/ping", OK), get("/version", OK)], None, {"protocol": "mlflow", "kind": "probabilities"}),
}


def init(url, folder, *options):
    return RUNNER.invoke(app, ["init", url, "--out", str(folder / "modeltoll.yaml"), *options])


@pytest.mark.parametrize("server", SERVERS)
def test_settings_for_every_kind_of_server_can_be_used_as_they_are_written(server, tmp_path):
    routes, model, expected = SERVERS[server]
    with serving(Starlette(routes=routes)) as url:
        run = init(url, tmp_path, *(["--model", model] if model else []))
    assert run.exit_code == 0, run.output
    settings = load_settings(tmp_path / "modeltoll.yaml")
    ((name, found),) = settings.models.items()
    shown = json.loads(found.model_dump_json()) | json.loads(found.output.model_dump_json())
    assert {member: shown[member] for member in expected} == expected
    assert (found.mode, settings.upstream.url) == ("shadow", url)
    assert name in (model, "iris", "mood", "e", "c", "wine", "model")


def test_what_was_not_seen_in_an_answer_is_marked_in_the_file_and_said(tmp_path):
    with serving(Starlette(routes=[get("/ping", OK), get("/version", OK)])) as url:
        run = init(url, tmp_path)
    assert "NOT SURE" in (tmp_path / "modeltoll.yaml").read_text()
    assert "no answer was seen" in run.stderr
    with serving(Starlette(routes=oip([0.2, 0.3, 0.5]))) as url:
        init(url, tmp_path, "--force")
    text = (tmp_path / "modeltoll.yaml").read_text()
    assert "NOT SURE" not in text
    assert '"label" beside it is refused' in text


def test_a_file_that_is_there_is_not_overwritten_unasked(tmp_path):
    (tmp_path / "modeltoll.yaml").write_text("mine")
    run = init("http://127.0.0.1:1", tmp_path)
    assert (run.exit_code, (tmp_path / "modeltoll.yaml").read_text()) == (2, "mine")


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [("http://127.0.0.1:1", 1, "does not answer"), ("ftp://x", 2, "URL:"), ("http://u:p@x", 2, "without user")],
)
def test_an_address_that_is_none_and_one_that_nobody_answers_are_told_apart(tmp_path, url, code, said):
    run = init(url, tmp_path)
    assert (run.exit_code, said in run.stderr, list(tmp_path.iterdir())) == (code, True, [])


@pytest.mark.parametrize(
    "said", [PlainTextResponse("<html>"), JSONResponse([[[]]]), JSONResponse({"data": [{"id": 3}]})]
)
@pytest.mark.parametrize("options", [[], ["--model", "x"]])
def test_a_server_of_something_else_is_said_to_be_not_known(tmp_path, said, options):
    async def anything(_):
        return Response(said.body, 404 if options else 200, media_type=said.media_type)

    routes = [Route(path, anything) for path in ("/", "/info", "/v1/models", "/v2/models/{name}", "/v1/models/x")]
    with serving(Starlette(routes=routes)) as url:
        run = init(url, tmp_path, *options)
    assert (run.exit_code, "Traceback" in run.output) == (1, False)
    assert "--model" in run.stderr or "protocol: json" in run.stderr


def named(settings):
    ((_, model),) = settings.models.items()
    return [(one.name, one.width, one.datatype) for one in model.inputs]


MLFLOW_REFUSAL = (
    "Failed to enforce schema of data 'Empty DataFrame' with schema '['petal length (cm)': double (required), "
    "'n': long (optional)]'. Error: Model is missing inputs ['petal length (cm)']."
)
MLFLOW = [
    get("/ping", OK),
    get("/version", OK),
    post("/invocations", lambda _: JSONResponse({"error_code": "BAD_REQUEST", "message": MLFLOW_REFUSAL}, 400)),
]
INPUTS = {
    "oip": (oip([0.2, 0.3, 0.5]), None, [("x", 2, "FP64")]),
    "oip of unknown width": (oip([0.2, 0.3, 0.5], shape=(-1, -1)), None, [("x", None, "FP64")]),
    "tensorflow": (TENSORFLOW, "wine", [("x", 5, "")]),
    "mlflow": (MLFLOW, None, [("petal length (cm)", 1, ""), ("n", 1, "")]),
    "mlflow without signature": (MLFLOW[:2], None, []),
}


@pytest.mark.parametrize("server", INPUTS)
def test_the_named_inputs_are_written_as_the_server_describes_them(server, tmp_path):
    routes, model, expected = INPUTS[server]
    with serving(Starlette(routes=routes)) as url:
        run = init(url, tmp_path, *(["--model", model] if model else []))
    assert run.exit_code == 0, run.output
    assert named(load_settings(tmp_path / "modeltoll.yaml")) == expected


def test_what_the_server_does_not_say_is_there_as_a_comment_that_can_be_used(tmp_path):
    """How a chat's log-probabilities are meant, and the inputs of a model in a protocol that names them."""
    path, chat = tmp_path / "modeltoll.yaml", DiscoveredModel("m", "openai-chat", "tokens")
    path.write_text(first_settings("http://h:1", [chat]))
    assert load_settings(path).models["m"].output.logprobs == "tempered"
    (line,) = [line for line in path.read_text().splitlines() if "logprobs: raw" in line]
    hint = line.removeprefix("    # ").partition(". ")[0]
    path.write_text(path.read_text().replace("output: {kind: tokens}", hint))
    assert load_settings(path).models["m"].output.logprobs == "raw"

    path.write_text(first_settings("http://h:1", [DiscoveredModel("m", "v1", "probabilities")]))
    assert named(load_settings(path)) == []
    path.write_text(path.read_text().replace("# inputs: ", "inputs: "))
    assert named(load_settings(path)) == [("x", 4, "")]

    others = [DiscoveredModel("m", "labels", "probabilities", labels=("a", "b")), DiscoveredModel("m", "oip", "logits")]
    text = first_settings("http://h:1", [others[0], replace(others[1], inputs=(DeclaredInput("x"),))])
    assert "# inputs" not in text
    assert "logprobs" not in text


@pytest.mark.parametrize("name", ["ordinary", "org/name with: {odd} #signs", 'quote"\\', "ünïcode", "-x", "."])
def test_any_name_of_a_model_can_be_written(tmp_path, name):
    path = tmp_path / "modeltoll.yaml"
    for find in (
        DiscoveredModel(name, "openai-chat", "tokens"),
        DiscoveredModel(name, "labels", "probabilities", labels=(name, "b")),
    ):
        path.write_text(first_settings("http://h:1", [find]), encoding="utf-8")
        ((key, model),) = load_settings(path).models.items()
        assert key == find.setting
        assert model.served_as in (None, name)


# check


@pytest.fixture
def place(tmp_path, calibration):
    """Writes settings for a URL into a folder with a tariff of the model ``digits``; returns their path."""
    save_calibration(calibration, tmp_path / "tariff.json")

    def write(url, **members):
        digits = {
            "tariff": "tariff.json",
            "output": {"name": "p", "kind": "probabilities"},
            "measures": [{"name": "entropy"}],
        }
        document = {"upstream": {"url": url}, "models": {"digits": digits | members}}
        (tmp_path / "modeltoll.yaml").write_text(yaml.safe_dump(document))
        return tmp_path / "modeltoll.yaml"

    return write


def digits(scores=(0.97, 0.01, 0.01, 0.01), ready=OK, shape=(-1, 2)):
    metadata = {"name": "digits", "inputs": [{"name": "x", "datatype": "FP64", "shape": list(shape)}]}

    def infer(document):
        rows = document["inputs"][0]["shape"][0]
        return {"outputs": [{"name": "p", "shape": [rows, 4], "datatype": "FP64", "data": list(scores) * rows}]}

    return Starlette(
        routes=[
            get("/v2/health/ready", ready),
            get("/v2/models/digits", metadata),
            post("/v2/models/digits/infer", infer),
        ]
    )


def check(path, *options):
    return RUNNER.invoke(app, ["check", str(path), *options])


def test_each_route_is_asked_and_said_to_measure_and_cost_so_much(place, calibration):
    with serving(digits()) as url:
        run = check(place(url), "--json", "-")
    assert run.exit_code == 0, run.stderr
    said = json.loads(run.stdout)
    (tried,) = said["models"]
    assert (tried["route"], tried["rows"], tried["faults"]) == ("/v2/models/digits/infer", 64, [])
    assert 0 < tried["leaks"]["entropy"] < 0.5
    assert tried["unit_seconds"] == calibration.unit_seconds
    assert 0 < tried["price_seconds"] < calibration.unit_seconds
    assert [share for share, _ in tried["waits"]] == [share for share, _ in calibration.report.waits]
    assert said["ledger"] == "not there yet: made when the gateway starts"
    assert not list(place(url).parent.glob("*.db*"))  # to look makes nothing


def test_the_table_says_it_to_people(place):
    with serving(digits()) as url:
        run = check(place(url))
    assert "leak of its rows by entropy, mean" in run.stdout
    assert "unit: the most that an honest row costs on average" in run.stdout
    assert "All checks passed" in run.stderr


FAULTS = {
    "down": (None, {}, "does not answer"),
    "not ready": (digits(ready=PlainTextResponse("", 503)), {}, "not ready"),
    "another output": (digits(), {"output": {"name": "q", "kind": "probabilities"}}, "does not hold the output"),
    "no probabilities": (digits(scores=(5.0, 1.0, 1.0, 1.0)), {}, "sum"),
    "of unknown width": (digits(shape=(-1, -1)), {}, "give rows with --inputs"),
    "other inputs": (digits(), {"inputs": ["y"]}, "inputs: the model has x"),
    "an input too many": (digits(), {"inputs": ["x", "y"]}, "inputs: the model has x"),
    "another width": (digits(), {"inputs": [{"name": "x", "width": 3}]}, "has 2 values, not 3"),
    "another datatype": (digits(), {"inputs": [{"name": "x", "datatype": "FP32"}]}, "is of datatype FP64, not FP32"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_would_not_work_is_said_and_fails(place, fault):
    server, members, said = FAULTS[fault]
    if server is None:
        run = check(place("http://127.0.0.1:1"))
    else:
        with serving(server) as url:
            run = check(place(url, **members))
    assert run.exit_code == 1
    assert "failed:" in run.stderr
    assert said in " ".join(run.stderr.split())


def test_inputs_that_are_not_declared_are_a_notice(place):
    with serving(digits()) as url:
        without, declared = check(place(url)), check(place(url, inputs=[{"name": "x", "width": 2, "datatype": "FP64"}]))
    assert (without.exit_code, declared.exit_code) == (0, 0)
    assert "digits.inputs: not declared" in " ".join(without.stderr.split())
    assert "not declared" not in declared.stderr


def test_rows_may_be_given(place, tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((20, 2)))
    with serving(digits(shape=(-1, -1))) as url:
        run = check(place(url), "--inputs", str(tmp_path / "rows.npy"), "--json", "-")
    assert json.loads(run.stdout)["models"][0]["rows"] == 20


def test_recorded_requests_may_be_given_and_a_table_by_its_names(place, tmp_path):
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}], "outputs": [{"name": "p"}]}
    (tmp_path / "log.jsonl").write_text(f"{json.dumps(body)}\n" * 3)
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,4\n")
    with serving(digits()) as url:
        path = place(url, inputs=[{"name": "x", "width": 2}])
        runs = [
            check(path, *option, "--json", "-")
            for option in (("--requests", str(tmp_path / "log.jsonl")), ("--inputs", str(tmp_path / "rows.csv")))
        ]
    assert [json.loads(run.stdout)["models"][0]["rows"] for run in runs] == [3, 2]


def test_the_time_is_that_of_a_row_with_its_interval(place):
    with serving(digits()) as url:
        found = json.loads(check(place(url), "--json", "-").stdout)["models"][0]["row_time"]
    assert 0 < found["low"] <= found["seconds"] <= found["high"]
    assert found["requests"] >= 20


def test_rounded_scores_are_measured_and_the_tolerance_that_they_need_is_proposed(place):
    rounded = (0.96, 0.02, 0.02, 0.004)  # they sum to 1.004
    with serving(digits(scores=rounded)) as url:
        refused = check(place(url))
        path = place(url, output={"name": "p", "kind": "probabilities", "tolerance": 0.01})
        passed = check(path, "--json", "-")
    assert refused.exit_code == 1
    assert "output.tolerance: 0.01 suits these 64 answers" in " ".join(refused.stderr.split())
    assert (passed.exit_code, json.loads(passed.stdout)["models"][0]["tolerance"]) == (0, 0.01)


def test_a_model_server_that_is_down_is_one_plain_line(place):
    run = check(place("http://127.0.0.1:1"))
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("failed:")]
    assert line.startswith("failed: the model server does not answer at http://127.0.0.1:1: is it running?")
    assert run.exit_code == 1


def test_what_serve_would_say_is_said_and_one_address_for_both_sides_is_a_fault(place):
    with serving(digits()) as url, socket.create_server(("127.0.0.1", 0)) as taken:
        path = place(url)
        document = yaml.safe_load(path.read_text()) | {"listen": f"127.0.0.1:{taken.getsockname()[1]}"}
        path.write_text(yaml.safe_dump(document))
        said = check(path)
        path.write_text(yaml.safe_dump(document | {"admin": document["listen"]}))
        same = check(path)
    notices = [line.removeprefix("note: ") for line in said.stderr.splitlines() if line.startswith("note: ")]
    assert set(build_gateway(load_settings(place(url))).warnings) <= set(notices)
    assert any("cannot listen on" in notice and f"process {os.getpid()}" in notice for notice in notices)
    assert (said.exit_code, same.exit_code) == (0, 2)
    assert "callers would reach the admin side" in " ".join(same.stderr.split())


def test_settings_that_cannot_be_used_are_a_wrong_command(place, tmp_path):
    path = place("http://127.0.0.1:1", measures=[{"name": "nothing"}])
    assert check(path).exit_code == 2
    assert check(tmp_path / "nowhere.yaml").exit_code == 2


def test_a_ledger_that_cannot_be_used_fails(place):
    path = place("http://127.0.0.1:1")
    (path.parent / "modeltoll.db").write_bytes(b"no database at all, but a text of some length" * 10)
    run = check(path)
    assert run.exit_code == 1
    assert "ledger:" in run.stderr


def test_models_of_texts_are_asked_a_sentence(tmp_path):
    texts = [openai("c", **{name: TEXTS[name]}) for name in TEXTS]
    for routes in (TEI, *texts, openai("c", **TEXTS), openai("org/mood", classify=classify)):
        with serving(Starlette(routes=routes)) as url:
            assert init(url, tmp_path, "--force").exit_code == 0
            run = check(tmp_path / "modeltoll.yaml", "--json", "-")
        assert run.exit_code == 0, run.stderr
        (tried,) = json.loads(run.stdout)["models"]
        assert tried["rows"] == 1
        assert min(tried["leaks"].values()) >= 0
        assert tried["unit_seconds"] is None


def schema_of(**members):
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Question"}}}}
    question = {"type": "object", "properties": members}
    return {
        "paths": {"/classify": {"post": {"requestBody": body}}},
        "components": {"schemas": {"Question": question}},
    }


def test_a_service_that_openapi_describes_is_found_by_its_path_and_passes_check(tmp_path):
    def answer(document):
        return {"scores": {"bad": 0.25, "good": 0.75}, "label": "good"} if document["text"] else refused(document)

    routes = [get("/openapi.json", schema_of(text={"type": "string"})), get("/health", OK), post("/classify", answer)]
    with serving(Starlette(routes=routes)) as url:
        assert init(url, tmp_path, "--path", "/elsewhere").exit_code == 1
        found, run = init(url, tmp_path, "--path", "/classify"), check(tmp_path / "modeltoll.yaml", "--json", "-")
    assert found.exit_code == 0, found.output
    model = load_settings(tmp_path / "modeltoll.yaml").models["classify"]
    assert (model.json_path.scores, model.json_path.ready) == ("scores.[bad, good]", "/health")
    assert (model.output.classes, model.output.unmeasured) == (2, ("label",))
    assert run.exit_code == 0, run.stderr
