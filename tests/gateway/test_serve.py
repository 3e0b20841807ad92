"""Real processes on real ports: two gateways share one ledger, and both stop cleanly."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modeltoll.demo.processes import free_port
from modeltoll.errors import LedgerError, SettingsError
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.callers.api_key_file import change_keys
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.server.serve import serve
from modeltoll.gateway.settings.load import load_settings
from modeltoll.ledger.sqlite import SqliteLedger
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.records import Caller
from modeltoll.testing.model_servers import serving

BLOCKED = -13.0  # a row that the model server answers only after ``release`` is set
KEY = {"x-api-key": "alice-key"}
PATH = "/v2/models/digits/infer"
TENSOR = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [[0.0]]}


class Model:
    """A model server that can be made to wait."""

    def __init__(self):
        self.blocked, self.release = threading.Event(), threading.Event()

    async def infer(self, request: Request) -> Response:
        tensor = (await request.json())["inputs"][0]
        if tensor["data"][0][0] == BLOCKED:
            self.blocked.set()
            await asyncio.to_thread(self.release.wait, 60)
        rows = tensor["shape"][0]
        output = {"name": "p", "shape": [rows, 4], "datatype": "FP64", "data": [0.97, 0.01, 0.01, 0.01] * rows}
        return Response(json.dumps({"outputs": [output]}), media_type="application/json")

    def application(self):
        async def ready(request):
            return Response()

        return Starlette(routes=[Route(PATH, self.infer, methods=["POST"]), Route("/v2/health/ready", ready)])


def write_settings(folder, calibration, upstream, **members):
    save_calibration(calibration, folder / "tariff.json")
    change_keys(folder / "keys.json", lambda document: document)
    listen, admin = free_port(), free_port()
    document = {
        "listen": f"127.0.0.1:{listen}",
        "admin": f"127.0.0.1:{admin}",
        "upstream": {"url": upstream},
        "ledger": {"url": "sqlite:///shared.db"},
        "callers": {"keys": [{"name": "alice", "sha256": hash_key("alice-key")}], "key_file": "keys.json"},
        "models": {
            "digits": {
                "tariff": "tariff.json",
                "output": {"name": "p", "kind": "probabilities"},
                "measures": [{"name": "entropy"}],
            }
        },
    }
    path = folder / f"{listen}.yaml"
    path.write_text(yaml.safe_dump(document | members))
    return path, listen, admin


class Gateway:
    """``python -m modeltoll serve`` in a process of its own; what it says goes into a file."""

    def __init__(self, folder, calibration, upstream, **members):
        path, self.port, self.admin = write_settings(folder, calibration, upstream, **members)
        self.log = path.with_suffix(".log")
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "modeltoll", "serve", str(path)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")

    def await_ready(self):
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{self.admin}/readyz").status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.05)  # another process starts: there is nothing else to wait for
        raise AssertionError(self.log.read_text())

    def ask(self, *rows):
        tensor = {"name": "x", "shape": [len(rows), 1], "datatype": "FP64", "data": [[row] for row in rows]}
        url = f"http://127.0.0.1:{self.port}{PATH}"
        return httpx.post(url, json={"inputs": [tensor]}, headers=KEY, timeout=60).status_code


@pytest.fixture(scope="module")
def model():
    return Model()


@pytest.fixture(scope="module")
def gateways(tmp_path_factory, calibration, model):
    """Two gateways on one ledger's file."""
    folder = tmp_path_factory.mktemp("gateways")
    with serving(model.application()) as upstream:
        both = [Gateway(folder, calibration, upstream) for _ in range(2)]
        try:
            yield [gateway.await_ready() for gateway in both]
        finally:
            for gateway in both:
                gateway.process.kill()
                gateway.process.wait()


def test_two_gateways_on_one_ledger_add_up_exactly(gateways):
    first, second = gateways
    batches = [(first if turn % 2 else second, [float(turn)] * (turn % 3 + 1)) for turn in range(40)]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda batch: batch[0].ask(*batch[1]), batches))
    assert statuses == [402] * 40
    rows = sum(len(batch) for _, batch in batches)
    direct = sqlite3.connect(first.log.with_name("shared.db"))  # beside the settings, though both started in /
    assert direct.execute("SELECT caller, rows, requests FROM accounts").fetchall() == [("key:alice", rows, 40)]
    assert direct.execute("SELECT count(*), sum(rows) FROM log").fetchone() == (40, rows)
    assert direct.execute("SELECT abs(work - (SELECT sum(work) FROM log)) < 1e-9 FROM accounts").fetchone() == (1,)
    direct.close()


def test_a_running_gateway_reads_created_and_revoked_keys(gateways):
    """By command, without a restart; the tier counts from the first request on."""
    gateway = gateways[0]
    settings, body = gateway.log.with_suffix(".yaml"), {"inputs": [TENSOR]}

    def keys(*arguments):
        command = [sys.executable, "-m", "modeltoll", "keys", arguments[0], str(settings), *arguments[1:]]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def await_status(key, status):
        for _ in range(600):
            response = httpx.post(f"http://127.0.0.1:{gateway.port}{PATH}", json=body, headers={"x-api-key": key})
            if response.status_code == status:
                return response
            time.sleep(0.05)  # the gateway looks once a second: there is nothing else to wait for
        raise AssertionError(response.text)

    key = keys("create", "carol", "--tier", "exempt")
    assert await_status(key, 200).headers["toll-receipt"].endswith("mode=exempt")
    new = keys("rotate", "carol", "--overlap", "0m")
    await_status(new, 200)
    assert "expired" in await_status(key, 401).json()["error"]
    keys("revoke", "carol")
    await_status(new, 401)
    assert gateway.ask(1.0) == 402  # alice is listed in the settings
    assert new not in gateway.log.read_text() + settings.with_name("keys.json").read_text()


def test_a_terminated_gateway_finishes_active_requests(gateways, model):
    gateway = gateways[0]
    with ThreadPoolExecutor(1) as pool:
        status = pool.submit(gateway.ask, BLOCKED)
        assert model.blocked.wait(60)
        gateway.process.send_signal(signal.SIGTERM)
        while True:  # until no more connections are accepted
            try:
                socket.create_connection(("127.0.0.1", gateway.port)).close()
            except ConnectionError:  # refused, or reset where the socket was closing
                break
        assert not status.done()
        model.release.set()
        assert status.result(60) == 402
    assert gateway.process.wait(60) == 0
    assert "Traceback" not in gateway.log.read_text()


def test_an_interrupted_gateway_stops_without_a_traceback(gateways):
    gateway = gateways[1]
    gateway.process.send_signal(signal.SIGINT)
    assert gateway.process.wait(60) in (0, 130)
    said = gateway.log.read_text()
    assert f"127.0.0.1:{gateway.port}" in said
    assert "Traceback" not in said


@pytest.fixture
def draining(tmp_path, calibration):
    """A gateway that drains for a minute, and its model server."""
    model = Model()
    with serving(model.application()) as upstream:
        gateway = Gateway(tmp_path, calibration, upstream, operation={"drain_seconds": 60, "log_format": "json"})
        try:
            yield gateway.await_ready(), model
        finally:
            model.release.set()
            gateway.process.kill()
            gateway.process.wait()


def test_a_draining_gateway_is_not_ready_but_serves_and_a_second_signal_stops_it_at_once(draining):
    gateway, model = draining
    gateway.process.send_signal(signal.SIGTERM)
    ready = httpx.get(f"http://127.0.0.1:{gateway.admin}/readyz")
    while ready.status_code == 200:
        ready = httpx.get(f"http://127.0.0.1:{gateway.admin}/readyz")
    assert (ready.status_code, ready.json()) == (503, {"ready": False, "leaving": True})
    assert httpx.get(f"http://127.0.0.1:{gateway.admin}/livez").status_code == 200
    assert gateway.ask(1.0) == 402  # requests are still served while draining
    with ThreadPoolExecutor(1) as pool:
        status = pool.submit(gateway.ask, BLOCKED)
        assert model.blocked.wait(60)
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(60) == 0
        assert status.exception(60) is not None or status.result() >= 500  # and no answer
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith("{")]
    assert any(line["message"].startswith("draining: the gateway reports that it is not ready") for line in lines)


@pytest.mark.parametrize("setting", ["listen", "admin"])
def test_a_port_that_is_taken_is_a_fault_of_its_setting(tmp_path, calibration, setting):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path, _, _ = write_settings(tmp_path, calibration, "http://127.0.0.1:1", **{setting: address})
        settings = load_settings(path)
        with pytest.raises(SettingsError) as caught:
            asyncio.run(serve(settings, build_gateway(settings)))
    (fault,) = caught.value.faults
    assert fault.startswith(f"{setting}: cannot listen on {address}")


def test_an_address_that_is_not_this_machines_is_a_fault_too(tmp_path, calibration):
    path, _, _ = write_settings(tmp_path, calibration, "http://127.0.0.1:1", listen="192.0.2.1:80")
    settings = load_settings(path)
    with pytest.raises(SettingsError, match="listen: cannot listen"):
        asyncio.run(serve(settings, build_gateway(settings)))


def lock(ledger, path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other.close


def forbid(ledger, path):
    ledger._file._connection.execute("PRAGMA query_only = 1")
    return lambda: ledger._file._connection.execute("PRAGMA query_only = 0")


def fill(ledger, path):
    connection = ledger._file._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    return lambda: connection.execute("PRAGMA max_page_count = 4294967294")


@pytest.mark.parametrize("spoil", [lock, forbid, fill])
def test_a_ledger_that_cannot_be_written_releases_nothing_until_it_can_again(harness, tmp_path, spoil):
    """Locked by another process, read-only, or on a full disk."""
    path = tmp_path / "ledger.db"
    harness.ledger = SqliteLedger(path, patience=0.05)
    # An account with a long name needs a page of its own, so that a full disk is noticed at once.
    newcomer = Caller("key:" + "x" * 3000)

    async def requests():
        gate, body = harness.gate(), harness.infer_body([1, 2])
        await harness.ledger.open()
        mend = spoil(harness.ledger, path)
        with pytest.raises(LedgerError) as caught:
            await gate.handle(harness.request(body, newcomer))
        harness.without_ledger = True
        result = await harness.gate().handle(harness.request(body, newcomer))
        mend()
        after = await gate.handle(harness.request(body, newcomer))
        account = await harness.ledger.account(newcomer, harness.model)
        await harness.ledger.close()
        return caught.value, result, after, account

    error, result, after, account = asyncio.run(requests())
    assert error.status == 503
    assert str(path) not in str(error)
    assert (result.in_ledger, result.toll is not None) == (False, True)
    assert result.work.seconds == after.work.seconds
    assert (after.in_ledger, account.rows, account.requests) == (True, 1, 1)
