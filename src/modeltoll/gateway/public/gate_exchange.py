"""One request at its gate over HTTP: its response, or what of a stream has to be sent before everything is there."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from modeltoll.errors import CallerGone
from modeltoll.gateway.core.upstream_steps import LiveAnswer
from modeltoll.gateway.public.disconnect import watching_caller
from modeltoll.gateway.public.request_notes import RequestNotes
from modeltoll.gateway.public.responses import late_problem, result_response, toll_body
from modeltoll.gateway.public.streaming import EarlyHead, LiveSender

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Send

    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.core.request import GateRequest
    from modeltoll.gateway.observability.metrics import GatewayMetrics

__all__ = ["GateExchange"]

log = logging.getLogger("modeltoll.gateway")


class GateExchange:
    """One request to a gate, whose last byte has just come."""

    def __init__(
        self, gate: Gate, metrics: GatewayMetrics, white_space_seconds: float, http_request: Request, send: Send
    ) -> None:
        """``white_space_seconds``: see ``EarlyHead``."""
        self.gate = gate
        self._http_request, self._send = http_request, send
        self._noted = RequestNotes(metrics, gate.config.served_model.service.model, http_request.scope)
        self._early = EarlyHead(send, self._noted.model, white_space_seconds)
        self.on_first_event = partial(self._noted.first_event, self._early)  # of the ``GateRequest``

    async def response(self, request: GateRequest) -> Response | None:
        """The response; None where all of it was sent, since a part of it could not wait for the rest.

        Raises:
            As ``Gate.handle``, as long as nothing was sent.
        """
        config, scope = self.gate.config, self._http_request.scope
        noted, early = self._noted, self._early
        with watching_caller(self._http_request):
            try:
                handled = await self.gate.handle(request)
                if isinstance(handled, LiveAnswer):
                    await self._pass_events(handled)
                    return None
                result = handled
                noted.set_result(result)
                if await early.stop():
                    body = await toll_body(await self.gate.with_least_toll(request, result), config, scope)
            except Exception as error:
                if not await early.stop():
                    raise
                if isinstance(error, CallerGone):
                    return None
                body = late_problem(config, noted.set_error(error))
            finally:
                early.cancel()
        if not early.is_out:
            return await result_response(result, config, scope)
        await early.end(body)
        return None

    async def _pass_events(self, live: LiveAnswer) -> None:
        """Send a stream that nobody pays for. What happens to it is noted when it has ended."""
        config, noted = self.gate.config, self._noted
        try:
            await LiveSender(self._send, config.served_model.protocol, config.receipt_text, noted.first_event).send_all(
                live
            )
        except CallerGone:
            log.debug("a caller has left before the end of a stream")
        except Exception as error:  # noqa: BLE001  the caller has been told
            noted.set_error(error)
        if live.result is not None:
            noted.set_result(live.result)
