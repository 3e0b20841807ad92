"""The desk over HTTP: a table of its endpoints, its OpenAPI document, and a page that shows it."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from modeltoll.errors import ModeltollError, RequestError
from modeltoll.gateway.admin.api import schemas
from modeltoll.gateway.admin.api.openapi import Endpoint, document
from modeltoll.gateway.public.parsing import read_body
from modeltoll.gateway.settings.errors import errors_of

if TYPE_CHECKING:
    from modeltoll.gateway.admin.api.operations import AdminApi

__all__ = ["api_application", "endpoints"]

_MOST_BYTES = 65_536
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_KEPT = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def endpoints(desk: AdminApi) -> tuple[Endpoint, ...]:
    """All that can be asked."""
    return (
        Endpoint("GET", "/status", desk.status, schemas.NoParameters, schemas.StatusResponse),
        Endpoint("GET", "/settings", desk.settings, schemas.NoParameters, schemas.SettingsResponse),
        Endpoint("GET", "/accounts", desk.accounts, schemas.AccountsQuery, schemas.AccountsResponse),
        Endpoint("GET", "/account", desk.account, schemas.AccountQuery, schemas.CallerResponse),
        Endpoint("POST", "/account/reset", desk.reset, schemas.ResetRequest, schemas.ResetResponse),
        Endpoint("POST", "/account/tier", desk.tier, schemas.TierRequest, schemas.TierResponse),
        Endpoint("GET", "/keys", desk.keys, schemas.NoParameters, schemas.KeysResponse),
        Endpoint("GET", "/log", desk.log, schemas.LogQuery, schemas.LogResponse),
    )


def api_application(desk: AdminApi, base: str) -> Starlette:
    """The desk, to be mounted at the path ``base``."""
    every = endpoints(desk)
    said = document(every, base)
    page = _page(said)

    async def openapi(request: Request) -> Response:
        del request
        return JSONResponse(said, headers=_KEPT)

    async def shown(request: Request) -> Response:
        del request
        return HTMLResponse(page, headers={**_KEPT, "content-security-policy": _POLICY})

    routes = [Route(endpoint.path, _handler(endpoint), methods=[endpoint.method]) for endpoint in every]
    return Starlette(
        routes=[*routes, Route("/openapi.json", openapi), Route("/", shown)],
        exception_handlers={ModeltollError: _failed, ClientDisconnect: _client_gone, HTTPException: _unknown_path},
    )


def _handler(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            told = await endpoint.do(await _request_model(endpoint.asks, request))
        except ValidationError as error:
            raise RequestError("; ".join(errors_of(error, "the request"))) from None
        except ValueError as error:  # a name that no store can keep
            raise RequestError(str(error)) from None
        return Response(told.model_dump_json(), media_type="application/json", headers=_KEPT)

    return handle


async def _request_model(form: type[BaseModel], request: Request) -> BaseModel:
    """What is asked, checked; a body must say that it is JSON, which no page of another site can say unasked."""
    if request.method in {"GET", "HEAD"}:
        given = request.query_params.multi_items()
        if len(dict(given)) < len(given):
            raise RequestError("a parameter is given twice; give it once")
        return form.model_validate(dict(given))
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("the body must be application/json")
    return form.model_validate_json(await read_body(request, _MOST_BYTES))


async def _failed(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, ModeltollError)
    return JSONResponse({"error": str(error)}, error.status, _KEPT)


async def _client_gone(request: Request, error: Exception) -> Response:
    del request, error
    return Response(status_code=499)


async def _unknown_path(request: Request, error: Exception) -> Response:
    """Another path, or another method."""
    del request
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _page(said: Mapping[str, Any]) -> str:
    """The document for people: plain HTML, with nothing to load."""
    parts = []
    for path, methods in said["paths"].items():
        for method, operation in methods.items():
            asked = _members(operation, said) if "requestBody" in operation else operation["parameters"]
            rows = "".join(
                f"<tr><td><code>{html.escape(member['name'])}</code><td>{'needed' if member['required'] else ''}"
                f"<td>{html.escape(member['schema'].get('description', ''))}"
                for member in asked
            )
            parts.append(
                f"<section><h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{html.escape(operation['summary'])}"
                f"</p>{f'<table>{rows}</table>' if rows else ''}</section>"
            )
    title = html.escape(said["info"]["title"])
    return _FRAME.format(title=title, description=html.escape(said["info"]["description"]), body="".join(parts))


def _members(operation: Mapping[str, Any], said: Mapping[str, Any]) -> list[dict[str, Any]]:
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    form = said["components"]["schemas"][name]
    required = form.get("required", ())
    return [{"name": each, "required": each in required, "schema": of} for each, of in form["properties"].items()]


_FRAME = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem }}
h2 {{ font-size: 1rem; margin: 2rem 0 0 }} td {{ padding: 0 1rem 0 0; vertical-align: top }}
</style>
<h1>{title}</h1><p>{description} The document for programs: <a href="openapi.json">openapi.json</a>.</p>
{body}
</html>
"""
