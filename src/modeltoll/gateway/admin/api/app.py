"""The admin API over HTTP: its endpoints, its OpenAPI document, and an HTML page of that document."""

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
from modeltoll.gateway.admin.api.openapi import ApiEndpoint, openapi_document
from modeltoll.gateway.public.parsing import read_body
from modeltoll.gateway.settings.errors import errors_of

if TYPE_CHECKING:
    from modeltoll.gateway.admin.api.operations import AdminApi

__all__ = ["api_application", "endpoints"]

_MAX_BODY = 65_536
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def endpoints(api: AdminApi) -> tuple[ApiEndpoint, ...]:
    """All endpoints of the admin API."""
    return (
        ApiEndpoint("GET", "/status", api.get_status, schemas.NoParameters, schemas.StatusResponse),
        ApiEndpoint("GET", "/settings", api.get_settings, schemas.NoParameters, schemas.SettingsResponse),
        ApiEndpoint("GET", "/accounts", api.list_accounts, schemas.AccountsQuery, schemas.AccountsResponse),
        ApiEndpoint("GET", "/account", api.get_account, schemas.AccountQuery, schemas.CallerResponse),
        ApiEndpoint("POST", "/account/reset", api.reset_account, schemas.ResetRequest, schemas.ResetResponse),
        ApiEndpoint("POST", "/account/tier", api.set_tier, schemas.TierRequest, schemas.TierResponse),
        ApiEndpoint(
            "POST",
            "/account/known-honest",
            api.set_known_honest,
            schemas.KnownHonestRequest,
            schemas.KnownHonestResponse,
        ),
        ApiEndpoint("GET", "/suspects", api.list_suspects, schemas.AccountsQuery, schemas.SuspectsResponse),
        ApiEndpoint("GET", "/keys", api.list_keys, schemas.NoParameters, schemas.KeysResponse),
        ApiEndpoint("GET", "/log", api.read_log, schemas.LogQuery, schemas.LogResponse),
    )


def api_application(api: AdminApi, base: str) -> Starlette:
    """The admin API as an application, to be mounted at the path ``base``."""
    all_endpoints = endpoints(api)
    document = openapi_document(all_endpoints, base)
    page = _page(document)

    async def openapi(request: Request) -> Response:
        del request
        return JSONResponse(document, headers=_HEADERS)

    async def api_page(request: Request) -> Response:
        del request
        return HTMLResponse(page, headers={**_HEADERS, "content-security-policy": _POLICY})

    routes = [Route(endpoint.path, _handler(endpoint), methods=[endpoint.method]) for endpoint in all_endpoints]
    return Starlette(
        routes=[*routes, Route("/openapi.json", openapi), Route("/", api_page)],
        exception_handlers={ModeltollError: _failed, ClientDisconnect: _client_gone, HTTPException: _unknown_path},
    )


def _handler(endpoint: ApiEndpoint) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            response = await endpoint.handler(await _request_model(endpoint.request, request))
        except ValidationError as error:
            raise RequestError("; ".join(errors_of(error, "the request"))) from None
        except ValueError as error:  # a name that no ledger can store
            raise RequestError(str(error)) from None
        return Response(response.model_dump_json(), media_type="application/json", headers=_HEADERS)

    return handle


async def _request_model(schema: type[BaseModel], request: Request) -> BaseModel:
    """The validated request. A body must be application/json, which other sites cannot send without a preflight."""
    if request.method in {"GET", "HEAD"}:
        query = request.query_params.multi_items()
        if len(dict(query)) < len(query):
            raise RequestError("a parameter is given twice; give it once")
        return schema.model_validate(dict(query))
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("the body must be application/json")
    return schema.model_validate_json(await read_body(request, _MAX_BODY))


async def _failed(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, ModeltollError)
    return JSONResponse({"error": str(error)}, error.status, _HEADERS)


async def _client_gone(request: Request, error: Exception) -> Response:
    del request, error
    return Response(status_code=499)


async def _unknown_path(request: Request, error: Exception) -> Response:
    """Unknown path or method."""
    del request
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _page(document: Mapping[str, Any]) -> str:
    """The OpenAPI document as HTML without scripts and files."""
    parts = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            fields = _members(operation, document) if "requestBody" in operation else operation["parameters"]
            rows = "".join(
                f"<tr><td><code>{html.escape(member['name'])}</code><td>{'required' if member['required'] else ''}"
                f"<td>{html.escape(member['schema'].get('description', ''))}"
                for member in fields
            )
            parts.append(
                f"<section><h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{html.escape(operation['summary'])}"
                f"</p>{f'<table>{rows}</table>' if rows else ''}</section>"
            )
    title = html.escape(document["info"]["title"])
    return _FRAME.format(title=title, description=html.escape(document["info"]["description"]), body="".join(parts))


def _members(operation: Mapping[str, Any], document: Mapping[str, Any]) -> list[dict[str, Any]]:
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][name]
    required = schema.get("required", ())
    return [
        {"name": each, "required": each in required, "schema": member} for each, member in schema["properties"].items()
    ]


_FRAME = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem }}
h2 {{ font-size: 1rem; margin: 2rem 0 0 }} td {{ padding: 0 1rem 0 0; vertical-align: top }}
</style>
<h1>{title}</h1><p>{description} OpenAPI document: <a href="openapi.json">openapi.json</a>.</p>
{body}
</html>
"""
