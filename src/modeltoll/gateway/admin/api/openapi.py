"""The desk's OpenAPI 3.1 document, written from its endpoints: what is checked and what is promised are the same forms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from modeltoll._version import __version__
from modeltoll.gateway.admin.api.schemas import ErrorResponse

__all__ = ["Endpoint", "document"]

_REFUSALS = {
    "400": "What was asked is not of the form; which part of it, is said",
    "401": "The operator's token is needed",
    "403": "Not asked from this machine, or by a page of another site",
    "404": "There is no such caller, or no such tier",
    "409": "These settings do not allow it",
    "413": "Longer than anything that can be asked",
    "503": "The ledger does not answer",
}
_SCHEMAS = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing to ask: a method and a path below the desk's, what does it, and the forms it goes by."""

    method: str
    path: str
    do: Callable[[Any], Awaitable[BaseModel]]
    asks: type[BaseModel]
    tells: type[BaseModel]

    @property
    def name(self) -> str:
        """What it is called in the document."""
        return self.do.__name__

    @property
    def words(self) -> str:
        """What it does."""
        return " ".join((self.do.__doc__ or "").split())


def document(endpoints: Sequence[Endpoint], base: str) -> dict[str, Any]:
    """The document of these endpoints below the path ``base``."""
    forms = {form for endpoint in endpoints for form in (endpoint.asks, endpoint.tells)} | {ErrorResponse}
    _, schemas = models_json_schema(
        [(form, "serialization") for form in sorted(forms, key=lambda form: form.__name__)], ref_template=_SCHEMAS
    )
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(base + endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Modeltoll: the operator's desk",
            "version": __version__,
            "description": "What a gateway knows of its callers, and what its operator can do about it.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "admin_token"}},
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    said: dict[str, Any] = {"operationId": endpoint.name, "summary": endpoint.words}
    if endpoint.method == "GET":
        said["parameters"] = list(_parameters(endpoint.asks))
    else:
        said["requestBody"] = {"required": True, "content": _content(endpoint.asks.__name__)}
    refusals = {
        status: {"description": words, "content": _content(ErrorResponse.__name__)}
        for status, words in _REFUSALS.items()
    }
    done = {"200": {"description": "Done", "content": _content(endpoint.tells.__name__)}}
    return said | {"responses": done | refusals}


def _content(form: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _SCHEMAS.format(model=form)}}}


def _parameters(form: type[BaseModel]) -> list[dict[str, Any]]:
    schema = form.model_json_schema()
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": member}
        for name, member in schema.get("properties", {}).items()
    ]
