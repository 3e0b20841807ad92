"""The application reads the headers that are part of a row's identity, whatever headers a redemption comes with."""

from __future__ import annotations

import asyncio

from modeltoll.gateway.upstream.application import ApplicationUpstream, CallerRequest
from modeltoll.gateway.upstream.upstream import RequestHead


def test_an_admitted_request_is_read_with_its_own_headers():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b"{}"})

    async def ask(head):
        upstream = ApplicationUpstream(app, read_headers=("x-variant", "x-mode"))
        headers = [(b"X-Variant", b"b"), (b"x-mode", b"b"), (b"authorization", b"kept")]
        scope = {"type": "http", "method": "POST", "path": "/redeem", "root_path": "", "headers": headers}
        with CallerRequest(scope).current():
            await upstream.predict("/predict", b"{}", head=head)

    asyncio.run(ask(RequestHead(read_headers=(("x-variant", "a"),))))
    read = [(name.lower(), value) for name, value in scopes[0]["headers"]]
    assert [value for name, value in read if name == b"x-variant"] == [b"a"]
    assert b"x-mode" not in dict(read)
    assert dict(read)[b"authorization"] == b"kept"
