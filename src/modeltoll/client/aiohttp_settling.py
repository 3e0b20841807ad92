"""Posting of receipts through a session of aiohttp, in the background and when the session closes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, ref

from aiohttp import ClientRequest, ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from modeltoll.client.settling import CLOSE_SECONDS, AsyncSettler

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType

    from modeltoll.client.receipts import Receipts, Settlement

__all__ = ["SessionSettler"]

_MAX_ORIGINS = 1_000  # whose options are kept
_KEPT = frozenset(("host", "accept", "content-type", "content-length", "user-agent"))


class SessionSettler:
    """Posts the receipts of one session, to which it holds no reference. Closing the session posts what is left."""

    def __init__(self, receipts: Receipts, session: ClientSession) -> None:
        self._session = ref(session)
        self._options: dict[str, dict[str, Any]] = {}  # of the last toll of each origin
        self._settler = AsyncSettler(receipts, self._post)
        self.owner = self._settler.owner
        _settle_before_close(session, self._settler)

    def arm(self, request: ClientRequest) -> None:
        """Plan a post, with the options for connections of this request."""
        if len(self._options) >= _MAX_ORIGINS:
            self._options.clear()
        self._options[str(request.url.origin())] = {
            "proxy": request.proxy,
            "proxy_auth": request.proxy_auth,
            "proxy_headers": request.proxy_headers,
            "ssl": request.ssl,
            "server_hostname": request.server_hostname,
        }
        self._settler.arm()

    async def _post(self, settlement: Settlement) -> int:
        session = self._session()
        if session is None:
            return 0

        async def with_credentials(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
            """Only the account's headers, and not those of the session or its cookies."""
            for name in [name for name in request.headers if name.lower() not in _KEPT]:
                request.headers.popall(name, None)
            request.headers.update(settlement.headers)
            return await handler(request)

        async with session.post(
            URL(settlement.url, encoded=True),
            data=settlement.body,
            middlewares=(with_credentials,),
            allow_redirects=False,
            raise_for_status=False,
            timeout=ClientTimeout(total=CLOSE_SECONDS),
            **self._options.get(settlement.account.origin, {}),
        ) as response:
            return response.status


class _SettlingClose:
    """The ``close`` of one session, which posts receipts first. It holds no reference to the session."""

    def __init__(self, session: ClientSession) -> None:
        self.settlers: WeakSet[AsyncSettler] = WeakSet()
        self._session = ref(session)

    async def __call__(self) -> None:
        session = self._session()
        assert session is not None  # it is being closed
        try:
            await asyncio.gather(*[settler.close() for settler in self.settlers])
        finally:
            await type(session).close(session)


def _settle_before_close(session: ClientSession, settler: AsyncSettler) -> None:
    """Let ``session.close()`` post receipts first. aiohttp tells a middleware nothing of a session's end."""
    close = session.__dict__.get("close")
    if not isinstance(close, _SettlingClose):
        close = _SettlingClose(session)
        object.__setattr__(session, "close", close)  # without the warning that the session gives in development mode
    close.settlers.add(settler)
