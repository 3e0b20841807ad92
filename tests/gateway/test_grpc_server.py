"""The server of the gRPC side: limits of time and of messages, reload, drain, workers, settings."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import httpx
import numpy as np
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from grpc_gateway import (
    ACCEPT,
    CONFIDENT,
    MODEL,
    VIP,
    GrpcClient,
    GrpcModelServer,
    grpc_gateway,
    infer_request,
    infer_response,
    opened,
    settings_document,
)
from modeltoll import open_inference_messages as messages
from modeltoll.demo.processes import free_port
from modeltoll.errors import LedgerError, SettingsError
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.settings.load import load_settings
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.puzzle import expected_seconds
from modeltoll.records import Caller
from served_gateway import wait_until

OK, UNPAID = grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION
_rows = iter(np.random.default_rng(11).random((10_000, 2)))


@pytest.fixture(scope="module")
def model_server():
    with GrpcModelServer().serving() as server:
        yield server


@contextlib.contextmanager
def small_gateway(folder, model_server, calibration, **sections):
    upstream = model_server if isinstance(model_server, dict) else model_server.address
    document = settings_document(folder, upstream, calibration, **sections)
    with grpc_gateway(folder, document) as gateway:
        yield gateway


# Limits


def test_a_message_that_does_not_come_is_a_deadline_and_frees_its_place(tmp_path, model_server, calibration):
    limits = {"message_seconds": 0.3, "waiting": 2, "caller_share": 1.0}
    release = threading.Event()

    def never():
        release.wait(20)
        yield b""

    with (
        small_gateway(tmp_path, model_server, calibration, limits=limits) as gateway,
        grpc.insecure_channel(gateway.address) as channel,
        gateway.client() as client,
    ):
        stream = channel.stream_unary(messages.MODEL_INFER)
        slow = [stream.future(never(), metadata=[("x-api-key", "bob-key")]) for _ in range(2)]
        codes = [call.code() for call in slow]
        release.set()
        assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED] * 2
        assert client.infer(infer_request(next(_rows))).code is UNPAID


def test_a_call_without_a_message_is_refused(tmp_path, model_server, calibration):
    with (
        small_gateway(tmp_path, model_server, calibration) as gateway,
        grpc.insecure_channel(gateway.address) as channel,
    ):
        stream = channel.stream_unary(messages.MODEL_INFER)
        assert stream.future(iter(()), metadata=[("x-api-key", "bob-key")]).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_caller_has_a_share_of_the_places(tmp_path, calibration):
    release, came = threading.Event(), threading.Semaphore(0)

    def wait(*_):
        came.release()
        release.wait(20)
        return infer_response([CONFIDENT]).SerializeToString()

    limits = {"waiting": 4}
    with (
        GrpcModelServer(wait).serving() as server,
        small_gateway(tmp_path, server, calibration, limits=limits) as gateway,
        gateway.client(VIP) as vip,
        gateway.client() as alice,
    ):
        body = infer_request(next(_rows)).SerializeToString()
        held = [vip.start(messages.MODEL_INFER, body) for _ in range(2)]
        for _ in held:
            assert came.acquire(timeout=10)
        refused = vip.infer(infer_request(next(_rows)))
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.trailing["retry-after"] == "1"
        url = f"{gateway.url}/v2/models/{MODEL}/infer"
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.1, 0.2]}
        assert httpx.post(url, json={"inputs": [tensor]}, headers={"x-api-key": VIP}).status_code == 429
        other = alice.start(messages.MODEL_INFER, body)  # there is a place for others
        assert came.acquire(timeout=10)
        release.set()
        assert [call.code() for call in (*held, other)] == [OK, OK, UNPAID]


def test_many_calls_at_once_on_one_connection(tmp_path, model_server, calibration):
    with small_gateway(tmp_path, model_server, calibration) as gateway, gateway.client(VIP) as vip:
        bodies = [infer_request(next(_rows)).SerializeToString() for _ in range(100)]
        calls = [vip.start(messages.MODEL_INFER, body) for body in bodies]
        assert {call.code() for call in calls} == {OK}


# Admission without credit


def test_a_client_without_credit_pays_before_the_model_is_asked(tmp_path, model_server, calibration):
    callers = {"credit": {"seconds": 1e-9, "units": 1.0}}
    with small_gateway(tmp_path, model_server, calibration, callers=callers) as gateway:
        request = infer_request([next(_rows) for _ in range(3)])
        asked = len(model_server.bodies)
        with gateway.client(accept=ACCEPT) as client:
            first = client.infer(request)
            assert (first.code, first.toll.admission, first.toll.mode) == (OK, True, "redeem")
            assert len(model_server.bodies) == asked
            second = client.pay(request, first)
            assert second.code is OK
            if second.toll is not None:
                assert opened(second.toll).answer.body == infer_response([CONFIDENT] * 3).SerializeToString()
        with gateway.client("bob-key") as client:
            request = infer_request([next(_rows) for _ in range(3)])
            reply, paid = client.infer(request), 0
            while reply.code is UNPAID and paid < 5:
                reply, paid = client.pay(request, reply), paid + 1
            assert (reply.code, paid > 0) == (OK, True)


def test_quotes_are_bounded_by_the_credit(tmp_path, model_server, calibration):
    """Whoever throws tolls away soon pays before the model is asked."""
    callers = {"credit": {"seconds": 1e-9, "units": 3.0}}
    with small_gateway(tmp_path, model_server, calibration, callers=callers) as gateway, gateway.client() as client:
        asked = len(model_server.bodies)
        for _ in range(12):
            assert client.infer(infer_request(next(_rows))).code is UNPAID
        assert len(model_server.bodies) - asked <= 3


def test_a_dear_answer_is_paid_in_one_toll_though_it_costs_more_than_its_reservation(tmp_path, calibration):
    uncertain = infer_response([[0.25] * 4]).SerializeToString()
    with (
        GrpcModelServer(lambda *_: uncertain).serving() as server,
        small_gateway(tmp_path, server, calibration) as gateway,
        gateway.client() as client,
    ):
        request = infer_request(next(_rows))
        first = client.infer(request)
        paid = client.pay(request, first)
        assert (paid.code, paid.body) == (OK, uncertain)


def test_an_answer_that_became_dearer_is_not_released_for_the_earlier_price(tmp_path, calibration):
    cheap, dear = infer_response([CONFIDENT]), infer_response([[0.25] * 4])
    answers = iter([cheap, dear, dear])
    with (
        GrpcModelServer(lambda *_: next(answers).SerializeToString()).serving() as server,
        small_gateway(tmp_path, server, calibration) as gateway,
        gateway.client() as client,
    ):
        request = infer_request(next(_rows))
        second = client.pay(request, client.infer(request))
        assert (second.code, second.body) == (UNPAID, None)
        assert client.pay(request, second).code is OK


@pytest.mark.parametrize("fault", ["slow", "unmeasured", "refused"])
def test_what_was_paid_for_an_answer_that_does_not_come_is_kept_for_the_next(tmp_path, calibration, fault):
    """But for the units that the model has worked for."""
    dear = infer_response([[0.25] * 4]).SerializeToString()
    state = {"fault": None}

    def answer(_, context):
        if state["fault"] == "slow":
            threading.Event().wait(1.0)
        if state["fault"] == "refused":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
        return b"" if state["fault"] == "unmeasured" else dear

    with (
        GrpcModelServer(answer).serving() as server,
        small_gateway(tmp_path, {"url": server.address, "timeout_seconds": 0.5}, calibration) as gateway,
        gateway.client() as client,
    ):
        request = infer_request(next(_rows))
        first = client.infer(request)
        state["fault"] = fault
        assert client.pay(request, first).code not in (OK, UNPAID)
        prepaid = gateway.run(gateway.ledger.standing(Caller("key:alice"))).prepaid
        unit, price = calibration.unit_seconds, expected_price(first)
        assert prepaid == pytest.approx(price if fault == "refused" else price - unit, rel=0.5)
        assert prepaid > 2 * unit


def expected_price(reply):
    """The work of a toll's puzzle, in reference seconds."""
    return expected_seconds(reply.toll.challenge, DEFAULT_PROFILE)


def test_without_a_ledger_nothing_is_sold_to_clients_that_keep_no_answer(
    tmp_path, model_server, calibration, monkeypatch
):
    ledger = {"url": "memory://", "when_down": "release"}
    with small_gateway(tmp_path, model_server, calibration, ledger=ledger) as gateway:

        async def down(*_, **__):
            raise LedgerError("down")

        for step in ("settle", "charge", "bill", "adjust"):
            monkeypatch.setattr(gateway.ledger, step, down, raising=True)
        with gateway.client() as client:
            assert client.infer(infer_request(next(_rows))).code is grpc.StatusCode.UNAVAILABLE
        with gateway.client(accept=ACCEPT) as client:
            reply = client.infer(infer_request(next(_rows)))
            assert opened(reply.toll).answer.body == infer_response([CONFIDENT]).SerializeToString()


@pytest.mark.parametrize("modes", [["redeem"], ["sealed", "redeem"]])
def test_a_model_without_seals_asks_for_the_whole_price_first(tmp_path, model_server, calibration, modes):
    model = {"puzzle": {"modes": modes, "sha256_below_ms": 1000.0}}
    with (
        small_gateway(tmp_path, model_server, calibration, model=model) as gateway,
        gateway.client(accept=ACCEPT) as client,
    ):
        request = infer_request(next(_rows))
        reply = client.infer(request)
        assert (reply.code, reply.toll.admission) == (OK, modes == ["redeem"])
        if reply.toll.admission:
            assert client.pay(request, reply).body == infer_response([CONFIDENT]).SerializeToString()


@pytest.mark.parametrize("puzzle", ["hashcash", "timelock", "argon2id"])
def test_every_puzzle_can_be_paid_over_grpc(tmp_path, model_server, calibration, puzzle):
    model = {"puzzle": {"allow": sorted({puzzle, "argon2id"}), "sha256_below_ms": 0.0}}
    with (
        small_gateway(tmp_path, model_server, calibration, model=model) as gateway,
        gateway.client(accept=puzzle) as client,
    ):
        request = infer_request(next(_rows))
        reply = client.infer(request)
        assert reply.code is UNPAID
        assert len(reply.trailing["toll-bin"]) <= 7 << 10
        assert client.pay(request, reply).body == infer_response([CONFIDENT]).SerializeToString()


# Shadow mode


def test_shadow_mode_changes_nothing_and_passes_what_it_cannot_read(tmp_path, model_server, calibration):
    with (
        small_gateway(tmp_path, model_server, calibration, model={"mode": "shadow"}) as gateway,
        gateway.client() as client,
    ):
        reply = client.infer(infer_request(next(_rows)))
        assert (reply.code, reply.body) == (OK, infer_response([CONFIDENT]).SerializeToString())
        assert "shadow" in reply.trailing["toll-receipt"]
        request = infer_request(next(_rows), model_version="9")
        request.parameters["temperature"].double_param = 0.5
        assert client.infer(request).code is OK
        assert model_server.bodies[-1] == request.SerializeToString(deterministic=True)


# Reload, drain, audit


def test_a_reload_replaces_the_gateway_behind_the_same_address(tmp_path, model_server, calibration):
    document = settings_document(tmp_path, model_server.address, calibration)
    with grpc_gateway(tmp_path, document) as gateway, gateway.client() as client:
        assert client.infer(infer_request(next(_rows))).code is UNPAID
        document["models"][MODEL]["mode"] = "shadow"
        gateway.path.write_text(yaml.safe_dump(document | {"listen_grpc": "127.0.0.1:1"}))
        before = gateway.reloading.gateway
        gateway.loop.call_soon_threadsafe(gateway.reloading.reload)
        wait_until(lambda: gateway.reloading.gateway is not before)
        assert client.infer(infer_request(next(_rows))).code is OK


def test_a_reload_lets_calls_of_the_gateway_before_it_end(tmp_path, calibration):
    came, release = threading.Event(), threading.Event()

    def wait(*_):
        came.set()
        release.wait(20)
        return infer_response([CONFIDENT]).SerializeToString()

    with GrpcModelServer(wait).serving() as server:
        document = settings_document(tmp_path, server.address, calibration)
        with grpc_gateway(tmp_path, document) as gateway, gateway.client(VIP) as client:
            call = client.start(messages.MODEL_INFER, infer_request(next(_rows)).SerializeToString())
            assert came.wait(10)
            before = gateway.reloading.gateway
            gateway.loop.call_soon_threadsafe(gateway.reloading.reload)
            wait_until(lambda: gateway.reloading.gateway is not before)
            release.set()
            assert call.result(20) == infer_response([CONFIDENT]).SerializeToString()


def test_a_server_that_stops_says_so_and_completes_its_calls(tmp_path, calibration):
    came, release = threading.Event(), threading.Event()

    def wait(*_):
        came.set()
        release.wait(20)
        return infer_response([CONFIDENT]).SerializeToString()

    with (
        GrpcModelServer(wait).serving() as server,
        small_gateway(tmp_path, server, calibration) as gateway,
        gateway.client(VIP) as client,
        grpc.insecure_channel(gateway.address) as channel,
    ):
        call = client.start(messages.MODEL_INFER, infer_request(next(_rows)).SerializeToString())
        assert came.wait(10)
        gateway.run(gateway.server.drain())
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()).status
        assert status == health_pb2.HealthCheckResponse.NOT_SERVING
        stopping = threading.Thread(target=lambda: gateway.run(gateway.server.stop(20.0)))
        stopping.start()
        release.set()
        assert call.result(20) == infer_response([CONFIDENT]).SerializeToString()
        stopping.join(30)
        with GrpcClient(gateway.address, VIP) as late:
            assert late.infer(infer_request(next(_rows)), timeout=5.0).code is grpc.StatusCode.UNAVAILABLE


def test_calls_are_in_the_audit_log(tmp_path, model_server, calibration):
    audit = tmp_path / "audit.jsonl"
    operation = {"audit_file": str(audit)}
    with (
        small_gateway(tmp_path, model_server, calibration, operation=operation) as gateway,
        gateway.client() as client,
    ):
        client.infer(infer_request(next(_rows)))
        client.infer(b"\xff")
        client.call(messages.SERVER_LIVE)
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("GRPC", messages.MODEL_INFER, 402),
        ("GRPC", messages.MODEL_INFER, 400),
        ("GRPC", messages.SERVER_LIVE, 200),
    ]
    assert (lines[0]["model"], lines[0]["rows"], lines[1]["error"]) == (MODEL, 1, "RequestError")
    assert len({line["who"] for line in lines}) == 1
    assert "alice" not in audit.read_text()


# Settings


def test_settings_that_cannot_serve_grpc_are_refused(tmp_path, calibration):
    chat = {"protocol": "openai-chat", "output": {"kind": "tokens"}, "measures": [{"name": "tokens"}], "mode": "shadow"}
    good = settings_document(tmp_path, "grpc://127.0.0.1:9", calibration)
    faults = [
        ({"models": {"chat": chat | {"tariff": "none.json"}}}, "protocol oip"),
        ({"listen_grpc": "nowhere"}, "HOST:PORT"),
        ({"listen_grpc": "127.0.0.1:8080"}, "choose another port"),
        ({"upstream": {"url": "app"}}, "modeltoll serve"),
        ({"upstream": {"url": "grpc://127.0.0.1"}}, "grpc://HOST:PORT"),
        ({"upstream": {"url": "grpc://127.0.0.1:9/v2"}}, "grpc://HOST:PORT"),
        ({"upstream": {"url": "grpcs://127.0.0.1:9", "ca_file": str(tmp_path / "none.pem")}}, "ca_file"),
    ]
    path = tmp_path / "settings.yaml"
    for change, text in faults:
        path.write_text(yaml.safe_dump(good | change))
        with pytest.raises(SettingsError, match=text):
            build_gateway(load_settings(path))
    path.write_text(yaml.safe_dump(good))
    assert build_gateway(load_settings(path)).grpc is not None


def test_without_the_extra_http_is_served_and_listen_grpc_names_the_remedy(tmp_path, calibration):
    document = settings_document(tmp_path, "http://127.0.0.1:9", calibration)
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(document))
    script = (
        "import sys\n"
        "for name in ('grpc', 'google.protobuf', 'grpc_health', 'grpc_reflection'): sys.modules[name] = None\n"
        "from modeltoll.gateway.assembly.build import build_gateway\n"
        "from modeltoll.gateway.settings.load import load_settings\n"
        "from pathlib import Path\n"
        "settings = load_settings(Path(sys.argv[1]))\n"
        "try: build_gateway(settings)\n"
        "except Exception as error: print(error)\n"
        "build_gateway(settings.model_copy(update={'listen_grpc': None}))\n"
        "print('HTTP')"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["listen_grpc: gRPC needs more: pip install 'modeltoll[grpc]'", "HTTP"]


# Processes


@contextlib.contextmanager
def served(folder, document, *options):
    """``modeltoll serve`` while the block lasts; yields the process and the address of gRPC."""
    path = folder / "modeltoll.yaml"
    path.write_text(yaml.safe_dump(document))
    log = folder / "log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "modeltoll", "serve", str(path), *options]
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        wait_until(lambda: process.poll() is not None or is_ready(document["admin"]))
        assert process.poll() is None, log.read_text()
        yield process, document["listen_grpc"]
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_ready(admin):
    time.sleep(0.05)
    try:
        return httpx.get(f"http://{admin}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def process_document(folder, model_server, calibration):
    ports = {name: f"127.0.0.1:{free_port()}" for name in ("listen", "listen_grpc", "admin")}
    return settings_document(folder, model_server.address, calibration, ledger={"url": "sqlite:///l.db"}, **ports)


def test_workers_share_the_port_and_stop_together(tmp_path, model_server, calibration):
    document = process_document(tmp_path, model_server, calibration)
    with served(tmp_path, document, "--workers", "2") as (process, address):
        for _ in range(8):  # a proof is good at either
            with GrpcClient(address) as client, GrpcClient(address) as other:
                request = infer_request(next(_rows))
                first = client.infer(request)
                assert first.code is UNPAID
                assert other.pay(request, first).code is OK
                assert client.pay(request, first).code is UNPAID
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_an_address_that_is_taken_is_an_error_with_a_remedy(tmp_path, model_server, calibration):
    document = process_document(tmp_path, model_server, calibration)
    host, _, port = document["listen_grpc"].partition(":")
    path = tmp_path / "modeltoll.yaml"
    path.write_text(yaml.safe_dump(document))
    with socket.create_server((host, int(port))):
        for options in ((), ("--workers", "2")):
            command = [sys.executable, "-m", "modeltoll", "serve", str(path), *options]
            run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
            assert run.returncode == 2
            assert "listen_grpc: cannot listen on" in run.stderr
            assert "Traceback" not in run.stderr


def test_a_gateway_that_is_told_to_stop_completes_its_call(tmp_path, calibration):
    came, release = threading.Event(), threading.Event()

    def wait(*_):
        came.set()
        release.wait(20)
        return infer_response([CONFIDENT]).SerializeToString()

    with GrpcModelServer(wait).serving() as server:
        document = process_document(tmp_path, server, calibration)
        with served(tmp_path, document) as (process, address), GrpcClient(address, VIP) as client:
            call = client.start(messages.MODEL_INFER, infer_request(next(_rows)).SerializeToString())
            assert came.wait(10)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not is_ready(document["admin"]))
            release.set()
            assert call.result(20) == infer_response([CONFIDENT]).SerializeToString()
            assert process.wait(30) == 0
