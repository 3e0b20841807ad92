"""Fixtures of the benchmarks over gRPC: a stub of a model server, a bare pass-through, a load generator, and settings.

All are of grpc.aio. The pass-through hands bytes, metadata and deadlines through. The load generator announces itself and
opens no toll.
"""

from __future__ import annotations

import itertools
import random

import grpc
import grpc.aio
import numpy as np
import yaml
from gateway_fixtures import ACCEPT, DIMENSIONS, KEY, MODEL, free_port, random_scores, write_settings
from proxy_load import send_repeatedly

from modeltoll import open_inference_messages as messages

ANSWERS = 4096


def request_bytes(rng):
    """A request for one random row."""
    message = messages.ModelInferRequest(model_name=MODEL)
    message.inputs.add(name="x", datatype="FP64", shape=[1, DIMENSIONS])
    message.raw_input_contents.append(np.array([round(rng.random(), 4) for _ in range(DIMENSIONS)]).tobytes())
    return message.SerializeToString()


def answer_bytes():
    """The stub's answers."""
    for row in random_scores(ANSWERS, seed=1):
        message = messages.ModelInferResponse(model_name=MODEL)
        message.outputs.add(name="p", datatype="FP64", shape=[1, len(row)])
        message.raw_output_contents.append(row.tobytes())
        yield message.SerializeToString()


class Handler(grpc.GenericRpcHandler):
    """One coroutine for every method."""

    def __init__(self, handle):
        self._handler = grpc.unary_unary_rpc_method_handler(handle)

    def service(self, _details):
        """The same handler for every method."""
        return self._handler


async def serve(handle, port):
    """Serve a coroutine until killed."""
    server = grpc.aio.server(handlers=[Handler(handle)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def run_stub(port):
    """A minimal model server: answers each call with the next of some prepared messages."""
    answers = itertools.cycle(list(answer_bytes()))

    async def answer(_body, _context):
        return next(answers)

    await serve(answer, port)


async def run_pass_through(port, upstream):
    """Hand every call's bytes, metadata and deadline through, and the answer's back."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{upstream}") as channel:
        infer = channel.unary_unary(messages.MODEL_INFER)

        async def forward(body, context):
            metadata = tuple((key, value) for key, value in context.invocation_metadata() if key != "user-agent")
            call = infer(body, metadata=metadata, timeout=context.time_remaining())
            answer = await call
            context.set_trailing_metadata(tuple(await call.trailing_metadata()))
            return answer

        await serve(forward, port)


async def load(port, calls, seconds, seed):
    """Ask for fresh rows with some calls at once on one channel; an outcome is ``toll`` or ``answer``."""
    rng, metadata = random.Random(seed), (("x-api-key", KEY), ("toll-accept", ACCEPT))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(messages.MODEL_INFER)

        async def send():
            answer = await infer(request_bytes(rng), metadata=metadata)
            return "toll" if b"\x0a\x04toll" in answer else "answer"

        return await send_repeatedly(send, calls, seconds)


def wait_until_ready(port, seconds=60):
    """Wait until a server on this machine takes calls."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(seconds)


def grpc_settings(folder, stub_port, unit_ms, ledger):
    """Settings of the gateway of the other benchmarks, with both sides over gRPC; the file, and the port."""
    path, _, _ = write_settings(folder, "grpc", stub_port, unit_ms, ledger)
    document, port = yaml.safe_load(path.read_text()), free_port()
    document["listen_grpc"] = f"127.0.0.1:{port}"
    document["upstream"]["url"] = f"grpc://127.0.0.1:{stub_port}"
    path.write_text(yaml.safe_dump(document))
    return path, port
