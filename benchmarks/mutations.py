"""Sends mutated requests through whole gateways: nothing may crash, and nothing may be released without its toll.

    python benchmarks/mutations.py [--grpc] [--requests 100000] [--seed 0] [--json results/benchmarks/mutations.json]

For each serving protocol but embeddings (whose measure needs private vectors) there is a gateway in front of a fake model
server that accepts everything. Requests of the protocol are cut, doubled, changed byte by byte and member by member (values of other
kinds, giant and rounded numbers, deep nesting, members doubled, renamed, added, removed and in another order), and sent through the ASGI application. A fault is an exception, a status of 500, a traceback in an answer, a status that the
gateway never sends, or an answer of the model server without a toll. ``--grpc``: calls over gRPC instead (``grpc_mutations.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import yaml

from modeltoll import wire
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.settings.load import load_settings
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.records import Answer, Leaks
from modeltoll.testing.model_servers import FakeUpstream
from modeltoll.testing.protocol_mutations import json_mutation

SCORES, SECRET = [0.97, 0.01, 0.01, 0.01], "secret-of-the-model"
LABELS = ["cat", "dog", "eel", "fox"]
EXPECTED = {400, 401, 402, 404, 405, 413, 502, 503}

ENTROPY = {"output": {"kind": "probabilities"}, "measures": [{"name": "entropy"}]}
TENSOR = {"name": "x", "shape": [2, 2], "datatype": "FP32"}
RAW = np.array([1, 2, 3, 4], "<f4").tobytes()
HEAD = json.dumps({"inputs": [{**TENSOR, "parameters": {"binary_data_size": 16}}]}).encode()


def answer_with_secret(document):
    """A handler that always answers with this document and a secret."""
    return answer_with({**document, "secret": SECRET})


def answer_with(document):
    """A handler that always answers with this document."""
    answer = Answer(200, "application/json", json.dumps(document).encode())
    return lambda _path, _body: answer


LIKELY = {"token": "a", "logprob": -0.1}
CHAT = {"message": {"content": "a"}, "logprobs": {"content": [{**LIKELY, "top_logprobs": [LIKELY]}]}}
# Per protocol: the model's settings, a request's path, bodies and headers, and the model server's answer.
CASES = {
    "oip": (
        {**ENTROPY, "output": {"name": "p", "kind": "probabilities", "classes": 4, "unmeasured": ["secret"]}},
        "/v2/models/m/infer",
        [
            ({}, json.dumps({"inputs": [{**TENSOR, "data": [1, 2, 3, 4]}]}).encode()),
            ({"inference-header-content-length": str(len(HEAD))}, HEAD + RAW),
        ],
        answer_with(
            {
                "id": SECRET,
                "parameters": {"secret": SECRET},
                "outputs": [{"name": "p", "shape": [2, 4], "datatype": "FP64", "data": SCORES * 2}],
            }
        ),
    ),
    "v1": (
        {**ENTROPY, "protocol": "v1"},
        "/v1/models/m:predict",
        [
            ({}, b'{"instances": [[1, 2], [3, 4]]}'),
            ({}, b'{"instances": [{"x": 1, "b": {"b64": "YQ=="}}, {"x": 2, "b": {"b64": "Yg=="}}]}'),
        ],
        answer_with({"predictions": [SCORES, SCORES]}),
    ),
    "mlflow": (
        {**ENTROPY, "protocol": "mlflow"},
        "/invocations",
        [
            ({}, b'{"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}'),
            ({}, b'{"dataframe_records": [{"a": 1, "b": "x"}, {"a": 2, "b": null}]}'),
        ],
        answer_with({"predictions": [SCORES, SCORES]}),
    ),
    "labels": (
        {
            "output": {"kind": "probabilities", "labels": LABELS},
            "measures": [{"name": "entropy"}],
            "protocol": "labels",
        },
        "/predict",
        [({}, b'{"inputs": ["a", "b"], "parameters": {"top_k": 2}}')],
        answer_with([[{"label": label, "score": p} for label, p in zip(LABELS, SCORES, strict=True)]] * 2),
    ),
    "vllm-classify": (
        {**ENTROPY, "protocol": "vllm-classify"},
        "/classify",
        [({}, b'{"model": "m", "input": ["a", "b"]}')],
        answer_with({"id": SECRET, "data": [{"index": 0, "probs": SCORES}, {"index": 1, "probs": SCORES}]}),
    ),
    "openai-chat": (
        {"output": {"kind": "tokens"}, "measures": [{"name": "tokens"}], "protocol": "openai-chat"},
        "/v1/chat/completions",
        [({}, b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "logprobs": true, "top_logprobs": 2}')],
        answer_with({"id": SECRET, "choices": [{"index": 0, **CHAT}]}),
    ),
    "json": (
        {
            **ENTROPY,
            "output": {"kind": "probabilities", "unmeasured": ["secret"]},
            "protocol": "json",
            "json_path": {"route": "/p", "inputs": "rows[*].x", "scores": "scores"},
        },
        "/p",
        [({}, b'{"rows": [{"x": [1, 2]}, {"x": [3, 4]}]}')],
        answer_with_secret({"scores": [SCORES, SCORES]}),
    ),
}

PIECES = [b"NaN", b"1e999", b"-0", b"null", b"[]", b"{}", b'""', b"[[", b"]]", b'"b64"', b"\xff", b"\x00", b"9" * 400]
PIECES += [b'"a":1,"a":2', b"\\ud800", b"true", b"[" * 500, b",", b":", b"{", b"}", b'"', b"-1", b"0.5", b'{"b64":"?"}']


def mutated(body: bytes, rng: random.Random) -> bytes:
    """The body after one to four random changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        start = rng.randrange(len(body) + 1)
        end = min(len(body), start + rng.randrange(12))
        match rng.randrange(6):
            case 0:
                body = body[:start]
            case 1:
                body = body[:start] + body[end:]
            case 2:
                body = body[:start] + rng.choice(PIECES) + body[end:]
            case 3:
                body = body[:start] + rng.randbytes(rng.randrange(4)) + body[start:]
            case 4:
                body = body[:end] + body[start:]
            case 5:
                flipped = bytearray(body or b" ")
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
                body = bytes(flipped)
    return body


def mutations_of_json(bodies, seed):
    """Mutations of the members and values of some bodies, without end."""
    generator = np.random.default_rng(list(seed.encode()))
    while True:
        for body in bodies:
            yield json_mutation(body, generator)


async def post(app, path, headers, body):
    """The status and the body of the answer to one request."""
    messages, pending = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return pending.pop() if pending else {"type": "http.disconnect"}

    async def send(message):
        messages.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "client": ("192.0.2.1", 1), "server": ("toll", 80),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    await app(scope, receive, send)
    return messages[0]["status"], b"".join(message.get("body", b"") for message in messages[1:])


def save_tariff(path, measure="entropy"):
    """Write a tariff whose honest rows leak between 0 and 1."""
    leaks = Leaks((measure,), np.random.default_rng(0).random((400, 1)))
    terms = CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=0.0))
    costs = RowCosts(undefended_seconds=1e-5, unit_seconds=1e-5)
    save_calibration(fit_calibration("m", leaks, costs, terms), path)


def build(folder, name):
    """A gateway, and the fake model server behind it."""
    model, _, _, handler = CASES[name]
    save_tariff(folder / "m.json", model["measures"][0]["name"])
    document = {
        "upstream": {"url": "app"},
        "ledger": {"url": "memory://"},
        "models": {"m": {**model, "tariff": "m.json", "puzzle": {"allow": ["sha256"]}}},
    }
    (folder / "modeltoll.yaml").write_text(yaml.safe_dump(document))
    upstream = FakeUpstream(handler)
    return build_gateway(load_settings(folder / "modeltoll.yaml"), upstream), upstream


async def attack(name, requests, seed):
    """The statuses of mutated requests, and the faults."""
    rng, statuses, faults = random.Random(f"{seed}-{name}"), Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        gateway, upstream = build(Path(folder), name)
    _, path, samples, _ = CASES[name]
    json_mutations = mutations_of_json([body for headers, body in samples if not headers], f"{seed}-{name}")
    async with gateway.open():
        for headers, body in samples:
            status, answer = await post(gateway.public, path, headers, body)
            if status != wire.STATUS:
                raise SystemExit(f"{name}: the request itself got {status}: {answer.decode()}")
        for number in range(requests):
            headers, body = samples[number % len(samples)]
            if headers and rng.random() < 0.2:
                headers = {
                    key: mutated(value.encode(), rng).decode("latin-1", "replace") for key, value in headers.items()
                }
                headers = {key: "".join(c for c in value if " " <= c <= "~") for key, value in headers.items()}
            changed = next(json_mutations) if number % 2 and not headers else mutated(body, rng)
            try:
                status, answer = await post(gateway.public, path, headers, changed)
            except Exception as error:  # noqa: BLE001  it is what is looked for
                faults.append((repr(error), changed))
                continue
            statuses[status] += 1
            if status not in EXPECTED or b"Traceback" in answer or SECRET.encode() in answer:
                faults.append((f"{status}: {answer[:200]!r}", changed))
            upstream.requests.clear()
            if sys.stderr.isatty() and number % 500 == 0:
                print(f"\r{name}: {number}/{requests}", end="", file=sys.stderr, flush=True)
    return statuses, faults


def attack_grpc(case, calls, seed):
    """The same over gRPC, where it is asked for: its packages are an extra."""
    import grpc_mutations  # noqa: PLC0415

    model = {**CASES["oip"][0], "tariff": "m.json", "puzzle": {"allow": ["sha256"]}}
    return grpc_mutations.attack(case, calls, seed, model, save_tariff)


def main() -> None:
    """Attack every protocol."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grpc", action="store_true")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.getLogger("modeltoll").setLevel(logging.CRITICAL)  # answers that do not fit are meant here
    names, run = (("grpc upstream", "http upstream"), attack_grpc) if options.grpc else (tuple(CASES), attack)
    each, results = -(-options.requests // len(names)), []
    for name in names:
        begin = time.perf_counter()
        statuses, faults = asyncio.run(run(name, each, options.seed))
        row = {"protocol": name, "requests": each, "statuses": dict(sorted(statuses.items())), "faults": len(faults)}
        results.append(row | {"seconds": round(time.perf_counter() - begin, 1)})
        print(json.dumps(results[-1]), flush=True)
        for fault, *sent in faults[:5]:
            print(f"  {fault}\n  {str(sent)[:300]}", file=sys.stderr)
    if options.json:
        grpc = "--grpc " if options.grpc else ""
        command = f"python benchmarks/mutations.py {grpc}--requests {options.requests} --seed {options.seed}"
        document = {"command": command, "requests": sum(row["requests"] for row in results), "protocols": results}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    if any(row["faults"] for row in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
