"""Time to the first and to the last event of a streamed chat: from the model server itself, in shadow mode, and enforced.

    python benchmarks/bench_stream.py [--repetitions 15] [--lines 10] [--pace-ms 20] [--json FILE]

A stand-in for a model server makes an event of one token every ``--pace-ms``, ten a line. Gateways with the memory ledger
stand before it, one in shadow mode and one that enforces; an average honest answer costs as much work as the stream takes
without a gateway. Model server, gateways and client are processes of their own on one machine. One client at a time asks, and the three take turns. Times are medians of milliseconds since the request was sent;
``largest_first_ms`` is the largest. ``work_ms`` is the median of the expected work of the tolls. The last row is one stream that
takes longer than the gateway is silent, 25 s; its client has the read timeout of httpx, 5 s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import yaml

from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.demo.processes import free_port, serving
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.fit import RowCosts, fit_calibration
from modeltoll.records import Leaks
from modeltoll.testing.chat_server import CHAT_PATH, chat_server

MODEL, KEY = "chat", "a-key-for-the-benchmark"
MODES = ("shadow", "enforce")
TOKENS = 10  # of a line
SLOW_SECONDS = 25.0  # of the stream that is longer than the gateway is silent
HIGHEST_LEAK = 400.0  # nats, of the honest rows of the calibration


def serve(port, pace_ms, lines):
    """Run the model server, in its own process."""
    import uvicorn  # noqa: PLC0415  in that process alone

    uvicorn.run(chat_server(pace_ms / 1000, lines), port=port, log_level="critical", access_log=False, lifespan="off")


def write_settings(folder, mode, upstream, seconds):
    """Write the settings and the tariff of one gateway; returns the settings file, its port and its admin port."""
    leaks = Leaks(("tokens",), HIGHEST_LEAK * np.random.default_rng(0).random((1000, 1)))
    save_calibration(fit_calibration(MODEL, leaks, RowCosts(undefended_seconds=seconds)), folder / "chat.tariff.json")
    port, admin = free_port(), free_port()
    model = {
        "protocol": "openai-chat",
        "output": {"kind": "tokens", "logprobs": "raw"},
        "measures": [{"name": "tokens"}],
        "mode": mode,
    }
    document = {
        "listen": f"127.0.0.1:{port}",
        "admin": f"127.0.0.1:{admin}",
        "upstream": {"url": upstream},
        "callers": {"keys": [{"name": "bench", "sha256": hash_key(KEY)}]},
        "ledger": {"url": "memory://"},
        "models": {MODEL: {"tariff": "chat.tariff.json", **model}},
    }
    path = folder / f"{mode}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path, port, admin


@contextlib.contextmanager
def addresses(folder, pace_ms, lines):
    """Run the model server and the gateways; yields their addresses by mode."""
    with contextlib.ExitStack() as stack:
        port = free_port()
        command = [sys.executable, __file__, "--serve", str(port), "--pace-ms", str(pace_ms), "--lines", str(lines)]
        process = subprocess.Popen(command)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        found = {"direct": f"http://127.0.0.1:{port}"}
        for mode in MODES:
            settings, gate, admin = write_settings(folder, mode, found["direct"], TOKENS * lines * pace_ms / 1000)
            log = folder / f"{mode}.log"
            stack.enter_context(serving(["modeltoll", "serve", str(settings)], f"http://127.0.0.1:{admin}/livez", log))
            found[mode] = f"http://127.0.0.1:{gate}"
        yield found


def stream(client, url):
    """Milliseconds to the response's head, to its first and to its last event; and the number of its data events."""
    question = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": str(time.time_ns())}]}
    begin, times, events = time.perf_counter(), [], 0
    with client.stream("POST", url + CHAT_PATH, json=question) as response:
        times.append(time.perf_counter())
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: "):
                times.append(time.perf_counter())
                events += 1
    return [1000 * (at - begin) for at in (times[0], times[1], times[-1])], events


def timed_client(purse):
    """A client that pays tolls."""
    return httpx.Client(transport=TollTransport(purse=purse), headers={"x-api-key": KEY})


def measure(urls, repetitions):
    """A row for each way, from streams that take turns."""
    purses = {name: Purse(max_seconds=600.0) for name in urls}
    seen = {name: [] for name in urls}
    counts = set()
    with contextlib.ExitStack() as stack:
        clients = {name: stack.enter_context(timed_client(purse)) for name, purse in purses.items()}
        for turn in range(repetitions + 1):
            for name, url in urls.items():
                times, events = stream(clients[name], url)
                counts.add(events)
                if turn:  # the first warms up
                    seen[name].append(times)
    if len(counts) > 1:
        sys.exit(f"the streams have different numbers of events: {sorted(counts)}")
    return [row(name, seen[name], purses[name].payments, max(counts)) for name in urls]


def row(name, seen, payments, events):
    """A row of the table."""
    heads, firsts, lasts = zip(*seen, strict=True)
    return {
        "way": name,
        "events": events,
        "head_ms": round(statistics.median(heads), 1),
        "first_ms": round(statistics.median(firsts), 1),
        "largest_first_ms": round(max(firsts), 1),
        "last_ms": round(statistics.median(lasts), 1),
        "work_ms": round(1000 * statistics.median(one.expected for one in payments), 1) if payments else 0.0,
    }


def run(arguments):
    """Measure both kinds of streams."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with addresses(folder, arguments.pace_ms, arguments.lines) as urls:
            rows += measure(urls, arguments.repetitions)
        pace_ms = 1000 * SLOW_SECONDS / (TOKENS * arguments.lines)
        with addresses(folder, pace_ms, arguments.lines) as urls:
            purse = Purse(max_seconds=600.0)
            with timed_client(purse) as client:
                times, events = stream(client, urls["enforce"])
            rows.append(row("enforce, slow", [times], purse.payments, events))
    return rows


def main():
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description="Time to the first event of a streamed chat.")
    parser.add_argument("--repetitions", type=int, default=15, help="streams of each way")
    parser.add_argument("--lines", type=int, default=10, help="lines of ten tokens in an answer")
    parser.add_argument("--pace-ms", type=float, default=20.0, help="time between two events of the model server")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve, arguments.pace_ms, arguments.lines)
    load_before = os.getloadavg()[0]
    rows = run(arguments)
    result = {
        "command": f"python benchmarks/bench_stream.py --repetitions {arguments.repetitions} --lines {arguments.lines} "
        f"--pace-ms {arguments.pace_ms:g}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_before": round(load_before, 2),
        "streams": rows,
    }
    if arguments.json == "-":
        print(json.dumps(result, indent=2))
        return None
    for line in (list(rows[0]), *(list(one.values()) for one in rows)):
        print("  ".join(f"{cell:>16}" for cell in line))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
