"""Interceptors for grpc and grpc.aio: tolls are paid under any message class, and everything else passes unchanged."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from grpc_toll_server import GrpcTollServer, answer_to, inline
from modeltoll import open_inference_messages as messages
from modeltoll import wire
from modeltoll.client.grpc import AioTollInterceptor, TollInterceptor
from modeltoll.client.purse import Purse
from modeltoll.errors import SealBroken, SolveStopped, TollError, TollMalformed, TollTooDear
from modeltoll.records import Answer

FOREIGN = DescriptorPool()
FOREIGN.Add(messages.FILE)
KEY = (("x-api-key", "k"),)


def foreign(name):
    """A class of the same message that another package has generated."""
    return GetMessageClass(FOREIGN.FindMessageTypeByName(f"inference.{name}"))


@dataclass(frozen=True)
class Stub:
    """What a stub does with messages: ``request`` makes one, ``written`` and ``read`` are its serialisers."""

    kind: str
    request: Any
    written: Any
    read: Any


def protobuf_request(kind, model):
    return kind(model_name=model, id="1", raw_input_contents=[b"abc", b"de"])


REQUEST, RESPONSE = foreign("ModelInferRequest"), foreign("ModelInferResponse")
PROTOBUF = Stub("protobuf", partial(protobuf_request, REQUEST), REQUEST.SerializeToString, RESPONSE.FromString)
BYTES = Stub("bytes", lambda model: protobuf_request(messages.ModelInferRequest, model).SerializeToString(), None, None)


def expected(stub, model):
    """What the model server itself answers."""
    answer = answer_to(protobuf_request(messages.ModelInferRequest, model)).SerializeToString(deterministic=True)
    return answer if stub is BYTES else RESPONSE.FromString(answer)


class Blocking:
    """Calls of ``grpc``; ``style`` is how the stub is called."""

    def __init__(self, address, style, interceptors, **options):
        self.purse = Purse(**options)
        self.tolls = TollInterceptor(purse=self.purse)
        self._channel = grpc.insecure_channel(address)
        self.channel = grpc.intercept_channel(self._channel, *interceptors, self.tolls)
        self._style = style

    def call(self, stub, request, method=messages.MODEL_INFER, **options):
        """The response, and the call, which may be None."""
        callable_ = self.channel.unary_unary(method, stub.written, stub.read)
        if self._style == "call":
            return callable_(request, **options), None
        if self._style == "with_call":
            return callable_.with_call(request, **options)
        future = callable_.future(request, **options)
        return future.result(), future

    def close(self):
        self.tolls.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()


class Asynchronous:
    """Calls of ``grpc.aio``, on an event loop in a thread."""

    def __init__(self, address, _style, interceptors, **options):
        self.purse = Purse(**options)
        self.tolls = None
        self._address, self._interceptors = address, interceptors
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    async def _open(self):
        self.tolls = AioTollInterceptor(purse=self.purse)
        self.channel = grpc.aio.insecure_channel(self._address, interceptors=[*self._interceptors, self.tolls])

    async def _call(self, stub, request, method, options):
        call = self.channel.unary_unary(method, stub.written, stub.read)(request, **options)
        return await call, _Ended(await call.code(), await call.initial_metadata(), await call.trailing_metadata())

    def call(self, stub, request, method=messages.MODEL_INFER, **options):
        return self.run(self._call(stub, request, method, options))

    def close(self):
        self.run(self.tolls.close())

    def __enter__(self):
        self._thread.start()
        self.run(self._open())
        return self

    def __exit__(self, *_):
        self.run(self.channel.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@dataclass
class _Ended:
    status: Any
    initial: Any
    trailing: Any

    def code(self):
        return self.status

    def initial_metadata(self):
        return self.initial

    def trailing_metadata(self):
        return self.trailing


STYLES = {"call": Blocking, "with_call": Blocking, "future": Blocking, "aio": Asynchronous}


@pytest.fixture(scope="module")
def _server():
    server = GrpcTollServer()
    stop = server.start()
    yield server
    stop()


@pytest.fixture
def server(_server):
    return _server.reset()


@pytest.fixture(params=STYLES)
def client(server, request):
    """Makes clients of every kind."""
    opened = []

    def make(*interceptors, **options):
        opened.append(STYLES[request.param](server.address, request.param, interceptors, **options))
        return opened[-1].__enter__()

    yield make
    for one in opened:
        one.__exit__()


@pytest.mark.parametrize("stub", [PROTOBUF, BYTES], ids=lambda stub: stub.kind)
@pytest.mark.parametrize("model", ["plain", "sealed", "admission", "bin"])
def test_the_caller_gets_the_servers_answer_in_the_stubs_own_class(client, model, stub):
    answer, call = client().call(stub, stub.request(model))
    if stub is BYTES:
        answer = messages.ModelInferResponse.FromString(answer).SerializeToString(deterministic=True)
    assert answer == expected(stub, model)
    assert type(answer) is type(expected(stub, model))
    if call is not None:
        assert call.code() is grpc.StatusCode.OK
        assert ("served-by", "toll server") in [tuple(pair) for pair in call.initial_metadata()]
        assert ("toll-receipt" in dict(call.trailing_metadata())) == (model in ("plain", "bin"))


def test_what_was_sealed_arrives_byte_for_byte(client, server):
    body = b"\x0a\x01m" + b"\x32\x02\xff\xfe" + b"\xf8\x07\x05"  # with a field that nobody knows
    server.served["odd"] = lambda request, _m, _c: inline(server.make(Answer(200, "x/y", body)), request)
    assert client().call(BYTES, BYTES.request("odd"))[0] == body
    assert client().call(PROTOBUF, PROTOBUF.request("odd"))[0].SerializeToString() == body


@pytest.mark.parametrize("model", ["sealed", "admission", "bin"])
def test_a_toll_above_the_limit_is_refused_before_any_work_as_both_errors(client, server, model):
    server.evaluations = 2**44
    stub = client(max_seconds=1.0)
    with pytest.raises(TollTooDear) as refused:
        stub.call(PROTOBUF, PROTOBUF.request(model))
    error: Any = refused.value
    assert isinstance(error, grpc.RpcError)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "max_seconds" in error.details() == f"toll not paid: {error}"
    assert error.debug_error_string()
    assert error.seconds > error.limit == 1.0
    assert len(server.calls()) == 1
    assert stub.purse.payments == ()


def test_one_purse_limits_the_tolls_of_several_channels_together(server):
    purse = Purse(max_seconds_per_hour=0.0)
    for _ in range(2):
        with grpc.insecure_channel(server.address) as channel:
            stub = grpc.intercept_channel(channel, TollInterceptor(purse=purse)).unary_unary(messages.MODEL_INFER)
            with pytest.raises(TollTooDear, match="max_seconds_per_hour"):
                stub(BYTES.request("sealed"))


def test_only_inference_is_announced_and_streams_pass_untouched(client, server):
    stub = client()
    stub.call(BYTES, b"", method=messages.SERVER_LIVE)
    stub.call(BYTES, BYTES.request("plain"))
    assert "toll-accept" not in server.calls("ServerLive")[0]
    accept = wire.parse_accept(server.calls()[0]["toll-accept"])
    assert accept.receipts
    assert accept.memory_kib == stub.purse.memory_kib
    if isinstance(stub, Blocking):
        stream = stub.channel.stream_stream(messages.MODEL_STREAM_INFER)
        assert list(stream(iter([b"a", b"b"]))) == [b"0:a", b"1:b"]


def test_the_callers_own_announcement_and_metadata_are_kept(client, server):
    client().call(BYTES, BYTES.request("admission"), metadata=(("toll-accept", "sha256"), ("a-bin", b"\0"), *KEY))
    assert [call["toll-accept"] for call in server.calls()] == ["sha256"] * 2
    assert [call["a-bin"] for call in server.calls()] == [b"\0"] * 2
    assert [call["x-api-key"] for call in server.calls()] == ["k"] * 2


def test_receipts_return_with_the_next_request_of_the_same_account(client, server):
    stub = client()
    stub.call(BYTES, BYTES.request("sealed"), metadata=KEY)
    stub.call(BYTES, BYTES.request("sealed"))
    stub.call(BYTES, BYTES.request("plain"), metadata=KEY)
    stub.call(BYTES, BYTES.request("plain"), metadata=KEY)
    assert [receipts for _, receipts in server.receipts()] == [(), (), (b"1",), ()]


def test_receipts_of_tolls_behind_an_admission_return_with_the_next_request_too(client, server):
    stub = client()
    for model in ("admission", "admission", "plain"):
        stub.call(BYTES, BYTES.request(model))
    first, paid, second, again, plain = [receipts for _, receipts in server.receipts()]
    assert [bool(first), bool(paid), bool(second), bool(again), bool(plain)] == [False, False, True, False, True]
    assert len(stub.purse.receipts) == 0


def test_receipts_that_no_request_returned_are_posted_at_the_end_with_their_credentials(client, server):
    stub = client()
    keys = (("authorization", "Bearer a"),), KEY
    for metadata in keys:
        stub.call(PROTOBUF, PROTOBUF.request("sealed"), metadata=metadata)
    stub.close()
    posted = server.calls("ServerLive")
    assert {(call.get("authorization"), call.get("x-api-key")) for call in posted} == {("Bearer a", None), (None, "k")}
    assert sorted(server.receipts()[2:]) == [("ServerLive", (b"1",)), ("ServerLive", (b"2",))]
    assert len(stub.purse.receipts) == 0


def test_a_post_returns_as_many_receipts_as_metadata_may_hold(client, server):
    stub = client()
    stub.call(BYTES, BYTES.request("sealed"))
    (held,) = stub.purse.receipts.take_for_request(*account_of(stub))
    for number in range(20):
        stub.purse.receipts.add(held.account, held.path, b"%d" % number, held.owner)
    stub.close()
    assert [len(receipts) for method, receipts in server.receipts() if method == "ServerLive"] == [16, 4]
    assert len(stub.purse.receipts) == 0


def account_of(stub):
    """The account of a client without credentials, and the path of its calls."""
    return next(iter(stub.purse.receipts._held)), messages.MODEL_INFER


def test_receipts_that_a_refused_request_carried_return_again(client, server):
    def refuse(_request, _metadata, context):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such input")

    stub = client()
    server.served["refused"] = refuse
    stub.call(BYTES, BYTES.request("sealed"))
    with pytest.raises(grpc.RpcError) as refused:
        stub.call(BYTES, BYTES.request("refused"))
    error: Any = refused.value
    assert not isinstance(error, TollError)
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "no such input")
    stub.call(BYTES, BYTES.request("plain"))
    assert [receipts for _, receipts in server.receipts()] == [(), (b"1",), (b"1",)]


def test_a_call_that_must_pay_for_admission_first_returns_the_receipts_that_it_has(client, server):
    stub = client()
    stub.call(BYTES, BYTES.request("sealed"))
    server.served["once"] = lambda request, metadata, context: (
        server.plain(request, metadata, context)
        if len(server.calls()) > 2
        else server.admission(request, metadata, context)
    )
    stub.call(BYTES, BYTES.request("sealed"), metadata=KEY)
    stub.call(BYTES, BYTES.request("once"))
    assert not any("toll-proof-bin" in call for call in server.calls())


@pytest.mark.parametrize("style", ["future", "aio"])
def test_cancelling_stops_the_work(server, style):
    server.evaluations, begun = 2**40, threading.Event()
    with STYLES[style](server.address, style, (), max_seconds=1e9, progress=lambda *_: begun.set()) as stub:
        if style == "future":
            future = stub.channel.unary_unary(messages.MODEL_INFER).future(BYTES.request("sealed"))
            called = threading.Event()
            future.add_done_callback(lambda _: called.set())
            assert begun.wait(10)
            assert not future.done()
            assert future.cancel()
            assert called.wait(1)
            assert future.cancelled()
            assert future.code() is grpc.StatusCode.CANCELLED
            assert not future.cancel()
            with pytest.raises(grpc.FutureCancelledError):
                future.result()
        else:
            cancelled = stub.run(_cancelled_call(stub, begun))
            assert cancelled
        assert stub.purse.payments == ()


async def _cancelled_call(stub, begun):
    call = stub.channel.unary_unary(messages.MODEL_INFER)(BYTES.request("sealed"))
    task = asyncio.ensure_future(_awaited(call))
    await asyncio.to_thread(begun.wait, 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return call.cancelled()


async def _awaited(call):
    return await call


def test_the_deadline_of_a_call_ends_its_work(client, server):
    server.evaluations = 2**40
    with pytest.raises(SolveStopped, match="longer timeout") as late:
        client(max_seconds=1e9).call(BYTES, BYTES.request("sealed"), timeout=0.3)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_future_waits_no_longer_than_it_is_told(server):
    server.evaluations = 2**40
    with Blocking(server.address, "future", (), max_seconds=1e9) as stub:
        future = stub.channel.unary_unary(messages.MODEL_INFER).future(BYTES.request("sealed"))
        with pytest.raises(grpc.FutureTimeoutError):
            future.result(timeout=0.05)
        assert future.running()
        assert future.is_active()
        future.cancel()


HOSTILE = {
    "no JSON": (lambda server, request: inline(server.make(Answer(200, "x/y", b"")), request, "toll!"), None),
    "another version": (
        lambda server, request: inline(server.make(Answer(200, "x/y", b"")), request, '{"v": 3, "mode": "sealed"}'),
        TollMalformed,
    ),
    "a seal of something else": (
        lambda server, request: inline(server.make(Answer(200, "x/y", b"\xff\xff\xff")), request),
        SealBroken,
    ),
    "a sealed error": (lambda server, request: inline(server.make(Answer(500, "x/y", b"")), request), SealBroken),
    "admission for ever": (lambda server, request: inline(server.admission_toll(request), request), SealBroken),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_gets_an_error_and_bounded_work(client, server, name):
    respond, error = HOSTILE[name]
    server.served["hostile"] = lambda request, _metadata, _context: respond(server, request)
    stub = client()
    if error is None:
        answer, _ = stub.call(PROTOBUF, PROTOBUF.request("hostile"))
        assert answer.parameters["toll"].string_param == "toll!"
        return
    with pytest.raises(error) as raised:
        stub.call(PROTOBUF, PROTOBUF.request("hostile"))
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert len(server.calls()) <= 17


def test_a_payload_that_another_toll_describes_is_not_opened(client, server):
    def swapped(request, _metadata, _context):
        response = inline(server.make(Answer(200, "x/y", b"a")), request)
        response.raw_output_contents[0] = server.make(Answer(200, "x/y", b"b")).payload
        return response

    server.served["swapped"] = swapped
    with pytest.raises(SealBroken):
        client().call(PROTOBUF, PROTOBUF.request("swapped"))


def test_a_models_own_parameter_of_that_name_is_its_answer(client, server):
    def own(request, _metadata, _context):
        answer = answer_to(request)
        answer.parameters["toll"].string_param = '{"v": 2}'
        return answer

    server.served["own"] = own
    answer, _ = client().call(PROTOBUF, PROTOBUF.request("own"))
    assert answer.parameters["toll"].string_param == '{"v": 2}'
    assert answer.outputs


@dataclass(frozen=True)
class _Details(grpc.ClientCallDetails):
    """Call details without the members that came later."""

    method: str
    timeout: float | None
    metadata: tuple


class _Outer(grpc.UnaryUnaryClientInterceptor):
    def intercept_unary_unary(self, continuation, details, request):
        call = continuation(_Details(details.method, details.timeout, (*(details.metadata or ()), *KEY)), request)
        self.code = call.code()
        return call


def test_other_interceptors_work_around_it(server):
    outer = _Outer()
    for style in ("call", "with_call", "future"):
        with Blocking(server.address, style, (outer,)) as stub:
            answer, _ = stub.call(PROTOBUF, PROTOBUF.request("admission"))
            assert answer == expected(PROTOBUF, "admission")
            assert outer.code is grpc.StatusCode.OK
    assert {call["x-api-key"] for call in server.calls()} == {"k"}
    server.evaluations = 2**44
    with Blocking(server.address, "call", (outer,), max_seconds=1.0) as stub, pytest.raises(TollTooDear):
        stub.call(PROTOBUF, PROTOBUF.request("sealed"))


def test_many_calls_at_once_each_get_their_own_answer(server):
    async def run():
        tolls = AioTollInterceptor()
        async with grpc.aio.insecure_channel(server.address, interceptors=[tolls]) as channel, tolls:
            infer = channel.unary_unary(messages.MODEL_INFER, REQUEST.SerializeToString, RESPONSE.FromString)
            requests = [REQUEST(model_name="sealed", raw_input_contents=[b"%d" % n]) for n in range(32)]
            return await asyncio.gather(*map(infer, requests))

    assert [answer.raw_output_contents[0] for answer in asyncio.run(run())] == [b"%d" % n for n in range(32)]
    with Blocking(server.address, "future", ()) as stub:
        infer = stub.channel.unary_unary(messages.MODEL_INFER, REQUEST.SerializeToString, RESPONSE.FromString)
        futures = [infer.future(REQUEST(model_name="admission", raw_input_contents=[b"%d" % n])) for n in range(32)]
        assert [future.result().raw_output_contents[0] for future in futures] == [b"%d" % n for n in range(32)]


def test_a_done_callback_hears_of_every_end(server):
    """Programs such as tritonclient's ``async_infer`` wait for their callback alone."""
    server.served["broken"] = lambda *_: inline(server.make(Answer(500, "x/y", b"")), protobuf_request(REQUEST, "m"))
    with Blocking(server.address, "future", (), max_seconds=1.0) as stub:
        for model, error in {"sealed": None, "plain": None, "broken": SealBroken}.items():
            ended = threading.Event()
            future = stub.channel.unary_unary(messages.MODEL_INFER).future(BYTES.request(model))
            future.add_done_callback(lambda _, ended=ended: ended.set())
            assert ended.wait(10), model
            assert error is None or isinstance(future.exception(), (error, grpc.RpcError))
            assert (future.exception() is None) == (error is None)
            assert future.done()
            assert not future.add_callback(ended.set)
