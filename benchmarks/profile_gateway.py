"""Where the time of one request goes inside the gate, step by step.

    python benchmarks/profile_gateway.py [--requests 5000] [--json FILE] [--figure FILE]

One gate for each ledger, in this process, with prepared answers of a model server (``gateway_fixtures.py``): each step of a
request is timed by itself, so that the table adds up to the whole but for what lies between the steps. The last line is the
same request through the public application (ASGI): with its headers, its caller, metrics and the response, without the HTTP
server and the connection to the model server, which a pass-through has too.

Beside the median of many requests in a row the table shows that of requests with a pause of 2 ms between them, as on one
connection. In the pauses the processor's caches are used by other work; what the steps take longer then is not their own work.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from gateway_fixtures import KEY, MODEL, PATH, answer_bodies, request_body, write_settings

from modeltoll import wire
from modeltoll.gateway.assembly.build import build_gateway, build_runtime
from modeltoll.gateway.assembly.components import build_profile
from modeltoll.gateway.core import gate as gates
from modeltoll.gateway.core import price_steps
from modeltoll.gateway.core.request import GateConfig, GateRequest, ServedModel
from modeltoll.gateway.settings.load import load_settings
from modeltoll.records import Answer, Caller
from modeltoll.testing.model_servers import FakeUpstream
from modeltoll.testing.servers import postgres_server, valkey_server

SERVERS = {"sqlite": None, "postgres": postgres_server, "valkey": valkey_server}
PAUSE, WARM_UP = 0.002, 300
WHOLE = "whole request"
APPLICATION = "whole request, in the application"
STEPS = (
    "read the request",
    "settle",
    "evidence",
    "leaks",
    "assess",
    "charge",
    "verdict",
    "work",
    "toll",
    "bill",
    "write the toll",
)


class Clocked:
    """A component with some methods timed: ``steps`` maps their names to steps; other attributes are the component's."""

    def __init__(self, component, laps, **steps):
        self._component = component
        for method, step in steps.items():
            setattr(self, method, clocked(getattr(component, method), laps, step))

    def __getattr__(self, name):
        return getattr(self._component, name)


def clocked(function, laps, step):
    """The same function, its seconds noted under a step."""
    if asyncio.iscoroutinefunction(function):

        async def timed(*arguments):
            begin = time.perf_counter()
            result = await function(*arguments)
            laps.setdefault(step, []).append(time.perf_counter() - begin)
            return result

    else:

        def timed(*arguments):
            begin = time.perf_counter()
            result = function(*arguments)
            laps.setdefault(step, []).append(time.perf_counter() - begin)
            return result

    return timed


def clocked_gate(gateway, runtime, laps):
    """A copy of the gateway's gate, each step of which is timed."""
    config = gateway.gates[MODEL].config
    protocol = Clocked(config.served_model.protocol, laps, read="read the request", evidence="evidence")
    measures = tuple(Clocked(measure, laps, measure="leaks") for measure in config.served_model.measures)
    served_model = ServedModel(config.served_model.service, protocol, measures)
    tariff = Clocked(config.tariff, laps, assess="assess", verdict="verdict", work="work")
    ledger = Clocked(gateway.shared.ledger, laps, settle="settle", charge="charge", bill="bill")
    return gates.Gate(GateConfig(served_model, tariff, config.selector), gateway.upstream, ledger, runtime)


async def send_requests(gate, requests, pause, laps):
    """Send requests through a gate, one after the other."""
    caller, rng = Caller("key:bench"), random.Random(0)
    write = clocked(wire.encode_toll, laps, "write the toll")
    for number in range(requests + WARM_UP):
        if number == WARM_UP:
            laps.clear()
        body = request_body(rng)
        if pause:
            await asyncio.sleep(pause)
        begin = time.perf_counter()
        result = await gate.handle(GateRequest(caller, PATH, body, wire.Accept()))
        laps.setdefault(WHOLE, []).append(time.perf_counter() - begin)
        if result.toll is not None:
            write(result.toll, wire.DETAIL, PATH)


def request_scope(body):
    """The ASGI scope of a request, as uvicorn makes it."""
    headers = {
        "host": "127.0.0.1:8000",
        "accept": "*/*",
        "user-agent": "profile",
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }


async def call_application(application, requests, pause, laps):
    """Send requests through an ASGI application, one after the other."""
    rng, never = random.Random(1), asyncio.Event()
    for number in range(requests + WARM_UP):
        body, messages = request_body(rng), []
        parts = iter(({"type": "http.request", "body": body},))

        async def receive(parts=parts):
            for part in parts:
                return part
            return await never.wait()

        async def send(message, messages=messages):
            messages.append(message)

        if pause:
            await asyncio.sleep(pause)
        begin = time.perf_counter()
        await application(request_scope(body), receive, send)
        if number >= WARM_UP:
            laps.setdefault(APPLICATION, []).append(time.perf_counter() - begin)
        assert messages[0]["status"] in (200, 402), messages[0]["status"]


async def counted(gate, requests):
    """Calls of Python functions and of C functions, a request."""
    calls = collections.Counter()
    sys.setprofile(lambda _frame, event, _argument: calls.update((event,)))
    try:
        await send_requests(gate, requests, 0.0, {})
    finally:
        sys.setprofile(None)
    return {kind: round(calls[event] / (requests + WARM_UP)) for kind, event in (("python", "call"), ("c", "c_call"))}


async def profile(settings, requests):
    """Medians in microseconds, {step: {"in a row": us, "with pauses": us}}, and the calls of a plain gate."""
    answers = itertools.cycle(answer_bodies())
    gateway = build_gateway(settings, FakeUpstream(lambda *_: Answer(200, "application/json", next(answers))))
    laps = {}
    gate = clocked_gate(gateway, build_runtime(settings, build_profile(settings)), laps)
    price_steps.answer_toll = clocked(price_steps.answer_toll, laps, "toll")
    table = {}
    async with gateway.open():
        await asyncio.sleep(2)  # until puzzles are precomputed
        for name, pause in (("in a row", 0.0), ("with pauses", PAUSE)):
            await send_requests(gate, requests, pause, laps)
            await call_application(gateway.public, requests, pause, laps)
            for step in (*STEPS, WHOLE, APPLICATION):
                table.setdefault(step, {})[name] = round(1e6 * statistics.median(laps[step]), 1)
        return table, await counted(gateway.gates[MODEL], requests // 10)


def bench(given):
    """The table of each ledger."""
    tables, calls, toll = {}, {}, price_steps.answer_toll
    for name, server in SERVERS.items():
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = stack.enter_context(server()).url if server else "sqlite:///profile.db"
            path, _, _ = write_settings(folder, "profile", 1, 5.0, url)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                tables[name], calls[name] = runner.run(profile(load_settings(path), given.requests))
            price_steps.answer_toll = toll
    return {
        "command": f"python benchmarks/profile_gateway.py --requests {given.requests}",
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "microseconds": tables,
        "calls": calls,
    }


def show(result):
    """The tables for people."""
    for name, table in result["microseconds"].items():
        print(f"{name:>34}{'in a row, us':>15}{'with pauses, us':>18}")
        for step, times in table.items():
            print(f"{step:>34}{times['in a row']:>15}{times['with pauses']:>18}")


def draw(result, path):
    """Bars of each ledger, step upon step."""
    from matplotlib import colormaps  # noqa: PLC0415  only for the figure
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    colours = colormaps["tab10"].colors
    for turn, kind in enumerate(("with pauses", "in a row")):
        for row, table in enumerate(result["microseconds"].values()):
            left, place = 0.0, 2.5 * row + turn
            for step, colour in zip(STEPS, colours, strict=False):
                width = table[step][kind]
                axes.barh(place, width, left=left, color=colour, label=step if row == turn == 0 else None)
                left += width
            axes.text(left, place, f" {kind}", va="center", fontsize=8)
    axes.set_yticks([2.5 * row + 0.5 for row in range(len(result["microseconds"]))], result["microseconds"])
    axes.set_xlabel("microseconds of one request in the gate (median of each step)")
    axes.margins(x=0.12)
    axes.legend(ncols=3, fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.32))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main():
    """Parse, measure, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="also draw it")
    given = parser.parse_args()
    result = bench(given)
    show(result)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if given.figure:
        draw(result, given.figure)


if __name__ == "__main__":
    main()
