"""Mutations of calls over gRPC, for ``mutations.py --grpc``: of messages, of metadata, and of proofs.

The calls go over a real connection to a whole gateway. Two model servers that accept everything are behind it, one over gRPC
and one over HTTP. Messages are changed byte by byte and field by field, metadata value by value, doubled and left out; proofs of
tolls that were solved are changed, sent with another message and sent twice. A fault is a status that the gateway never gives
(UNKNOWN and INTERNAL among them), a traceback, or anything of the model server's answer without its toll.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import yaml

from modeltoll import open_inference_messages as messages
from modeltoll import wire
from modeltoll.errors import TollMalformed
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.server.reload import ReloadingGateway
from modeltoll.gateway.server.serve import grpc_server
from modeltoll.gateway.settings.load import load_settings
from modeltoll.puzzle.proof import proof_of
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.records import Answer
from modeltoll.testing.model_servers import FakeUpstream

SCORES, SECRET = [0.97, 0.01, 0.01, 0.01], "secret-of-the-model"
ACCEPT = "sha256; mode=sealed; memory=64MiB; receipts"
CASES = ("grpc upstream", "http upstream")
CONCURRENT, MOST_TOLLS = 16, 8
EXPECTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
}
METHODS = (messages.SERVER_LIVE, messages.MODEL_READY, messages.MODEL_METADATA, messages.SERVER_METADATA)
TEXTS = ("", "m", "m2", "x", "FP32", "BYTES", "BF16", "../m", "m/infer", "\u0000", "toll", "secret", "n" * 300)
PIECES = (
    b"\x0a\x00",
    b"\xff" * 10,
    b"\x2a\x02\x0a\x00",
    b"\x3a\x00",
    b"\x0b",
    b"\xf8\x07\x01",
    b"\x22\x06\x0a\x04toll",
)


def request():
    """A request for two rows."""
    message = messages.ModelInferRequest(model_name="m", id="1")
    message.inputs.add(name="x", datatype="FP32", shape=[2, 2])
    message.raw_input_contents.append(np.array([1, 2, 3, 4], "<f4").tobytes())
    return message


def typed_request():
    """The same with its values in their own field."""
    message = messages.ModelInferRequest(model_name="m", id="1")
    message.inputs.add(name="x", datatype="FP32", shape=[2, 2]).contents.fp32_contents.extend([1, 2, 3, 4])
    message.outputs.add(name="p")
    return message


def model_server(case):
    """The model server of a case: it always answers with a secret beside the scores."""
    if case == CASES[0]:
        response = messages.ModelInferResponse(model_name="m", id=SECRET)
        response.parameters["secret"].string_param = SECRET
        response.outputs.add(name="p", datatype="FP64", shape=[2, 4])
        response.raw_output_contents.append(np.array(SCORES * 2, "<f8").tobytes())
        answer = Answer(200, messages.CONTENT_TYPE, response.SerializeToString())
    else:
        output = {"name": "p", "shape": [2, 4], "datatype": "FP64", "data": SCORES * 2}
        document = {"id": SECRET, "parameters": {"secret": SECRET}, "outputs": [output]}
        answer = Answer(200, "application/json", json.dumps(document).encode())
    described = json.dumps({"name": "m", "versions": ["1"], "platform": "p", "inputs": [], "outputs": []}).encode()
    return FakeUpstream(lambda _path, body: answer if body else Answer(200, "application/json", described))


def mutated_bytes(body: bytes, rng: random.Random) -> bytes:
    """The bytes after one to four random changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        start = rng.randrange(len(body) + 1)
        end = min(len(body), start + rng.randrange(12))
        match rng.randrange(5):
            case 0:
                body = body[:start]
            case 1:
                body = body[:start] + body[end:]
            case 2:
                body = body[:start] + rng.choice(PIECES) + body[start:]
            case 3:
                body = body[:start] + rng.randbytes(rng.randrange(4)) + body[start:]
            case 4:
                flipped = bytearray(body or b" ")
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
                body = bytes(flipped)
    return body


def mutated_message(message: Any, rng: random.Random) -> bytes:
    """The message after one to three changes of its fields."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        _FIELD_CHANGES[rng.randrange(len(_FIELD_CHANGES))](message, rng)
    return message.SerializeToString()


def _any_parameter(holder: Any, rng: random.Random) -> None:
    parameter = holder.parameters[
        rng.choice(("binary_data_size", "toll", "classification", "shared_memory_region", "a"))
    ]
    match rng.randrange(5):
        case 0:
            parameter.bool_param = True
        case 1:
            parameter.int64_param = rng.choice((0, 16, -1, 2**62))
        case 2:
            parameter.string_param = rng.choice(TEXTS)
        case 3:
            parameter.double_param = rng.choice((0.5, float("nan"), float("inf")))
        case 4:
            parameter.uint64_param = 2**64 - 1


def _shape(message: Any, rng: random.Random) -> None:
    for tensor in message.inputs:
        tensor.shape[:] = rng.choice(([], [0], [-1, 2], [2, 2, 1], [2**62, 4], [1, 4], [4, 1], [2], [1] * 40))


def _raw(message: Any, rng: random.Random) -> None:
    message.raw_input_contents[:] = rng.choice(
        ([], [b""], [b"\xff" * 16], [b"\x00" * 15], [b"\x00" * 16] * 2, [bytes(4096)])
    )


_FIELD_CHANGES = (
    lambda message, rng: setattr(message, "model_name", rng.choice(TEXTS)),
    lambda message, rng: setattr(message, "model_version", rng.choice((*TEXTS, "1", "01"))),
    lambda message, rng: setattr(message, "id", rng.choice(TEXTS)),
    _any_parameter,
    lambda message, rng: [_any_parameter(tensor, rng) for tensor in (*message.inputs, *message.outputs)],
    _shape,
    _raw,
    lambda message, rng: [setattr(tensor, "datatype", rng.choice(TEXTS)) for tensor in message.inputs],
    lambda message, rng: [setattr(tensor, "name", rng.choice(TEXTS)) for tensor in message.inputs],
    lambda message, rng: message.inputs.add(name=rng.choice(("x", "y")), datatype="FP32", shape=[1]),
    lambda message, _rng: message.inputs.extend(list(message.inputs)),
    lambda message, _rng: message.ClearField("inputs"),
    lambda message, rng: message.outputs.add(name=rng.choice(("p", "q", "", "secret"))),
    lambda message, rng: [tensor.contents.bytes_contents.append(rng.randbytes(3)) for tensor in message.inputs],
    lambda message, rng: [
        tensor.contents.fp32_contents.append(rng.choice((0.5, float("nan")))) for tensor in message.inputs
    ],
)


def mutated_metadata(rng: random.Random, proof: bytes) -> list[tuple[str, str | bytes]]:
    """Metadata of a call: what clients send, changed, doubled or left out."""
    pairs: list[tuple[str, str | bytes]] = []
    if rng.random() < 0.6:
        pairs.append(("toll-accept", ACCEPT if rng.random() < 0.7 else _text(ACCEPT, rng)))
    if rng.random() < 0.3:
        pairs.append(("toll-settle", _text("AAAA, BBBB, " * rng.randrange(30), rng)))
    if rng.random() < 0.05:
        pairs.append((rng.choice(("authorization", "x-api-key")), _text("Bearer abc", rng)))
    if rng.random() < 0.2:
        pairs.append(
            (rng.choice(("x-forwarded-for", "forwarded", "traceparent", "a")), _text("for=192.0.2.1, ::1", rng))
        )
    if rng.random() < 0.3:
        pairs.append((wire.GRPC_PROOF_KEY, mutated_bytes(proof, rng) if rng.random() < 0.9 else rng.randbytes(40)))
    if pairs and rng.random() < 0.05:
        pairs.append(rng.choice(pairs))
    return pairs


def _text(value: str, rng: random.Random) -> str:
    changed = mutated_bytes(value.encode(), rng).decode("latin-1")
    return "".join(character for character in changed if " " <= character <= "~").strip()


@dataclass
class Client:
    """A channel to the gateway, and a proof that is worth an answer to ``request()``."""

    channel: Any
    proof: bytes = b""

    async def call(self, method, body, metadata):
        """Status, message and everything else that came back as text."""
        call = self.channel.unary_unary(method)(body, metadata=grpc.aio.Metadata(*metadata), timeout=60)
        code = await call.code()
        message = await call if code is grpc.StatusCode.OK else b""
        rest = f"{await call.details()} {await call.initial_metadata()} {await call.trailing_metadata()}"
        return code, message, rest, dict(await call.trailing_metadata())

    async def buy(self):
        """Solve a new toll for a request."""
        code, _, rest, trailing = await self.call(messages.MODEL_INFER, request().SerializeToString(), ())
        if code is not grpc.StatusCode.FAILED_PRECONDITION:
            raise SystemExit(f"the request itself got {code}: {rest}")
        self.proof = proof_for(trailing)


def fault_of(method, code, message, rest):
    """What is wrong with an outcome, or None."""
    answer_refused = code is grpc.StatusCode.INTERNAL and rest.startswith("the model server's answer")  # 502 over HTTP
    if (code not in EXPECTED and not answer_refused) or "Traceback" in rest:
        return f"{code}: {rest[:200]}"
    if SECRET in rest or SECRET.encode() in message:
        return f"{code}: the model server's answer without its toll"
    if method == messages.MODEL_INFER and code is grpc.StatusCode.OK:
        answer = messages.ModelInferResponse.FromString(message)
        if "toll" not in answer.parameters or answer.outputs:
            return "an answer without its toll"
    return None


def _redeems(changed: bytes, proof: bytes) -> bool:
    """Whether changed bytes are the same redemption: JSON may be written in other ways."""
    try:
        return wire.decode_redemption(changed) == wire.decode_redemption(proof)
    except TollMalformed:
        return False


async def one_call(client, rng):
    """Send a mutated call: its method, status and fault, and its message."""
    message = rng.choice((request, typed_request))()
    method = messages.MODEL_INFER if rng.random() < 0.92 else rng.choice(METHODS)
    metadata, body = mutated_metadata(rng, client.proof), message.SerializeToString()
    kind = rng.randrange(5)
    if kind < 2:
        body = mutated_bytes(body, rng)
    elif kind < 4:
        body = mutated_message(message, rng)
    metadata = [
        (key, value) for key, value in metadata if key != wire.GRPC_PROOF_KEY or not _redeems(value, client.proof)
    ]
    code, answer, rest, _ = await client.call(method, body, metadata)
    return code, fault_of(method, code, answer, rest), (method, metadata, body)


async def spent_proof(client):
    """Pay with the proof that was mutated before: its own request gets the answer once, and only once.

    The price may have risen since the toll was made, for the caller sent much meanwhile; then the rest is asked.
    """
    seen = []
    for _ in range(MOST_TOLLS):
        paid = ((wire.GRPC_PROOF_KEY, client.proof),)
        code, message, rest, trailing = await client.call(messages.MODEL_INFER, request().SerializeToString(), paid)
        seen.append((code, rest[:60]))
        if code is grpc.StatusCode.ABORTED:  # the token has expired since
            await client.buy()
        elif code is grpc.StatusCode.FAILED_PRECONDITION:
            client.proof = proof_for(trailing)
        else:
            break
    if code is not grpc.StatusCode.OK or SECRET.encode() not in message:
        return [("a proof did not buy its answer", seen)]
    code, _, rest, _ = await client.call(messages.MODEL_INFER, request().SerializeToString(), paid)
    return [] if code is grpc.StatusCode.FAILED_PRECONDITION else [("a proof bought twice", (code, rest))]


def proof_for(trailing):
    """The work for the toll in trailing metadata."""
    toll = wire.find_grpc_toll(trailing[wire.GRPC_TOLL_KEY])
    return wire.encode_redemption(toll.payload, proof=proof_of(solve(toll.challenge, SolveControl())))


def write_settings(folder, case, model):
    """Settings of a gateway with a model server of that kind."""
    document = {
        "listen": "127.0.0.1:0",
        "listen_grpc": "127.0.0.1:0",
        "upstream": {"url": "grpc://127.0.0.1:1" if case == CASES[0] else "app"},
        "ledger": {"url": "memory://"},
        "callers": {"anonymous_credit": {"seconds": 1e6}},
        "models": {"m": model},
    }
    (folder / "modeltoll.yaml").write_text(yaml.safe_dump(document))
    return folder / "modeltoll.yaml"


async def attack(case, calls, seed, model, save_tariff):
    """The statuses of mutated calls, and the faults."""
    rng, statuses, faults = random.Random(f"{seed}-{case}"), Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        save_tariff(Path(folder) / "m.json")
        path = write_settings(Path(folder), case, model)
        reloading = ReloadingGateway(build_gateway(load_settings(path), model_server(case)), path)
    server = grpc_server(reloading)
    async with reloading.open(1.0):
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            client = Client(channel)
            for start in range(0, calls, CONCURRENT):
                if start % (200 * CONCURRENT) == 0:
                    if client.proof:
                        faults += await spent_proof(client)
                    await client.buy()
                count = min(CONCURRENT, calls - start)
                for code, fault, sent in await asyncio.gather(*(one_call(client, rng) for _ in range(count))):
                    statuses[code.name] += 1
                    faults += [(fault, sent)] if fault else []
                if sys.stderr.isatty():
                    print(f"\r{case}: {start}/{calls}", end="", file=sys.stderr, flush=True)
            faults += await spent_proof(client)
        await server.stop(0)
    return statuses, faults
