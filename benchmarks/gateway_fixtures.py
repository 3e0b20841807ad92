"""Fixtures of the gateway benchmarks: a stub model server, a pass-through proxy, settings, and process measurements."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modeltoll.demo.processes import free_port
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.server.serve import run
from modeltoll.gateway.settings.load import load_settings
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.pricing.calibration import CalibrationProvenance
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import FitSamples, RowCosts, fit_calibration
from modeltoll.pricing.kinds import DECLARED, KindSample
from modeltoll.records import Evidence, Leaks

MODEL, KEY = "stub", "a-key-for-the-benchmark"
ACCEPT = "argon2id, sha256; mode=sealed; memory=64MiB; receipts"  # what the load generators announce in Toll-Accept
CREDIT = {"seconds": 1e6}  # the load generators pay nothing; with less they would be asked for admission tolls
PATH = f"/v2/models/{MODEL}/infer"
ANY_PATH = "/{path:path}"
DIMENSIONS, CLASSES, ANSWER_COUNT = 64, 10, 4096
KINDS, KIND_ROWS, HONEST_ROWS = 4, 1500, 4000  # declared kinds of the tariff; rows of each, and of all traffic
PRIVATE = 60_000  # points of a pknn measure, in as many dimensions as there are classes


def random_scores(count, seed):
    """Scores, (count, CLASSES), of a model that is sure of most rows and unsure of some."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, CLASSES)) * rng.gamma(4.0, 2.0, size=(count, 1))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def answer_bodies():
    """The stub's answers in the Open Inference Protocol."""
    for row in random_scores(ANSWER_COUNT, seed=1):
        output = {"name": "p", "shape": [1, CLASSES], "datatype": "FP64", "data": row.tolist()}
        yield json.dumps({"model_name": MODEL, "outputs": [output]}).encode()


def request_body(rng):
    """A request for one random row."""
    data = [round(rng.random(), 4) for _ in range(DIMENSIONS)]
    tensor = {"name": "x", "shape": [1, DIMENSIONS], "datatype": "FP64", "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


class StubModelServer(asyncio.Protocol):
    """A minimal model server: answers each request with the bytes that ``answer`` makes of its path and its body."""

    def __init__(self, answer):
        self._answer, self._received = answer, bytearray()

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        received = self._received
        received += data
        while (end := received.find(b"\r\n\r\n")) >= 0:
            head = bytes(received[:end])
            _, _, length = head.lower().partition(b"content-length: ")
            request_end = end + 4 + int(length.partition(b"\r\n")[0] or 0)
            if len(received) < request_end:
                return
            path = head.split(b" ", 2)[1].decode()
            self._transport.write(self._answer(path, bytes(received[end + 4 : request_end])))
            del received[:request_end]


def response_bytes(body):
    """An HTTP response of success that holds JSON."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def row_answers():
    """What the stub answers to requests of one row: the next of some prepared responses."""
    responses = itertools.cycle([response_bytes(body) for body in answer_bodies()])
    return lambda _path, _body: next(responses)


async def run_stub(port, answer=None):
    """Serve the stub until killed."""
    answer = answer or row_answers()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: StubModelServer(answer), "127.0.0.1", port)
    await server.serve_forever()


async def forwarded(upstream, request):
    """The model server's answer to a request, as it came."""
    answer = await upstream.predict(request.scope["path"], await request.body())
    return Response(answer.body, status_code=answer.status, headers={"content-type": answer.content_type})


def pass_through(upstream):
    """An application of the same stack without a gate. It serves every path."""

    async def infer(request: Request) -> Response:
        return await forwarded(upstream, request)

    return Starlette(routes=[Route(ANY_PATH, infer, methods=["POST"])])


def run_proxy(settings, *, gated):
    """Run the gateway, or, where not ``gated``, the pass-through in its place."""
    run_application(settings, None if gated else pass_through)


def run_application(settings, application=None):
    """Run a gateway; with ``application``, which is made of its upstream, that in the place of its public side."""
    loaded = load_settings(settings)
    gateway = build_gateway(loaded)
    if application is not None:
        gateway = replace(gateway, public=application(gateway.upstream))
    run(loaded, gateway)


def honest_leaks(count, seed, sharpness=1.0):
    """Entropies of honest rows, (count, 1), with the classes that the model predicts for them."""
    scores = random_scores(count, seed) ** sharpness
    scores /= scores.sum(axis=1, keepdims=True)
    values = EntropyMeasure().measure(Evidence(tuple(row.tobytes()[:8] for row in scores), scores=scores))[:, None]
    return Leaks(("entropy",), values, scores.argmax(axis=1))


def honest_samples(kinds):
    """Honest rows of all traffic, with ten predicted classes, and of so many declared kinds, each less certain than the last."""
    each = [honest_leaks(KIND_ROWS, 100 + number, 0.9 - 0.5 * number / max(kinds, 1)) for number in range(kinds)]
    declared = [KindSample(f"kind {number}", DECLARED, leaks) for number, leaks in enumerate(each)]
    return FitSamples(honest_leaks(HONEST_ROWS, seed=2), declared)


def write_tariff(path, unit_ms, samples):
    """Fit a tariff to samples and write it."""
    costs = RowCosts(undefended_seconds=unit_ms / 1000, unit_seconds=unit_ms / 1000)
    save_calibration(fit_calibration(MODEL, samples, costs, provenance=CalibrationProvenance("benchmark")), path)


def write_settings(folder, name, upstream_port, unit_ms, ledger, private=False):
    """Write the settings of one proxy on free ports; ``private`` adds a pknn measure.

    Returns the settings file, the public port and the admin port.
    """
    measures, samples = [{"name": "entropy"}], honest_samples(KINDS)
    if private:
        private_scores = random_scores(PRIVATE, seed=3)
        np.savez(folder / "private.npz", scores=private_scores, labels=private_scores.argmax(axis=1))
        measures.append({"name": "pknn", "file": "private.npz"})
        values = samples.honest.values
        samples = FitSamples(Leaks(("entropy", "pknn"), np.hstack([values, values])))
    write_tariff(folder / f"{name}.tariff.json", unit_ms, samples)
    port, admin = free_port(), free_port()
    model = {
        "tariff": f"{name}.tariff.json",
        "inputs": [{"name": "x", "width": DIMENSIONS}],
        "output": {"name": "p", "kind": "probabilities"},
        "measures": measures,
        "puzzle": {"max_memory_mib": 8, "suspected_memory_mib": 8},  # the stock is full soon; small tolls do not use it
    }
    document = {
        "listen": f"127.0.0.1:{port}",
        "admin": f"127.0.0.1:{admin}",
        "upstream": {"url": f"http://127.0.0.1:{upstream_port}"},
        "ledger": {"url": ledger},
        "callers": {"keys": [{"name": "bench", "sha256": hash_key(KEY)}], "credit": CREDIT},
        "models": {MODEL: model},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path, port, admin


@contextlib.contextmanager
def running(command, ready, environment=None, output=None):
    """Run a process while the block lasts. The block begins when the URL ``ready`` answers.

    ``output``: a file for its standard output and its errors.
    """
    process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        with httpx.Client(timeout=2.0) as client:
            for _ in range(2400):  # two minutes
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}")
                with contextlib.suppress(httpx.TransportError):
                    client.get(ready)
                    break
                time.sleep(0.05)
            else:
                raise SystemExit(f"{ready} does not answer")
        yield process
    finally:
        process.terminate()
        process.wait()


def cpu_seconds(process):
    """User and system time of a process so far, in seconds; NaN without ``/proc``."""
    stat = Path(f"/proc/{process.pid}/stat")
    if not stat.exists():
        return math.nan
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def memory_mib(process):
    """Resident memory of a process in MiB; NaN without ``/proc``."""
    status = Path(f"/proc/{process.pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), math.nan)


def wait_until_idle(process):
    """Wait until a proxy has precomputed its puzzles and is idle."""
    busy = True
    while busy:
        before = cpu_seconds(process)
        time.sleep(1.0)
        busy = cpu_seconds(process) - before > 0.1
