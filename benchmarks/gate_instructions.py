"""How many instructions the processor executes for one request in the gate: figures that other work on the machine does not change.

    python benchmarks/gate_instructions.py [--requests 300] [--json FILE]

Needs valgrind, whose callgrind counts. Each case runs in a process of its own, with prepared answers of a model server, through
the public application (ASGI): with headers, caller, metrics and response, without the HTTP server and the connection to the
model server. *pass-through*: an application that hands the same row on. *rows*: a row that is measured by entropy, under a
tariff with declared kinds and classes, and its toll, on each ledger; a ledger's server is not counted. *chats*: a chat of ten
tokens in shadow mode, with a ledger in memory. Counted are the instructions of all threads, after the first requests, once
puzzles are precomputed.

A small toll's puzzle is not precomputed: it takes one evaluation of Argon2id, which no code of the gate can make cheaper. The
instructions of the native kernels are part of the count, and are shown beside it as *puzzles*.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import gateway_fixtures as fixtures
import neighbour_fixtures as neighbours
import uvloop
from profile_gateway import request_scope
from proxy_load import BARE, write_json

from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.settings.load import load_settings
from modeltoll.puzzle.native_kernels import LIBRARY
from modeltoll.puzzle.precomputed import PrecomputedPool
from modeltoll.records import Answer
from modeltoll.testing.chat_server import CHAT_PATH
from modeltoll.testing.model_servers import FakeUpstream
from modeltoll.testing.servers import postgres_server, valkey_server

ROWS, CHATS = "rows", "chats"
SERVERS = {"rows, PostgreSQL": postgres_server, "rows, Valkey": valkey_server}
SQLITE = "rows, SQLite"
CASES = {
    BARE: 200,
    ROWS: 402,
    SQLITE: 402,
    **dict.fromkeys(SERVERS, 402),
    CHATS: 200,
}  # and the status of their answers
MEMORY, FILE = "memory://", "sqlite:///ledger.db"
WARM_UP, BODIES, UNIT_MS = 300, 500, 5.0
TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)
OBJECT = re.compile(
    r"(c?)ob=\((\d+)\)(?: (.*))?"
)  # of callgrind's format: the file of the functions that follow, or of a callee


def row_case(folder, ledger):
    """The settings of a gateway for rows, the path, bodies of requests and answers."""
    rng = random.Random(1)
    settings, _, _ = fixtures.write_settings(folder, ROWS, 1, UNIT_MS, ledger)
    bodies = [fixtures.request_body(rng) for _ in range(BODIES)]
    return settings, fixtures.PATH, bodies, list(fixtures.answer_bodies())


def chat_case(folder, ledger):
    """The same for chats in shadow mode."""
    rng, answer = random.Random(1), neighbours.chat_answers()
    settings, _, _ = neighbours.chat_settings(folder, CHATS, "shadow", 1, UNIT_MS)
    settings.write_text(settings.read_text().replace(f"sqlite:///chat-{CHATS}.db", ledger))
    words = [" ".join(str(rng.randrange(10_000)) for _ in range(20)) for _ in range(BODIES)]
    asked = [{"model": neighbours.CHAT, "messages": [{"role": "user", "content": text}]} for text in words]
    answers = [answer(CHAT_PATH, b'{"top_logprobs": 20}').partition(b"\r\n\r\n")[2] for _ in range(BODIES)]
    return settings, CHAT_PATH, [json.dumps(one | {"max_tokens": 32}).encode() for one in asked], answers


async def send(application, path, bodies, expected, requests):
    """Send requests one after the other; each must have the expected status."""
    never = asyncio.Event()
    for body in itertools.islice(bodies, requests):
        parts, messages = [{"type": "http.request", "body": body}], []

        async def receive(parts=parts):
            return parts.pop() if parts else await never.wait()

        async def keep(message, messages=messages):
            messages.append(message)

        scope = request_scope(body) | {"path": path, "raw_path": path.encode()}
        scope["headers"] += [(b"toll-accept", fixtures.ACCEPT.encode())]
        await application(scope, receive, keep)
        assert messages[0]["status"] == expected, messages


def count(state):
    """Begin to count, or end it."""
    subprocess.run(["callgrind_control", "-i", state, str(os.getpid())], check=True, stdout=subprocess.DEVNULL)


async def run_case(case, requests, folder, ledger):
    """What is counted, in a process under valgrind. ``ledger``: its URL."""
    settings, path, bodies, answers = (chat_case if case == CHATS else row_case)(folder, ledger)
    bodies, answers = itertools.cycle(bodies), itertools.cycle(answers)
    upstream = FakeUpstream(lambda *_: Answer(200, "application/json", next(answers)))
    gateway = build_gateway(load_settings(settings), upstream)
    application = fixtures.pass_through(upstream) if case == BARE else gateway.public
    async with gateway.open():
        for pool in [one for one in gc.get_objects() if isinstance(one, PrecomputedPool)]:
            await asyncio.to_thread(pool.fill)
        await send(application, path, bodies, CASES[case], WARM_UP)
        count("on")
        await send(application, path, bodies, CASES[case], requests)
        count("off")


def counted(case, requests):
    """Instructions of one request of a case, and those of them in native kernels."""
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory())
        ledger = FILE if case == SQLITE else MEMORY
        if case in SERVERS:
            ledger = opened.enter_context(SERVERS[case]()).url
        output = Path(folder) / "callgrind.out"
        valgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={output}"]
        own = [sys.executable, __file__, "--case", case, "--ledger", ledger, "--requests", str(requests)]
        subprocess.run([*valgrind, *own], check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
        text = output.read_text()
        return round(int(TOTAL.search(text).group(1)) / requests), round(in_kernels(text) / requests)


def in_kernels(text):
    """The instructions in the library of the native kernels, of callgrind's output."""
    names, own, total, of_callee = {}, "", 0, False
    for line in text.splitlines():
        if found := OBJECT.fullmatch(line):
            callee, number, name = found.groups()
            names.setdefault(number, name)
            own = own if callee else names[number]
        elif line.startswith("calls="):
            of_callee = True  # the next line has what the called function executes
        elif line[:1] in set("0123456789+-*"):
            if not of_callee and Path(own).name == LIBRARY.name:
                total += int(line.split()[1])
            of_callee = False
    return total


def main():
    """Count, show, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="count these alone")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--ledger", default=MEMORY, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        with tempfile.TemporaryDirectory() as folder:
            uvloop.run(run_case(given.case, given.requests, Path(folder), given.ledger))
        return
    counts = {case: counted(case, given.requests) for case in given.cases}
    chosen = "" if given.cases == list(CASES) else " --cases " + " ".join(f"'{case}'" for case in given.cases)
    result = {
        "command": f"python benchmarks/gate_instructions.py --requests {given.requests}{chosen}",
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "instructions": {case: every for case, (every, _) in counts.items()},
        "puzzles": {case: kernels for case, (_, kernels) in counts.items()},
    }
    if given.json != "-":
        for case, instructions in result["instructions"].items():
            print(
                f"{case:>16}: {instructions:,} instructions a request, {result['puzzles'][case]:,} of them of puzzles"
            )
    write_json(result, given.json)


if __name__ == "__main__":
    main()
