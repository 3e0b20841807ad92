"""Large uploads at once: the memory of a worker that takes them, and how long other callers wait meanwhile.

    python benchmarks/bench_uploads.py [--uploads 12] [--mib 8] [--rounds 3] [--json FILE]

A gateway with one worker and the default limits stands before a stub of a model server. For each kind of upload, in a
gateway of its own: four other callers ask for single rows, one every 20 ms each, first alone and then while uploads of
``--mib`` MiB, each of a caller of its own, are sent at once; ``--rounds`` times. *Memory* is the largest resident memory
of the worker (``VmHWM``), and that before the first upload. All are in processes of their own on one machine.

The kinds: 1,000 rows and one row of numbers as JSON, one row of raw numbers, one text, the rows compressed with gzip, the rows of
callers whose credit does not cover them, who get an admission toll that holds the request, and the rows by clients without
receipts, whose answers are in tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import gateway_fixtures as fixtures
import numpy as np
import yaml
from proxy_load import machine, percentile, write_json

from modeltoll.gateway.callers.identify import hash_key

UPLOAD, TEXTS = "upload", "texts"  # models
OTHERS, PAUSE = 4, 0.02  # callers who ask for single rows, and seconds between two requests of one
ROWS = 1000
ALONE_SECONDS = 3.0
MEMORY_MIB, P99_MS = 500, 100  # targets
OCTETS = "application/octet-stream"
KINDS = ("rows", "one row", "raw numbers", "one text", "rows in gzip", "admission", "tokens")


def numbers(size, shape):
    """A request whose tensor of this shape takes ``size`` bytes of JSON at most."""
    count = int(np.prod(shape))
    digits = [f"{value:.9f}" for value in np.random.default_rng(0).random(count)]
    body = f'{{"inputs":[{{"name":"x","shape":{list(shape)},"datatype":"FP64","data":[{",".join(digits)}]}}]}}'
    if len(body) > size:
        raise SystemExit(f"an upload is of {len(body)} bytes")
    return body.encode()


def upload(kind, size):
    """The model, the body and the headers of an upload of ``size`` bytes."""
    json_headers = {"Content-Type": "application/json", "Toll-Accept": fixtures.ACCEPT}
    per_number = 12  # bytes: 0.123456789,
    if kind == "raw numbers":
        count = (size - 1024) // 8
        tensor = {"name": "x", "shape": [1, count], "datatype": "FP64", "parameters": {"binary_data_size": 8 * count}}
        head = json.dumps({"inputs": [tensor]}).encode()
        body = head + np.random.default_rng(0).random(count).tobytes()
        return UPLOAD, body, json_headers | {"Content-Type": OCTETS, "Inference-Header-Content-Length": str(len(head))}
    if kind == "one text":
        tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "data": ["word " * ((size - 1024) // 5)]}
        return TEXTS, json.dumps({"inputs": [tensor]}).encode(), json_headers
    if kind == "one row":
        return UPLOAD, numbers(size, (1, (size - 1024) // per_number)), json_headers
    body = numbers(size, (ROWS, (size - 1024) // per_number // ROWS))
    if kind == "rows in gzip":
        return UPLOAD, gzip.compress(body, 1), json_headers | {"Content-Encoding": "gzip"}
    if kind == "tokens":
        del json_headers["Toll-Accept"]
    return UPLOAD, body, json_headers


def upload_answers():
    """What the stub answers: one row to single rows, and to an upload as many rows as its tensor says."""
    single, scores = fixtures.row_answers(), fixtures.random_scores(ROWS, seed=5)

    def many(count):
        data = scores[:count].ravel().tolist()
        output = {"name": "p", "shape": [count, fixtures.CLASSES], "datatype": "FP64", "data": data}
        return fixtures.response_bytes(json.dumps({"model_name": UPLOAD, "outputs": [output]}).encode())

    answers = {count: many(count) for count in (1, ROWS)}

    def answer(path, body):
        if path == fixtures.PATH:
            return single(path, body)
        return answers[ROWS if f'"shape":[{ROWS}'.encode() in body[:200].replace(b" ", b"") else 1]

    return answer


def write_settings(folder, kind, stub_port, uploads):
    """The settings of the gateway of one kind; the file, the port and the admin port."""
    path, port, admin = fixtures.write_settings(folder, kind.replace(" ", "-"), stub_port, 5.0, "sqlite:///ledger.db")
    document = yaml.safe_load(path.read_text())
    model = document["models"][fixtures.MODEL]
    numbers_model = model | {"inputs": [{"name": "x"}]}
    document["models"] |= {UPLOAD: numbers_model, TEXTS: numbers_model}
    document["callers"]["keys"] += [
        {"name": f"upload-{number}", "sha256": hash_key(key_of(number))} for number in range(uploads)
    ]
    if kind == "admission":
        # Less than the rows of an upload, more than the others'.
        document["callers"]["credit"] = {"seconds": 0.01, "units": 100}
    for name in (UPLOAD, TEXTS):
        tariff = json.loads((folder / model["tariff"]).read_text())
        (folder / f"{name}.tariff.json").write_text(json.dumps(tariff | {"model": name}))
        document["models"][name] = document["models"][name] | {"tariff": f"{name}.tariff.json"}
    path.write_text(yaml.safe_dump(document))
    return path, port, admin


def key_of(number):
    """The API key of the caller of an upload."""
    return f"the-key-of-upload-{number}"


async def others(port, until):
    """Single rows of the other callers until something has happened: the time of each request, and its milliseconds."""
    rng, measured, ended = random.Random(time.time_ns()), [], asyncio.ensure_future(until)
    headers = {
        "Authorization": f"Bearer {fixtures.KEY}",
        "Content-Type": "application/json",
        "Toll-Accept": fixtures.ACCEPT,
    }
    async with aiohttp.ClientSession(headers=headers) as session:

        async def caller():
            while not ended.done():
                begin, body = time.time(), fixtures.request_body(rng)
                async with session.post(f"http://127.0.0.1:{port}{fixtures.PATH}", data=body) as response:
                    await response.read()
                    if response.status != 402:
                        raise SystemExit(f"{response.status}: {await response.text()}")
                measured.append((begin, 1000 * (time.time() - begin)))
                await asyncio.sleep(PAUSE)

        await asyncio.gather(*(caller() for _ in range(OTHERS)))
    return measured


async def send_uploads(port, kind, size, uploads):
    """All uploads at once: when they began, when the last was answered, the length of an answer, and how often one was refused.

    An upload that finds too many bytes there (503) is sent again when the gateway says.
    """
    (model, body, headers), refused = upload(kind, size), 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as session:

        async def send(number):
            nonlocal refused
            url, key = f"http://127.0.0.1:{port}/v2/models/{model}/infer", {"X-Api-Key": key_of(number)}
            while True:
                async with session.post(url, data=body, headers=headers | key) as response:
                    answer = await response.read()
                if response.status == 402:
                    return len(answer)
                if response.status != 503:
                    raise SystemExit(f"{response.status}: {answer[:500]}")
                refused += 1
                await asyncio.sleep(float(response.headers["Retry-After"]))

        begin = time.time()
        lengths = await asyncio.gather(*map(send, range(uploads)))
        return begin, time.time(), max(lengths), refused


def itself(*arguments):
    """This script in another role."""
    return [sys.executable, __file__, *map(str, arguments)]


def run_role(*arguments):
    """What this script prints in another role."""
    run = subprocess.run(itself(*arguments), capture_output=True, check=False, text=True)
    if run.returncode:
        raise SystemExit(run.stderr)
    return json.loads(run.stdout)


def peak_mib(process):
    """The largest resident memory of a process so far, in MiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def one_round(kind, port, given):
    """What ``send_uploads`` returns, and what ``others`` measured meanwhile and shortly before."""
    command = itself("--role", "others", "--port", port, "--seconds", 0)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asking:
        arguments = ("--port", port, "--kind", kind, "--size", given.size, "--uploads", given.uploads)
        begin, end, length, refused = run_role("--role", "uploads", *arguments)
        asked, _ = asking.communicate()  # it ends with its standard input
    return begin, end, length, refused, json.loads(asked)


def one_kind(kind, stub_port, given):
    """One line of the table, measured with a gateway of its own."""
    with tempfile.TemporaryDirectory() as name:
        settings, port, admin = write_settings(Path(name), kind, stub_port, given.uploads)
        gateway = itself("--role", "gateway", "--settings", settings)
        with fixtures.running(gateway, f"http://127.0.0.1:{admin}/livez") as process:
            fixtures.wait_until_idle(process)
            run_role("--role", "others", "--port", port, "--seconds", 1)  # warms up
            alone = [ms for _, ms in run_role("--role", "others", "--port", port, "--seconds", ALONE_SECONDS)]
            before, meanwhile, times, length, refusals = peak_mib(process), [], [], 0, 0
            for _ in range(given.rounds):
                begin, end, length, refused, asked = one_round(kind, port, given)
                times.append(end - begin)
                refusals += refused
                meanwhile += [ms for at, ms in asked if at + ms / 1000 >= begin and at <= end]
            return {
                "kind": kind,
                "mib_before": round(before),
                "mib_most": round(peak_mib(process)),
                "seconds": round(max(times), 2),
                "refused_at_first": refusals,
                "answer_bytes": length,
                "alone_p50_ms": round(percentile(alone, 50), 1),
                "alone_p99_ms": round(percentile(alone, 99), 1),
                "others": len(meanwhile),
                "others_p50_ms": round(percentile(meanwhile, 50), 1),
                "others_p99_ms": round(percentile(meanwhile, 99), 1),
                "others_max_ms": round(max(meanwhile), 1),
            }


def bench(given):
    """A line for each kind of upload."""
    begin, stub_port, lines = machine(), fixtures.free_port(), []
    stub = itself("--role", "stub", "--port", stub_port)
    with fixtures.running(stub, f"http://127.0.0.1:{stub_port}/"):
        for kind in given.kinds:
            lines.append(one_kind(kind, stub_port, given))
            print(lines[-1], file=sys.stderr)
    kinds = "" if given.kinds == list(KINDS) else " --kinds " + " ".join(f"'{kind}'" for kind in given.kinds)
    sizes = f"--uploads {given.uploads} --mib {given.mib:g} --rounds {given.rounds}"
    return {
        "command": f"python benchmarks/bench_uploads.py {sizes}{kinds}",
        **begin,
        "uploads": given.uploads,
        "mib": given.mib,
        "memory_mib_target": MEMORY_MIB,
        "p99_ms_target": P99_MS,
        "kinds": lines,
    }


def show(result):
    """The table for people."""
    print(f"{'upload':>14}{'memory, MiB':>18}{'seconds':>9}{'others alone, p99':>19}{'meanwhile':>11}{'longest':>9}")
    for line in result["kinds"]:
        memory = f"{line['mib_before']} to {line['mib_most']}"
        print(
            f"{line['kind']:>14}{memory:>18}{line['seconds']:>9}{line['alone_p99_ms']:>19}{line['others_p99_ms']:>11}"
            f"{line['others_max_ms']:>9}"
        )
    print(f"targets: {MEMORY_MIB} MiB, others' p99 {P99_MS} ms")


def run_given_role(given):
    """Run one of the benchmark's other processes."""
    if given.role == "stub":
        asyncio.run(fixtures.run_stub(given.port, upload_answers()))
    elif given.role == "gateway":
        fixtures.run_proxy(given.settings, gated=True)
    elif given.role == "others":
        until = asyncio.sleep(given.seconds) if given.seconds else asyncio.to_thread(sys.stdin.read)
        print(json.dumps(asyncio.run(others(given.port, until))))
    else:
        print(json.dumps(asyncio.run(send_uploads(given.port, given.kind, given.size, given.uploads))))


def main():
    """Run the role that the arguments name, or the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uploads", type=int, default=12, help="how many at once")
    parser.add_argument("--mib", type=float, default=8.0, help="size of each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--json", metavar="FILE", help="also write the result; - for standard output alone")
    for name in ("--role", "--kind"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--port", "--size"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=ALONE_SECONDS, help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        run_given_role(given)
        return
    given.size = int(given.mib * (1 << 20))
    result = bench(given)
    if given.json != "-":
        show(result)
    write_json(result, given.json)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
