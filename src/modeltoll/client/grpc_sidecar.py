"""The gRPC sidecar: a local proxy that pays the tolls of one API for programs in any language.

It passes every method of its upstream on, unary calls and streams alike, as bytes, with their metadata, deadlines and status
details. ``ModelInfer`` pays. API keys are passed on, and kept only as long as a receipt is to be returned with them. Browsers
do not speak gRPC over plain HTTP/2, so that no web page can use it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from modeltoll.client.grpc import AioTollInterceptor
from modeltoll.client.grpc_exchange import is_priced
from modeltoll.client.purse import Purse
from modeltoll.client.sidecar_metrics import SidecarMetrics
from modeltoll.errors import SettingsError, TollError

__all__ = ["grpc_target", "serve_grpc"]

_NOT_FORWARDED = frozenset(
    (
        "accept-encoding",
        "content-type",
        "grpc-accept-encoding",
        "grpc-encoding",
        "grpc-timeout",
        "host",
        "te",
        "user-agent",
    )
)
_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_SERVER_OPTIONS = [*_UNLIMITED, ("grpc.so_reuseport", 0)]  # two sidecars must not share an address unseen
_GRACE_SECONDS = 5.0
_OF_GRPC_ITSELF = "Internal error from Core"
_STATUS_LOOKS, _STATUS_SECONDS = 10, 0.02  # for the server's status behind that
_PORTS = {"grpc": 80, "grpcs": 443}


def grpc_target(text: str) -> tuple[str, bool]:
    """The target (``host:port``) and whether it has TLS, from the option ``--upstream``.

    Raises:
        SettingsError: not a grpc or grpcs URL of a host, or it has anything else but a port.
    """
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise SettingsError([f"--upstream: {text!r} is not a URL"]) from None
    if url.scheme not in _PORTS or not url.hostname:
        raise SettingsError([f"--upstream: {text!r} is not a grpc:// or grpcs:// URL, which --grpc needs"])
    if url.username or url.password or url.path.strip("/") or url.query or url.fragment:
        raise SettingsError([f"--upstream: {text!r} has more than a host and a port; leave the rest out"])
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{host}:{port or _PORTS[url.scheme]}", url.scheme == "grpcs"


def _forwarded(metadata: Any) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((key, value) for key, value in metadata or () if key not in _NOT_FORWARDED)


class _Sidecar(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Handles every method. ``ModelInfer`` is a unary call; all others are streams, as which unary calls pass, too."""

    def __init__(self, channel: Any, metrics: SidecarMetrics) -> None:
        self._channel = channel
        self._metrics = metrics

    def service(self, handler_call_details: Any) -> Any:
        method: str = handler_call_details.method
        if is_priced(method):
            return grpc.unary_unary_rpc_method_handler(partial(self._infer, method))
        return grpc.stream_stream_rpc_method_handler(partial(self._pass, method))

    async def _infer(self, method: str, body: bytes, context: Any) -> bytes:
        outcome, failure, response = "failed", None, b""
        call = self._channel.unary_unary(method)(
            body, timeout=context.time_remaining(), metadata=_forwarded(context.invocation_metadata())
        )
        try:
            response = await call
            outcome = "answered"
        except grpc.aio.AioRpcError as error:
            outcome, failure = "refused" if isinstance(error, TollError) else "failed", error
        finally:
            self._metrics.record_request(outcome)
        if failure is not None:
            await context.send_initial_metadata(_forwarded(failure.initial_metadata()))
            await _abort(context, failure.code(), failure.details(), failure.trailing_metadata())
        await context.send_initial_metadata(_forwarded(await call.initial_metadata()))
        context.set_trailing_metadata(_forwarded(await call.trailing_metadata()))
        return response

    async def _pass(self, method: str, bodies: AsyncIterator[bytes], context: Any) -> None:
        outcome = "failed"
        call = self._channel.stream_stream(method)(
            bodies, timeout=context.time_remaining(), metadata=_forwarded(context.invocation_metadata())
        )
        status = _ServerStatus(call)
        try:
            await context.send_initial_metadata(_forwarded(await call.initial_metadata()))
            with suppress(grpc.aio.AioRpcError):
                while (response := await call.read()) is not grpc.aio.EOF:
                    await context.write(response)
            code, details, trailing = await status.get()
            if code is not grpc.StatusCode.OK:
                await _abort(context, code, details, trailing)
            outcome = "answered"
            context.set_trailing_metadata(_forwarded(trailing))
        finally:
            call.cancel()
            self._metrics.record_request(outcome)


class _ServerStatus:
    """The status that a server gave to a stream.

    grpc.aio replaces it by INTERNAL where the server ended the stream before the request was written
    (https://github.com/grpc/grpc/issues/36066). Done callbacks see it before that, or after it.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._seen: list[tuple[grpc.StatusCode, str, Any]] = []
        call.add_done_callback(self._see)

    def _see(self, call: Any) -> None:
        self._seen.append((_ready(call.code()), _ready(call.details()), _ready(call.trailing_metadata())))

    async def get(self) -> tuple[grpc.StatusCode, str, Any]:
        """Status code, details and trailing metadata."""
        await self._call.code()
        for _ in range(_STATUS_LOOKS):
            for status in self._seen:
                if status[1] != _OF_GRPC_ITSELF:
                    return status
            await asyncio.sleep(_STATUS_SECONDS)
        return self._seen[-1]


def _ready(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that need not wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("the call has not ended")


async def _abort(context: Any, code: grpc.StatusCode, details: str | None, trailing: Any) -> None:
    """End the program's call with this status, its details in ``grpc-status-details-bin`` too."""
    await context.abort(code, details or "", _forwarded(trailing))


async def serve_grpc(
    upstream: tuple[str, bool], listen: str, purse: Purse, metrics: SidecarMetrics, ready: Callable[[int], None]
) -> None:
    """Serve until SIGINT or SIGTERM, then give running calls 5 seconds to end.

    Args:
        upstream: from ``grpc_target``.
        listen: address and port; port 0 is any free one.
        purse: what pays.
        metrics: counts calls.
        ready: is called with the port once the server accepts connections.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    interceptor = AioTollInterceptor(purse=purse)
    async with _channel(upstream, [interceptor]) as channel, interceptor:
        server = grpc.aio.server(handlers=[_Sidecar(channel, metrics)], options=_SERVER_OPTIONS)
        try:
            port = server.add_insecure_port(listen)
        except RuntimeError:
            raise SettingsError([f"--listen: cannot listen on {listen}; choose another address"]) from None
        await server.start()
        try:
            ready(port)
            await stopped.wait()
        finally:
            await server.stop(_GRACE_SECONDS)


def _channel(upstream: tuple[str, bool], interceptors: Iterable[Any]) -> Any:
    target, tls = upstream
    if tls:
        credentials = grpc.ssl_channel_credentials()
        return grpc.aio.secure_channel(target, credentials, options=_UNLIMITED, interceptors=list(interceptors))
    return grpc.aio.insecure_channel(target, options=_UNLIMITED, interceptors=list(interceptors))
