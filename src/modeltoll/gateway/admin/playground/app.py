"""Serves the page to try the toll, and tells it of the toll house. Nothing on it comes from a third party."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modeltoll.gateway.admin.security_headers import with_security_headers

__all__ = ["PlaygroundConfig", "PlaygroundDemo", "PlaygroundModel", "playground_application"]

_FILES = Path(__file__).parent / "files"
_SCRIPT = "text/javascript"
_TYPES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": _SCRIPT,
    "worker.js": _SCRIPT,
    "icon.svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self' {gateway}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_EVERYWHERE = ("0.0.0.0", "[::]")  # noqa: S104  compared with, not listened on
_NAME = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")
_HERE = "127.0.0.1"
_SAMPLES = "samples.json"

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class PlaygroundModel:
    """A model's name, and the public side's paths where it is asked and where it describes itself, if anywhere."""

    name: str
    infer: str
    metadata: str | None


@dataclass(frozen=True, slots=True)
class PlaygroundDemo:
    """What the demo adds: API keys of callers that nobody has met, and rows to try, as JSON."""

    keys: tuple[str, ...]
    samples: bytes


@dataclass(frozen=True, slots=True)
class PlaygroundConfig:
    """What the page is told. ``listen`` is the public side's ``HOST:PORT``."""

    listen: str
    models: tuple[PlaygroundModel, ...]
    demo: PlaygroundDemo | None = None


def _gateway(listen: str, request: Request) -> str:
    """The public side as this visitor reaches it: where it listens everywhere, under the name that he came by."""
    host, _, port = listen.rpartition(":")
    if host in _EVERYWHERE:
        came_by = request.headers.get("host", "")
        name = came_by if came_by.endswith("]") else came_by.rsplit(":", 1)[0]
        host = name if _NAME.fullmatch(name) else _HERE
    return f"http://{host}:{port}"


def _checked(response: Response, gateway: str) -> Response:
    """The same response under the page's policy: own scripts, own styles, and nobody to ask but the gateway."""
    return with_security_headers(response, _POLICY.format(gateway=gateway))


def _file(name: str, offer: PlaygroundConfig) -> Handler:
    content, kind = (_FILES / name).read_bytes(), _TYPES[name]

    async def serve(request: Request) -> Response:
        return _checked(Response(content, media_type=kind), _gateway(offer.listen, request))

    return serve


def _gateway_info(offer: PlaygroundConfig) -> Handler:
    models = [{"name": model.name, "infer": model.infer, "metadata": model.metadata} for model in offer.models]
    demo = {"keys": offer.demo.keys, "samples": _SAMPLES} if offer.demo else None

    async def serve(request: Request) -> Response:
        gateway = _gateway(offer.listen, request)
        return _checked(JSONResponse({"gateway": gateway, "models": models, "demo": demo}), gateway)

    return serve


def _samples(samples: bytes, offer: PlaygroundConfig) -> Handler:
    async def serve(request: Request) -> Response:
        return _checked(Response(samples, media_type="application/json"), _gateway(offer.listen, request))

    return serve


def playground_application(offer: PlaygroundConfig) -> Starlette:
    """The page and its files, to be served at a path that ends in a slash. The gateway must list its origin for CORS."""
    routes = [Route("/", _file("index.html", offer)), Route("/gateway.json", _gateway_info(offer))]
    routes += [Route(f"/{name}", _file(name, offer)) for name in _TYPES]
    if offer.demo:
        routes.append(Route(f"/{_SAMPLES}", _samples(offer.demo.samples, offer)))
    return Starlette(routes=routes)
