"""Interceptors for grpc and grpc.aio that pay the tolls of the Open Inference Protocol's ``ModelInfer``.

    stub = GRPCInferenceServiceStub(grpc.intercept_channel(channel, TollInterceptor(max_seconds=30)))

They work with the messages of any stub, among them those of tritonclient.grpc and of kserve. For clients that make their
channel themselves there is ``pay_tolls``. Needs the extra ``grpc``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from modeltoll.client.grpc_aio import AioTollInterceptor
from modeltoll.client.grpc_blocking import TollInterceptor
from modeltoll.client.purse import Purse

__all__ = ["AioTollInterceptor", "TollInterceptor", "pay_tolls"]


def pay_tolls(client: Any, max_seconds: float = 30.0, *, purse: Purse | None = None) -> None:
    """Let a client pay tolls that makes its channel itself, before its first call.

    For ``InferenceServerClient`` of tritonclient.grpc and of tritonclient.grpc.aio, ``InferenceGRPCClient`` of kserve, and
    others that keep a channel and a generated stub as ``_channel`` and ``_client_stub``. ``client.close()`` then posts the
    receipts that are left, before it closes the channel.

    Args:
        client: the client.
        max_seconds, purse: see ``TollInterceptor``.

    Raises:
        TypeError: the client is none of these.
    """
    channel, stub = getattr(client, "_channel", None), getattr(client, "_client_stub", None)
    if stub is not None and isinstance(channel, grpc.Channel):
        blocking = TollInterceptor(max_seconds, purse=purse)
        client._client_stub = type(stub)(grpc.intercept_channel(channel, blocking))  # noqa: SLF001  it takes no interceptor
        client.close = _closing_after(blocking.close, client.close)
        return
    interceptors = getattr(channel, "_unary_unary_interceptors", None)
    if stub is not None and isinstance(channel, grpc.aio.Channel) and isinstance(interceptors, list):
        asynchronous = AioTollInterceptor(max_seconds, purse=purse)
        interceptors.append(asynchronous)  # grpc.aio takes interceptors only with a new channel
        client.close = _closing_after_async(asynchronous.close, client.close)
        return
    raise TypeError(
        f"{type(client).__name__} keeps no gRPC channel that is known here; give the interceptor to its channel instead"
    )


def _closing_after(first: Callable[[], None], close: Callable[[], Any]) -> Callable[[], Any]:
    def closing() -> Any:
        first()
        return close()

    return closing


def _closing_after_async(first: Callable[[], Any], close: Callable[[], Any]) -> Callable[[], Any]:
    async def closing() -> Any:
        await first()
        return await close()

    return closing
