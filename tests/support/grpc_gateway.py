"""A gateway with a side over gRPC, in a thread of this process, and a model server over gRPC that a test writes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import numpy as np
import yaml

from context_in_thread import context_in_thread
from modeltoll import open_inference_messages as messages
from modeltoll import wire
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.server.reload import ReloadingGateway
from modeltoll.gateway.server.serve import grpc_server, temporary_server
from modeltoll.gateway.settings.load import load_settings
from modeltoll.names import HASHCASHES
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.puzzle.proof import proof_of
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.seal import open_answer
from modeltoll.puzzle.solver import solve

MODEL, CLASSES = "digits", 4
ALICE, BOB, VIP = "alice-key", "bob-key", "vip-key"
ACCEPT = "argon2id, sha256; mode=sealed; memory=64MiB; receipts"
CONFIDENT = [0.97, 0.01, 0.01, 0.01]


def infer_request(rows, *, raw=True, model=MODEL, **members):
    """A ``ModelInferRequest`` of rows of numbers (FP32)."""
    rows = np.atleast_2d(np.asarray(rows, dtype="<f4"))
    request = messages.ModelInferRequest(model_name=model, **members)
    tensor = request.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    if raw:
        request.raw_input_contents.append(rows.tobytes())
    else:
        tensor.contents.fp32_contents.extend(rows.ravel().tolist())
    return request


def infer_response(scores, **members):
    """A ``ModelInferResponse`` with these scores, (rows, classes)."""
    scores = np.atleast_2d(np.asarray(scores, dtype="<f4"))
    response = messages.ModelInferResponse(model_name=MODEL, **members)
    response.outputs.add(name="p", datatype="FP32", shape=scores.shape)
    response.raw_output_contents.append(scores.tobytes())
    return response


def rows_of(body):
    """The first dimension of a request's first tensor."""
    return messages.ModelInferRequest.FromString(body).inputs[0].shape[0]


@dataclass
class GrpcModelServer:
    """A model server. ``answer`` maps a request's bytes and its context to the response's bytes."""

    answer: object = field(default=lambda body, _: infer_response([CONFIDENT] * rows_of(body)).SerializeToString())
    bodies: list = field(default_factory=list)
    metadata: list = field(default_factory=list)
    left: list = field(default_factory=list)  # seconds, when each call came
    address: str = ""

    def infer(self, body, context):
        self.bodies.append(body)
        self.metadata.append(tuple(context.invocation_metadata()))
        self.left.append(context.time_remaining())
        return self.answer(body, context)

    @contextlib.contextmanager
    def serving(self, credentials=None):
        """Serve while the block lasts; with TLS where there are ``grpc.ssl_server_credentials``."""
        described = messages.ModelMetadataResponse(name=MODEL, versions=["1"], platform="test")
        described.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
        described.outputs.add(name="p", datatype="FP32", shape=[-1, CLASSES])
        index = messages.RepositoryIndexResponse()
        index.models.add(name=MODEL, state="READY")
        methods = {
            messages.REPOSITORY_INDEX: lambda *_: index.SerializeToString(),
            messages.MODEL_INFER: self.infer,
            messages.SERVER_LIVE: lambda *_: messages.ServerLiveResponse(live=True).SerializeToString(),
            messages.SERVER_READY: lambda *_: messages.ServerReadyResponse(ready=True).SerializeToString(),
            messages.MODEL_READY: lambda *_: messages.ModelReadyResponse(ready=True).SerializeToString(),
            messages.SERVER_METADATA: lambda *_: messages.ServerMetadataResponse(name="s").SerializeToString(),
            messages.MODEL_METADATA: lambda *_: described.SerializeToString(),
        }

        class Handlers(grpc.GenericRpcHandler):
            def service(self, details):
                method = methods.get(details.method)
                return None if method is None else grpc.unary_unary_rpc_method_handler(method)

        with ThreadPoolExecutor(16) as pool:
            server = grpc.server(pool, options=[("grpc.max_receive_message_length", -1)])
            server.add_generic_rpc_handlers((Handlers(),))
            if credentials is None:
                self.address = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            else:
                self.address = f"grpcs://127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
            server.start()
            try:
                yield self
            finally:
                server.stop(0).wait()


@dataclass(frozen=True)
class GrpcGateway:
    """``address`` is that of gRPC, ``url`` of HTTP, ``path`` the settings file. ``run`` runs a coroutine in its loop."""

    address: str
    url: str
    admin: str
    reloading: ReloadingGateway
    server: object
    loop: asyncio.AbstractEventLoop
    path: object

    @property
    def ledger(self):
        return self.reloading.gateway.ledger

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def client(self, key=ALICE, **options):
        return GrpcClient(self.address, key, **options)


def settings_document(folder, upstream, calibration, **sections):
    """Settings of a gateway in front of ``upstream`` (an address, or that section) whose model is priced by ``calibration``."""
    tariff = folder / "tariff.json"
    save_calibration(calibration, tariff)
    model = {
        "tariff": str(tariff),
        "output": {"name": "p", "kind": "probabilities", "classes": CLASSES},
        "measures": [{"name": "entropy"}],
        "puzzle": {"allow": ["argon2id", "sha256"], "sha256_below_ms": 1000.0},
        "versions": ["1"],
    } | sections.pop("model", {})
    keys = [
        {"name": "alice", "sha256": hash_key(ALICE)},
        {"name": "bob", "sha256": hash_key(BOB)},
        {"name": "vip", "sha256": hash_key(VIP), "exempt": True},
    ]
    document = {
        "listen_grpc": "127.0.0.1:0",
        "upstream": upstream if isinstance(upstream, dict) else {"url": upstream},
        "ledger": {"url": "memory://"},
        "callers": {"keys": keys, **sections.pop("callers", {})},
        "models": {MODEL: model},
    }
    return document | sections


@contextlib.contextmanager
def grpc_gateway(folder, document):
    """Serve while the block lasts."""
    path = folder / "modeltoll.yaml"
    path.write_text(yaml.safe_dump(document))

    @contextlib.asynccontextmanager
    async def served():
        reloading = ReloadingGateway(build_gateway(load_settings(path)), path)
        server = grpc_server(reloading)
        async with (
            reloading.open(0.05),
            temporary_server(reloading.public) as url,
            temporary_server(reloading.admin) as admin,
        ):
            await server.start()
            address, loop = f"127.0.0.1:{server.port}", asyncio.get_running_loop()
            yield GrpcGateway(address, url, admin, reloading, server, loop, path)
            await server.stop(0)

    with context_in_thread(served) as found:
        yield found


@dataclass(frozen=True)
class Reply:
    """How a call ended."""

    code: grpc.StatusCode
    details: str
    body: bytes | None
    trailing: dict

    @property
    def response(self):
        return messages.ModelInferResponse.FromString(self.body)

    @property
    def toll(self):
        """The toll of this reply, wherever it stands; None where there is none."""
        if self.code is grpc.StatusCode.FAILED_PRECONDITION:
            members = json.loads(self.trailing[wire.GRPC_TOLL_KEY])
        elif self.code is grpc.StatusCode.OK and "toll" in self.response.parameters:
            members = json.loads(self.response.parameters["toll"].string_param)
            payload = wire.encode_base64url(self.response.raw_output_contents[0])
            members["sealed" if members["mode"] == "sealed" else "token"] = payload
        else:
            return None
        return wire.find_toll(json.dumps({"toll": members}).encode())


def proof_for(toll):
    """What pays an admission toll, as metadata has it."""
    solution = solve(toll.challenge, SolveControl())
    if toll.challenge.puzzle in HASHCASHES:
        return wire.encode_redemption(toll.payload, counters=solution.counters)
    return wire.encode_redemption(toll.payload, proof=proof_of(solution))


def opened(toll):
    """What the seal of a toll holds: the answer and its receipt."""
    solution = solve(toll.challenge, SolveControl())
    return open_answer(toll.payload, solution, wire.canonical_challenge(toll.challenge, toll.mode))


class GrpcClient:
    """A client that sends bytes. ``accept``: what it announces; by default nothing, as any client of the field."""

    def __init__(self, address, key=ALICE, *, accept=None):
        self._channel = grpc.insecure_channel(
            address, [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        self._metadata = [("x-api-key", key)] if key else []
        if accept:
            self._metadata.append(("toll-accept", accept))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()

    def call(self, method, body=b"", metadata=(), timeout=30.0, compression=None):
        """Make a call and wait for its end."""
        body = body if isinstance(body, bytes) else body.SerializeToString(deterministic=True)
        rpc = self._channel.unary_unary(method)
        everything = [*self._metadata, *metadata]
        try:
            response, call = rpc.with_call(body, timeout=timeout, metadata=everything, compression=compression)
        except grpc.RpcError as error:
            return Reply(error.code(), error.details(), None, dict(error.trailing_metadata() or ()))
        return Reply(grpc.StatusCode.OK, "", response, dict(call.trailing_metadata() or ()))

    def infer(self, request, metadata=(), **options):
        return self.call(messages.MODEL_INFER, request, metadata, **options)

    def start(self, method, body, metadata=()):
        """A call that has begun: a future."""
        return self._channel.unary_unary(method).future(body, metadata=[*self._metadata, *metadata], timeout=60)

    def pay(self, request, reply, metadata=()):
        """The reply to the same request with the proof of the toll in ``reply``."""
        return self.infer(request, [(wire.GRPC_PROOF_KEY, proof_for(reply.toll)), *metadata])
