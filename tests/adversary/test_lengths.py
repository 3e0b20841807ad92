"""A thief who weighs the post: the length of an unopened toll tells no label, in any protocol and in both modes."""

from __future__ import annotations

import asyncio
import json
from itertools import cycle

import httpx
import numpy as np
import pytest
import yaml

from modeltoll import wire
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.settings.load import load_settings
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.records import Answer, Leaks
from modeltoll.testing.model_servers import FakeUpstream

LABELS = ("no", "yes", "a label that is much longer than the two others: " + "z" * 60)
MODES = ("sealed", "redeem")
SCORES = [0.97 - 0.1 / 3, 0.02, 0.01 + 0.1 / 3]


def tables(count=3):
    """One row of scores for each label: the same scores in another order, hence of the same leak."""
    return [list(np.roll(SCORES, place)) for place in range(count)]


def best(pairs):
    return [[max(pairs, key=lambda pair: pair["score"])]]


def oip(data, **parameters):
    datatype = "BYTES" if isinstance(data[0], str) else "FP64"
    output = {"name": "p", "shape": [1, len(data)], "datatype": datatype, "data": data}
    return {"model_name": "m", "outputs": [output | ({"parameters": parameters} if parameters else {})]}


def chat(text):
    tokens = [{"token": word, "logprob": -0.5, "top_logprobs": [{"token": word, "logprob": -0.5}]} for word in [text]]
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": {"content": tokens}}
    return {"id": "x", "model": "m", "choices": [choice | {"finish_reason": "stop"}]}


def vllm(table):
    label = LABELS[int(np.argmax(table))]
    return {"id": "x", "model": "m", "data": [{"index": 0, "label": label, "probs": table, "num_classes": 3}]}


PROBABILITIES = {"name": "p", "kind": "probabilities", "labels": list(LABELS)}
TENSOR = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}
TEXT = {"model": "m", "input": "a text"}
MESSAGES = {"model": "m", "messages": [{"role": "user", "content": "which label?"}]}
# protocol and its settings, path, request, one answer for each label
CASES = {
    "labels, top_k 1": (
        {"protocol": "labels", "output": PROBABILITIES | {"partial": True}},
        "/predict",
        {"inputs": "a text", "parameters": {"top_k": 1}},
        [best([{"label": a, "score": b} for a, b in zip(LABELS, table, strict=True)]) for table in tables()],
    ),
    "labels, all": (
        {"protocol": "labels", "output": PROBABILITIES},
        "/predict",
        {"inputs": "a text"},
        [[[{"label": a, "score": b} for a, b in zip(LABELS, table, strict=True)]] for table in tables()],
    ),
    "oip": (
        {"protocol": "oip", "output": PROBABILITIES},
        "/v2/models/m/infer",
        {"inputs": [TENSOR]},
        [oip(table) for table in ([1, 0, 0], [0.0, 1.0, 0.0], [1e-17, 1e-17, 1.0])],
    ),
    "oip, one class shown": (
        {"protocol": "oip", "output": PROBABILITIES},
        "/v2/models/m/infer",
        {"inputs": [TENSOR], "outputs": [{"name": "p", "parameters": {"classification": 1}}]},
        [oip([f"0.95:{place}:{label}"]) for place, label in enumerate(LABELS)],
    ),
    "v1": (
        {"protocol": "v1", "output": PROBABILITIES},
        "/v1/models/m:predict",
        {"instances": [[1, 2]]},
        [{"predictions": [table]} for table in ([1, 0, 0], [0.0, 1.0, 0.0], [1e-17, 1e-17, 1.0])],
    ),
    "mlflow": (
        {"protocol": "mlflow", "output": PROBABILITIES},
        "/invocations",
        {"inputs": [[1, 2]]},
        [{"predictions": [table]} for table in ([1, 0, 0], [0.0, 1.0, 0.0], [1e-17, 1e-17, 1.0])],
    ),
    "json": (
        {
            "protocol": "json",
            "output": PROBABILITIES,
            "json_path": {"route": "/predict", "inputs": "rows", "scores": "scores"},
        },
        "/predict",
        {"rows": [[1, 2]]},
        [{"scores": [table]} for table in ([1, 0, 0], [0.0, 1.0, 0.0], [1e-17, 1e-17, 1.0])],
    ),
    "vllm-classify": (
        {"protocol": "vllm-classify", "output": PROBABILITIES},
        "/classify",
        TEXT,
        [vllm(table) for table in tables()],
    ),
    "chat with a limit": (
        {"protocol": "openai-chat", "output": {"kind": "tokens"}},
        "/v1/chat/completions",
        MESSAGES | {"max_tokens": 8},
        [chat(label) for label in LABELS],
    ),
    "chat without a limit": (
        {"protocol": "openai-chat", "output": {"kind": "tokens"}},
        "/v1/chat/completions",
        MESSAGES,
        [chat(label) for label in LABELS],
    ),
}


@pytest.fixture
def bodies(tmp_path):
    """``bodies(case, mode, disclose)``: the bodies of 12 unopened tolls of the answers in turn."""

    def ask(case, mode, disclose="coarse"):
        model, path, request, answers = CASES[case]
        measure = "tokens" if model["protocol"] == "openai-chat" else "entropy"
        leaks = Leaks((measure,), np.random.default_rng(0).random((400, 1)))
        terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
        costs = RowCosts(undefended_seconds=1e-4, unit_seconds=1e-4)
        save_calibration(fit_calibration("m", leaks, costs, terms), tmp_path / "m.json")
        model = model | {"tariff": "m.json", "measures": [{"name": measure}], "puzzle": {"disclose": disclose}}
        document = {"upstream": {"url": "http://127.0.0.1:1"}, "ledger": {"url": "memory://"}, "models": {"m": model}}
        (tmp_path / "modeltoll.yaml").write_text(yaml.safe_dump(document))
        said = cycle([Answer(200, "application/json", json.dumps(answer).encode()) for answer in answers])
        gateway = build_gateway(load_settings(tmp_path / "modeltoll.yaml"), FakeUpstream(lambda *_: next(said)))

        async def story():
            await gateway.ledger.open()
            transport = httpx.ASGITransport(gateway.public)
            headers = {"toll-accept": f"argon2id, sha256; mode={mode}; receipts"}
            async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as client:
                return [await client.post(path, json=request) for _ in range(12)]

        responses = asyncio.run(story())
        assert {response.status_code for response in responses} == {402}, responses[0].text
        return [response.content for response in responses]

    return ask


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_a_toll_is_as_long_whatever_the_label(bodies, case, mode):
    """195 of 200 labels were told by the length of their seal alone."""
    lengths = [len(wire.decode_toll(body).payload) for body in bodies(case, mode)]
    assert len(set(lengths)) == 1, lengths
    assert lengths[0] > 1024


@pytest.mark.parametrize("mode", MODES)
def test_the_rest_of_a_toll_tells_no_more_than_its_price(bodies, mode):
    """Three labels with the same scores have the same price: the whole of the 402 is as long for each."""
    assert len({len(body) for body in bodies("labels, top_k 1", mode)}) == 1
