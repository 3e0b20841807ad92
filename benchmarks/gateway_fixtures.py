"""Fixtures of the gateway benchmarks: a stub model server, a pass-through proxy, settings, and process measurements."""

from __future__ import annotations

import asyncio
import contextlib
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
from modeltoll.pricing.fit import RowCosts, fit_calibration
from modeltoll.records import Evidence, Leaks

MODEL, KEY = "stub", "a-key-for-the-benchmark"
CREDIT = {"seconds": 1e6}  # the load generators pay nothing; with less they would be asked for admission tolls
PATH = f"/v2/models/{MODEL}/infer"
DIMENSIONS, CLASSES, ANSWER_COUNT = 64, 10, 4096
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
    """A minimal model server: answers each request with the next of some prepared responses."""

    responses = ()
    position = 0

    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            _, _, length = self.buffer[:end].lower().partition(b"content-length: ")
            request_end = end + 4 + int(length.partition(b"\r\n")[0] or 0)
            if len(self.buffer) < request_end:
                return
            self.buffer = self.buffer[request_end:]
            StubModelServer.position = (StubModelServer.position + 1) % len(StubModelServer.responses)
            self.transport.write(StubModelServer.responses[StubModelServer.position])


async def run_stub(port):
    """Serve the stub until killed."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    StubModelServer.responses = tuple(head.format(len(body)).encode() + body for body in answer_bodies())
    server = await asyncio.get_running_loop().create_server(StubModelServer, "127.0.0.1", port)
    await server.serve_forever()


def pass_through(upstream):
    """An application of the same stack without a gate."""

    async def infer(request: Request) -> Response:
        answer = await upstream.predict(request.scope["path"], await request.body())
        return Response(answer.body, status_code=answer.status, headers={"content-type": answer.content_type})

    return Starlette(routes=[Route("/v2/models/{model}/infer", infer, methods=["POST"])])


def run_proxy(settings, *, gated):
    """Run the gateway, or, where not ``gated``, the pass-through in its place."""
    loaded = load_settings(settings)
    gateway = build_gateway(loaded)
    if not gated:
        gateway = replace(gateway, public=pass_through(gateway.upstream))
    run(loaded, gateway)


def write_settings(folder, name, upstream_port, unit_ms, ledger, private=False):
    """Write the settings of one proxy on free ports; ``private`` adds a pknn measure.

    Returns the settings file, the public port and the admin port.
    """
    scores = random_scores(2000, seed=2)
    evidence = Evidence(tuple(row.tobytes()[:8] for row in scores), scores=scores)
    values = EntropyMeasure().measure(evidence)[:, None]
    measures = [{"name": "entropy"}]
    if private:
        private_scores = random_scores(PRIVATE, seed=3)
        np.savez(folder / "private.npz", scores=private_scores, labels=private_scores.argmax(axis=1))
        measures.append({"name": "pknn", "file": "private.npz"})
        values = np.hstack([values, values])
    leaks = Leaks(tuple(measure["name"] for measure in measures), values)
    costs = RowCosts(undefended_seconds=unit_ms / 1000, unit_seconds=unit_ms / 1000)
    save_calibration(
        fit_calibration(MODEL, leaks, costs, provenance=CalibrationProvenance("benchmark")),
        folder / f"{name}.tariff.json",
    )
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
def running(command, ready):
    """Run a process while the block lasts; the block begins when the URL ``ready`` answers."""
    process = subprocess.Popen(command)
    try:
        for _ in range(400):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(ready, timeout=2.0)
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
