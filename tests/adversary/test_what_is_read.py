"""A thief who writes the same rows in other ways: order, names and unknown members change no price."""

from __future__ import annotations

import json

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from laboratory import KEYS, MODEL
from modeltoll.gateway.protocols.label_lists import LabelLists
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.leak.gap import GapMeasure
from modeltoll.records import Answer
from modeltoll.testing.model_servers import serving

MEASURES = (EntropyMeasure(partial=True), GapMeasure(partial=True))
LABELLED = ServiceDescription("m", "", "probabilities", 2, labels=("yes", "no"))
PARTS = {"top": slice(0, 32), "bottom": slice(32, 64)}
INPUTS = [{"name": name, "width": 32, "datatype": "FP64"} for name in PARTS]


def by_name(rows, *names, **members):
    """A request that lists two halves of each row in that order, each under its name."""
    rows = np.atleast_2d(rows)
    parts = [(name, rows[:, PARTS[name]]) for name in names]
    tensors = [
        {"name": name, "shape": list(part.shape), "datatype": "FP64", "data": part.ravel().tolist()}
        for name, part in parts
    ]
    return json.dumps({"inputs": tensors} | members).encode()


@pytest.fixture(scope="module")
def dual(laboratory, victim):
    """``(gateway, bodies)``: the victim with two tensors of one width, which it reads by their names; what reached it."""
    bodies = []

    async def infer(request):
        bodies.append(await request.body())
        tensors = {one["name"]: np.reshape(one["data"], one["shape"]) for one in json.loads(bodies[-1])["inputs"]}
        scores = victim.scores(np.hstack([tensors[name] for name in PARTS]))
        output = {"name": "p", "shape": list(scores.shape), "datatype": "FP64", "data": scores.ravel().tolist()}
        return JSONResponse({"model_name": MODEL, "outputs": [output]})

    async def ready(_):
        return JSONResponse({"ready": True})

    routes = [Route(f"/v2/models/{MODEL}/infer", infer, methods=["POST"]), Route("/v2/health/ready", ready)]
    settings = laboratory.settings()
    settings["models"][MODEL]["inputs"] = INPUTS
    with serving(Starlette(routes=routes)) as upstream:
        settings["upstream"] = {"url": upstream}
        with laboratory.gateway(settings=settings) as gateway:
            yield gateway, bodies


def test_the_order_in_which_inputs_are_listed_changes_no_price(dual, thief, victim):
    """Rows with their halves swapped, which are far from the data: 3.6 s in the other order instead of 153.5 s."""
    gateway, _ = dual
    swapped = np.roll(
        victim.test[:6], 32, axis=1
    )  # fewer than those that raise suspicion, whose ties are broken by chance
    prices = []
    for key, names in zip(KEYS, (("top", "bottom"), ("bottom", "top")), strict=False):
        client = thief(gateway, key).client
        before = len(gateway.log())
        answers = [client.post(f"/v2/models/{MODEL}/infer", content=by_name(row, *names)) for row in swapped]
        assert {answer.status_code for answer in answers} == {402}
        prices.append([line["work_seconds"] for line in gateway.log()[before:]])
    assert prices[0] == prices[1]
    assert len(prices[0]) == len(swapped)


def test_requests_that_the_model_could_read_otherwise_do_not_reach_it(dual, thief, victim):
    gateway, bodies = dual
    client, row = thief(gateway, KEYS[2]).client, victim.test[0]
    plain = by_name(row, "top", "bottom")
    refused = [
        by_name(row, "top", "top"),
        by_name(row, "top", "bottom", "top"),
        by_name(row, "top"),
        by_name(row, "top", "bottom", parameters={"temperature": 0}),
        by_name(row, "top", "bottom", seed=1),
        by_name(row, "top", "bottom", outputs=[{"name": "hidden"}]),
        plain.replace(b'"name": "bottom"', b'"name": "middle"'),
        plain.replace(b"[1, 32]", b"[1, 31]").replace(b"0.0, ", b"", 2),
        plain.replace(b'"inputs"', b'"inputs": [], "inputs"'),
        plain.replace(b"[0.0", b"[1e999", 1),
        plain + b"{}",
    ]
    before = len(bodies)
    for body in refused:
        answer = client.post(f"/v2/models/{MODEL}/infer", content=body)
        assert (answer.status_code, "toll" in answer.json()) == (400, False), answer.text
    assert len(bodies) == before
    assert client.post(f"/v2/models/{MODEL}/infer", content=plain).status_code == 402


def test_a_row_of_another_width_does_not_reach_the_model(laboratory, thief, victim):
    """The settings declare no inputs: the width of the measures' private data decides."""
    with laboratory.gateway() as gateway:
        thief, before = thief(gateway, KEYS[3]), len(laboratory.server.bodies)
        for width in (1, 63):
            answer = thief.ask(victim.test[0][:width])
            assert answer.status_code == 400
            assert f"{width} numbers" in answer.text
        assert len(laboratory.server.bodies) == before


def test_asking_for_one_class_makes_no_row_cheaper():
    """Patches of photographs cost 12 units with all classes, and 0.8 with the classification extension."""
    service = ServiceDescription("m", "p", "probabilities", classes=10, labels=tuple("abcdefghij"))
    protocol, rng = OpenInference(), np.random.default_rng(0)
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}
    for scores in rng.dirichlet(np.full(10, 0.5), 20):
        ranked = np.argsort(-scores)
        leaks = []
        for shown in (10, 5, 2, 1):
            outputs = [{"name": "p", "parameters": {"classification": shown}}]
            parsed = protocol.read(json.dumps({"inputs": [tensor], "outputs": outputs}).encode(), service)
            items = [f"{scores[place]}:{place}:{service.labels[place]}" for place in ranked[:shown]]
            output = {"name": "p", "shape": [1, shown], "datatype": "BYTES", "data": items}
            answer = Answer(200, "application/json", json.dumps({"outputs": [output]}).encode())
            evidence = protocol.evidence(parsed, answer, service)
            leaks.append([measure.measure(evidence)[0] for measure in MEASURES])
        assert (np.diff(leaks, axis=0) >= -1e-9).all()


def test_a_text_that_a_server_reads_with_another_one_is_another_row():
    """Text Embeddings Inference reads a list of two texts as one pair: n texts must not give n * n known rows."""

    def prints(*texts):
        return LabelLists().read(json.dumps({"inputs": texts}).encode(), LABELLED).fingerprints

    (alone,) = prints("a")
    pairs = [prints("a", "b"), prints("a", "c"), prints("b", "a")]
    assert len({alone, *(one for pair in pairs for one in pair)}) == 7
    assert prints("a", "b", "c")[0] == alone
