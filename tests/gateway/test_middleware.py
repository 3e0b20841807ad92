"""The gate inside an application: whatever the prefix and the spelling of a path, no model's answer goes out without the gate."""

from __future__ import annotations

import asyncio
import json
from itertools import product
from urllib.parse import unquote, urljoin

import pytest
import yaml
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from application_model import application_model, save_tariff
from modeltoll import wire
from modeltoll.errors import SettingsError
from modeltoll.gateway.middleware import TollMiddleware

SURE = [0.97, 0.01, 0.01, 0.01]
ROWS = json.dumps({"rows": [[1, 2]]}).encode()


@pytest.fixture
def settings(tmp_path):
    """Writes settings of one model with a route of its own, and gives their path."""
    save_tariff(tmp_path)

    def write(route="/predict", **model):
        model = application_model(route, **model)
        model = {name: value for name, value in model.items() if value is not None}
        document = {"upstream": {"url": "app"}, "ledger": {"url": "memory://"}, "models": {"digits": model}}
        path = tmp_path / "modeltoll.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return write


async def starlette_predict(request):
    document = await request.json()
    return JSONResponse({"scores": [SURE] * len(document["rows"])})


def predict(body: dict):
    return {"scores": [SURE for _ in body["rows"]]}


def about():
    return {"about": "it"}


def fastapi(root_path=""):
    """An application; ``root_path`` is what ``FastAPI(root_path=)`` sets, which warns."""
    app = FastAPI()
    app.root_path = root_path
    app.post("/predict")(predict)
    app.get("/about")(about)
    return app


def guarded(settings, app, route="/predict", **options):
    app.add_middleware(TollMiddleware, settings=settings(route), **options)
    return app


def starlette(settings, *routes, route="/predict"):
    return guarded(settings, Starlette(routes=list(routes)), route)


PREDICT = Route("/predict", starlette_predict, methods=["POST"])


async def through(request, call_next):
    return await call_next(request)


def with_inner_middleware(settings):
    app = fastapi()
    app.add_middleware(BaseHTTPMiddleware, dispatch=through)
    return guarded(settings, app)


def included(settings):
    router, app = APIRouter(), FastAPI()
    router.post("/predict")(predict)
    app.include_router(router, prefix="/v1")
    return guarded(settings, app, "/v1/predict")


def served_twice(settings):
    app = fastapi()
    app.post("/old/predict")(predict)
    app.get("/predict")(predict_by_query)
    return guarded(settings, app)


def predict_by_query():
    return {"form": "use POST"}


def included_twice(settings):
    router, app = APIRouter(), FastAPI()
    router.post("/predict")(predict)
    app.include_router(router)
    app.include_router(router, prefix="/api")
    return guarded(settings, app)


def below_parent(settings, parent=None):
    return Starlette(routes=[Mount("/api", app=guarded(settings, fastapi()))])


def below_fastapi(settings):
    parent = FastAPI()
    parent.mount("/api", guarded(settings, fastapi()))
    return parent


def around_mount(settings):
    parent = FastAPI()
    parent.mount("/api", fastapi())
    return guarded(settings, parent, "/api/predict")


def around_mount_with_root(settings):
    parent = FastAPI()
    parent.root_path = "/sub"
    parent.mount("/api", fastapi())
    return guarded(settings, parent, "/api/predict")


def twice_below(settings):
    inner = Router([Mount("/v1", app=guarded(settings, fastapi()))])
    return Starlette(routes=[Mount("/api", app=inner)])


def mounted_again_out_of_sight(settings):
    """The same application in two places, in one of them behind a middleware that copies the scope."""
    app = fastapi()
    return starlette(settings, Mount("/api", app=app), Mount("/v1", app=CopyingAll(app)), route="/api/predict")


def before_catch_all(settings):
    async def page(request):
        return PlainTextResponse("page")

    return starlette(settings, Route("/{page:path}", page, methods=["GET"]), PREDICT)


class CopyingAll:
    """A middleware that routes by a copy of the scope."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(dict(scope), receive, send)


async def loose(scope, receive, send):
    """An application of no framework, which takes many spellings of a path for the same one."""
    if scope["type"] == "lifespan":
        return
    path = "/" + unquote(scope["path"]).lower().strip("/ ").rpartition("/")[2].partition(";")[0]
    if path == "/predict":
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message.get("more_body"):
                break
        await JSONResponse({"scores": [SURE]})(scope, receive, send)
    else:
        await PlainTextResponse("elsewhere")(scope, receive, send)


# name: (makes the application, the server's root path, paths at which the model has its toll)
APPLICATIONS = {
    "fastapi": (lambda s: guarded(s, fastapi()), "", ["/predict"]),
    "starlette": (lambda s: starlette(s, PREDICT), "", ["/predict"]),
    "fastapi with root_path": (lambda s: guarded(s, fastapi(root_path="/api")), "", ["/predict", "/api/predict"]),
    "server with root path": (lambda s: guarded(s, fastapi()), "/api", ["/api/predict", "/predict"]),
    "both root paths": (lambda s: guarded(s, fastapi(root_path="/sub")), "/api", ["/sub/predict"]),
    "around fastapi": (lambda s: TollMiddleware(fastapi(), s()), "", ["/predict"]),
    "around fastapi with root_path": (
        lambda s: TollMiddleware(fastapi(root_path="/api"), s()),
        "",
        ["/predict", "/api/predict"],
    ),
    "around, server with root path": (lambda s: TollMiddleware(fastapi(), s()), "/api", ["/api/predict", "/predict"]),
    "around a middleware around fastapi with root_path": (
        lambda s: TollMiddleware(GZipMiddleware(fastapi(root_path="/api")), s()),
        "",
        ["/predict", "/api/predict"],
    ),
    "below a mount": (below_parent, "", ["/api/predict"]),
    "below a mount, server with root path": (below_parent, "/sub", ["/sub/api/predict"]),
    "below a mount of fastapi": (below_fastapi, "", ["/api/predict"]),
    "below two mounts": (twice_below, "", ["/api/v1/predict"]),
    "around a mount": (around_mount, "", ["/api/predict"]),
    "around a mount with root_path": (around_mount_with_root, "", ["/sub/api/predict"]),
    "mount of routes": (
        lambda s: starlette(s, Mount("/api", routes=[PREDICT]), route="/api/predict"),
        "",
        ["/api/predict"],
    ),
    "router with prefix": (included, "", ["/v1/predict"]),
    "by host": (
        lambda s: starlette(s, Host("toll", app=Router([PREDICT])), Host("127.0.0.1", app=Router([PREDICT]))),
        "",
        ["/predict"],
    ),
    "behind a middleware": (with_inner_middleware, "", ["/predict"]),
    "served twice": (served_twice, "", ["/predict"]),
    "included twice": (included_twice, "", ["/predict"]),
    "mounted again, out of sight": (mounted_again_out_of_sight, "", ["/api/predict"]),
    "before a catch-all": (before_catch_all, "", ["/predict"]),
    "without a framework": (lambda s: TollMiddleware(loose, s(), exact_paths=True), "", ["/predict"]),
}

PREFIXES = ("", "/api", "/sub", "/v1", "/old", "/sub/api", "/api/v1", "/api/api", "/API")
SPELLINGS = (
    "/predict",
    "/predict/",
    "//predict",
    "/predict//",
    "/Predict",
    "/%70redict",
    "/%2570redict",
    "/predict%2F",
    "%2Fpredict",
    "/./predict",
    "/x/../predict",
    "/x%2f..%2fpredict",
    "/predict;a=1",
    "/predict%00",
    "/predict%20",
    "/predict?x=1",
    "\\predict",
)
METHODS = ("POST", "GET", "HEAD", "PUT", "OPTIONS", "post")


async def ask(app, method, raw_path, root_path="", body=ROWS):
    """One request as a server would hand it over; gives its status and its body."""
    path, _, query = raw_path.partition("?")
    received, sent = [{"type": "http.request", "body": body, "more_body": False}], []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": [
            (b"host", b"toll"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"toll-accept", b"sha256; mode=redeem"),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }

    async def receive():
        if not received:
            await asyncio.Event().wait()
        return received.pop()

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    status = next(message["status"] for message in sent if message["type"] == "http.response.start")
    return status, b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize(("make", "root_path", "tolled"), APPLICATIONS.values(), ids=APPLICATIONS)
def test_no_spelling_of_a_path_gets_a_models_answer_without_its_toll(settings, make, root_path, tolled):
    app = make(settings)
    forms = list(product(METHODS, PREFIXES, SPELLINGS))

    async def story():
        return {
            (method, prefix + path): await ask(app, method, prefix + path, root_path) for method, prefix, path in forms
        }

    answers = asyncio.run(story())
    free = {
        form: status
        for form, (status, body) in answers.items()
        if b"scores" in body or (status == 200 and b"0.97" in body)
    }
    assert free == {}
    assert {path for (method, path), (status, _) in answers.items() if status == 402 and method == "POST"} >= set(
        tolled
    )
    assert len(forms) > 30


@pytest.mark.parametrize(("make", "root_path", "tolled"), APPLICATIONS.values(), ids=APPLICATIONS)
def test_the_references_in_a_toll_lead_back_to_the_gate(settings, make, root_path, tolled):
    app = make(settings)

    async def story(path):
        status, body = await ask(app, "POST", path, root_path)
        assert status == 402
        toll = wire.decode_toll(body)
        target = urljoin("http://toll" + path, toll.redeem).removeprefix("http://toll")
        return (
            await ask(app, "POST", target, root_path, b"{}"),
            await ask(app, "POST", target, root_path, b'{"token": ""}'),
        )

    async def stories():
        return [(path, *await story(path)) for path in tolled]

    for path, probed, (status, body) in asyncio.run(stories()):
        assert probed == (204, b""), path  # an empty redemption asks whether the path leads here
        assert (status, b"redemption" in body or b"token" in body or b"proof" in body) == (400, True), (path, body)


@pytest.mark.parametrize("path", ["/api/v1/predict", "/api/v1%2Fpredict", "/api/v%31%2fpredict", "/api/v1/pr%65dict"])
def test_the_references_lead_back_however_the_path_is_written(settings, path):
    app = FastAPI()
    app.post("/v1/predict")(predict)
    guarded(settings, app, "/v1/predict")

    async def story():
        status, body = await ask(app, "POST", path, "/api")
        target = urljoin("http://toll" + path, wire.decode_toll(body).redeem)
        return status, target

    assert asyncio.run(story()) == (402, "http://toll/api/.well-known/modeltoll/redeem")


def test_other_methods_and_paths_are_the_applications_own(settings):
    app = served_twice(settings)

    async def story():
        assert await ask(app, "GET", "/predict") == (200, b'{"form":"use POST"}')
        assert (await ask(app, "GET", "/about"))[0] == 200
        assert (await ask(app, "PUT", "/predict"))[0] == 405
        assert (await ask(app, "POST", "/old/predict"))[0] == 404

    asyncio.run(story())


def test_the_application_sees_the_path_that_was_matched(settings):
    seen = []

    async def noting(request, call_next):
        seen.append((request.scope["path"], request.scope["root_path"], request.scope["raw_path"]))
        return await call_next(request)

    app = fastapi(root_path="/api")
    app.add_middleware(BaseHTTPMiddleware, dispatch=noting)
    guarded(settings, app)

    async def story():
        await ask(app, "POST", "/api/predict")
        await ask(app, "POST", "/predict")

    asyncio.run(story())
    assert seen[1:] == [("/api/predict", "/api", b"/api/predict"), ("/predict", "/api", b"/predict")]


CANNOT_TELL = {
    "no route there": (lambda s: guarded(s, fastapi(), "/other"), "no route for POST /other"),
    "the route of a mounted application": (
        lambda s: guarded(s, Starlette(routes=[Mount("/api", app=fastapi())])),
        "no route for POST /predict",
    ),
    "no framework that shows its routes": (lambda s: TollMiddleware(loose, s()), "exact_paths=True"),
}


@pytest.mark.parametrize(("make", "fault"), CANNOT_TELL.values(), ids=CANNOT_TELL)
def test_a_gate_that_cannot_tell_refuses_to_start(settings, make, fault):
    with pytest.raises(SettingsError, match=fault):
        asyncio.run(ask(make(settings), "POST", "/predict"))


class Copying:
    """A middleware that routes by a copy of the scope, so that nothing outside sees where a request went."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app({**scope, "path": scope["path"].removeprefix("/secret")}, receive, send)


def test_a_middleware_inside_that_rewrites_paths_is_noticed_at_the_start(settings):
    app = fastapi()
    app.add_middleware(Copying)
    guarded(settings, app)
    with pytest.raises(SettingsError, match="add TollMiddleware before that middleware"):
        asyncio.run(ask(app, "POST", "/secret/predict"))
    inside = fastapi()
    inside.add_middleware(TollMiddleware, settings=settings())
    inside.add_middleware(Copying)
    assert asyncio.run(ask(inside, "POST", "/secret/predict"))[0] == 402


def test_a_versioned_or_unlisted_model_of_the_same_endpoint_is_refused(settings):
    app = FastAPI()

    @app.post("/v2/models/{name}/infer")
    @app.post("/v2/models/{name}/versions/{version}/infer")
    @app.post("/internal/{name}")
    def infer(name: str, body: dict):
        return {"model_name": name, "outputs": [{"name": "p", "shape": [1, 4], "datatype": "FP64", "data": SURE}]}

    model = {"protocol": "oip", "json_path": None, "output": {"kind": "probabilities", "name": "p"}}
    app.add_middleware(TollMiddleware, settings=settings(**model))
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}).encode()
    statuses = {
        path: asyncio.run(ask(app, "POST", path, body=body))[0]
        for path in (
            "/v2/models/digits/infer",
            "/v2/models/other/infer",
            "/v2/models/digits/versions/2/infer",
            "/internal/digits",
        )
    }
    assert list(statuses.values()) == [402, 404, 404, 404]


def test_websockets_to_a_model_are_refused(settings):
    async def talk(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_json(SURE)
        await websocket.close()

    app = Starlette(
        routes=[PREDICT, WebSocketRoute("/predict", talk), WebSocketRoute("/chatter", talk)],
    )
    guarded(settings, app)
    with TestClient(app) as client:
        with pytest.raises((WebSocketDisconnect, WebSocketDenialResponse)), client.websocket_connect("/predict"):
            pass
        with client.websocket_connect("/chatter") as other:
            assert other.receive_json() == SURE
