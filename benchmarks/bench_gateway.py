"""What the gate costs on each ledger: the gateway against a bare pass-through proxy of the same stack.

    python benchmarks/bench_gateway.py [--ledgers sqlite postgres valkey] [--repetitions 7] [--seconds 3] [--json FILE]

One worker each, in processes of their own: a fast stub of a model server, a gateway on each ledger (``modeltoll serve``'s
own code, entropy, one row a request, API key), a pass-through (the same Starlette, uvicorn and aiohttp, handing answers
through), and an aiohttp load generator. Every repetition loads all of them in turn, with 1 and with 32 connections; the
table shows medians over the repetitions, and differences and ratios are those within one repetition. On Linux it also
shows the CPU time that each proxy took per request, which says more than latencies where other work shares the machine,
and the memory of a gateway that holds 60,000 private points of 10 numbers. PostgreSQL and Valkey are real servers on the
same machine. The stub's answers are like the rows that the tariff was made from, so no caller comes under suspicion.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import httpx
from gateway_fixtures import (
    KEY,
    PATH,
    cpu_seconds,
    free_port,
    memory_mib,
    request_body,
    run_proxy,
    run_stub,
    running,
    wait_until_idle,
    write_settings,
)

from modeltoll.testing.servers import postgres_server, valkey_server

CONNECTIONS = (1, 32)
BARE = "pass-through"
OWN_MS = {"sqlite": 0.6, "postgres": 1.2, "valkey": 1.2}  # targets
THROUGHPUT = 0.25  # of the pass-through's; the target is for SQLite
MEMORY_MIB = 400
SERVERS = {"postgres": postgres_server, "valkey": valkey_server}


async def load(url, connections, seconds, seed):
    """Ask for fresh rows over some connections for some seconds; latencies in seconds, and statuses counted."""
    rng, latencies, statuses = random.Random(seed), [], {}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def caller(end):
            while time.perf_counter() < end:
                body = request_body(rng)
                begin = time.perf_counter()
                async with session.post(url, data=body) as response:
                    await response.read()
                latencies.append(time.perf_counter() - begin)
                statuses[response.status] = statuses.get(response.status, 0) + 1

        begin = time.perf_counter()
        await asyncio.gather(*(caller(begin + seconds) for _ in range(connections)))
        took = time.perf_counter() - begin
    return {"p50": statistics.median(latencies), "per_second": len(latencies) / took, "statuses": statuses}


def itself(*arguments):
    """This script in another role."""
    return [sys.executable, __file__, *map(str, arguments)]


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
    """All repetitions: {(proxy, connections): [result, ...]}, in turn, in alternating order."""
    results = {(name, connections): [] for name in proxies for connections in CONNECTIONS}
    for repetition in range(given.repetitions + 1):
        for connections in CONNECTIONS:
            for name in sorted(proxies, reverse=repetition % 2 == 1):
                result = loaded(proxies[name], connections, given.seconds if repetition else 1, repetition)
                if repetition:  # the first is the warm-up
                    results[name, connections].append(result)
                    print(f"{repetition} {name:>12} x{connections:<3} {result}", file=sys.stderr)
    return results


def spread(values, digits=3):
    """The median, and the smallest and the largest."""
    return [round(value, digits) for value in (statistics.median(values), min(values), max(values))]


def compared(results, name):
    """A gateway beside the pass-through of the same repetition."""
    single, bare = results[name, 1], results[BARE, 1]
    many, bare_many = results[name, CONNECTIONS[-1]], results[BARE, CONNECTIONS[-1]]
    own, own_low, own_high = spread([1e3 * (a["p50"] - b["p50"]) for a, b in zip(single, bare, strict=True)])
    ratio, low, high = spread([a["per_second"] / b["per_second"] for a, b in zip(many, bare_many, strict=True)])
    cpu, _, _ = spread([1e3 * (a["cpu"] - b["cpu"]) for a, b in zip(many, bare_many, strict=True)])
    return {
        "ledger": name,
        "own_p50_ms": own,
        "own_p50_ms_range": [own_low, own_high],
        "own_p50_ms_target": OWN_MS[name],
        "own_cpu_ms": cpu,
        "throughput_ratio": ratio,
        "throughput_ratio_range": [low, high],
    }


def summary(results):
    """Medians over the repetitions, and each gateway beside the pass-through."""
    proxies = [
        {
            "proxy": name,
            "connections": connections,
            "p50_ms": spread([1e3 * run["p50"] for run in runs])[0],
            "per_second": round(statistics.median(run["per_second"] for run in runs)),
            "cpu_ms": spread([1e3 * run["cpu"] for run in runs])[0],
        }
        for (name, connections), runs in results.items()
    ]
    ledgers = [compared(results, name) for name in OWN_MS if (name, 1) in results]
    return {"proxies": proxies, "ledgers": ledgers, "throughput_ratio_target": THROUGHPUT}


def memory(folder, stub_port):
    """MiB that a gateway with private points holds, after some hundred requests."""
    settings, port, admin = write_settings(folder, "large", stub_port, 5.0, "sqlite:///large.db", private=True)
    with running(itself("--role", "gateway", "--settings", settings), f"http://127.0.0.1:{admin}/livez") as process:
        wait_until_idle(process)
        rng = random.Random(0)
        with httpx.Client(
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}, timeout=60
        ) as client:
            for _ in range(300):
                response = client.post(f"http://127.0.0.1:{port}{PATH}", content=request_body(rng))
                if response.status_code not in (200, 402):
                    raise SystemExit(f"{response.status_code}: {response.text}")
        return round(memory_mib(process))


def bench(given):
    """Start everything, measure, and put the result together."""
    stub_port = free_port()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as processes:
        folder = Path(name)
        stub = running(itself("--role", "stub", "--port", stub_port), f"http://127.0.0.1:{stub_port}/")
        processes.enter_context(stub)
        proxies = {}
        for proxy in (BARE, *given.ledgers):
            server = processes.enter_context(SERVERS[proxy]()) if proxy in SERVERS else None
            url = server.url if server else f"sqlite:///{proxy}.db"
            settings, port, admin = write_settings(folder, proxy, stub_port, given.unit_ms, url)
            role = BARE if proxy == BARE else "gateway"
            command = itself("--role", role, "--settings", settings)
            process = processes.enter_context(running(command, f"http://127.0.0.1:{admin}/livez"))
            proxies[proxy] = (process, port)
        for process, _ in proxies.values():
            wait_until_idle(process)
        result = summary(measure(proxies, given))
        held = memory(folder, stub_port)
    return {
        "command": f"python benchmarks/bench_gateway.py --ledgers {' '.join(given.ledgers)} "
        f"--repetitions {given.repetitions} --seconds {given.seconds:g} --unit-ms {given.unit_ms:g}",
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "unit_ms": given.unit_ms,
        **result,
        "memory_mib": held,
        "memory_mib_target": MEMORY_MIB,
    }


def show(result):
    """The table for people."""
    print(f"{'proxy':>14}{'connections':>13}{'p50, ms':>10}{'requests/s':>12}{'CPU, ms':>10}")
    for line in result["proxies"]:
        print(
            f"{line['proxy']:>14}{line['connections']:>13}{line['p50_ms']:>10}{line['per_second']:>12}{line['cpu_ms']:>10}"
        )
    for line in result["ledgers"]:
        print(
            f"{line['ledger']}: own time at p50 {line['own_p50_ms']} ms {line['own_p50_ms_range']}, target <= "
            f"{line['own_p50_ms_target']}; {line['throughput_ratio']:.1%} of the pass-through's throughput "
            f"{line['throughput_ratio_range']}, target >= {THROUGHPUT:.0%} on SQLite"
        )
    print(f"memory with 60,000 private points: {result['memory_mib']} MiB, target <= {MEMORY_MIB}")


def main():
    """Run the role that the arguments name, or the benchmark."""
    parser = argparse.ArgumentParser(description="The gateway against a pass-through of the same stack.")
    parser.add_argument("--ledgers", nargs="+", choices=tuple(OWN_MS), default=list(OWN_MS))
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run of the load generator")
    parser.add_argument("--unit-ms", type=float, default=5.0, help="work of an average row")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    parser.add_argument("--role", choices=("stub", "gateway", BARE, "load"), help=argparse.SUPPRESS)
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
