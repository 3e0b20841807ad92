"""Several workers share an address, count exactly together and stop together."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from modeltoll import wire
from modeltoll.errors import SettingsError
from modeltoll.gateway.observability.metrics import GatewayMetrics
from modeltoll.gateway.observability.worker_metrics import WorkerMetricsApp, merge_metrics
from modeltoll.gateway.server.workers import run_workers
from modeltoll.gateway.settings.load import load_settings
from modeltoll.puzzle.proof import proof_of
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.testing.model_servers import serving

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "exact_counting.py"


def script():
    spec = importlib.util.spec_from_file_location("exact_counting", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


counting = script()


@pytest.mark.parametrize("store", counting.STORES)
def test_two_gateways_with_two_workers_each_count_exactly_on_one_ledger(store):
    """To the row: accounts, log and metrics; and an allowance ends at its last row."""
    with counting.STORES[store]() as url:
        result = counting.count(store, url, counting.Plan(rows=400, callers=10, gateways=2, workers=2))
    assert result["exact"], result


# One gateway


def serves(process):
    """Whether it lives, and is more than what multiprocessing keeps for itself."""
    try:
        return "resource_tracker" not in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it has ended and was not waited for yet
        return False


class Gateway:
    """``modeltoll serve --workers 2`` in a process group of its own, and its workers."""

    def __init__(self, folder, upstream, **members):
        plan = counting.Plan(rows=2, callers=1, gateways=1, workers=2)
        (self.settings, port, admin), *_ = counting.settings(folder, upstream, f"sqlite:///{folder}/l.db", plan)
        self.settings.write_text(yaml.safe_dump(yaml.safe_load(self.settings.read_text()) | members))
        self.url, self.admin, self.log = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", folder / "log"
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "modeltoll", "serve", str(self.settings), "--workers", "2"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def await_ready(self):
        for _ in range(1200):
            assert self.process.poll() is None, self.log.read_text()
            if "2 workers" in self.log.read_text():
                return self
            time.sleep(0.05)  # other processes start: there is nothing else to wait for
        raise AssertionError(self.log.read_text())

    def workers(self):
        """Those of its children that serve."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if serves(child)]

    def ask(self, **headers):
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [[1.0, 2.0]]}
        with httpx.Client() as client:  # a connection of its own, for any worker
            return client.post(
                self.url + counting.PATH, json={"inputs": [tensor]}, headers={"x-api-key": "key-0"} | headers
            )


@pytest.fixture
def gateway(tmp_path):
    model = Starlette(routes=[Route(counting.PATH, counting.infer, methods=["POST"])])
    with serving(model) as upstream:
        running = Gateway(tmp_path, upstream)
        try:
            yield running.await_ready()
        finally:
            if running.process.poll() is None:
                for process in psutil.Process(running.process.pid).children(recursive=True):
                    process.kill()
                running.process.kill()
            running.process.wait()


def ended(processes):
    gone, alive = psutil.wait_procs(processes, timeout=60)
    return not alive and len(gone) == len(processes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_parent_ends_all(gateway, number):
    workers = gateway.workers()
    assert len(workers) == 2
    assert gateway.ask().status_code == 402
    gateway.process.send_signal(number)
    assert gateway.process.wait(60) == 0
    assert ended(workers)
    assert "Traceback" not in gateway.log.read_text()


def test_an_interrupt_of_the_whole_terminal_ends_all_and_shows_no_traceback(gateway):
    """Ctrl-C tells every process of the group."""
    workers = gateway.workers()
    os.killpg(gateway.process.pid, signal.SIGINT)  # the gateway began a session, and so a group, of its own
    assert gateway.process.wait(60) == 0
    assert ended(workers)
    assert "Traceback" not in gateway.log.read_text()


def test_no_worker_outlives_a_killed_parent(gateway):
    workers = gateway.workers()
    gateway.process.kill()
    gateway.process.wait()
    assert ended(workers)


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(gateway):
    first, second = gateway.workers()
    first.kill()
    while len({worker.pid for worker in gateway.workers()} - {first.pid}) < 2:  # the parent notices by itself
        time.sleep(0.05)
    assert second.is_running()
    while sum(line.startswith("modeltoll_workers 2") for line in metrics(gateway)) < 1:
        time.sleep(0.05)
    assert {gateway.ask().status_code for _ in range(10)} == {402}
    assert "another replaces it" in gateway.log.read_text()


def test_every_worker_follows_the_settings_file_and_reads_all_again_on_sighup(gateway):
    """A change of the file, then a tariff that only a signal makes them read."""
    began = time.time()
    document = yaml.safe_load(gateway.settings.read_text())
    gateway.settings.write_text(yaml.safe_dump(document | {"limits": {"rows": 7}}))
    await_samples(gateway, "modeltoll_settings_loaded_timestamp_seconds", lambda values: min(values) > began)
    tariff = gateway.settings.parent / "tariff.json"
    tariff.write_text(json.dumps(json.loads(tariff.read_text()) | {"unit_seconds": 0.125}))
    gateway.process.send_signal(signal.SIGHUP)
    await_samples(gateway, "modeltoll_unit_seconds", lambda values: values == [0.125, 0.125])
    assert len(gateway.workers()) == 2
    assert gateway.process.poll() is None


def await_samples(gateway, name, law):
    for _ in range(1200):
        values = [float(line.rpartition(" ")[2]) for line in metrics(gateway) if line.startswith(name + "{")]
        if len(values) == 2 and law(values):
            return
        time.sleep(0.05)  # the workers look once a second: there is nothing else to wait for
    raise AssertionError(gateway.log.read_text())


def metrics(gateway):
    return httpx.get(f"{gateway.admin}/metrics").text.splitlines()


def test_a_token_of_one_worker_is_good_at_the_others(gateway):
    """Though no secrets are set: the parent draws one for all."""
    counts = set()
    for _ in range(12):
        asked = gateway.ask(**{"toll-accept": "sha256; mode=redeem"})
        toll = wire.decode_toll(asked.content)
        solved = wire.encode_redemption(toll.payload, proof=proof_of(solve(toll.challenge, SolveControl())))
        for _ in range(3):
            headers = {"x-api-key": "key-0", "content-type": "application/json"}
            redeem = httpx.post(asked.url.join(toll.redeem), content=solved, headers=headers)
            counts.add(redeem.status_code)
    assert counts == {200}


def test_a_memory_ledger_cannot_be_shared(tmp_path):
    plan = counting.Plan(rows=2, callers=1, gateways=1, workers=2)
    ((path, _, _),) = counting.settings(tmp_path, "http://127.0.0.1:1", "memory://", plan)
    with pytest.raises(SettingsError, match=r"ledger\.url: a memory ledger belongs to one process"):
        run_workers(load_settings(path), 2)


def test_workers_that_cannot_start_end_the_gateway_with_their_reason(tmp_path):
    plan = counting.Plan(rows=2, callers=1, gateways=1, workers=2)
    ((path, _, _),) = counting.settings(tmp_path, "http://127.0.0.1:1", "sqlite:////no/such/folder/l.db", plan)
    command = [sys.executable, "-m", "modeltoll", "serve", str(path), "--workers", "2"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 1
    assert "its folder must exist" in run.stderr
    assert "Traceback" not in run.stderr


# Metrics


def page(**numbers):
    metrics = GatewayMetrics()
    for name, number in numbers.items():
        metrics.count_error(name) if number else None
        for _ in range(number - 1):
            metrics.count_error(name)
    return metrics.render().decode()


def test_the_page_of_all_workers_has_every_sample_of_each_once_and_reads_as_metrics():
    pages = {0: page(A=2, B=1), 1: page(A=3)}
    families = {family.name: family for family in text_string_to_metric_families(merge_metrics(pages))}
    samples = families["modeltoll_refusals"].samples
    found = {
        (sample.labels["worker"], sample.labels["error"]): sample.value for sample in samples if "_total" in sample.name
    }
    assert found == {("0", "A"): 2.0, ("0", "B"): 1.0, ("1", "A"): 3.0}
    assert families["modeltoll_refusals"].type == "counter"
    assert len(merge_metrics(pages).splitlines()) == len(set(merge_metrics(pages).splitlines()))


def test_odd_label_values_stay_as_they_are():
    odd = '# HELP a b\n# TYPE a gauge\na{x="} 1 {\\"",y=","} 2.0\na 1e-05\n'
    assert merge_metrics({7: odd}).splitlines()[2:] == ['a{worker="7",x="} 1 {\\"",y=","} 2.0', 'a{worker="7"} 1e-05']


def test_a_worker_that_does_not_answer_is_left_out_and_counted():
    async def metrics(request):
        return Response("# HELP a b\n# TYPE a gauge\na 1\n")

    async def other(request):
        return Response("other")

    worker = Starlette(routes=[Route("/metrics", metrics)])
    with serving(worker) as alive:
        all_workers = WorkerMetricsApp(Starlette(routes=[Route("/livez", other)]), [alive, "http://127.0.0.1:1"])

        async def ask():
            transport = httpx.ASGITransport(all_workers)
            async with all_workers.open(), httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
                return [await client.get(path) for path in ("/metrics", "/livez", "/nowhere")]

        page, live, nowhere = asyncio.run(ask())
    assert 'a{worker="0"} 1' in page.text
    assert "modeltoll_workers 1\n" in page.text
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (live.text, nowhere.status_code) == ("other", 404)
