"""What of a request's query and headers reaches the model server, what of its answer's headers comes back, and the price."""

from __future__ import annotations

import json

import httpx
import pytest
import yaml
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.core.fingerprints import keyed
from modeltoll.testing.model_servers import serving
from served_gateway import CLASSIFIER, ROWS, served_gateway

ALLOWING = CLASSIFIER | {"allow_query": ["threshold", "api-version", "näme"]}
SECRETS = {"authorization": "Bearer k", "cookie": "a=b", "x-api-key": "k"}


class Server:
    """A model server that notes what it reads: (method, target, headers)."""

    def __init__(self):
        self.seen, self.headers = [], {}

    async def answer(self, request):
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        self.seen.append((request.method, target, dict(request.headers)))
        rows = len(json.loads(body)["rows"]) if (body := await request.body()) else 1
        scores = json.dumps({"scores": [[0.6, 0.3, 0.1]] * rows})
        return Response(scores, headers=self.headers, media_type="application/json")

    def application(self):
        return Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    server = Server()
    section = {"request_headers": ["traceparent", "tracestate", "x-request-id", "X-Tenant"]}
    with (
        serving(server.application()) as url,
        served_gateway(tmp_path_factory.mktemp("gateway"), section | {"url": url}, {"m": ALLOWING}) as gate,
    ):
        yield server, gate


def post(gate, query="", **options):
    return httpx.post(f"{gate.url}/predict{query}", json=ROWS, **options)


QUERIES = {
    "?threshold=9": "threshold=9",
    "?threshold=9&api-version=2024-10-21": "threshold=9&api-version=2024-10-21",
    "?threshold=9&threshold=8": "threshold=9&threshold=8",
    "?threshold=": "threshold=",
    "?threshold": "threshold=",
    "?threshold=a%20b+c": "threshold=a%20b%20c",
    "?n%C3%A4me=%C3%A4": "n%C3%A4me=%C3%A4",
    "?threshold=9%26top%3D1": "threshold=9%26top%3D1",
    "?threshold=9;top=1": "threshold=9%3Btop%3D1",
    "?threshold=9%3Btop=1": "threshold=9%3Btop%3D1",
    "?&&threshold=9&": "threshold=9",
    "?": "",
    "": "",
}


@pytest.mark.parametrize(("query", "read"), QUERIES.items())
def test_an_allowed_query_reaches_the_model_server_as_it_was_checked(setup, query, read):
    server, gate = setup
    assert post(gate, query).status_code == 200
    assert server.seen[-1][:2] == ("POST", "/predict" + (f"?{read}" if read else ""))


REFUSED = [
    "?top=1",
    "?threshold=9&top=1",
    "?Threshold=9",
    "?%20threshold=9",
    "?threshold[]=9",
    "?top;threshold=9",
    "?threshold=%ff",
    "?threshold=%C3",
    "?=9",
    "?threshold=" + "9" * 5000,
]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_any_other_query_is_refused_before_the_model_server_is_asked(application_settings, tmp_path, method):
    server = Server()
    allowing = {"mode": "enforce", "allow_query": ["threshold"], "json_path": ALLOWING["json_path"]}
    settings = application_settings(allowing)
    models = yaml.safe_load(settings.read_text())["models"]
    with serving(server.application()) as url, served_gateway(tmp_path, url, models) as gate:
        for query in REFUSED:
            before = len(server.seen)
            path = "/predict" if method == "POST" else "/ready"
            found = httpx.request(method, f"{gate.url}{path}{query}", json=ROWS if method == "POST" else None)
            assert (found.status_code, len(server.seen)) == (400, before), query
            assert "query" in found.json()["error"]


@pytest.mark.parametrize("query", ["?top=1", "?threshold=9&top=1", "?Threshold=9"])
def test_in_shadow_mode_any_query_that_can_be_read_passes(setup, query):
    server, gate = setup
    assert post(gate, query).status_code == 200
    assert server.seen[-1][1] == "/predict" + query


def test_a_query_of_metadata_is_passed_on_too(setup):
    server, gate = setup
    assert httpx.get(f"{gate.url}/ready?api-version=1").status_code == 200
    assert server.seen[-1][:2] == ("GET", "/ready?api-version=1")


def test_headers_of_traces_and_listed_ones_reach_the_model_server_and_no_other(setup):
    server, gate = setup
    passed = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "vendor=1",
        "x-request-id": "r-1",
        "x-tenant": "t1",
    }
    others = SECRETS | {
        "x-other": "1",
        "accept-language": "de",
        "x-forwarded-for": "1.2.3.4",
        "x-stainless-os": "Linux",
    }
    for ask in (post, lambda gate, headers: httpx.get(f"{gate.url}/ready", headers=headers)):
        found = ask(gate, headers=passed | {name: value for name, value in others.items() if name not in SECRETS})
        assert found.status_code == 200
        read = server.seen[-1][2]
        assert {name: read.get(name) for name in passed} == passed
        assert not (others.keys() - {"accept-language"}) & read.keys()
        assert read.get("accept-language") is None


def test_what_is_no_identifier_of_a_trace_is_left_out(setup):
    server, gate = setup
    for value in ("a" * 129, 'a"b', "a b"):
        assert post(gate, headers={"x-request-id": value, "traceparent": value}).status_code == 200
        assert not {"x-request-id", "traceparent"} & server.seen[-1][2].keys()
    assert post(gate, headers={"x-tenant": "a" * 1025}).status_code == 400


def test_the_callers_key_never_reaches_the_model_server(tmp_path):
    server = Server()
    keys = {"keys": [{"name": "a", "sha256": hash_key("secret-4711")}]}
    with serving(server.application()) as url, served_gateway(tmp_path, url, {"m": CLASSIFIER}, callers=keys) as gate:
        for headers in ({"authorization": "Bearer secret-4711"}, {"x-api-key": "secret-4711", "cookie": "secret-4711"}):
            assert post(gate, headers=headers).status_code == 200
            assert httpx.get(f"{gate.url}/ready", headers=headers).status_code == 200
    assert "secret-4711" not in str(server.seen)


def test_listed_headers_of_answers_come_back_and_no_other(setup):
    server, gate = setup
    server.headers = {
        "X-Request-Id": "abc",
        "Deprecation": "true",
        "X-Model-Revision": "7",
        "Server-Timing": "model;dur=4",
        "Set-Cookie": "a=b",
        "Retry-After": "1",
        "Location": "/elsewhere",
    }
    found = post(gate)
    server.headers = {"X-Request-Id": "a" * 257}
    assert "x-request-id" not in post(gate).headers
    server.headers = {}
    kept = {name: found.headers[name] for name in ("x-request-id", "deprecation")}
    assert kept == {"x-request-id": "abc", "deprecation": "true"}
    assert not {"x-model-revision", "server-timing", "set-cookie", "retry-after", "location"} & found.headers.keys()


def test_queries_and_headers_that_the_model_reads_make_rows_of_their_own():
    rows, nothing = (b"a" * 32,), ("/predict", "", ())
    reads = [
        nothing,
        ("/predict", "threshold=9", ()),
        ("/predict", "threshold=8", ()),
        ("/predict", "", (("x-tenant", "9"),)),
        ("/predict", "threshold=9", (("x-tenant", "9"),)),
        ("/predict", "", (("x", "tenant9"),)),
        ("/predict/versions/2", "threshold=9", ()),
    ]
    found = [keyed(b"k" * 32, read, rows) for read in reads]
    assert len(set(found)) == len(found)
    assert keyed(b"k" * 32, nothing, rows) == found[0]


def test_a_request_that_paid_for_admission_asks_what_it_asked_at_first(application_settings, tmp_path):
    """The query and the listed headers are in the token of the admission toll, and nothing else can be put in their place."""
    server, purse = Server(), Purse()
    model = {"mode": "enforce", "allow_query": ["threshold"]}
    settings = application_settings(model, callers={"anonymous_credit": {"seconds": 1e-9, "units": 1}})
    document = yaml.safe_load(settings.read_text())
    section = {"request_headers": ["x-tenant", "x-request-id"]}
    with (
        serving(server.application()) as url,
        served_gateway(tmp_path, section | {"url": url}, document["models"], callers=document["callers"]) as gate,
        httpx.Client(transport=TollTransport(purse=purse)) as caller,
    ):
        found = caller.post(
            f"{gate.url}/predict?threshold=9",
            json={"rows": [[1.0, 2.0]] * 9},
            headers={"x-tenant": "t1", "x-request-id": "r1"},
        )
    assert (found.status_code, len(found.json()["scores"])) == (200, 9)
    assert purse.payments[0].mode == "redeem"  # of an admission toll; tolls of answers are sealed
    posts = [(target, headers.get("x-tenant")) for method, target, headers in server.seen if method == "POST"]
    assert posts == [("/predict?threshold=9", "t1")]
