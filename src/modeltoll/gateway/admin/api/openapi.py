"""The OpenAPI 3.1 document of the admin API, generated from its endpoints and their schemas."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from modeltoll._version import __version__
from modeltoll.gateway.admin.api.schemas import ErrorResponse

__all__ = ["ApiEndpoint", "openapi_document"]

_ERRORS = {
    "400": "The request does not match the schema; the message names the field",
    "401": "The admin token is missing or wrong",
    "403": "Not sent to a loopback name, or cross-site",
    "404": "There is no such caller or tier",
    "409": "The settings do not allow it",
    "413": "The body is too large",
    "503": "The ledger does not answer",
}
_SCHEMA_REF = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class ApiEndpoint:
    """One operation: HTTP method, path below the API's base path, handler, and the schemas of request and response."""

    method: str
    path: str
    handler: Callable[[Any], Awaitable[BaseModel]]
    request: type[BaseModel]
    response: type[BaseModel]

    @property
    def operation_id(self) -> str:
        """The name of the handler."""
        return self.handler.__name__

    @property
    def summary(self) -> str:
        """The docstring of the handler in one line."""
        return " ".join((self.handler.__doc__ or "").split())


def openapi_document(endpoints: Sequence[ApiEndpoint], base: str) -> dict[str, Any]:
    """The document of these endpoints below the path ``base``."""
    models = {model for endpoint in endpoints for model in (endpoint.request, endpoint.response)} | {ErrorResponse}
    _, schemas = models_json_schema(
        [(model, "serialization") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template=_SCHEMA_REF,
    )
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(base + endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Modeltoll admin API",
            "version": __version__,
            "description": "Reads the state, the accounts, the keys and the log of a gateway; resets accounts; changes tiers; marks callers as known honest.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The setting admin_token"}
            },
        },
    }


def _operation(endpoint: ApiEndpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": endpoint.operation_id, "summary": endpoint.summary}
    if endpoint.method == "GET":
        operation["parameters"] = list(_parameters(endpoint.request))
    else:
        operation["requestBody"] = {"required": True, "content": _content(endpoint.request.__name__)}
    errors = {
        status: {"description": description, "content": _content(ErrorResponse.__name__)}
        for status, description in _ERRORS.items()
    }
    success = {"200": {"description": "Success", "content": _content(endpoint.response.__name__)}}
    return operation | {"responses": success | errors}


def _content(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _SCHEMA_REF.format(model=model)}}}


def _parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": member}
        for name, member in schema.get("properties", {}).items()
    ]
