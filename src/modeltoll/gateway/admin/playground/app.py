"""The ASGI application of the playground: a page, its files, and the gateway's address and models as JSON."""

from __future__ import annotations

import html
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
_MEDIA_TYPES = {
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
_ALL_INTERFACES = ("0.0.0.0", "[::]", "")  # noqa: S104  compared only
_HOST_NAME = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")
_LOOPBACK = "127.0.0.1"
_SAMPLES_FILE = "samples.json"
_INDEX = "index.html"
_NOTICES = '<div id="notices" role="status">'
_CORS_NOTICE = (
    '<p class="notice" role="status">The gateway does not let this page send requests yet. Write '
    "<code>cors: {{origins: [&quot;{origin}&quot;]}}</code> into its settings; it reads them anew while it runs. "
    "Then load this page again.</p>"
)

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class PlaygroundModel:
    """A model's name, and its inference and metadata paths on the public address; the latter may be None."""

    name: str
    infer: str
    metadata: str | None


@dataclass(frozen=True, slots=True)
class PlaygroundDemo:
    """What the demo adds: API keys of unused accounts, and sample rows as JSON."""

    keys: tuple[str, ...]
    samples: bytes


@dataclass(frozen=True, slots=True)
class PlaygroundConfig:
    """What the page needs. ``listen`` is the ``HOST:PORT`` of the public address; empty where a proxy has port 80
    instead.

    ``cors_origins``: the pages that may call it; where the page is none of them, it says so before anything is sent.
    """

    listen: str
    models: tuple[PlaygroundModel, ...]
    demo: PlaygroundDemo | None = None
    cors_origins: tuple[str, ...] = ("*",)


def _gateway(listen: str, request: Request) -> str:
    """The public address as the browser reaches it: for a wildcard or no address with the host name of this request."""
    host, _, port = listen.rpartition(":")
    if host in _ALL_INTERFACES:
        host_header = request.headers.get("host", "")
        name = host_header if host_header.endswith("]") else host_header.rsplit(":", 1)[0]
        host = name if _HOST_NAME.fullmatch(name) else _LOOPBACK
    return f"http://{host}:{port}" if port else f"http://{host}"


def _with_policy(response: Response, gateway: str) -> Response:
    """The response with the page's content security policy: own files only, and connections to the gateway only."""
    return with_security_headers(response, _POLICY.format(gateway=gateway))


def _file(name: str, config: PlaygroundConfig) -> Handler:
    content, media_type = (_FILES / name).read_bytes(), _MEDIA_TYPES[name]

    async def serve(request: Request) -> Response:
        return _with_policy(Response(content, media_type=media_type), _gateway(config.listen, request))

    return serve


def _index(config: PlaygroundConfig) -> Handler:
    """The page, with a notice where the gateway does not let it send requests."""
    content = (_FILES / _INDEX).read_text(encoding="utf-8")

    async def serve(request: Request) -> Response:
        page = content
        origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
        if not {"*", origin} & set(config.cors_origins):
            page = content.replace(_NOTICES, f"{_CORS_NOTICE.format(origin=html.escape(origin))}\n    {_NOTICES}", 1)
        return _with_policy(Response(page, media_type=_MEDIA_TYPES[_INDEX]), _gateway(config.listen, request))

    return serve


def _gateway_info(config: PlaygroundConfig) -> Handler:
    models = [{"name": model.name, "infer": model.infer, "metadata": model.metadata} for model in config.models]
    demo = {"keys": config.demo.keys, "samples": _SAMPLES_FILE} if config.demo else None

    async def serve(request: Request) -> Response:
        gateway = _gateway(config.listen, request)
        return _with_policy(JSONResponse({"gateway": gateway, "models": models, "demo": demo}), gateway)

    return serve


def _samples(samples: bytes, config: PlaygroundConfig) -> Handler:
    async def serve(request: Request) -> Response:
        return _with_policy(Response(samples, media_type="application/json"), _gateway(config.listen, request))

    return serve


def playground_application(config: PlaygroundConfig) -> Starlette:
    """The playground. Mount it at a path that ends in a slash; the gateway must allow its origin for CORS."""
    routes = [Route("/", _index(config)), Route("/gateway.json", _gateway_info(config))]
    routes += [Route(f"/{name}", _index(config) if name == _INDEX else _file(name, config)) for name in _MEDIA_TYPES]
    if config.demo:
        routes.append(Route(f"/{_SAMPLES_FILE}", _samples(config.demo.samples, config)))
    return Starlette(routes=routes)
