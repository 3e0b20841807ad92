"""Throughput of one worker on each ledger, beside a pass-through of the same stack, and the growth of its memory.

    python benchmarks/load/throughput.py [--seconds 5] [--connections 32] [--unit-ms 5] [--json FILE]

The proxies and the stub of a model server are those of benchmarks/gateway_fixtures.py: entropy, one row a request, an API key.
Each proxy is loaded alone for the given time; latencies and statuses are those of the load generator, and the resident memory
of the proxy is read ten times a second: its mean in the second and in the last quarter of the time, and the largest. A minute
shows the throughput, ten whether the memory is steady. Ends with 1 where any answer was neither a toll nor, of the
pass-through, the model server's own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))

import gateway_fixtures as fixtures
from proxy_load import send_repeatedly

from modeltoll.testing.servers import postgres_server, valkey_server

BENCH = Path(__file__).parents[1] / "bench_gateway.py"  # plays the stub and the proxies
EVERY = 0.1  # seconds between two looks at the memory
STORES = {
    "pass-through": lambda: contextlib.nullcontext("memory://"),
    "memory": lambda: contextlib.nullcontext("memory://"),
    "sqlite": lambda: contextlib.nullcontext("sqlite:///ledger.db"),
    "postgresql": lambda: url_of(postgres_server),
    "valkey": lambda: url_of(valkey_server),
}


@contextlib.contextmanager
def url_of(server):
    with server() as running:
        yield running.url


async def load(url, connections, seconds):
    """Ask for fresh rows over some connections for some seconds; an outcome is the status, 0 for a broken connection."""
    rng = random.Random(0)
    headers = {"Authorization": f"Bearer {fixtures.KEY}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def send():
            try:
                async with session.post(url, data=fixtures.request_body(rng)) as response:
                    await response.read()
                    return response.status
            except aiohttp.ClientError:
                return 0

        found = await send_repeatedly(send, connections, seconds)
    times = {f"{part}_ms": round(1000 * found[part], 3) for part in ("p50", "p99", "p999")}
    return {"per_second": round(found["per_second"], 1), **times, "statuses": found["outcomes"]}


class MemorySampler:
    """Samples the memory of a process while the block lasts."""

    def __init__(self, process):
        self._process, self._stop, self._mib = process, threading.Event(), []

    def __enter__(self):
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _sample(self):
        while not self._stop.wait(EVERY):
            self._mib.append(fixtures.memory_mib(self._process))

    def summary(self):
        quarter = max(1, len(self._mib) // 4)
        early, late = self._mib[quarter : 2 * quarter] or self._mib, self._mib[-quarter:]
        return {
            "mib_early": round(statistics.fmean(early), 1),
            "mib_late": round(statistics.fmean(late), 1),
            "mib_most": round(max(self._mib), 1),
        }


def measured(store, stub_port, given):
    """One line of the table."""
    role = "pass-through" if store == "pass-through" else "gateway"
    with contextlib.ExitStack() as stack:
        folder, url = Path(stack.enter_context(tempfile.TemporaryDirectory())), stack.enter_context(STORES[store]())
        settings, port, admin = fixtures.write_settings(folder, store, stub_port, given.unit_ms, url)
        command = [sys.executable, str(BENCH), "--role", role, "--settings", str(settings)]
        process = stack.enter_context(fixtures.running(command, f"http://127.0.0.1:{admin}/livez"))
        fixtures.wait_until_idle(process)
        before = fixtures.cpu_seconds(process)
        with MemorySampler(process) as memory:
            command = [sys.executable, __file__, "--role", "load", "--port", str(port)]
            command += ["--connections", str(given.connections), "--seconds", str(given.seconds)]
            load_result = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        requests = sum(load_result["statuses"].values())
        load_result["cpu_ms"] = round(1000 * (fixtures.cpu_seconds(process) - before) / requests, 3)
    good = load_result["statuses"].get("200" if role == "pass-through" else "402", 0)
    return {"store": store, **load_result, **memory.summary(), "requests": requests, "failed": requests - good}


def main():
    """Parse; play the load generator, or measure."""
    parser = argparse.ArgumentParser(description="Throughput, latency and memory on each ledger.")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--unit-ms", type=float, default=5.0)
    parser.add_argument("--stores", default=",".join(STORES), help="which, in which order")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    parser.add_argument("--role", choices=("load",), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        url = f"http://127.0.0.1:{given.port}{fixtures.PATH}"
        print(json.dumps(asyncio.run(load(url, given.connections, given.seconds))))
        return
    stub_port, lines = fixtures.free_port(), []
    stub = [sys.executable, str(BENCH), "--role", "stub", "--port", str(stub_port)]
    with fixtures.running(stub, f"http://127.0.0.1:{stub_port}/"):
        for store in given.stores.split(","):
            lines.append(measured(store, stub_port, given))
            print(lines[-1], file=sys.stderr, flush=True)
    result = {
        "command": f"python benchmarks/load/throughput.py --seconds {given.seconds:g} --connections {given.connections}"
        f" --unit-ms {given.unit_ms:g}",
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
        "stores": lines,
    }
    if given.json:
        text = json.dumps(result, indent=2) + "\n"
        sys.stdout.write(text) if given.json == "-" else Path(given.json).write_text(text, encoding="utf-8")
    sys.exit(1 if any(line["failed"] for line in lines) else 0)


if __name__ == "__main__":
    main()
