"""Applications of other frameworks behind the gate: its toll, its answers unchanged, and nothing else taken from them."""

from __future__ import annotations

import json

import httpx
import pytest
import quart
from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from flask import Flask, request
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from modeltoll.client.httpx import TollTransport
from modeltoll.gateway.middleware import TollMiddleware
from modeltoll.testing.model_servers import serving

SURE = [0.97, 0.01, 0.01, 0.01]
ROWS = {"rows": [[1, 2], [3, 4]]}
ANSWER = {"scores": [SURE, SURE]}


def starlette_application():
    async def predict(request):
        return JSONResponse({"scores": [SURE] * len((await request.json())["rows"])})

    async def form(request):
        return PlainTextResponse("the form")

    return Starlette(routes=[Route("/predict", predict, methods=["POST"]), Route("/predict", form, methods=["GET"])])


def fastapi_application():
    app = FastAPI()

    @app.post("/predict")
    def predict(body: dict):
        return {"scores": [SURE] * len(body["rows"])}

    @app.get("/predict")
    def form():
        return PlainTextResponse("the form")

    return app


def quart_application():
    app = quart.Quart(__name__)

    @app.post("/predict")
    async def predict():
        return {"scores": [SURE] * len((await quart.request.get_json())["rows"])}

    @app.get("/predict")
    async def form():
        return "the form"

    return app


def flask_application():
    app = Flask(__name__)

    @app.post("/predict")
    def predict():
        return {"scores": [SURE] * len(request.get_json()["rows"])}

    @app.get("/predict")
    def form():
        return "the form"

    return WSGIMiddleware(app)


SEEN = {"starlette": starlette_application, "fastapi": fastapi_application}
UNSEEN = {"quart": quart_application, "flask, through a2wsgi": flask_application}


def guarded(app, settings, **options):
    return TollMiddleware(app, settings, **options)


@pytest.mark.parametrize("name", [*SEEN, *UNSEEN])
def test_an_application_of_any_framework_is_tolled_and_its_answer_is_unchanged(application_settings, name):
    options = {"exact_paths": True, "other_methods": ("GET", "HEAD", "OPTIONS")} if name in UNSEEN else {}
    make = (SEEN | UNSEEN)[name]
    with serving(make()) as plain, serving(guarded(make(), application_settings(), **options)) as url:
        own = httpx.post(plain + "/predict", json=ROWS)
        bare = httpx.post(url + "/predict", json=ROWS)
        with httpx.Client(transport=TollTransport()) as client:
            paid = client.post(url + "/predict", json=ROWS)
        for method in ("GET", "HEAD", "OPTIONS", "PUT"):
            without, behind = (httpx.request(method, base + "/predict") for base in (plain, url))
            expected = (without.status_code, without.text, without.headers.get("allow"))
            if name in UNSEEN and method == "PUT":
                assert behind.status_code == 404
            else:
                assert (behind.status_code, behind.text, behind.headers.get("allow")) == expected, method
    assert json.loads(own.content) == ANSWER
    assert (bare.status_code, b"0.97" in bare.content) == (402, False), bare.text
    assert (paid.status_code, paid.content) == (200, own.content)


def test_without_the_statement_every_method_at_a_models_path_goes_to_the_gate(application_settings):
    app = guarded(quart_application(), application_settings(), exact_paths=True)
    with serving(app) as url:
        statuses = [httpx.request(method, url + "/predict").status_code for method in ("GET", "HEAD", "OPTIONS")]
    assert statuses == [404, 404, 404]


@pytest.mark.parametrize("methods", [("POST",), ("get", "post")])
def test_the_method_of_predictions_cannot_be_let_through(application_settings, methods):
    with pytest.raises(ValueError, match="POST"):
        guarded(quart_application(), application_settings(), exact_paths=True, other_methods=methods)
