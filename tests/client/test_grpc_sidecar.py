"""The gRPC sidecar: what it pays, and that everything else passes as it is."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import grpc
import httpx
import pytest
from typer.testing import CliRunner

from grpc_toll_server import GrpcTollServer, answer_to
from modeltoll import open_inference_messages as messages
from modeltoll.cli import app
from modeltoll.client.grpc_sidecar import grpc_target, serve_grpc
from modeltoll.client.purse import Purse
from modeltoll.client.sidecar_metrics import SidecarMetrics
from modeltoll.demo.processes import free_port
from modeltoll.errors import SettingsError


@contextmanager
def sidecar(upstream, **options):
    """A sidecar before an address, in a thread: a channel to it, and its metrics."""
    metrics, ports, ready = SidecarMetrics(), [], threading.Event()
    purse = Purse(paid=metrics.record_payment, **options)
    loop, tasks = asyncio.new_event_loop(), []

    def announce(port):
        ports.append(port)
        ready.set()

    async def serve():
        tasks.append(asyncio.current_task())
        await serve_grpc((upstream, False), "127.0.0.1:0", purse, metrics, announce)

    def run():
        loop.add_signal_handler = lambda *_: None  # signals belong to the main thread
        try:
            loop.run_until_complete(serve())
        except asyncio.CancelledError:
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
            yield channel, metrics
    finally:
        loop.call_soon_threadsafe(tasks[0].cancel)
        thread.join(10)


@pytest.fixture(scope="module")
def _server():
    server = GrpcTollServer()
    stop = server.start()
    yield server
    stop()


@pytest.fixture
def server(_server):
    return _server.reset()


@pytest.fixture
def own_server():
    """A server that no other sidecar posts receipts to."""
    server = GrpcTollServer().reset()
    stop = server.start()
    yield server
    stop()


@pytest.fixture(scope="module")
def channel(_server):
    with sidecar(_server.address) as (channel, _):
        yield channel


def request(model):
    return messages.ModelInferRequest(model_name=model, id="1", raw_input_contents=[bytes(range(256))])


def infer(channel):
    return channel.unary_unary(messages.MODEL_INFER, messages.ModelInferRequest.SerializeToString)


@pytest.mark.parametrize("model", ["plain", "sealed", "admission", "bin"])
def test_programs_get_the_servers_answer_and_its_metadata(channel, server, model):
    response, call = infer(channel).with_call(request(model), metadata=(("x-api-key", "k"), ("a-bin", b"\0\xff")))
    assert response == answer_to(request(model)).SerializeToString()
    assert ("served-by", "toll server") in [tuple(pair) for pair in call.initial_metadata()]
    assert ("toll-receipt" in dict(call.trailing_metadata())) == (model in ("plain", "bin"))
    assert {(received["x-api-key"], received["a-bin"]) for received in server.calls()} == {("k", b"\0\xff")}
    assert all("receipts" in received["toll-accept"] for received in server.calls())


def test_every_other_method_and_every_stream_passes(channel, server):
    assert channel.unary_unary(messages.SERVER_LIVE)(b"") == messages.ServerLiveResponse(live=True).SerializeToString()
    assert "toll-accept" not in server.calls("ServerLive")[0]
    call = channel.stream_stream(messages.MODEL_STREAM_INFER)(iter([b"a", b"", b"c"]), metadata=(("k", "v"),))
    assert list(call) == [b"0:a", b"1:", b"2:c"]
    assert ("first", "1") in [tuple(pair) for pair in call.initial_metadata()]
    assert ("last", "1") in [tuple(pair) for pair in call.trailing_metadata()]


def test_answers_of_a_stream_come_as_they_are_sent(channel, server):
    answered = threading.Event()

    def bodies():
        yield b"a"
        assert answered.wait(10)
        yield b"b"

    answers = channel.stream_stream(messages.MODEL_STREAM_INFER)(bodies())
    assert next(answers) == b"0:a"
    answered.set()
    assert list(answers) == [b"1:b"]


@pytest.mark.parametrize("method", [messages.MODEL_INFER, messages.MODEL_STREAM_INFER])
def test_a_status_passes_with_its_details_and_its_trailing_metadata(channel, server, method, monkeypatch):
    trailing = (("grpc-status-details-bin", b"\x08\x03"), ("retry-after", "7"))

    def refuse(*arguments):
        context = arguments[-1]
        context.set_trailing_metadata(trailing)
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")

    server.served["m"] = refuse
    monkeypatch.setattr(server, "stream", refuse)
    for _ in range(20):
        call = channel.stream_stream(method)(iter([request("m").SerializeToString()]))
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.value.details() == "too many"
        assert set(trailing) <= {tuple(pair) for pair in refused.value.trailing_metadata()}


def test_a_method_that_the_server_lacks_is_unimplemented(channel):
    """Without an INTERNAL of grpc.aio in its place, whose streams lose the status of a server that is quick to refuse."""
    for _ in range(50):
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/other.Service/Method")(b"")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_deadlines_and_large_messages_pass(channel, server):
    body = request("large")
    body.raw_input_contents[0] = bytes(6 << 20)  # above grpc's limit of 4 MiB for what it receives
    seen = []

    def serve(received, _metadata, context):
        seen.append(context.time_remaining())
        return b"\x32\x03abc" if len(received.raw_input_contents[0]) == 6 << 20 else b""

    server.served["large"] = serve
    infer(channel)(body, timeout=30)
    assert 20 < seen[-1] <= 30


def test_a_toll_that_is_too_dear_is_a_failed_precondition_which_nothing_retries(server):
    server.evaluations = 2**44
    with sidecar(server.address, max_seconds=1.0) as (channel, metrics):
        with pytest.raises(grpc.RpcError) as refused:
            infer(channel)(request("sealed"))
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "max_seconds" in refused.value.details()
        assert b'modeltoll_proxy_requests_total{outcome="refused"} 1.0' in metrics.render()
    assert len(server.calls()) == 1


def test_a_program_that_hangs_up_stops_the_work(server):
    server.evaluations, begun, stopped = 2**40, threading.Event(), []

    def progress(done, _most):
        begun.set()
        stopped.append(done)

    with sidecar(server.address, max_seconds=1e9, progress=progress) as (channel, _):
        future = infer(channel).future(request("sealed"))
        assert begun.wait(10)
        future.cancel()
        deadline, before = time.monotonic() + 10, -1
        while len(stopped) != before and time.monotonic() < deadline:
            before = len(stopped)
            threading.Event().wait(0.3)
        assert len(stopped) == before


def test_without_an_upstream_it_says_so(channel):
    with sidecar(f"127.0.0.1:{free_port()}") as (alone, _):
        for method in (messages.MODEL_INFER, messages.SERVER_LIVE):
            with pytest.raises(grpc.RpcError) as refused:
                alone.unary_unary(method)(b"")
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("grpc://a.example:8001", ("a.example:8001", False)),
        ("grpcs://a.example", ("a.example:443", True)),
        ("grpcs://[::1]:1/", ("[::1]:1", True)),
    ],
)
def test_targets(url, target):
    assert grpc_target(url) == target


@pytest.mark.parametrize(
    "url", ["http://a:1", "a:1", "grpc://", "grpc://a:x", "grpc://u:p@a:1", "grpc://a:1/path", "grpc://a:1?q"]
)
def test_other_urls_are_refused(url):
    with pytest.raises(SettingsError, match="--upstream"):
        grpc_target(url)


def command(*options):
    return [sys.executable, "-m", "modeltoll", "proxy", "--grpc", *options]


def test_the_command_serves_until_sigterm_and_posts_the_receipts_that_are_left(own_server):
    options = ("--upstream", f"grpc://{own_server.address}", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    with subprocess.Popen(command(*options), stderr=subprocess.PIPE, text=True) as process:
        line = process.stderr.readline()
        address, metrics = line.split()[2].removeprefix("grpc://"), line.split()[-1]
        with grpc.insecure_channel(address) as channel:
            infer(channel)(request("sealed"))
        assert "modeltoll_proxy_rows_total 1.0" in httpx.get(metrics).text
        process.send_signal(signal.SIGTERM)
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert own_server.receipts() == [("ModelInfer", ()), ("ServerLive", (b"1",))]


def test_options_that_do_not_fit_are_refused_by_name(server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        upstream = ("--upstream", f"grpc://{server.address}")
        for options, named in (
            (("--grpc", *upstream, "--host-name", "a"), "--host-name"),
            (("--grpc", *upstream, "--listen", address), "--listen"),
            (("--grpc", *upstream, "--listen", "127.0.0.1:0", "--metrics", address), "--metrics"),
            (("--grpc", "--upstream", "http://a:1"), "--upstream"),
            (("--upstream", "http://a:1", "--metrics", address), "--metrics"),
        ):
            run = CliRunner().invoke(app, ["proxy", *options])
            assert run.exit_code == 2
            assert named in run.output
