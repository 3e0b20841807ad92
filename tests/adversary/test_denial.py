"""A thief who cannot have the model, and wants nobody else to have it: memory and processor time for a few bytes."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import sys
import time

import httpx
import psutil
import pytest

from laboratory import KEYS, MODEL
from modeltoll.errors import RequestError
from modeltoll.gateway.protocols.mlflow import MlflowScoring
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.protocol import ServiceDescription
from modeltoll.gateway.protocols.tensorflow_serving import TensorFlowServing

MIB = 1 << 20
SERVICE = ServiceDescription("m", "p", "probabilities", classes=10)


@pytest.fixture(scope="module")
def gateway(laboratory):
    with laboratory.gateway() as gateway:
        yield gateway


@pytest.fixture
def sends(gateway):
    """``sends(begin, piece)``: sends 64 pieces behind a beginning; how many MiB were taken, and what came back."""

    def send(begin, piece):
        host, _, port = gateway.url.removeprefix("http://").rpartition(":")
        taken, answer = 0, b""
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            try:
                connection.sendall(begin)
                for _ in range(64):
                    connection.sendall(piece)
                    taken += len(piece)
                answer = connection.recv(1000)
            except OSError:  # the gateway has closed the connection
                pass
        return taken / MIB, answer

    return send


def memory(gateway):
    return psutil.Process(gateway.process.pid).memory_info().rss / MIB


POST = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: x\r\n".encode()
CHUNKED = POST + b"content-type: application/json\r\nx-api-key: " + KEYS[0].encode() + b"\r\n"
CHUNKED += b"transfer-encoding: chunked\r\n\r\n"
HEADS = {
    "many headers": (POST, b"x-a: " + b"a" * 990 + b"\r\n"),
    "one header": (POST + b"x-a: ", b"a" * 1000),
    "a path": (b"POST /", b"a" * 1000),
    "trailers": (CHUNKED + b"0\r\n", b"x-a: " + b"a" * 990 + b"\r\n"),
}


@pytest.mark.parametrize("case", HEADS)
def test_a_head_without_end_takes_no_memory(gateway, sends, case):
    """One connection and no key took 50 MiB a second, for ten seconds."""
    begin, piece = HEADS[case]
    before = memory(gateway)
    taken, _ = sends(begin, piece * 1000)
    assert taken < 32  # what the buffers of the system take, after which the connection was found closed
    assert memory(gateway) - before < 16
    assert httpx.get(f"{gateway.url}/v2/health/ready", headers={"x-api-key": KEYS[0]}).status_code == 200


def test_a_head_that_is_too_large_is_named(gateway, sends):
    _, answer = sends(POST + b"x-a: " + b"a" * (100 << 10), b"")
    assert answer.startswith(b"HTTP/1.1 431 ")


def read_all(read, document):
    body = json.dumps(document, separators=(",", ":")).encode()
    with contextlib.suppress(RequestError):
        read(body, SERVICE)


def calls_of(read, document):
    """How many functions reading a body calls, of Python and of its built-in types; the same on every machine."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    read_all(read, document)  # imports, and what is made once
    sys.setprofile(count)
    try:
        read_all(read, document)
    finally:
        sys.setprofile(None)
    return calls


def seconds_per_byte(read, document):
    size = len(json.dumps(document, separators=(",", ":")))
    seconds = []
    gc.disable()  # its work grows with all that the process holds
    try:
        for _ in range(5):
            before = time.process_time()
            read_all(read, document)
            seconds.append(time.process_time() - before)
    finally:
        gc.enable()
    return min(seconds) / size


MANY, FEW = 40_000, 4_000
BODIES = {
    "tensors": (OpenInference(), lambda many: {"inputs": [{"name": str(n), "shape": [1], "datatype": "FP64", "data": [1]} for n in range(many)]}),
    "columns": (MlflowScoring(), lambda many: {"inputs": {str(n): [1] for n in range(many)}}),
    "records": (MlflowScoring(), lambda many: {"dataframe_records": [{str(n): 1 for n in range(many)}]}),
    "split": (MlflowScoring(), lambda many: {"dataframe_split": {"columns": list(range(many)), "data": [[1] * many]}}),
    "named instances": (TensorFlowServing(), lambda many: {"instances": [{str(n): 1 for n in range(many)}]}),
    "rows of columns": (TensorFlowServing(), lambda many: {"inputs": {"a": [1] * many, "b": [1] * many}}),
}  # fmt: skip


@pytest.mark.parametrize("case", BODIES)
def test_a_body_of_many_small_parts_takes_few_steps_for_each(case):
    """6 MiB of named columns took 19 s of processor time, for one row, 40 times as long as plain numbers."""
    protocol, document = BODIES[case]
    assert calls_of(protocol.read, document(FEW)) < 40 * FEW


@pytest.mark.parametrize("case", BODIES)
def test_a_body_of_ten_times_as_many_parts_takes_ten_times_as_long(case):
    protocol, document = BODIES[case]
    # A step that looks at all other parts would take ten times as long for each part.
    assert seconds_per_byte(protocol.read, document(MANY)) < 6 * seconds_per_byte(protocol.read, document(FEW))
