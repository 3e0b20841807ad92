"""What the gate costs, over HTTP and gRPC: the gateway beside bare pass-through proxies, LiteLLM's proxy and ALTCHA.

    python benchmarks/bench_gateway.py [--services rows grpc chats altcha] [--ledgers memory sqlite postgres valkey]
        [--litellm VENV] [--repetitions 7] [--seconds 3] [--json FILE]

Processes of their own, one worker each: fast stubs of a model server, ``modeltoll serve``'s own code, pass-throughs (the same
server and client libraries, handing answers through), and a load generator. *rows*: one row a request over HTTP (entropy, a
tariff with declared kinds and classes, an API key), on each ledger. *grpc*: the same over gRPC, on SQLite. *chats*: a chat of
ten tokens, whose log-probabilities the gateway measures, in shadow mode and enforced, on SQLite; with ``--litellm``, an
environment that has ``litellm[proxy]``, beside LiteLLM's proxy. *altcha*: a challenge of ALTCHA, its solution and its check
before each row.

Every repetition loads all of them in turn, with 1 and with 32 connections. The clients of rows announce what they can solve
and that they keep receipts, and open no toll. ``cpu_ms`` is the processor time that a proxy took per request, which says more than
latencies where other work shares the machine. The stub's answers are like the rows that the tariff was made from, so no caller
comes under suspicion. Also measured: the memory of a gateway that holds 60,000 private points of 10 numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import aiohttp
import gateway_fixtures as fixtures
import grpc_fixtures
import httpx
import neighbour_fixtures as neighbours
from proxy_load import BARE, CONNECTIONS, Proxy, compared, machine, measure, send_repeatedly, summarised, write_json

from modeltoll.testing.servers import postgres_server, valkey_server

ROWS, GRPC, CHATS, ALTCHA = SERVICES = ("rows", "grpc", "chats", "altcha")
LEDGERS = ("memory", "sqlite", "postgres", "valkey")
LITELLM = "litellm"
MODES = {"shadow": "200", "enforce": "402"}  # of the gateways for chats, and the status of each answer
P50_TARGETS = {"sqlite": 2.0, "postgres": 2.5, "valkey": 2.5}  # times the pass-through's, at one connection
# Times the pass-through's processor time, at 32 connections.
CPU_TARGETS = {"sqlite": 3.3, "postgres": 4.0, "valkey": 4.0}
LITELLM_TARGET = 15.0  # times its requests per second
MEMORY_MIB = 400
SERVERS = {"postgres": postgres_server, "valkey": valkey_server}
LIVE = "http://127.0.0.1:{}/livez"


async def row_load(port, connections, seconds, seed):
    """Ask for fresh rows over some connections; an outcome is the status."""
    rng, url = random.Random(seed), f"http://127.0.0.1:{port}{fixtures.PATH}"
    headers = {"Authorization": f"Bearer {fixtures.KEY}", "Content-Type": "application/json"}
    headers["Toll-Accept"] = fixtures.ACCEPT
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def send():
            async with session.post(url, data=fixtures.request_body(rng)) as response:
                await response.read()
                return str(response.status)

        return await send_repeatedly(send, connections, seconds)


LOADS = {ROWS: row_load, GRPC: grpc_fixtures.load, CHATS: neighbours.chat_load, ALTCHA: neighbours.altcha_load}


def itself(*arguments):
    """This script in another role."""
    return [sys.executable, __file__, *map(str, arguments)]


def load_command(service, port):
    """The load generator of a service."""
    return tuple(itself("--role", "load", "--service", service, "--port", port))


class Bench:
    """The processes of one run, which end with ``processes``."""

    def __init__(self, folder, processes, given):
        self.folder, self.processes, self.given = folder, processes, given
        self.row_stub = self._stub(ROWS)

    def _stub(self, service):
        port = fixtures.free_port()
        command = itself("--role", "stub", "--service", service, "--port", port)
        self.processes.enter_context(fixtures.running(command, f"http://127.0.0.1:{port}/"))
        return port

    def _proxy(self, service, name, written, expected, role="gateway"):
        """A proxy over HTTP. ``written``: its settings, its port and its admin port."""
        settings, port, admin = written
        command = itself("--role", role, "--settings", settings)
        process = self.processes.enter_context(fixtures.running(command, LIVE.format(admin)))
        load = ROWS if name == BARE and service == ALTCHA else service  # a pass-through has no challenges
        return Proxy(service, name, process, load_command(load, port), expected)

    def _settings(self, name, url):
        return fixtures.write_settings(self.folder, name, self.row_stub, self.given.unit_ms, url)

    def rows(self):
        """The pass-through and a gateway on each ledger."""
        yield self._proxy(ROWS, BARE, self._settings(BARE, "memory://"), "200", BARE)
        for name in self.given.ledgers:
            server = self.processes.enter_context(SERVERS[name]()) if name in SERVERS else None
            url = "memory://" if name == "memory" else f"sqlite:///{name}.db" if server is None else server.url
            yield self._proxy(ROWS, name, self._settings(name, url), "402")

    def grpc(self):
        """A pass-through and a gateway on SQLite, over gRPC."""
        stub, bare = fixtures.free_port(), fixtures.free_port()
        self._grpc_process(stub, "--role", "grpc-stub", "--port", stub)
        process = self._grpc_process(bare, "--role", f"grpc-{BARE}", "--port", bare, "--upstream", stub)
        yield Proxy(GRPC, BARE, process, load_command(GRPC, bare), "answer")
        ledger = "sqlite:///grpc.db"
        settings, port = grpc_fixtures.grpc_settings(self.folder, stub, self.given.unit_ms, ledger)
        process = self._grpc_process(port, "--role", "gateway", "--settings", settings)
        yield Proxy(GRPC, "sqlite", process, load_command(GRPC, port), "toll")

    def _grpc_process(self, port, *arguments):
        process = subprocess.Popen(itself(*arguments))
        self.processes.callback(process.wait)
        self.processes.callback(process.terminate)
        grpc_fixtures.wait_until_ready(port)
        return process

    def chats(self):
        """A pass-through, gateways in both modes, and LiteLLM's proxy where it is given."""
        stub = self._stub(CHATS)
        write = partial(neighbours.chat_settings, self.folder, upstream_port=stub, unit_ms=self.given.unit_ms)
        yield self._proxy(CHATS, BARE, write(BARE, "shadow"), "200", BARE)
        for mode, status in MODES.items():
            yield self._proxy(CHATS, mode, write(mode, mode), status)
        if self.given.litellm is not None:
            port = fixtures.free_port()
            settings = neighbours.litellm_settings(self.folder, stub)
            command, environment = neighbours.litellm_command(self.given.litellm, settings, port)
            log = self.processes.enter_context((self.folder / "litellm.log").open("wb"))
            running = fixtures.running(command, f"http://127.0.0.1:{port}/health/liveliness", environment, log)
            process = self.processes.enter_context(running)
            yield Proxy(CHATS, LITELLM, process, load_command(CHATS, port), "200")

    def altcha(self):
        """The pass-through behind ALTCHA, with each kind of challenge; and bare, for comparison."""
        yield self._proxy(ALTCHA, BARE, self._settings(f"{ALTCHA}-bare", "memory://"), "200", BARE)
        for kind in neighbours.ALTCHA_KINDS:
            role = f"{ALTCHA}-{kind}"
            yield self._proxy(ALTCHA, kind, self._settings(role, "memory://"), "200", role)

    def all_proxies(self):
        """Every proxy of the chosen services, idle."""
        proxies = [proxy for service in self.given.services for proxy in getattr(self, service)()]
        for proxy in proxies:
            fixtures.wait_until_idle(proxy.process)
        return proxies

    def memory(self):
        """MiB that a gateway with private points holds, after some hundred requests."""
        unit_ms, stub = self.given.unit_ms, self.row_stub
        settings, port, admin = fixtures.write_settings(
            self.folder, "large", stub, unit_ms, "sqlite:///large.db", private=True
        )
        headers = {"Authorization": f"Bearer {fixtures.KEY}", "Content-Type": "application/json"}
        command = itself("--role", "gateway", "--settings", settings)
        with fixtures.running(command, LIVE.format(admin)) as process:
            fixtures.wait_until_idle(process)
            rng = random.Random(0)
            with httpx.Client(headers=headers, timeout=60) as client:
                for _ in range(300):
                    url = f"http://127.0.0.1:{port}{fixtures.PATH}"
                    response = client.post(url, content=fixtures.request_body(rng))
                    if response.status_code != 402:
                        raise SystemExit(f"{response.status_code}: {response.text}")
            return round(fixtures.memory_mib(process))


def comparisons(results, given):
    """Each gateway beside the pass-through of its service, with its targets, and beside LiteLLM's proxy."""
    found = []
    for service, name, connections in results:
        if name == BARE or connections != CONNECTIONS[0]:
            continue
        line = {"service": service, "proxy": name, **compared(results, service, name)}
        if service == ROWS:
            line |= {"p50_ratio_target": P50_TARGETS.get(name), "cpu_ratio_target": CPU_TARGETS.get(name)}
        if service == CHATS and name != LITELLM and given.litellm is not None:
            line[LITELLM] = compared(results, service, name, LITELLM)
        found.append(line)
    return found


def bench(given):
    """Start everything, measure, and put the result together."""
    begin = machine()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as processes:
        run = Bench(Path(name), processes, given)
        results = measure(run.all_proxies(), given.repetitions, given.seconds)
        held = run.memory()
    compared_lines = comparisons(results, given)
    neighbour = [] if given.litellm is None else ["--litellm VENV"]
    result = {
        "command": " ".join(
            [
                f"python benchmarks/bench_gateway.py --services {' '.join(given.services)}",
                f"--ledgers {' '.join(given.ledgers)}",
                *neighbour,
                f"--repetitions {given.repetitions} --seconds {given.seconds:g} --unit-ms {given.unit_ms:g}",
            ]
        ),
        **begin,
        "unit_ms": given.unit_ms,
        "proxies": summarised(results),
        "comparisons": compared_lines,
        "memory_mib": held,
        "memory_mib_target": MEMORY_MIB,
    }
    if given.litellm is not None:
        result |= {"litellm": neighbours.litellm_version(given.litellm), "litellm_target": LITELLM_TARGET}
    return result


def show(result):
    """The table for people."""
    head = ("service", "proxy", "connections", "p50, ms", "p99, ms", "requests/s", "CPU, ms")
    print("".join(f"{title:>14}" for title in head))
    for line in result["proxies"]:
        print("".join(f"{value:>14}" for value in line.values()))
    for line in result["comparisons"]:
        p50, cpu = line["p50_ratio"], line["cpu_ratio"]
        print(
            f"{line['service']}, {line['proxy']}: p50 at one connection {p50[0]} times the pass-through's "
            f"({p50[1]} to {p50[2]}), target {line.get('p50_ratio_target')}; processor time at {CONNECTIONS[-1]} "
            f"{cpu[0]} times ({cpu[1]} to {cpu[2]}), target {line.get('cpu_ratio_target')}"
        )
        if beside := line.get(LITELLM):
            print(f"  {beside['throughput_ratio'][0]} times the requests of LiteLLM's proxy, target {LITELLM_TARGET}")
    print(f"memory with 60,000 private points: {result['memory_mib']} MiB, target <= {MEMORY_MIB}")


def run_given_role(given):
    """Run one of the benchmark's other processes."""
    role, _, kind = given.role.partition("-")
    if role == "load":
        numbers = (given.port, given.connections, given.seconds, given.seed)
        print(json.dumps(asyncio.run(LOADS[given.service](*numbers))))
    elif role == "stub":
        answer = neighbours.chat_answers() if given.service == CHATS else fixtures.row_answers()
        asyncio.run(fixtures.run_stub(given.port, answer))
    elif given.role == "grpc-stub":
        asyncio.run(grpc_fixtures.run_stub(given.port))
    elif given.role == f"grpc-{BARE}":
        asyncio.run(grpc_fixtures.run_pass_through(given.port, given.upstream))
    elif role == ALTCHA:
        fixtures.run_application(given.settings, neighbours.altcha_application(kind))
    else:
        fixtures.run_proxy(given.settings, gated=role == "gateway")


def main():
    """Run the role that the arguments name, or the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", nargs="+", choices=SERVICES, default=list(SERVICES))
    parser.add_argument("--ledgers", nargs="+", choices=LEDGERS, default=list(LEDGERS))
    parser.add_argument("--litellm", type=Path, metavar="VENV", help="an environment with litellm[proxy]")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run of the load generator")
    parser.add_argument("--unit-ms", type=float, default=5.0, help="work of an average row")
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    for name in ("--role", "--service"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--port", "--upstream", "--connections", "--seed"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        run_given_role(given)
        return
    result = bench(given)
    if given.json != "-":
        show(result)
    write_json(result, given.json)


if __name__ == "__main__":
    main()
