"""A real model server over gRPC behind the gateway: MLServer, asked by tritonclient.grpc, directly and for tolls.

    python benchmarks/real_grpc_server.py [--rows 40] [--budget 6] [--rounds 4] [--keep] [--work DIR] [--json FILE]

As in ``real_servers.py``, MLServer comes from PyPI into an environment of its own and serves the demo's forest, which ``modeltoll
calibrate`` prices over HTTP. Then ``modeltoll serve`` runs before it with ``listen_grpc``, once with MLServer's gRPC as its model
server and once with its HTTP. Unseen digits, photograph patches and noise are sent one row a call by three pairs of callers: one
over gRPC with ``pay_tolls``, one over HTTP. What gRPC callers get must be MLServer's own message, byte for byte; where MLServer is
asked over HTTP, a message with the same identifiers and tensors. What a row costs must be the same on both ways. Then 32 callers
ask at once, through the interceptor and through ``modeltoll proxy --grpc``, and the gateway is killed and started again in the
middle. ``--keep`` takes the tariff of an earlier run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import tritonclient.grpc as triton
import yaml
from real_servers import MEMORY_KIB, TIMEOUT, report_step, send
from servers.environments import MODEL, TARIFF, ServerRun
from tritonclient.utils import InferenceServerException

from modeltoll.client.grpc import pay_tolls
from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.demo.data import DATA_LOADERS, DataSizes
from modeltoll.demo.processes import free_port, serving
from modeltoll.gateway.protocols.oip_messages import read_answer_message
from modeltoll.gateway.settings.load import load_settings
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.pricing.calibration_file import load_calibration
from modeltoll.records import Caller

UNSEEN = 800  # rows of the calibration
CALLERS = 32
OUTPUT = "predict_proba"


def ask(client, row, key, request_id):
    """One row; the message, serialised."""
    tensor = triton.InferInput("x", [1, len(row)], "FP64")
    tensor.set_data_from_numpy(row[None])
    outputs = [triton.InferRequestedOutput(OUTPUT)]
    result = client.infer(MODEL, [tensor], outputs=outputs, request_id=request_id, headers={"x-api-key": key})
    return result.get_response().SerializeToString(deterministic=True)


@contextmanager
def client_of(address, purse=None):
    """A client of tritonclient, which pays if a purse is given."""
    with triton.InferenceServerClient(address) as client:
        if purse is not None:
            pay_tolls(client, purse=purse)
        yield client


def paid_over_grpc(address, key, who, rows, budget):
    """Messages of one caller's rows, None for those that were not paid."""
    answers = []
    with client_of(address, Purse(math.inf, max_seconds_per_hour=budget, memory_kib=MEMORY_KIB)) as client:
        for number, row in enumerate(rows):
            try:
                answers.append(ask(client, row, key, f"{who}-{number}"))
            except Exception as error:
                if "max_seconds_per_hour" not in str(error):
                    raise
                answers.append(None)
    return answers


def paid_over_http(url, key, who, rows, budget):
    """The same rows over HTTP."""
    purse = Purse(math.inf, max_seconds_per_hour=budget, memory_kib=MEMORY_KIB)
    headers = {"content-type": "application/json", "x-api-key": key}
    with httpx.Client(headers=headers, timeout=TIMEOUT, transport=TollTransport(purse=purse)) as client:
        for number, row in enumerate(rows):
            tensor = {"name": "x", "shape": [1, len(row)], "datatype": "FP64", "data": row.tolist()}
            document = {"id": f"{who}-{number}", "inputs": [tensor], "outputs": [{"name": OUTPUT}]}
            send(client, f"{url}/v2/models/{MODEL}/infer", json.dumps(document).encode())


def write_settings(run, upstream, callers, grpc_port):
    """The settings of ``real_servers.py`` with a side over gRPC."""
    path = run.write_settings(upstream, callers)
    document = yaml.safe_load(path.read_text())
    document["listen_grpc"] = f"127.0.0.1:{grpc_port}"
    document["ledger"]["url"] = f"sqlite:///{run.folder}/{'grpc' if upstream.startswith('grpc') else 'http'}.db"
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def gateway(run, settings):
    """``modeltoll serve``, and its process."""
    ready = f"http://127.0.0.1:{run.admin_port}/readyz"
    with serving(["modeltoll", "serve", str(settings)], ready, run.folder / "gateway.log") as process:
        yield process


async def read_work(settings, names):
    """The work of every request of these callers that the gate has logged, in order."""
    ledger = ledger_from_url(load_settings(settings).ledger.url)
    await ledger.open()
    try:
        work = {}
        for _, caller, bill in await ledger.log(0, 10_000):
            work.setdefault(caller, []).append(bill.work.seconds)
        return {name: work.get(ledger.logged_as(Caller(f"key:{name}")), []) for name in names}
    finally:
        await ledger.close()


def is_the_same(answer, own, *, to_the_byte):
    """Whether a message is the model server's own, or has its identifiers and tensors."""
    if to_the_byte:
        return answer == own
    (one, pieces), (other, own_pieces) = read_answer_message(answer), read_answer_message(own)
    tensors = [[(tensor.name, tensor.datatype, tensor.shape) for tensor in read.outputs] for read in (one, other)]
    named = [(read.model_name, read.id) for read in (one, other)]
    return tensors[0] == tensors[1] and named[0] == named[1] and pieces == own_pieces


def priced(run, upstream, rows, direct, budget):
    """Figures of each pair of callers behind one kind of model server."""
    port, callers = free_port(), [f"{who}-{way}" for who in rows for way in ("grpc", "http")]
    settings = write_settings(run, upstream, callers, port)
    answers = {}
    with gateway(run, settings):
        for who, table in rows.items():
            answers[who] = paid_over_grpc(f"127.0.0.1:{port}", f"{who}-grpc-key", who, table, budget)
            paid_over_http(f"http://127.0.0.1:{run.toll_port}", f"{who}-http-key", who, table, budget)
    to_the_byte = upstream.startswith("grpc")
    logged, unit = asyncio.run(read_work(settings, callers)), load_calibration(run.folder / TARIFF).unit_seconds
    figures = {}
    for who, table in rows.items():
        work = {way: logged[f"{who}-{way}"] for way in ("grpc", "http")}
        figures[who] = {
            "rows": len(table),
            "opened": sum(answer is not None for answer in answers[who]),
            "changed": sum(
                a is not None and not is_the_same(a, b, to_the_byte=to_the_byte)
                for a, b in zip(answers[who], direct[who], strict=True)
            ),
            "charged_units": float(np.mean(work["grpc"])) / unit,
            "charged_units_http": float(np.mean(work["http"])) / unit,
            "priced_differently": sum(not math.isclose(a, b) for a, b in zip(work["grpc"], work["http"], strict=True)),
        }
    return figures


def ask_until_answered(client, row, key, request_id):
    """The answer, asked for again while the gateway is away; and how often that was."""
    for failures in range(200):
        try:
            return ask(client, row, key, request_id), failures
        except InferenceServerException as error:
            if error.status() not in ("StatusCode.UNAVAILABLE", "StatusCode.CANCELLED"):
                raise
            time.sleep(0.2)
    raise SystemExit("the gateway did not come back")


def together(address, rows, direct, rounds, *, pays, meanwhile=None):
    """All callers at once, some rounds each; how many answers were changed, and how many calls failed."""
    with client_of(address, Purse(math.inf, memory_kib=MEMORY_KIB) if pays else None) as client:

        def caller(number):
            outcomes = []
            for turn in range(rounds):
                place = (number + turn) % len(rows)
                answer, failures = ask_until_answered(client, rows[place], "many-grpc-key", f"honest-{place}")
                outcomes.append((answer != direct[place], failures))
            return outcomes

        begin = time.perf_counter()
        with ThreadPoolExecutor(CALLERS) as threads:
            waiting = [threads.submit(caller, number) for number in range(CALLERS)]
            if meanwhile is not None:
                meanwhile()
            outcomes = [outcome for future in waiting for outcome in future.result()]
    return {
        "calls": len(outcomes),
        "changed": sum(changed for changed, _ in outcomes),
        "failed_calls": sum(failures for _, failures in outcomes),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def crowds(run, upstream, rows, direct, rounds):
    """32 callers through the interceptor, through the sidecar, and with a kill in the middle."""
    port, sidecar, metrics = free_port(), free_port(), free_port()
    settings = write_settings(run, upstream, ["many-grpc"], port)
    address = f"127.0.0.1:{port}"
    proxy = ["modeltoll", "proxy", "--grpc", "--upstream", f"grpc://{address}", "--listen", f"127.0.0.1:{sidecar}"]
    proxy += ["--metrics", f"127.0.0.1:{metrics}", "--max-seconds", "600"]
    results, ready = {}, f"http://127.0.0.1:{metrics}/metrics"
    with gateway(run, settings):
        results["interceptor"] = together(address, rows, direct, rounds, pays=True)
        with serving(proxy, ready, run.folder / "sidecar.log"):
            results["sidecar"] = together(f"127.0.0.1:{sidecar}", rows, direct, rounds, pays=False)
    results["kill"] = with_a_kill(run, settings, address, (rows, direct, rounds))
    return results


def with_a_kill(run, settings, address, asked):
    """The same through the interceptor; the gateway is killed after the first second, and started again."""
    command = [sys.executable, "-m", "modeltoll", "serve", str(settings)]
    log = (run.folder / "killed.log").open("ab")
    processes = [subprocess.Popen(command, stdout=log, stderr=log)]
    wait_until_ready(run)

    def kill():
        threading.Event().wait(1.0)
        processes[0].kill()
        processes[0].wait()
        processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    try:
        return together(address, *asked, pays=True, meanwhile=kill)
    finally:
        processes[-1].terminate()
        processes[-1].wait()
        log.close()


def wait_until_ready(run):
    """Wait for a gateway that this program started."""
    for _ in range(600):
        try:
            if httpx.get(f"http://127.0.0.1:{run.admin_port}/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("the gateway does not start")


def prepare(run, rows, *, keep):
    """The environment and the data of a run; returns the rows of each caller."""
    if not keep:
        shutil.rmtree(run.folder, ignore_errors=True)
    run.folder.mkdir(exist_ok=True)
    for ledger in run.folder.glob("*.db*"):
        ledger.unlink()
    foreign = max(rows // 3, 1)
    data = DATA_LOADERS["digits"](
        DataSizes(honest=rows, pictures=foreign, noise=foreign), None, np.random.default_rng(0)
    )
    if not keep:
        np.savez(run.folder / "private.npz", x=data.private_x, y=data.private_y)
        np.save(run.folder / "private.npy", data.private_x)
        np.save(run.folder / "unseen.npy", data.calibration[:UNSEEN])
    report_step("install")
    run.install()
    return {"honest": data.honest, "pictures": data.pictures, "noise": data.noise}


def study(given):
    """Everything; the result."""
    work = given.work.resolve()
    run = ServerRun("mlserver", work / "mlserver", work / "mlserver-grpc-run")
    rows = prepare(run, given.rows, keep=given.keep)
    report_step("start")
    with run.running(run.port) as url:
        settings = run.write_settings(url, list(rows))
        if not given.keep:
            report_step("calibrate")
            command = [sys.executable, "-m", "modeltoll", "calibrate", settings, "--inputs", run.folder / "unseen.npy"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        server = f"127.0.0.1:{json.loads((run.folder / 'settings.json').read_text())['grpc_port']}"
        report_step("ask the server itself")
        with client_of(server) as client:
            direct = {
                who: [ask(client, row, "none", f"{who}-{number}") for number, row in enumerate(table)]
                for who, table in rows.items()
            }
        result = {"server": run.version(), "upstreams": {}}
        report_step("32 callers")
        result["callers_at_once"] = crowds(run, f"grpc://{server}", rows["honest"], direct["honest"], given.rounds)
        for name, upstream in (("grpc", f"grpc://{server}"), ("http", url)):
            report_step(f"prices, model server over {name}")
            result["upstreams"][name] = priced(run, upstream, rows, direct, given.budget)
    return result


def main() -> None:
    """Study MLServer, and fail if an answer was changed or a row priced differently."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=40, help="honest rows; of foreign ones a third each")
    parser.add_argument("--budget", type=float, default=6.0, help="seconds of work that each caller does")
    parser.add_argument("--rounds", type=int, default=4, help="calls of each of the 32 callers at once")
    parser.add_argument("--keep", action="store_true", help="take the tariff of an earlier run")
    parser.add_argument("--work", type=Path, default=Path("build/servers"), help="where the environment is made")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    result = study(given)
    print(json.dumps(result, indent=2))
    if given.json:
        command = f"python benchmarks/real_grpc_server.py --rows {given.rows} --budget {given.budget:g} --rounds {given.rounds}"
        command += " --keep" if given.keep else ""
        head = {"command": command, "load_average": round(os.getloadavg()[2], 1)}
        given.json.write_text(json.dumps(head | result, indent=2) + "\n")
    pairs = [figures for callers in result["upstreams"].values() for figures in callers.values()]
    faults = sum(figures["changed"] + figures["priced_differently"] for figures in pairs)
    faults += sum(crowd["changed"] for crowd in result["callers_at_once"].values())
    if faults:
        raise SystemExit(f"{faults} answers were changed, or rows priced differently")


if __name__ == "__main__":
    main()
