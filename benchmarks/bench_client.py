"""Overhead of the client on requests without toll, and rates of the solver beside the bare functions.

    python benchmarks/bench_client.py [--rounds 60] [--block 50] [--seconds 0.3] [--json FILE]

Requests are sent one after another over a kept-alive connection, in alternating blocks with and without the transport. The
overhead is the median over the rounds of the ratio of the times of two consecutive blocks; ``added_us`` is the median of the
difference of their processor times, in microseconds per request. Rates are evaluations per second of processor time on
one core, which other load affects little; each is the median of eleven alternating runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import socket
import statistics
import subprocess
import sys
import time
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import httpx
import httpx2
from argon2.low_level import Type, hash_secret_raw

from modeltoll.client.httpx import AsyncTollTransport, TollTransport
from modeltoll.puzzle.benchmark import measure_rate

REPEATS = 11
MEMORIES = (256, 1024, 8192, 65536)  # KiB
SEED = bytes(16)
BODY = b'{"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP64", "data": [' + b"0.5," * 63 + b"0.5]}]}"


def serve(port):
    """Run the server, in its own process: it answers 200 bytes of JSON."""
    import uvicorn  # noqa: PLC0415  in that process alone

    async def app(_scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"application/json"), (b"content-length", b"200")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"[" + b" " * 198 + b"]"})

    uvicorn.run(app, port=port, log_level="critical", access_log=False, lifespan="off", ws="none")


def start_server():
    """Start a server process; returns it and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, "--serve", str(port)])
    url = f"http://127.0.0.1:{port}/infer"
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            httpx.post(url, content=BODY)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return process, url
    process.kill()
    sys.exit("the server did not start")


class Stopwatch:
    """Times one block: ``seconds`` and ``processor_seconds`` of this process, per request."""

    def __init__(self, block):
        self.block = block

    def __enter__(self):
        self.begin = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.seconds = (time.perf_counter() - self.begin[0]) / self.block
        self.processor_seconds = (time.process_time() - self.begin[1]) / self.block


def pairs(library, url, rounds, block):
    """A pair of blocks per round, with and without the transport, in alternating order."""
    with (
        library.Client(transport=TollTransport(transport=library.HTTPTransport())) as with_toll,
        library.Client(transport=library.HTTPTransport()) as plain,
    ):
        timed = []
        for number in range(rounds + 1):
            watches = {}
            for client in (with_toll, plain) if number % 2 else (plain, with_toll):
                with Stopwatch(block) as watches[client]:
                    for _ in range(block):
                        client.post(url, content=BODY)
            timed.append((watches[with_toll], watches[plain]))
        return timed[1:]  # the first warms up


async def pairs_async(library, url, rounds, block):
    """The same for the async client."""
    async with (
        library.AsyncClient(transport=AsyncTollTransport(transport=library.AsyncHTTPTransport())) as with_toll,
        library.AsyncClient(transport=library.AsyncHTTPTransport()) as plain,
    ):
        timed = []
        for number in range(rounds + 1):
            watches = {}
            for client in (with_toll, plain) if number % 2 else (plain, with_toll):
                with Stopwatch(block) as watches[client]:
                    for _ in range(block):
                        await client.post(url, content=BODY)
            timed.append((watches[with_toll], watches[plain]))
        return timed[1:]


def overhead(name, timed):
    """A row of the first table."""
    return {
        "client": name,
        "plain_per_second": round(1 / statistics.median(plain.seconds for _, plain in timed)),
        "tolled_per_second": round(1 / statistics.median(with_toll.seconds for with_toll, _ in timed)),
        "overhead_percent": round(100 * (statistics.median(t.seconds / p.seconds for t, p in timed) - 1), 2),
        "added_us": round(1e6 * statistics.median(t.processor_seconds - p.processor_seconds for t, p in timed), 1),
    }


def bare_argon2id(memory):
    """One evaluation with argon2-cffi."""
    return lambda n: hash_secret_raw(n.to_bytes(8, "big"), SEED, 1, memory, 1, 32, Type.ID)


def bare_sha256(n):
    """One evaluation with hashlib."""
    return sha256(SEED + n.to_bytes(8, "big")).digest()


def bare_rate(evaluate, seconds):
    """Evaluations per second of a plain loop."""
    done, begin = 0, time.process_time()
    while (elapsed := time.process_time() - begin) < seconds or done < 8:
        for n in range(done, done + (1 if elapsed == 0 else max(1, int(done / elapsed * 0.01)))):
            evaluate(n)
            done = n + 1
    return done / elapsed


def rate(puzzle, memory, seconds):
    """A row of the second table."""
    evaluate = bare_argon2id(memory) if memory else bare_sha256
    runs = [
        (measure_rate(puzzle, memory, 1, seconds, time.process_time), bare_rate(evaluate, seconds))
        for _ in range(REPEATS)
    ]
    return {
        "puzzle": f"{puzzle} {memory} KiB" if memory else puzzle,
        "solver_per_second": round(statistics.median(solver for solver, _ in runs), 1),
        "bare_per_second": round(statistics.median(bare for _, bare in runs), 1),
        "solver_percent": round(100 * statistics.median(solver / bare for solver, bare in runs), 1),
    }


def show(lines):
    """Print a table."""
    for line in (list(lines[0]), *(list(line.values()) for line in lines)):
        print("  ".join(f"{cell:>18}" for cell in line))
    print()


def measure(rounds, block, seconds):
    """Measure both tables."""
    process, url = start_server()
    try:
        requests = []
        for library in (httpx, httpx2):
            name = library.__name__
            requests.append(overhead(f"{name} sync", pairs(library, url, rounds, block)))
            requests.append(overhead(f"{name} async", asyncio.run(pairs_async(library, url, rounds, block))))
    finally:
        process.kill()
        process.wait()
    return requests, [rate("sha256", 0, seconds), *(rate("argon2id", memory, seconds) for memory in MEMORIES)]


def main():
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description="Overhead of the transport and rates of the solver.")
    parser.add_argument("--rounds", type=int, default=60, help="pairs of blocks")
    parser.add_argument("--block", type=int, default=50, help="requests in a block")
    parser.add_argument("--seconds", type=float, default=0.3, help="how long to measure each rate, eleven times")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve)
    requests, rates = measure(arguments.rounds, arguments.block, arguments.seconds)
    result = {
        "command": "python benchmarks/bench_client.py "
        f"--rounds {arguments.rounds} --block {arguments.block} --seconds {arguments.seconds:g}",
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("httpx", "httpx2", "argon2-cffi")},
        "requests": requests,
        "rates": rates,
    }
    if arguments.json != "-":
        show(requests)
        show(rates)
    if arguments.json:
        text = json.dumps(result, indent=2) + "\n"
        sys.stdout.write(text) if arguments.json == "-" else Path(arguments.json).write_text(text, encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
