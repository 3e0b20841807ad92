"""Serves the gateway's gRPC side: one server per process, in which reloads replace the gateway behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from modeltoll.errors import SettingsError
from modeltoll.gateway.grpc.call import GrpcCall
from modeltoll.gateway.upstream.hang_up import caller_present
from modeltoll.open_inference_messages import FILE, SERVICE
from modeltoll.port_owner import taken_by

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from modeltoll.gateway.grpc.outcome import Outcome

__all__ = ["GrpcListener", "GrpcServer", "reserved_port"]

_MAX_METADATA_BYTES = 32 << 10  # a token takes 3 KiB, 16 receipts 2 KiB
_ABSOLUTE_METADATA_BYTES = 64 << 10
_FRAMING_BYTES = 1024  # of a message that is too large, for the gateway to refuse it itself
_IDENTITY_ONLY = 1  # a bit set of compressions: a compressed message could be of any size
_STREAMS = 256  # calls on one connection
_IDLE_MS = 600_000  # of a connection without a call; clients connect again of themselves
_HANDSHAKE_MS = 20_000  # of a connection that says nothing


@dataclass(frozen=True, slots=True)
class GrpcListener:
    """Where the gRPC side listens. ``shared``: other processes of this gateway listen there, too.

    ``serves`` says whether a method is known, ``handle`` handles a call of one. ``max_message`` is in bytes.
    """

    address: str
    serves: Callable[[str], bool]
    handle: Callable[[GrpcCall], Awaitable[Outcome]]
    max_message: int
    shared: bool = False


@contextlib.contextmanager
def reserved_port(address: str) -> Iterator[str]:
    """Keep a port for several processes while the block lasts; yields the address, in which the port is not 0.

    Raises:
        SettingsError: it cannot be listened on.
    """
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            kept.bind((host.strip("[]"), int(port)))
        except OSError:
            raise _cannot_listen(address) from None
        yield f"{host}:{kept.getsockname()[1]}"


class GrpcServer:
    """A server with the service of the Open Inference Protocol, the standard health service and reflection."""

    def __init__(self, listener: GrpcListener) -> None:
        self._listener = listener
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen, and serve from now on.

        Raises:
            SettingsError: the address cannot be listened on.
        """
        listener = self._listener
        self._server = server = grpc.aio.server(options=_options(listener))
        server.add_generic_rpc_handlers((_Methods(listener),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server, pool=_described())
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        try:
            self.port = server.add_insecure_port(listener.address)
        except RuntimeError:
            raise _cannot_listen(listener.address) from None
        await server.start()

    async def drain(self) -> None:
        """Report that the gateway does not serve, and serve on."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, seconds: float) -> None:
        """Take no more calls, and wait so long for those that are handled; those that are left are cancelled."""
        if self._server is not None:
            await self._server.stop(seconds or None)


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Every call of a method that is served, whatever its messages are."""

    def __init__(self, listener: GrpcListener) -> None:
        self._listener = listener

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """A handler that reads its message itself, within limits, and sends one."""
        method: str = handler_call_details.method
        if not self._listener.serves(method):
            return None

        async def handle(_: object, context: grpc.aio.ServicerContext) -> bytes:
            return await self._handle(method, context)

        return grpc.stream_unary_rpc_method_handler(handle)

    async def _handle(self, method: str, context: grpc.aio.ServicerContext) -> bytes:
        async def read() -> bytes | None:
            message: Any = await context.read()
            return None if message is grpc.aio.EOF else message

        metadata = tuple((str(name), value) for name, value in context.invocation_metadata() or ())
        call = GrpcCall(method, metadata, context.peer(), read, context.time_remaining())
        outcome = await _until_done(self._listener.handle, call)
        if outcome.code is not grpc.StatusCode.OK:
            await context.abort(outcome.code, outcome.details, outcome.trailing)
        if outcome.trailing:
            context.set_trailing_metadata(outcome.trailing)
        return outcome.message


async def _until_done(handle: Callable[[GrpcCall], Awaitable[Outcome]], call: GrpcCall) -> Outcome:
    """The outcome of a call. Where the call is cancelled, the model server is no longer asked, and the rest is done.

    A step of the ledger must not be cut off: a task of its own handles the call.
    """
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with caller_present(gone):
        handling = asyncio.ensure_future(handle(call))
    try:
        return await asyncio.shield(handling)
    finally:
        if not handling.done():
            gone.set_result(None)
            handling.add_done_callback(_retrieve)


def _retrieve(handling: asyncio.Future[Outcome]) -> None:
    """Keep asyncio from logging what nobody waits for any more."""
    if not handling.cancelled():
        handling.exception()


def _options(listener: GrpcListener) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.max_receive_message_length", listener.max_message + _FRAMING_BYTES),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _ABSOLUTE_METADATA_BYTES),
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
        ("grpc.max_concurrent_streams", _STREAMS),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.so_reuseport", int(listener.shared)),
    )


def _described() -> DescriptorPool:
    """What reflection describes: the protocol's own file, and those of the standard services."""
    pool = DescriptorPool()
    pool.Add(FILE)
    for module in (health_pb2, reflection_pb2):
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        pool.Add(file)
    return pool


def _cannot_listen(address: str) -> SettingsError:
    return SettingsError([f"listen_grpc: cannot listen on {address}: {taken_by(address)}; choose another"])
