"""Compressed bodies: gzip and deflate are read within bounds, and what is compressed otherwise passes in shadow mode alone."""

from __future__ import annotations

import gzip
import json
import zlib

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from application_model import application_model, save_tariff
from modeltoll.client.httpx import TollTransport
from modeltoll.gateway.middleware import TollMiddleware
from modeltoll.testing.model_servers import serving
from served_gateway import served_gateway

ROWS = b'{"rows": [[1, 2]]}'
SCORES = b'{"scores": [[0.97, 0.01, 0.01, 0.01]]}'
MIB = 1 << 20


def raw_deflate(body):
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(body) + engine.flush()


READ = {
    "gzip": ("gzip", gzip.compress(ROWS, mtime=0)),
    "GZIP": ("GZIP", gzip.compress(ROWS, mtime=0)),
    "x-gzip": ("x-gzip", gzip.compress(ROWS, mtime=0)),
    "deflate": ("deflate", zlib.compress(ROWS)),
    "deflate without zlib's head": ("deflate", raw_deflate(ROWS)),
    "identity": ("identity", ROWS),
    "nothing": ("", ROWS),
}
NOT_READ = {
    "another coding": ("br", b"\x0b\x02\x80", 415),
    "two layers": ("gzip, gzip", gzip.compress(gzip.compress(ROWS, mtime=0)), 415),
    "no gzip": ("gzip", ROWS, 400),
    "a part of gzip": ("gzip", gzip.compress(ROWS, mtime=0)[:-4], 400),
    "data behind it": ("gzip", gzip.compress(ROWS, mtime=0) + ROWS, 400),
    "nothing": ("gzip", b"", 400),
    "a bomb": ("gzip", gzip.compress(bytes(64 * MIB)), 413),
}


class Server:
    """A model server that keeps what it was sent, and answers with ``headers``."""

    def __init__(self):
        self.seen, self.answer, self.headers, self.status = [], SCORES, {}, 200

    async def say(self, request):
        self.seen.append((request.headers.get("content-encoding"), await request.body()))
        return Response(self.answer, self.status, {"content-type": "application/json"} | self.headers)

    def application(self):
        return Starlette(routes=[Route("/predict", self.say, methods=["POST"])])


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """The server, and gateways in enforce mode and in shadow mode, which take bodies of a mebibyte."""
    server, folder = Server(), tmp_path_factory.mktemp("enforced")
    save_tariff(folder)
    limits = {"limits": {"body_mib": 1}}
    with (
        serving(server.application()) as url,
        served_gateway(folder, url, {"digits": application_model()}, **limits) as gate,
        served_gateway(
            tmp_path_factory.mktemp("shadow"), url, {"digits": application_model(mode="shadow")}, **limits
        ) as passing,
    ):
        yield server, gate, passing


@pytest.fixture
def server(setup):
    setup[0].__init__()
    return setup[0]


def post(url, body, encoding, transport=None):
    headers = {"content-type": "application/json"} | ({"content-encoding": encoding} if encoding else {})
    with httpx.Client(transport=transport) as client:
        return client.post(f"{url}/predict", content=body, headers=headers)


@pytest.mark.parametrize(("encoding", "body"), READ.values(), ids=READ)
def test_what_can_be_read_is_measured_and_asked_for_plain(setup, server, encoding, body):
    _, gate, passing = setup
    assert post(gate.url, body, encoding).status_code == 402
    paid = post(gate.url, body, encoding, TollTransport())
    shown = post(passing.url, body, encoding)
    assert [(found.status_code, found.content) for found in (paid, shown)] == [(200, SCORES)] * 2
    assert shown.headers["toll-receipt"].startswith("rows=1")
    assert server.seen == [(None, ROWS)] * 3


@pytest.mark.parametrize(("encoding", "body", "status"), NOT_READ.values(), ids=NOT_READ)
def test_what_cannot_be_read_is_refused_and_passes_as_it_is_in_shadow_mode(setup, server, encoding, body, status):
    _, gate, passing = setup
    refused = post(gate.url, body, encoding, TollTransport())
    assert (refused.status_code, server.seen) == (status, [])
    shown = post(passing.url, body, encoding)
    assert (shown.status_code, shown.content) == (200, SCORES)
    assert shown.headers["toll-receipt"].startswith("rows=0")
    assert server.seen == [(encoding, body)]


@pytest.mark.parametrize(
    ("encoding", "packed"), [("br", b"\x0b\x02\x80abc"), ("gzip, gzip", gzip.compress(b"abc", mtime=0))]
)
def test_an_answer_that_is_compressed_in_another_way_is_released_in_shadow_mode_alone(setup, server, encoding, packed):
    _, gate, passing = setup
    server.headers, server.answer = {"content-encoding": encoding}, packed
    refused = post(gate.url, ROWS, "")
    assert (refused.status_code, packed in refused.content) == (502, False)
    with httpx.stream("POST", f"{passing.url}/predict", content=ROWS) as shown:
        raw = b"".join(shown.iter_raw())
    assert (shown.status_code, shown.headers["content-encoding"], raw) == (200, encoding, packed)


@pytest.mark.parametrize("mode", [1, 2], ids=["enforce", "shadow"])
def test_a_refusal_in_another_coding_is_written_anew_without_it(setup, server, mode):
    server.headers, server.answer, server.status = {"content-encoding": "br"}, b"\x0b\x02\x80abc", 422
    found = post(setup[mode].url, ROWS, "")
    assert (found.status_code, "content-encoding" in found.headers, "error" in found.json()) == (422, False, True)


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_an_application_gets_the_plain_body_and_may_compress_its_answer_unasked(application_settings, mode):
    app, seen = FastAPI(), []

    @app.post("/predict")
    async def predict(request: Request):
        body = await request.json()
        seen.append((request.headers.get("content-encoding"), body))
        packed = gzip.compress(json.dumps({"scores": [[0.97, 0.01, 0.01, 0.01]] * len(body["rows"])}).encode())
        return Response(packed, headers={"content-encoding": "gzip", "content-type": "application/json"})

    app.add_middleware(TollMiddleware, settings=application_settings(model={"mode": mode}))
    with serving(app) as url:
        found = post(url, gzip.compress(ROWS, mtime=0), "gzip", TollTransport())
    assert (found.status_code, found.json()) == (200, json.loads(SCORES))
    assert seen == [(None, json.loads(ROWS))]
