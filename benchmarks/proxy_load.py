"""Load proxies in turn, and compare each with the bare pass-through of the same repetition. Shared by the benchmarks of the gate.

A load generator is a coroutine that sends one request after the other over some connections; it runs in a process of its own.
Medians are over the repetitions; ratios and differences are those within one repetition, each with its smallest and largest.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gateway_fixtures import cpu_seconds

__all__ = [
    "BARE",
    "CONNECTIONS",
    "Proxy",
    "compared",
    "machine",
    "measure",
    "percentile",
    "send_repeatedly",
    "spread",
    "summarised",
    "write_json",
]

BARE = "pass-through"
CONNECTIONS = (1, 32)
WARM_UP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy.

    ``service``: what it serves. ``load``: the command of its load generator, to which the number of connections, the seconds
    and the seed are added. ``expected``: the outcome of each request; any other one ends the benchmark.
    """

    service: str
    name: str
    process: subprocess.Popen
    load: tuple[str, ...]
    expected: str


async def send_repeatedly(send, connections, seconds):
    """Await ``send()``, which returns an outcome, over some connections for some seconds.

    Returns the latencies' percentiles in seconds, the requests per second and the outcomes counted.
    """
    latencies, outcomes = [], {}

    async def caller(end):
        while (begin := time.perf_counter()) < end:
            outcome = await send()
            latencies.append(time.perf_counter() - begin)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

    begin = time.perf_counter()
    await asyncio.gather(*(caller(begin + seconds) for _ in range(connections)))
    took = time.perf_counter() - begin
    percentiles = {f"p{part:g}".replace(".", ""): percentile(latencies, part) for part in (50, 99, 99.9)}
    return {**percentiles, "per_second": len(latencies) / took, "outcomes": outcomes}


def percentile(values, part):
    """The smallest value that at least ``part`` per cent of the values do not exceed."""
    return sorted(values)[max(0, -int(-len(values) * part // 100) - 1)]


def loaded(proxy, connections, seconds, seed):
    """One run of the load generator against a proxy; ``cpu``: the proxy's processor time of a request, in seconds."""
    before = cpu_seconds(proxy.process)
    numbers = ("--connections", str(connections), "--seconds", str(seconds), "--seed", str(seed))
    run = subprocess.run([*proxy.load, *numbers], capture_output=True, check=False, text=True)
    if run.returncode:
        raise SystemExit(f"the load generator of {proxy.name} failed:\n{run.stderr}")
    result = json.loads(run.stdout)
    if set(result["outcomes"]) != {proxy.expected}:
        raise SystemExit(f"{proxy.name} gave {result['outcomes']} in place of {proxy.expected} alone")
    return result | {"cpu": (cpu_seconds(proxy.process) - before) / result["outcomes"][proxy.expected]}


def measure(proxies, repetitions, seconds):
    """All repetitions: {(service, proxy, connections): [result, ...]}, in turn, in alternating order."""
    results = {(proxy.service, proxy.name, connections): [] for proxy in proxies for connections in CONNECTIONS}
    for repetition in range(repetitions + 1):
        for connections in CONNECTIONS:
            for proxy in proxies if repetition % 2 else reversed(proxies):
                result = loaded(proxy, connections, seconds if repetition else WARM_UP_SECONDS, repetition)
                if repetition:  # the first is the warm-up
                    results[proxy.service, proxy.name, connections].append(result)
                    line = {name: round(value, 6) for name, value in result.items() if name != "outcomes"}
                    print(f"{repetition} {proxy.service}, {proxy.name} x{connections} {line}", file=sys.stderr)
    return results


def spread(values, digits=3):
    """The median, and the smallest and the largest."""
    return [round(value, digits) for value in (statistics.median(values), min(values), max(values))]


def summarised(results):
    """A line for each proxy and number of connections: medians over the repetitions."""
    return [
        {
            "service": service,
            "proxy": name,
            "connections": connections,
            "p50_ms": spread([1e3 * run["p50"] for run in runs])[0],
            "p99_ms": spread([1e3 * run["p99"] for run in runs])[0],
            "per_second": round(statistics.median(run["per_second"] for run in runs)),
            "cpu_ms": spread([1e3 * run["cpu"] for run in runs])[0],
        }
        for (service, name, connections), runs in results.items()
    ]


def compared(results, service, name, other=BARE):
    """A proxy beside another one of the same service and repetition: p50 at one connection, the rest at the most."""
    one, many = (
        list(zip(results[service, name, connections], results[service, other, connections], strict=True))
        for connections in CONNECTIONS
    )
    return {
        "own_p50_ms": spread([1e3 * (a["p50"] - b["p50"]) for a, b in one]),
        "p50_ratio": spread([a["p50"] / b["p50"] for a, b in one]),
        "own_cpu_ms": spread([1e3 * (a["cpu"] - b["cpu"]) for a, b in many]),
        "cpu_ratio": spread([a["cpu"] / b["cpu"] for a, b in many]),
        "throughput_ratio": spread([a["per_second"] / b["per_second"] for a, b in many]),
    }


def machine():
    """What a result says of the machine it was measured on; ``load_average``: of the minute before."""
    return {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def write_json(result, target):
    """Write a result to a file, to standard output where ``target`` is ``-``, or nowhere where it is None."""
    text = json.dumps(result, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
    elif target:
        Path(target).write_text(text, encoding="utf-8")
