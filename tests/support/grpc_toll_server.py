"""A gRPC server on a real socket that asks for tolls as the gateway does, and misbehaves where a test lets it."""

from __future__ import annotations

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256

import grpc

from modeltoll import open_inference_messages as messages
from modeltoll import wire
from modeltoll.errors import TokenRefused
from modeltoll.puzzle import seal
from modeltoll.puzzle.counter import Sha256Counter
from modeltoll.records import Answer, MachineProfile, Work
from modeltoll.toll_records import Toll

RING = seal.KeyRing((b"k" * 32,))
UNIT = MachineProfile("unit", "work is counted in evaluations", 1.0, {256: 1.0})


def answer_to(request):
    """The model's answer: what came in, with every kind of member."""
    answer = messages.ModelInferResponse(model_name=request.model_name, model_version="7", id=request.id)
    output = answer.outputs.add(name="p", datatype="FP32", shape=[1, 2])
    output.parameters["b"].bool_param = output.parameters["a"].bool_param = True
    answer.raw_output_contents.append(b"".join(request.raw_input_contents))
    return answer


def toll_object(toll, *, payload=False):
    """The ``toll`` object as gRPC carries it."""
    members = json.loads(wire.encode_toll(toll, "", messages.MODEL_INFER))["toll"]
    if not payload:
        members.pop("sealed" if toll.mode == wire.SEALED else "token")
    return json.dumps(members)


def inline(toll, request, text=None):
    """The response that carries a toll, or another text in its place."""
    response = messages.ModelInferResponse(model_name=request.model_name, id=request.id)
    response.parameters["toll"].string_param = toll_object(toll) if text is None else text
    response.raw_output_contents.append(toll.payload)
    return response


@dataclass
class GrpcTollServer:
    """``received``: of each RPC its method, its metadata and its request's bytes. ``served``: what a test wants.

    ``served`` maps a model to a function of (request, metadata, context) that returns a response. Every toll has a receipt
    of its own number, and redeems with a token for the bytes of its request.
    """

    received: list = field(default_factory=list)
    served: dict = field(default_factory=dict)
    evaluations: float = 10.0
    address: str = ""
    tolls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self):
        """Forget what was received; ``sealed``, ``admission``, ``bin`` and ``plain`` are models again."""
        self.received, self.tolls, self.evaluations = [], 0, 10.0
        self.served = {"sealed": self.sealed, "admission": self.admission, "bin": self.bound, "plain": self.plain}
        return self

    def calls(self, method="ModelInfer"):
        """The metadata of every RPC of a method, in order."""
        return [metadata for name, metadata, _ in self.received if name.endswith(f"/{method}")]

    def receipts(self):
        """Of each RPC in order: its method, and the receipts that it returned."""
        return [
            (name.rpartition("/")[2], wire.parse_settle(metadata.get("toll-settle", "")))
            for name, metadata, _ in self.received
        ]

    def make(self, answer, mode=wire.SEALED, *, admission=False):
        """A toll for an answer."""
        with self.lock:
            self.tolls += 1
            rng, receipt = random.Random(self.tolls), str(self.tolls).encode()
        work = Work(self.evaluations, 1, self.evaluations)
        challenge, solution = Sha256Counter(UNIT).make(work, rng)
        associated = wire.canonical_challenge(challenge, mode)
        if mode == wire.SEALED:
            payload = seal.seal_answer(answer, solution, associated, rng, receipt=receipt)
        else:
            digest = seal.digest_proof(seal.proof_of(solution))
            payload = seal.encrypt_token(RING, seal.RedeemClaim(answer, challenge, digest, 2e9, "", b"r" * 32), rng)
        return Toll(mode, challenge, payload, 1, 0.01, admission=admission, settles=mode == wire.SEALED)

    def plain(self, request, _metadata, context):
        context.set_trailing_metadata((("toll-receipt", wire.format_receipt(1, 0.0, "none")),))
        return answer_to(request)

    def sealed(self, request, _metadata, _context):
        body = answer_to(request).SerializeToString()
        return inline(self.make(Answer(200, messages.CONTENT_TYPE, body)), request)

    def admission(self, request, metadata, context):
        if self.redeems(request, metadata):
            return self.sealed(request, metadata, context)
        return inline(self.admission_toll(request), request)

    def bound(self, request, metadata, context):
        if self.redeems(request, metadata):
            return self.plain(request, metadata, context)
        text = toll_object(self.admission_toll(request), payload=True)
        context.set_trailing_metadata((("toll-bin", text.encode()),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "pay the toll")
        return None

    def admission_toll(self, request):
        digest = sha256(request.SerializeToString()).digest()
        return self.make(Answer(200, "x/y", digest), wire.REDEEM, admission=True)

    @staticmethod
    def redeems(request, metadata):
        """Whether the proof in the metadata redeems a token for the bytes of this request."""
        if "toll-proof-bin" not in metadata:
            return False
        redemption = wire.decode_redemption(metadata["toll-proof-bin"])
        try:
            claim = seal.decrypt_token(RING, redemption.token, "", 0.0)
            answer = seal.redeem_claim(claim, redemption)
        except TokenRefused:
            return False
        return answer.body == sha256(request.SerializeToString()).digest()

    def service(self, details):
        """The handler of a method."""
        if not details.method.startswith(f"/{messages.SERVICE}/"):
            return None
        name = details.method.rpartition("/")[2]
        if name == "ModelStreamInfer":
            return grpc.stream_stream_rpc_method_handler(self.stream)
        return grpc.unary_unary_rpc_method_handler(lambda body, context: self.answer(details.method, body, context))

    def stream(self, requests, context):
        context.send_initial_metadata((("first", "1"),))
        for number, body in enumerate(requests):
            yield b"%d:" % number + body
        context.set_trailing_metadata((("last", "1"),))

    def answer(self, method, body, context):
        metadata = dict(context.invocation_metadata())
        with self.lock:
            self.received.append((method, metadata, body))
        if method != messages.MODEL_INFER:
            return messages.ServerLiveResponse(live=True).SerializeToString()
        request = messages.ModelInferRequest.FromString(body)
        context.send_initial_metadata((("served-by", "toll server"),))
        answer = self.served[request.model_name](request, metadata, context)
        return answer if isinstance(answer, bytes) else answer.SerializeToString()

    def start(self):
        """Serve until the returned function is called."""
        server = grpc.server(ThreadPoolExecutor(40), options=[("grpc.max_receive_message_length", -1)])
        server.add_generic_rpc_handlers((_Handler(self),))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        return lambda: server.stop(None).wait(10)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, toll_server):
        self._toll_server = toll_server

    def service(self, handler_call_details):
        return self._toll_server.service(handler_call_details)
