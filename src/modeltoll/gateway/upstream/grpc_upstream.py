"""A client of a model server that speaks the Open Inference Protocol over gRPC; what it is asked may be HTTP's."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import msgspec

from modeltoll.errors import AnswerTooLarge, UpstreamError, UpstreamTimeout
from modeltoll.gateway.protocols.oip_conversions import json_of_answer, json_of_metadata, message_of_request
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.threads import LARGE_BYTES, off_loop
from modeltoll.gateway.upstream.answer_headers import passed_headers
from modeltoll.gateway.upstream.deadline import seconds_left
from modeltoll.gateway.upstream.upstream import NO_HEAD, convert_answer, streamed_whole
from modeltoll.open_inference_messages import (
    CONTENT_TYPE,
    MODEL_INFER,
    MODEL_METADATA,
    MODEL_READY,
    REPOSITORY_INDEX,
    SERVER_LIVE,
    SERVER_METADATA,
    SERVER_READY,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from modeltoll.records import Answer

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from modeltoll.gateway.upstream.upstream import AnswerStream, RequestHead

__all__ = ["GrpcOptions", "GrpcUpstream", "channel_credentials", "is_text_key"]

_INDEX = "/v2/repository/index"
_PATH = re.compile(r"/v2/models/(?P<model>[^/]+(?:/[^/]+)*?)(?:/versions/(?P<version>[^/]+))?(?P<what>/infer|/ready|)")
_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNIMPLEMENTED: 405,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
}
_FAILED = 500
_CHANNEL = (
    ("grpc.enable_http_proxy", 0),  # as for a server over HTTP
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),  # a server that comes back is asked soon
    ("grpc.max_send_message_length", -1),
)
_BUNDLES = ("ca-certificates.crt", "ca-bundle.crt")  # in the folder of the system's certificates
_TEXT_KEY = re.compile(r"(?!grpc-)[a-z0-9_.-]+(?<!-bin)")


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """``credentials``: of a channel with TLS; None for one without. ``answer_headers``: as of ``HttpOptions``."""

    credentials: grpc.ChannelCredentials | None = None
    answer_headers: tuple[str, ...] = ()


_DEFAULT_OPTIONS = GrpcOptions()


def channel_credentials(ca_file: Path | None, certificate: Path | None, key: Path | None) -> grpc.ChannelCredentials:
    """The certificates (PEM) of a channel with TLS.

    ``ca_file``: None for the authorities of the system, as over HTTP. ``key``: of the certificate; None where it is in the
    same file.
    """
    shown = None if certificate is None else certificate.read_bytes()
    private = (key or certificate).read_bytes() if certificate is not None else None
    authorities = ca_file or _system_authorities()
    return grpc.ssl_channel_credentials(None if authorities is None else authorities.read_bytes(), private, shown)


def _system_authorities() -> Path | None:
    """The file of the system's authorities, or what ``SSL_CERT_FILE`` names; None where there is none.

    grpcio would take those that it brings along, among which an operator's own authority is not.
    """
    paths = ssl.get_default_verify_paths()  # without files and folders that are not there
    found = [Path(paths.cafile)] if paths.cafile else []
    found += [Path(paths.capath, name) for name in _BUNDLES] if paths.capath else []
    return next((one for one in found if one.is_file()), None)


class GrpcUpstream:
    """A gRPC server at ``target`` (``HOST:PORT``), over one channel.

    ``timeout`` is in seconds, for one call; where the caller waits less long, the server is told that. ``max_body`` bounds
    an answer in bytes. ``headers``: as of ``HttpUpstream``; they are sent as metadata.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float = 30.0,
        max_body: int = 64 << 20,
        headers: Callable[[], Mapping[str, str]] = dict,
        options: GrpcOptions = _DEFAULT_OPTIONS,
    ) -> None:
        self._target = target
        self._timeout = timeout
        self._max_body = max_body
        self._headers = headers
        self._options = options
        self._channel: grpc.aio.Channel | None = None

    async def open(self) -> None:
        """Make the channel; it connects on demand."""
        options = (*_CHANNEL, ("grpc.max_receive_message_length", self._max_body))
        if self._options.credentials is None:
            self._channel = grpc.aio.insecure_channel(self._target, options)
        else:
            self._channel = grpc.aio.secure_channel(self._target, self._options.credentials, options)

    async def close(self) -> None:
        """Close the channel."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``. A message is answered by a message, JSON by JSON. Raises ``RequestError``, too.

        The list of models is a POST as well; no caller's request has its path.
        """
        if path == _INDEX:
            return await self._index(head)
        match = _PATH.fullmatch(path)
        if match is None or match["what"] != "/infer":
            return _error(404, "there is no such path")
        if content_type == CONTENT_TYPE:
            return await self._call(MODEL_INFER, body, head)
        named = (match["model"], match["version"] or "")
        message, raw = await off_loop(len(body) > LARGE_BYTES, message_of_request, named, body, content_type)
        answer = await self._call(MODEL_INFER, message, head)
        if answer.content_type != CONTENT_TYPE:
            return answer
        return replace(await convert_answer(json_of_answer, answer, raw), headers=answer.headers)

    def stream(
        self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD
    ) -> AbstractAsyncContextManager[AnswerStream]:
        """See ``Upstream.stream``; answers come as a whole."""
        return streamed_whole(self.predict(path, body, content_type, head))

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.fetch``: health and metadata, as JSON."""
        match path:
            case "/v2/health/live" | "/":  # the second asks whether a server is there at all
                return await self._state(SERVER_LIVE, b"", ServerLiveResponse, head)
            case "/v2/health/ready":
                return await self._state(SERVER_READY, b"", ServerReadyResponse, head)
            case "/v2":
                return await self._described(SERVER_METADATA, b"", ServerMetadataResponse, head)
        found = _PATH.fullmatch(path)
        if found is None or found["what"] == "/infer":
            return _error(404, "there is no such path")
        named = {"name": found["model"], "version": found["version"] or ""}
        if found["what"] == "/ready":
            body = ModelReadyRequest(**named).SerializeToString()
            return await self._state(MODEL_READY, body, ModelReadyResponse, head)
        body = ModelMetadataRequest(**named).SerializeToString()
        return await self._described(MODEL_METADATA, body, ModelMetadataResponse, head)

    async def _index(self, head: RequestHead) -> Answer:
        answer = await self._call(REPOSITORY_INDEX, RepositoryIndexRequest(ready=True).SerializeToString(), head)
        if answer.content_type != CONTENT_TYPE:
            return answer
        models = [{"name": model.name} for model in RepositoryIndexResponse.FromString(answer.body).models]
        return Answer(200, JSON, msgspec.json.encode(models))

    async def _state(self, method: str, body: bytes, kind: Any, head: RequestHead) -> Answer:
        answer = await self._call(method, body, head)
        if answer.content_type != CONTENT_TYPE:
            return answer
        name = kind.DESCRIPTOR.fields[0].name
        state = bool(answer.body) and getattr(kind.FromString(answer.body), name)
        return Answer(200 if state else 503, JSON, msgspec.json.encode({name: state}))

    async def _described(self, method: str, body: bytes, kind: Any, head: RequestHead) -> Answer:
        answer = await self._call(method, body, head)
        if answer.content_type != CONTENT_TYPE:
            return answer
        return Answer(200, JSON, json_of_metadata(kind, answer.body), answer.headers)

    async def _call(self, method: str, body: bytes, head: RequestHead) -> Answer:
        if self._channel is None:
            raise UpstreamError("the gateway is not open")
        if (left := seconds_left(self._timeout)) <= 0.0:
            raise UpstreamTimeout("the caller no longer waits for the model server")
        metadata = {**head.all_headers, **self._headers()}
        pairs = [(name, value) for name, value in metadata.items() if is_text_key(name)]
        call = self._channel.unary_unary(method)(body, timeout=left, metadata=pairs)
        try:
            answer: bytes = await call
            received = [(name, value) for name, value in await call.initial_metadata() if isinstance(value, str)]
        except grpc.aio.AioRpcError as error:
            return _refusal(error)
        return Answer(200, CONTENT_TYPE, answer, passed_headers(200, received, self._options.answer_headers))


def is_text_key(name: str) -> bool:
    """Whether a header can be metadata. Names that end in ``-bin`` are of bytes, those of ``grpc-`` are the library's."""
    return _TEXT_KEY.fullmatch(name) is not None


def _refusal(error: grpc.aio.AioRpcError) -> Answer:
    """The answer for a status that is not OK, with the server's text.

    Raises:
        UpstreamError, UpstreamTimeout, AnswerTooLarge: the server did not answer, or not in time, or too much.
    """
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        raise UpstreamError("the model server does not answer", private=f"{code.name}: {details}") from None
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise UpstreamTimeout("the model server did not answer in time") from None
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "Received message larger than max" in details:
        raise AnswerTooLarge("the model server's answer is too large", private=details) from None
    return _error(_CODES.get(code, _FAILED), details)


def _error(status: int, text: str) -> Answer:
    return Answer(status, JSON, msgspec.json.encode({"error": text}))
