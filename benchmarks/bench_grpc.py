"""What the gate costs over gRPC: the gateway's gRPC side against a bare pass-through of the same stack.

    python benchmarks/bench_grpc.py [--repetitions 7] [--seconds 3] [--unit-ms 5] [--json FILE]

Processes of their own, all of grpc.aio: a fast stub of a model server, ``modeltoll serve``'s own code with ``listen_grpc`` and
a gRPC upstream (entropy, one row a call, API key, SQLite), a pass-through that hands bytes through, and a load generator that
announces itself and opens no toll. Every repetition loads both in turn, with 1 and with 32 calls at once on one channel; the
table shows medians over the repetitions, and differences and ratios are those within one repetition. ``CPU`` is the processor
time that a proxy took per call, which says more than latencies where other work shares the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import yaml
from gateway_fixtures import (
    DIMENSIONS,
    KEY,
    MODEL,
    cpu_seconds,
    free_port,
    random_scores,
    run_proxy,
    wait_until_idle,
    write_settings,
)

from modeltoll import open_inference_messages as messages

CALLS = (1, 32)
BARE, GATEWAY = "pass-through", "gateway"
ACCEPT = "argon2id, sha256; mode=sealed; memory=64MiB; receipts"
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
    """Ask for fresh rows with some calls at once for some seconds; latencies in seconds, and outcomes counted."""
    rng, latencies, outcomes = random.Random(seed), [], {}
    metadata = (("x-api-key", KEY), ("toll-accept", ACCEPT))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(messages.MODEL_INFER)

        async def caller(end):
            while time.perf_counter() < end:
                body = request_bytes(rng)
                begin = time.perf_counter()
                answer = await infer(body, metadata=metadata)
                latencies.append(time.perf_counter() - begin)
                outcome = "toll" if b"\x0a\x04toll" in answer else "answer"
                outcomes[outcome] = outcomes.get(outcome, 0) + 1

        begin = time.perf_counter()
        await asyncio.gather(*(caller(begin + seconds) for _ in range(calls)))
        took = time.perf_counter() - begin
    return {"p50": statistics.median(latencies), "per_second": len(latencies) / took, "outcomes": outcomes}


def itself(*arguments):
    """This script in another role."""
    return [sys.executable, __file__, *map(str, arguments)]


def start(processes, port, *arguments):
    """Start a role that listens on a port, until the stack ends; returns when it is ready."""
    process = subprocess.Popen(itself(*arguments))
    processes.callback(process.wait)
    processes.callback(process.terminate)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(60)
    return process


def grpc_settings(folder, stub_port, unit_ms):
    """Settings of the gateway of the other benchmarks, with both sides over gRPC; the file, and the port."""
    path, _, _ = write_settings(folder, GATEWAY, stub_port, unit_ms, f"sqlite:///{GATEWAY}.db")
    document, port = yaml.safe_load(path.read_text()), free_port()
    document["listen_grpc"] = f"127.0.0.1:{port}"
    document["upstream"]["url"] = f"grpc://127.0.0.1:{stub_port}"
    path.write_text(yaml.safe_dump(document))
    return path, port


def loaded(proxy, calls, seconds, seed):
    """One run of the load generator, in a process of its own, against a proxy (its process, its port)."""
    process, port = proxy
    before = cpu_seconds(process)
    command = itself("--role", "load", "--port", port, "--calls", calls, "--seconds", seconds, "--seed", seed)
    result = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return result | {"cpu": (cpu_seconds(process) - before) / sum(result["outcomes"].values())}


def measure(proxies, given):
    """All repetitions: {(proxy, calls): [result, ...]}, in turn, in alternating order."""
    results = {(name, calls): [] for name in proxies for calls in CALLS}
    for repetition in range(given.repetitions + 1):
        for calls in CALLS:
            for name in sorted(proxies, reverse=repetition % 2 == 1):
                result = loaded(proxies[name], calls, given.seconds if repetition else 1, repetition)
                if set(result["outcomes"]) != {"toll" if name == GATEWAY else "answer"}:
                    raise SystemExit(f"{name} gave {result['outcomes']}")
                if repetition:  # the first is the warm-up
                    results[name, calls].append(result)
                    print(f"{repetition} {name:>12} x{calls:<3} {result}", file=sys.stderr)
    return results


def spread(values, digits=3):
    """The median, and the smallest and the largest."""
    return [round(value, digits) for value in (statistics.median(values), min(values), max(values))]


def summary(results):
    """Medians over the repetitions, and the gateway beside the pass-through of the same repetition."""
    proxies = [
        {
            "proxy": name,
            "calls": calls,
            "p50_ms": spread([1e3 * run["p50"] for run in runs])[0],
            "per_second": round(statistics.median(run["per_second"] for run in runs)),
            "cpu_ms": spread([1e3 * run["cpu"] for run in runs])[0],
        }
        for (name, calls), runs in results.items()
    ]
    pairs = {calls: list(zip(results[GATEWAY, calls], results[BARE, calls], strict=True)) for calls in CALLS}
    one, many = pairs[CALLS[0]], pairs[CALLS[-1]]
    return {
        "proxies": proxies,
        "own_p50_ms": spread([1e3 * (gate["p50"] - bare["p50"]) for gate, bare in one]),
        "p50_ratio": spread([gate["p50"] / bare["p50"] for gate, bare in one]),
        "own_cpu_ms": spread([1e3 * (gate["cpu"] - bare["cpu"]) for gate, bare in many]),
        "cpu_ratio": spread([gate["cpu"] / bare["cpu"] for gate, bare in many]),
        "throughput_ratio": spread([gate["per_second"] / bare["per_second"] for gate, bare in many]),
    }


def bench(given):
    """Start everything, measure, and put the result together."""
    stub_port, bare_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as name, ExitStack() as processes:
        start(processes, stub_port, "--role", "stub", "--port", stub_port)
        settings, gateway_port = grpc_settings(Path(name), stub_port, given.unit_ms)
        bare = start(processes, bare_port, "--role", BARE, "--port", bare_port, "--upstream", stub_port)
        gateway = start(processes, gateway_port, "--role", GATEWAY, "--settings", settings)
        wait_until_idle(gateway)
        result = summary(measure({BARE: (bare, bare_port), GATEWAY: (gateway, gateway_port)}, given))
    return {
        "command": f"python benchmarks/bench_grpc.py --repetitions {given.repetitions} --seconds {given.seconds:g} "
        f"--unit-ms {given.unit_ms:g}",
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "load_average": round(os.getloadavg()[2], 1),
        "unit_ms": given.unit_ms,
        **result,
    }


def show(result):
    """The table for people."""
    print(f"{'proxy':>14}{'calls':>8}{'p50, ms':>10}{'calls/s':>10}{'CPU, ms':>10}")
    for line in result["proxies"]:
        print(f"{line['proxy']:>14}{line['calls']:>8}{line['p50_ms']:>10}{line['per_second']:>10}{line['cpu_ms']:>10}")
    for name in ("own_p50_ms", "p50_ratio", "own_cpu_ms", "cpu_ratio", "throughput_ratio"):
        middle, low, high = result[name]
        print(f"{name}: {middle} ({low} to {high})")


def main():
    """Run the role that the arguments name, or the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run of the load generator")
    parser.add_argument("--unit-ms", type=float, default=5.0, help="work of an average row")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    parser.add_argument("--role", choices=("stub", GATEWAY, BARE, "load"), help=argparse.SUPPRESS)
    for name in ("--port", "--upstream", "--calls", "--seed"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "stub":
        asyncio.run(run_stub(given.port))
    elif given.role == BARE:
        asyncio.run(run_pass_through(given.port, given.upstream))
    elif given.role == "load":
        print(json.dumps(asyncio.run(load(given.port, given.calls, given.seconds, given.seed))))
    elif given.role:
        run_proxy(given.settings, gated=True)
    else:
        result = bench(given)
        if given.json != "-":
            show(result)
        if given.json:
            text = json.dumps(result, indent=2) + "\n"
            sys.stdout.write(text) if given.json == "-" else Path(given.json).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
