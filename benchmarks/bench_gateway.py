"""What the gate costs: the gateway against a bare pass-through proxy of the same stack.

    python benchmarks/bench_gateway.py [--repetitions 7] [--seconds 3] [--unit-ms 5] [--json FILE]

Four processes, one worker each: a fast stub of a model server, the gateway (``modeltoll serve``'s own code, entropy,
SQLite, one row a request, API key), a pass-through (the same Starlette, uvicorn and aiohttp, handing answers through),
and an aiohttp load generator. Every repetition loads both in turn, with 1 and with 32 connections; the table shows
medians over the repetitions, and the ratios compare neighbours of one repetition. On Linux it also shows the CPU time
that each proxy took per request, which says more than latencies where other work shares the machine. The stub's answers are like the rows
that the tariff was made from, so nobody comes under suspicion.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import httpx
import numpy as np
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modeltoll.gateway.assemble import assemble
from modeltoll.gateway.callers import hash_key
from modeltoll.gateway.serve import run
from modeltoll.gateway.settings import load_settings
from modeltoll.leak.entropy import EntropyMeasure
from modeltoll.pricing.calibration import Costs, Provenance, calibrate
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.records import Evidence, Leaks

MODEL, KEY = "stub", "a-key-for-the-benchmark"
PATH = f"/v2/models/{MODEL}/infer"
DIMENSIONS, CLASSES, ANSWERS = 64, 10, 4096
CONNECTIONS = (1, 32)
TARGETS = {"own_p50_ms": 0.6, "throughput_ratio": 0.25}


def answers(count, seed):
    """Scores (count, CLASSES) of a model that is sure of most rows and unsure of some."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, CLASSES)) * rng.gamma(4.0, 2.0, size=(count, 1))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class Stub(asyncio.Protocol):
    """The least that is a model server: any request gets the next of some answers."""

    bodies = ()
    turn = 0

    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            _, _, length = self.buffer[:end].lower().partition(b"content-length: ")
            whole = end + 4 + int(length.partition(b"\r\n")[0] or 0)
            if len(self.buffer) < whole:
                return
            self.buffer = self.buffer[whole:]
            Stub.turn = (Stub.turn + 1) % len(Stub.bodies)
            self.transport.write(Stub.bodies[Stub.turn])


async def run_stub(port):
    """Serve the stub until killed."""
    for row in answers(ANSWERS, seed=1):
        output = {"name": "p", "shape": [1, CLASSES], "datatype": "FP64", "data": row.tolist()}
        body = json.dumps({"model_name": MODEL, "outputs": [output]}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        Stub.bodies += (head.encode() + body,)
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port)
    await server.serve_forever()


def pass_through(upstream):
    """The same stack without a gate."""

    async def infer(request: Request) -> Response:
        answer = await upstream.predict(request.scope["path"], await request.body())
        return Response(answer.body, status_code=answer.status, headers={"content-type": answer.content_type})

    return Starlette(routes=[Route("/v2/models/{model}/infer", infer, methods=["POST"])])


def run_proxy(settings, *, gated):
    """The gateway, or the pass-through in its place."""
    loaded = load_settings(settings)
    assembly = assemble(loaded)
    if not gated:
        assembly = replace(assembly, public=pass_through(assembly.upstream))
    run(loaded, assembly)


def write_settings(folder, name, upstream_port, unit_ms):
    """Settings of one proxy on free ports; returns its file and the two ports."""
    scores = answers(2000, seed=2)
    evidence = Evidence(tuple(row.tobytes()[:8] for row in scores), scores=scores)
    leaks = Leaks(("entropy",), EntropyMeasure().measure(evidence)[:, None])
    costs = Costs(undefended_seconds=unit_ms / 1000, unit_seconds=unit_ms / 1000)
    save_calibration(calibrate(MODEL, leaks, costs, provenance=Provenance("benchmark")), folder / "tariff.json")
    port, admin = free_port(), free_port()
    document = {
        "listen": f"127.0.0.1:{port}",
        "admin": f"127.0.0.1:{admin}",
        "upstream": {"url": f"http://127.0.0.1:{upstream_port}"},
        "ledger": {"url": f"sqlite:///{name}.db"},
        "callers": {"keys": [{"name": "bench", "sha256": hash_key(KEY)}]},
        "models": {
            MODEL: {
                "tariff": "tariff.json",
                "output": {"name": "p", "kind": "probabilities"},
                "measures": [{"name": "entropy"}],
            }
        },
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path, port, admin


async def load(url, connections, seconds, seed):
    """Ask for fresh rows over some connections for some seconds; latencies in seconds, and statuses counted."""
    rng, latencies, statuses = random.Random(seed), [], {}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def caller(end):
            while (begin := time.perf_counter()) < end:
                data = [round(rng.random(), 4) for _ in range(DIMENSIONS)]
                tensor = {"name": "x", "shape": [1, DIMENSIONS], "datatype": "FP64", "data": data}
                body = json.dumps({"inputs": [tensor]})
                begin = time.perf_counter()
                async with session.post(url, data=body) as response:
                    await response.read()
                latencies.append(time.perf_counter() - begin)
                statuses[response.status] = statuses.get(response.status, 0) + 1

        begin = time.perf_counter()
        await asyncio.gather(*(caller(begin + seconds) for _ in range(connections)))
        took = time.perf_counter() - begin
    return {"p50": statistics.median(latencies), "per_second": len(latencies) / took, "statuses": statuses}


def free_port():
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def itself(*arguments):
    """This script in another role."""
    return [sys.executable, __file__, *map(str, arguments)]


@contextlib.contextmanager
def running(command, ready):
    """A process for as long as the block lasts, once ``ready`` answers."""
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
    """User and system time that a process took so far; NaN where the system does not tell."""
    stat = Path(f"/proc/{process.pid}/stat")
    if not stat.exists():
        return math.nan
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def settle(process):
    """Wait until a proxy has made its puzzles ahead, and idles."""
    busy = True
    while busy:
        before = cpu_seconds(process)
        time.sleep(1.0)
        busy = cpu_seconds(process) - before > 0.1


def loaded(proxy, connections, seconds, seed):
    """One run of the load generator, in a process of its own, against a proxy (its process, its port)."""
    process, port = proxy
    before = cpu_seconds(process)
    command = itself(
        "--role", "load", "--port", port, "--connections", connections, "--seconds", seconds, "--seed", seed
    )
    result = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    requests = sum(result["statuses"].values())
    return result | {"cpu": (cpu_seconds(process) - before) / requests}


def measure(proxies, given):
    """All repetitions: {(proxy, connections): [result, ...]}, in turn, each pair in alternating order."""
    results = {(name, connections): [] for name in proxies for connections in CONNECTIONS}
    for repetition in range(given.repetitions + 1):
        for connections in CONNECTIONS:
            for name in sorted(proxies, reverse=repetition % 2 == 1):
                result = loaded(proxies[name], connections, given.seconds if repetition else 1, repetition)
                if repetition:  # the first is the warm-up
                    results[name, connections].append(result)
                    print(f"{repetition} {name:>12} x{connections:<3} {result}", file=sys.stderr)
    return results


def summary(results):
    """Medians over the repetitions, and of the differences and ratios within each."""
    table = [
        {
            "proxy": name,
            "connections": connections,
            "p50_ms": round(1000 * statistics.median(run["p50"] for run in runs), 3),
            "per_second": round(statistics.median(run["per_second"] for run in runs)),
            "cpu_ms": round(1000 * statistics.median(run["cpu"] for run in runs), 3),
        }
        for (name, connections), runs in results.items()
    ]
    single = zip(results["gateway", 1], results["pass-through", 1], strict=True)
    many = list(zip(results["gateway", CONNECTIONS[-1]], results["pass-through", CONNECTIONS[-1]], strict=True))
    own = [1000 * (gate["p50"] - bare["p50"]) for gate, bare in single]
    ratios = [gate["per_second"] / bare["per_second"] for gate, bare in many]
    cpu = [1000 * (gate["cpu"] - bare["cpu"]) for gate, bare in many]
    return {
        "proxies": table,
        "own_p50_ms": round(statistics.median(own), 3),
        "own_p50_ms_range": [round(min(own), 3), round(max(own), 3)],
        "own_cpu_ms": round(statistics.median(cpu), 3),
        "throughput_ratio": round(statistics.median(ratios), 3),
        "throughput_ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "targets": TARGETS,
    }


def bench(given):
    """Start everything, measure, and put the result together."""
    stub_port = free_port()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as processes:
        stub = running(itself("--role", "stub", "--port", stub_port), f"http://127.0.0.1:{stub_port}/")
        processes.enter_context(stub)
        proxies = {}
        for proxy in ("gateway", "pass-through"):
            settings, port, admin = write_settings(Path(name), proxy, stub_port, given.unit_ms)
            command = itself("--role", proxy, "--settings", settings)
            process = processes.enter_context(running(command, f"http://127.0.0.1:{admin}/livez"))
            proxies[proxy] = (process, port)
        for process, _ in proxies.values():
            settle(process)
        result = summary(measure(proxies, given))
    return {
        "command": f"python benchmarks/bench_gateway.py --repetitions {given.repetitions} --seconds {given.seconds:g} "
        f"--unit-ms {given.unit_ms:g}",
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "unit_ms": given.unit_ms,
        **result,
    }


def show(result):
    """The table for people."""
    print(f"{'proxy':>14}{'connections':>13}{'p50, ms':>10}{'requests/s':>12}{'CPU, ms':>10}")
    for line in result["proxies"]:
        print(
            f"{line['proxy']:>14}{line['connections']:>13}{line['p50_ms']:>10}{line['per_second']:>12}{line['cpu_ms']:>10}"
        )
    print(f"the gate's own time at p50: {result['own_p50_ms']} ms {result['own_p50_ms_range']}, target <= 0.6 ms")
    print(
        f"throughput: {result['throughput_ratio']:.1%} of the pass-through {result['throughput_ratio_range']}, >= 25 %"
    )


def main():
    """Parse; play the role that is asked for, or measure."""
    parser = argparse.ArgumentParser(description="The gateway against a pass-through of the same stack.")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run of the load generator")
    parser.add_argument("--unit-ms", type=float, default=5.0, help="work of an average row")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    parser.add_argument("--role", choices=("stub", "gateway", "pass-through", "load"), help=argparse.SUPPRESS)
    for name in ("--port", "--connections", "--seed"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "stub":
        asyncio.run(run_stub(given.port))
    elif given.role == "load":
        url = f"http://127.0.0.1:{given.port}{PATH}"
        print(json.dumps(asyncio.run(load(url, given.connections, given.seconds, given.seed))))
    elif given.role:
        run_proxy(given.settings, gated=given.role == "gateway")
    else:
        result = bench(given)
        if given.json != "-":
            show(result)
        if given.json:
            text = json.dumps(result, indent=2) + "\n"
            sys.stdout.write(text) if given.json == "-" else Path(given.json).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
