"""Handles the calls of the Open Inference Protocol over gRPC. A method that is not listed is refused."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from modeltoll import wire
from modeltoll.errors import AnswerError, ModeltollError, RequestError
from modeltoll.gateway.core.request import SHADOW, GateRequest
from modeltoll.gateway.core.tolls import paid_by_digest
from modeltoll.gateway.core.upstream_steps import LiveAnswer
from modeltoll.gateway.grpc.addressing import target_of
from modeltoll.gateway.grpc.outcome import Outcome, error_outcome, message_outcome, toll_message, toll_trailer
from modeltoll.gateway.observability.request_log import fields_of
from modeltoll.gateway.protocols.oip_conversions import message_of_metadata
from modeltoll.gateway.protocols.oip_messages import parsed_request
from modeltoll.gateway.public.request_head import metadata_head
from modeltoll.gateway.public.request_notes import RequestNotes, note_error
from modeltoll.gateway.threads import LARGE_BYTES, off_loop
from modeltoll.gateway.upstream.deadline import caller_waits
from modeltoll.open_inference_messages import (
    CONTENT_TYPE,
    MODEL_INFER,
    MODEL_METADATA,
    MODEL_READY,
    MODEL_STREAM_INFER,
    SERVER_LIVE,
    SERVER_METADATA,
    SERVER_READY,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import Scope

    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.core.request import GateResult, GateRuntime
    from modeltoll.gateway.grpc.call import GrpcCall
    from modeltoll.gateway.grpc.reading import MessageReader
    from modeltoll.gateway.observability.metrics import GatewayMetrics
    from modeltoll.gateway.observability.request_log import RequestRecorder
    from modeltoll.gateway.public.ingress import Ingress
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.records import Answer, Caller

__all__ = ["GrpcApplication", "GrpcComponents"]

log = logging.getLogger("modeltoll.gateway")

_SMALL_BYTES = 4096  # of the messages that ask for no prediction
_OK = 200


@dataclass(frozen=True, slots=True)
class GrpcComponents:
    """What the application needs. ``gates``, one or more, are by the names of their models; they take messages."""

    gates: Mapping[str, Gate]
    upstream: Upstream
    ingress: Ingress
    reader: MessageReader
    metrics: GatewayMetrics
    runtime: GateRuntime
    recorder: RequestRecorder


class GrpcApplication:
    """Handles calls, whichever server hands them over."""

    def __init__(self, components: GrpcComponents) -> None:
        self._components = components
        self._any_gate = next(iter(components.gates.values()))
        self._methods: Mapping[str, Callable[[GrpcCall, Scope], Awaitable[Outcome]]] = {
            MODEL_INFER: self._infer,
            MODEL_STREAM_INFER: self._refuse_stream,
            SERVER_LIVE: self._state(ServerLiveResponse),
            SERVER_READY: self._state(ServerReadyResponse),
            MODEL_READY: self._model_ready,
            SERVER_METADATA: self._server_metadata,
            MODEL_METADATA: self._model_metadata,
        }

    def serves(self, method: str) -> bool:
        """Whether a method is known here. All others are unimplemented."""
        return method in self._methods

    async def __call__(self, call: GrpcCall) -> Outcome:
        """Handle a call of a method that is served."""
        scope, metrics = call.scope, self._components.metrics
        with self._components.recorder.recording(scope) as note_status:
            fields_of(scope).route = call.method
            try:
                outcome = await self._methods[call.method](call, scope)
            except Exception as error:  # noqa: BLE001  nothing of it may reach the caller but what is public
                outcome = self._failure(error, scope)
            note_status(outcome.status)
        metrics.count_grpc_call(call.method.rpartition("/")[2], outcome.code.name)
        return outcome

    def _failure(self, error: Exception, scope: Scope) -> Outcome:
        if not isinstance(error, ModeltollError):  # a bug
            log.error("a call failed", exc_info=error)
        return error_outcome(note_error(self._components.metrics, scope, error))

    def _identify(self, call: GrpcCall, scope: Scope) -> Caller:
        """The caller; its name is noted for the audit log."""
        call.check()
        caller = self._components.ingress.policy.identifier.identify(call.identity())
        fields_of(scope).caller = caller.name
        return caller

    async def _infer(self, call: GrpcCall, scope: Scope) -> Outcome:
        """A prediction: through the gate of its model."""
        caller, components = self._identify(call, scope), self._components
        policy = components.ingress.policy
        with components.ingress.place(caller.name) as holding:
            body = await components.reader.read(call, caller.name, policy.max_body, holding)
            message = await off_loop(len(body) > LARGE_BYTES, parsed_request, body)
            target = target_of(components.gates, message.model_name, message.model_version)
            accept = replace(call.accept(), mode=wire.SEALED)
            sealed = accept.receipts and wire.SEALED in target.gate.config.selector.modes
            request = GateRequest(
                caller,
                f"{target.path}/infer",
                body,
                accept,
                CONTENT_TYPE,
                call.receipts(),
                head=metadata_head(call.headers, policy.request_headers),
                unread=target.unread,
                # The model server might take a message that cannot be read here for one to another model.
                must_be_read=any(gate.config.mode != SHADOW for gate in components.gates.values()),
                by_digest=True,
                whole_price=not sealed,
            )
            named = (message.model_name, message.id)
            del message
            request = await self._with_payment(request, target.gate, call.proof())
            result = await self._handle(target.gate, request, call, scope)
        return _outcome(target.gate, result, named, accept_receipts=accept.receipts)

    async def _with_payment(self, request: GateRequest, gate: Gate, proof: bytes | None) -> GateRequest:
        if proof is None:
            return request
        model, runtime = gate.config.served_model.service.model, self._components.runtime
        payment = await off_loop(len(request.body) > LARGE_BYTES, paid_by_digest, runtime, model, request, proof)
        self._components.metrics.count_redemption()
        return replace(request, payment=payment)

    async def _handle(self, gate: Gate, request: GateRequest, call: GrpcCall, scope: Scope) -> GateResult:
        noted = RequestNotes(self._components.metrics, gate.config.served_model.service.model, scope)
        with caller_waits(call.seconds_left):
            result = await gate.handle(request)
        if isinstance(result, LiveAnswer):  # no client asks for events here
            await result.close()
            raise AnswerError("the model server answers with a stream of events, which cannot be written as a message")
        noted.set_result(result)
        return result

    async def _refuse_stream(self, call: GrpcCall, scope: Scope) -> Outcome:
        self._identify(call, scope)
        text = "ModelStreamInfer is not served here: ask with ModelInfer, one request a call"
        return Outcome(grpc.StatusCode.UNIMPLEMENTED, details=text, status=501)

    async def _asked(self, call: GrpcCall, scope: Scope, kind: Any = None) -> tuple[Answer, str]:
        """The model server's answer to a call that asks for no prediction, at the path of the same over HTTP.

        ``kind``: of a message that names a model. Receipts that come with the call are counted.
        """
        caller, components = self._identify(call, scope), self._components
        with components.ingress.place(caller.name) as holding:
            body = await components.reader.read(call, caller.name, _SMALL_BYTES, holding)
            if receipts := call.receipts():
                await self._any_gate.settle(caller, receipts)
            path, gate = _PATHS.get(call.method, ""), self._any_gate
            if kind is not None:
                message = _parsed(kind, body)
                target = target_of(components.gates, message.name, message.version)
                path, gate = target.path + path, target.gate
            head = metadata_head(call.headers, components.ingress.policy.request_headers)
            with caller_waits(call.seconds_left):
                answer = await components.upstream.fetch(path, head)
        return gate.refused_answers.check_passing(answer, path), path

    def _state(self, kind: Any) -> Callable[[GrpcCall, Scope], Awaitable[Outcome]]:
        name = kind.DESCRIPTOR.fields[0].name

        async def state(call: GrpcCall, scope: Scope) -> Outcome:
            answer, _ = await self._asked(call, scope)
            return message_outcome(kind(**{name: answer.status == _OK}).SerializeToString())

        return state

    async def _model_ready(self, call: GrpcCall, scope: Scope) -> Outcome:
        answer, _ = await self._asked(call, scope, ModelReadyRequest)
        return message_outcome(ModelReadyResponse(ready=answer.status == _OK).SerializeToString())

    async def _server_metadata(self, call: GrpcCall, scope: Scope) -> Outcome:
        return self._described(ServerMetadataResponse, *await self._asked(call, scope))

    async def _model_metadata(self, call: GrpcCall, scope: Scope) -> Outcome:
        return self._described(ModelMetadataResponse, *await self._asked(call, scope, ModelMetadataRequest))

    def _described(self, kind: Any, answer: Answer, path: str) -> Outcome:
        answer = self._any_gate.refused_answers.check(answer, path)
        return message_outcome(message_of_metadata(kind, answer.body), headers=answer.headers)


_PATHS = {  # of HTTP; of a model, behind its own path
    SERVER_LIVE: "/v2/health/live",
    SERVER_READY: "/v2/health/ready",
    SERVER_METADATA: "/v2",
    MODEL_READY: "/ready",
}


def _parsed(kind: Any, body: bytes) -> Any:
    try:
        return kind.FromString(body)
    except DecodeError:
        raise RequestError(f"the call's message is not a {kind.DESCRIPTOR.name}") from None


def _outcome(gate: Gate, result: GateResult, named: tuple[str, str], *, accept_receipts: bool) -> Outcome:
    """What a caller gets. A client that announces itself finds tolls in messages."""
    if result.toll is not None:
        return toll_message(result.toll, named, result.headers) if accept_receipts else toll_trailer(result.toll)
    answer = result.answer
    assert answer is not None  # a result without a toll has an answer
    if answer.content_type != CONTENT_TYPE:
        raise AnswerError("the model server's answer cannot be written as a message", private=answer.content_type)
    return message_outcome(answer.body, gate.config.receipt_text(result), result.headers)
