"""The public application over real connections: sizes, encodings, routes, headers and disconnects."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import logging
import socket
import threading
from ipaddress import ip_network
from urllib.parse import urljoin

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from modeltoll import wire
from modeltoll.client.httpx import TollTransport
from modeltoll.errors import LedgerError
from modeltoll.gateway.admin.health import admin_application
from modeltoll.gateway.callers.identify import CallerIdentifier, hash_key
from modeltoll.gateway.public import app as public_app
from modeltoll.gateway.public import parsing
from modeltoll.records import Answer, Caller
from modeltoll.testing.model_servers import serving

JSON_TYPE = {"content-type": "application/json"}
ALICE = JSON_TYPE | {"x-api-key": "alice-key"}


@pytest.fixture
def gateway(harness):
    """The harness's public application on a port of its own."""
    with serving(harness.application()) as url:
        yield url


def post(harness, url, body, path=None, **headers):
    return httpx.post(url + (path or harness.path), content=body, headers=ALICE | headers, timeout=30)


def say_raw(url, data, *, half_closed=False):
    """Send bytes as they are; everything that comes back until the server hangs up or answers once."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(data)
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


def error_of(body):
    """The message of an error in the shape of the Open Inference Protocol."""
    document = json.loads(body)
    assert list(document) == ["error"]
    assert isinstance(document["error"], str)
    return document["error"]


def test_a_client_that_pays_gets_the_answer_byte_for_byte(harness, gateway):
    for mode in ("sealed", "redeem"):
        headers = ALICE | {wire.ACCEPT_HEADER: f"sha256; mode={mode}; receipts"}
        with httpx.Client(transport=TollTransport(max_seconds=30), headers=headers) as client:
            response = client.post(gateway + harness.path, content=harness.infer_body([1, 2]))
        assert (response.status_code, response.content) == (200, harness.answer(harness.confident_scores(1)).body)
        assert response.headers["content-type"] == "application/json"
    assert [bill.mode for bill in harness.log()] == ["sealed", "redeem"]
    assert harness.metric("modeltoll_redemptions_total") == 1


SPELLINGS = {
    "plain": "/api/v2/models/digits/infer",
    "an encoded slash": "/api/v2%2Fmodels/digits/infer",
    "two of them": "/api/v2/models%2fdigits%2Finfer",
    "other encoded characters": "/api/v2/models/d%69gits/infe%72",
}


@pytest.mark.parametrize("path", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("mode", ["sealed", "redeem"])
def test_the_references_of_a_toll_hold_below_a_prefix_however_the_path_is_written(harness, path, mode):
    target = "redeem" if mode == "redeem" else "settle"
    accept = {wire.ACCEPT_HEADER: f"sha256; mode={mode}; receipts"}
    with serving(Starlette(routes=[Mount("/api", harness.application())])) as url:
        toll = wire.decode_toll(post(harness, url, harness.infer_body([1, 2]), path, **accept).content)
        assert urljoin(url + path, getattr(toll, target)) == f"{url}/api/.well-known/modeltoll/{target}"
        with httpx.Client(transport=TollTransport(max_seconds=30), headers=ALICE | accept) as client:
            response = client.post(url + path, content=harness.infer_body([1, 2]))
    assert (response.status_code, response.content) == (200, harness.answer(harness.confident_scores(1)).body)
    assert harness.standing().settled_rows == 1


RAW_PATHS = [
    ({"raw_path": b"/api/v2%2Fmodels/m/infer"}, "/v2/models/m/infer", "/v2%2Fmodels/m/infer"),
    ({"raw_path": b"/a%2Fb/predict"}, "/predict", "/predict"),
    ({"raw_path": b"/%70redict?a=/b/c"}, "/predict", "/%70redict"),
    ({"raw_path": b"/elsewhere/a"}, "/predict", "/predict"),
    ({"raw_path": b""}, "/predict", "/predict"),
    ({"raw_path": None}, "/predict", "/predict"),
    ({}, "/predict", "/predict"),
]


@pytest.mark.parametrize(("scope", "path", "written"), RAW_PATHS)
def test_a_path_is_found_as_it_was_written(scope, path, written):
    assert parsing.written_path(scope, path) == written


ORIGIN = "https://app.example.org"


def asked_before(harness, url, origin, header=wire.ACCEPT_HEADER):
    """What a browser asks before a page of that origin may send a request."""
    headers = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": header}
    return httpx.options(url + harness.path, headers=headers, timeout=30)


def test_pages_of_listed_origins_may_send_requests_and_read_the_headers(harness):
    harness.cors_origins = (ORIGIN,)
    with serving(harness.application()) as url:
        before = asked_before(harness, url, ORIGIN)
        answer = post(harness, url, harness.infer_body([1, 2]), origin=ORIGIN)
        redeemed = asked_before(harness, url, ORIGIN, "content-type")
        strangers = (asked_before(harness, url, "https://evil.example"), asked_before(harness, url, ORIGIN, "x-other"))
        stranger = post(harness, url, harness.infer_body([1, 2]), origin="https://evil.example")
    assert (before.status_code, redeemed.status_code, answer.status_code) == (200, 200, 402)
    assert before.headers["access-control-allow-origin"] == answer.headers["access-control-allow-origin"] == ORIGIN
    assert "toll-receipt" in answer.headers["access-control-expose-headers"].lower()
    assert [response.status_code for response in strangers] == [400, 400]
    assert "access-control-allow-origin" not in stranger.headers
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        # openai 6.49.0 (npm) in a browser, and its options
        (
            "authorization,content-type,user-agent,x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-package-version,"
            "x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout"
        ),
        "openai-organization,openai-project,openai-beta,x-stainless-helper-method,idempotency-key,x-client-request-id",
        "traceparent,tracestate,baggage,b3,x-b3-traceid,sentry-trace,x-datadog-trace-id",
        "content-type, inference-header-content-length, toll-settle, cache-control, x-requested-with",
        "X-Tenant",
        "",
    ],
)
def test_pages_may_send_what_sdks_and_tracing_add_and_what_the_operator_lists(harness, headers):
    harness.cors_origins, harness.cors_headers = (ORIGIN,), ("x-tenant",)
    with serving(harness.application()) as url:
        response = asked_before(harness, url, ORIGIN, headers)
    assert response.status_code == 200
    assert response.headers["access-control-allow-headers"] == headers
    assert {"origin", "access-control-request-headers"} <= set(response.headers["vary"].lower().split(", "))


def test_no_page_may_say_where_its_request_comes_from(harness):
    harness.cors_origins, harness.cors_headers = ("*",), ("*",)
    with serving(harness.application()) as url:
        assert asked_before(harness, url, ORIGIN, "x-anything").status_code == 200
        for header in ("x-forwarded-for", "Forwarded", "x-real-ip", "content-type,x-forwarded-host"):
            assert asked_before(harness, url, ORIGIN, header).status_code == 400


def test_the_log_says_once_why_a_page_is_refused(harness, caplog):
    harness.cors_origins = (ORIGIN,)
    with serving(harness.application()) as url:
        for _ in range(2):
            asked_before(harness, url, "https://evil.example")
            asked_before(harness, url, ORIGIN, "x-other")
        for number in range(200):
            asked_before(harness, url, f"https://{number}.example")
    messages = [record.getMessage() for record in caplog.records if "CORS" in record.getMessage()]
    assert "'https://evil.example'" in messages[0]
    assert "cors.origins" in messages[0]
    assert "'x-other'" in messages[1]
    assert "cors.headers" in messages[1]
    assert len(messages) == 100


def test_without_a_list_no_page_of_another_origin_may_ask(harness, gateway):
    assert asked_before(harness, gateway, ORIGIN).status_code == 404
    assert (
        "access-control-allow-origin" not in post(harness, gateway, harness.infer_body([1, 2]), origin=ORIGIN).headers
    )


def test_a_client_without_toll_support_gets_a_readable_error(harness, gateway):
    response = post(harness, gateway, harness.infer_body([1, 2]))
    toll = wire.decode_toll(response.content)
    assert response.status_code == 402
    assert response.json()["error"] == wire.DETAIL
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["www-authenticate"] == wire.format_authenticate(toll, harness.model)
    assert wire.RECEIPT_HEADER not in response.headers
    assert harness.answer(harness.confident_scores(1)).body not in response.content


def test_shadow_mode_gives_the_answer_with_a_receipt(harness):
    harness.mode = "shadow"
    with serving(harness.application()) as url:
        response = post(harness, url, harness.infer_body([1, 2]))
    assert response.content == harness.answer(harness.confident_scores(1)).body
    (bill,) = harness.log()
    assert response.headers["toll-receipt"] == wire.format_receipt(1, bill.work.seconds, "shadow")


def test_an_exempt_caller_gets_the_answer_with_a_receipt(harness, gateway):
    response = post(harness, gateway, harness.infer_body([1, 2]), **{"x-api-key": "vip-key"})
    assert response.content == harness.answer(harness.confident_scores(1)).body
    assert response.headers["toll-receipt"].endswith("mode=exempt")


# Bodies


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 50_000, b'{"inputs":[],"inputs":[]}', b""])
def test_bad_bodies_are_errors_of_the_protocol(harness, gateway, body):
    response = post(harness, gateway, body)
    assert response.status_code == 400
    assert error_of(response.content)
    assert harness.upstream.requests == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_refused_however_it_comes(harness, gateway, chunked):
    size = 20 << 20
    body = (b"x" * 65536 for _ in range(size // 65536)) if chunked else b"x" * size
    try:
        response = post(harness, gateway, body)
    except httpx.WriteError:
        pytest.skip("this system tells the client only that the connection was cut")
    assert response.status_code == 413
    assert "100000 bytes" in error_of(response.content)
    assert harness.upstream.requests == []


def test_a_body_of_exactly_the_limit_is_read(harness, gateway):
    body = harness.infer_body([1, 2], id="x" * 1000).ljust(harness.max_body)
    assert post(harness, gateway, body).status_code == 402
    assert post(harness, gateway, body + b" ").status_code == 413


def request_of(harness, body, *lines):
    head = [f"POST {harness.path} HTTP/1.1", "Host: toll", "Content-Type: application/json", "X-Api-Key: alice-key"]
    head += [*lines, "", ""]
    return "\r\n".join(head).encode() + body


def test_a_length_that_claims_too_much_is_refused_before_the_body_is_there(harness, gateway):
    for length in ("100001", "9" * 18):
        status, said = say_raw(gateway, request_of(harness, b"{", f"Content-Length: {length}"))
        assert (status, "100000 bytes" in error_of(said)) == (413, True)


def test_a_body_shorter_than_it_claims_is_no_request(harness, gateway):
    body = harness.infer_body([1, 2])
    data = request_of(harness, body, f"Content-Length: {len(body) + 10}")
    with pytest.raises((http.client.HTTPException, OSError)):
        say_raw(gateway, data, half_closed=True)
    assert harness.upstream.requests == []


def test_a_body_longer_than_it_claims_is_cut_and_the_rest_is_no_request(harness, gateway):
    body = harness.infer_body([1, 2])
    status, _ = say_raw(gateway, request_of(harness, body + b"garbage\r\n\r\n", f"Content-Length: {len(body)}"))
    assert status in (400, 402)
    assert len(harness.log()) <= 1


def test_a_body_that_does_not_arrive_is_given_up(harness, gateway, monkeypatch):
    monkeypatch.setattr(parsing, "_GRACE_SECONDS", 0.1)
    status, said = say_raw(gateway, request_of(harness, b"{", "Content-Length: 100"))
    assert (status, "slower than" in error_of(said)) == (408, True)


def test_bodies_that_are_compressed_in_a_way_that_is_not_known_are_refused(harness, gateway):
    response = post(harness, gateway, gzip.compress(harness.infer_body([1, 2])), **{"content-encoding": "br"})
    assert (response.status_code, "compressed" in error_of(response.content)) == (415, True)
    assert harness.upstream.requests == []
    assert post(harness, gateway, harness.infer_body([1, 2]), **{"content-encoding": "Identity"}).status_code == 402


# Routes


UNLISTED = [
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", "/readyz"),
    ("GET", "/docs"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/digits/load"),
    ("POST", "/v2/repository/models/digits/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/region/r/register"),
    ("POST", "/v2/cudasharedmemory/unregister"),
    ("GET", "/v2/models/digits/stats"),
    ("POST", "/v2/models/digits/generate"),
    ("GET", "/v2/models/digits/infer"),
    ("PUT", "/v2/models/digits/infer"),
    ("DELETE", "/v2/models/digits"),
    ("POST", "/v2/models/digits"),
    ("OPTIONS", "/v2/models/digits/infer"),
    ("POST", "/v2/models/digits/infer/"),
    ("GET", "/v2/"),
    ("POST", "//v2/models/digits/infer"),
    ("POST", "/v2/models//infer"),
    ("POST", "/V2/models/digits/infer"),
    ("POST", "/v2/models/other/infer"),
    ("GET", "/v2/models/other"),
    ("POST", "/v2/models/../models/digits/infer"),
    ("POST", "/v2/models/digits%2F..%2Fother/infer"),
    ("POST", "/v2/models/digits%00/infer"),
    ("POST", "/v2/models/digits/infer%0A"),
    ("POST", "/v2/models/digits/infer%3Fx"),
    ("POST", "/v2/models/digits/infer%23x"),
    ("POST", "/v2/models/digits/versions/../infer"),
    ("POST", "/v2/models/digits/versions/%2e%2e/infer"),
    ("POST", "/v2/models/digits/versions/.hidden/infer"),
    ("POST", "/v2/models/digits/versions/..%2f..%2fother/infer"),
    ("POST", "/v2/models/digits/versions/1%20/infer"),
    ("POST", "/v2/models/digits/versions/1%3f/infer"),
    ("GET", "/v2/models/digits/versions/%2e%2e/ready"),
    ("POST", "/v2/models/digits/versions/2/infer"),
    ("GET", "/v2/models/digits/versions/2"),
    ("GET", "/v2/models/digits/versions/2/ready"),
    ("GET", wire.REDEEM_PATH),
]


def test_what_is_not_listed_is_refused_and_never_asked_for(harness, gateway):
    """Raw request lines, since HTTP libraries tidy paths up before they send them."""
    for method, path in UNLISTED:
        body = harness.infer_body([1, 2])
        head = f"{method} {path} HTTP/1.1\r\nHost: toll\r\nX-Api-Key: alice-key\r\nContent-Length: {len(body)}\r\n\r\n"
        status, said = say_raw(gateway, head.encode() + body)
        assert status == 404, (method, path)
        assert error_of(said)
    assert harness.upstream.requests == []


@pytest.mark.parametrize("host", ["other/v2/models/other/infer?", "a/../..", "a#b", "[", ""])
def test_the_host_header_does_not_choose_the_path(harness, gateway, host):
    body = harness.infer_body([1, 2])
    data = request_of(harness, body, f"Content-Length: {len(body)}").replace(b"Host: toll", f"Host: {host}".encode())
    say_raw(gateway, data)
    assert {path for path, _ in harness.upstream.requests} <= {harness.path}


def test_versions_are_asked_for_by_name(harness, gateway):
    path = "/v2/models/digits/versions/v1.2-b_3/infer"
    assert post(harness, gateway, harness.infer_body([1, 2]), path).status_code == 402
    assert [asked for asked, _ in harness.upstream.requests] == [path]


def test_metadata_and_health_go_through_as_they_are(harness, gateway):
    paths = ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/digits", "/v2/models/digits/ready"]
    paths += ["/v2/models/digits/versions/1", "/v2/models/digits/versions/1/ready"]
    for path in paths:
        response = httpx.get(gateway + path, headers=ALICE)
        assert (response.status_code, response.json()["path"]) == (200, path)
    harness.upstream.handler = lambda path, body: Answer(503, "text/plain", b"not yet")
    response = httpx.get(gateway + "/v2/health/ready")
    assert (response.status_code, response.content) == (503, b"not yet")
    assert harness.log() == []


# Callers


def test_keys_are_required_and_never_shown(harness):
    harness.identifier = CallerIdentifier({hash_key("alice-key"): Caller("key:alice")}, anonymous=False)
    with serving(harness.application()) as url:
        for headers in ({}, {"x-api-key": "wrong-key"}, {"authorization": "Bearer wrong-key"}):
            for response in (
                httpx.post(url + harness.path, content=harness.infer_body([1, 2]), headers=JSON_TYPE | headers),
                httpx.get(url + "/v2/models/digits", headers=headers),
                httpx.post(url + wire.REDEEM_PATH, content=b"{}", headers=JSON_TYPE | headers),
            ):
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
                assert "wrong-key" not in error_of(response.content)
        assert post(harness, url, harness.infer_body([1, 2])).status_code == 402
    assert len(harness.upstream.requests) == 1


def test_every_line_of_forwarded_for_counts(harness):
    """A proxy may append a line of its own to the one that the caller made up."""
    harness.identifier = CallerIdentifier(trusted_proxies=(ip_network("127.0.0.0/8"),))
    body = harness.infer_body([1, 2])
    lines = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 203.0.113.1", f"Content-Length: {len(body)}")
    with serving(harness.application()) as url:
        assert say_raw(url, request_of(harness, body, *lines).replace(b"X-Api-Key", b"X-Nothing"))[0] == 402
    assert harness.account(Caller("net:203.0.113.1")).rows == 1


def redemption(harness, url, caller="alice-key"):
    toll = wire.decode_toll(
        post(harness, url, harness.infer_body([1, 2]), **{wire.ACCEPT_HEADER: "sha256; mode=redeem"}).content
    )
    body = harness.redemption(toll)
    return lambda key=caller: httpx.post(url + wire.REDEEM_PATH, content=body, headers=JSON_TYPE | {"x-api-key": key})


def test_a_client_can_ask_whether_the_redeem_path_leads_to_a_gateway(harness, gateway):
    def probe(key="alice-key", body=wire.REDEEM_PROBE):
        headers = {"x-api-key": key, "content-type": "application/json"}
        return httpx.post(gateway + wire.REDEEM_PATH, content=body, headers=headers, timeout=30)

    assert (probe().status_code, probe().content) == (204, b"")
    assert probe("mallory").status_code == 401
    assert probe(body=b"{ }").status_code == 400


def test_a_token_is_redeemed_by_its_caller_alone(harness, gateway):
    redeem = redemption(harness, gateway)
    assert redeem().content == redeem().content == harness.answer(harness.confident_scores(1)).body
    response = redeem("bob-key")
    assert response.status_code == 403
    assert "alice" not in error_of(response.content)
    harness.clock.advance(86_400)
    assert redeem().status_code == 410
    wrong = httpx.post(gateway + wire.REDEEM_PATH, content=b"{", headers=ALICE)
    assert (wrong.status_code, bool(error_of(wrong.content))) == (400, True)


# Waiting


def test_requests_above_the_limit_are_refused(harness):
    inside, leave = threading.Event(), threading.Event()

    class Slow:
        async def predict(self, path, body, content_type, head):
            inside.set()
            await asyncio.to_thread(leave.wait)
            return harness.answer(harness.confident_scores(1))

    harness.upstream, harness.max_requests = Slow(), 1
    with serving(harness.application()) as url:
        first = threading.Thread(target=post, args=(harness, url, harness.infer_body([1, 2])))
        first.start()
        assert inside.wait(30)
        response = post(harness, url, harness.infer_body([3, 4]))
        leave.set()
        first.join()
        assert (response.status_code, "too many" in error_of(response.content)) == (503, True)
        assert post(harness, url, harness.infer_body([3, 4])).status_code == 402  # who left has made room


def test_a_caller_that_disconnects_frees_its_slot(harness):
    """The caller disconnects before its body is complete, or while the model server works; others are served."""
    inside, leave, body = threading.Event(), threading.Event(), harness.infer_body([1, 2])

    class Slow:
        async def predict(self, path, body, content_type, head):
            inside.set()
            await asyncio.to_thread(leave.wait)
            return harness.answer(harness.confident_scores(1))

    harness.upstream, harness.max_requests = Slow(), 1
    with serving(harness.application()) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(request_of(harness, b"{", "Content-Length: 100"))
        while not inside.is_set():  # until it is known that the first has gone
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(request_of(harness, body, f"Content-Length: {len(body)}"))
                inside.wait(0.2)
        leave.set()
        while (response := post(harness, url, harness.infer_body([5, 6]))).status_code == 503:
            pass
        assert response.status_code == 402
    assert [bill.rows for bill in harness.log()] == [1, 1]  # who left after asking was charged; who left before was not


# Metrics, logs, errors


def test_a_failing_ledger_is_a_503_with_more_detail_in_the_log_than_in_the_answer(harness, caplog):
    async def charge(caller, entry):
        raise LedgerError("the ledger's disk is full; make room", private="/var/lib/secret/ledger.db")

    harness.ledger.charge = charge
    with serving(harness.application()) as url:
        response = post(harness, url, harness.infer_body([1, 2]))
    assert (response.status_code, error_of(response.content)) == (503, "the ledger's disk is full; make room")
    assert "/var/lib/secret" in caplog.text
    harness.without_ledger = True
    with serving(harness.application()) as url:
        assert post(harness, url, harness.infer_body([1, 2])).status_code == 402
    assert harness.metric("modeltoll_without_ledger_total") == 1


def test_a_fault_of_the_gateway_itself_says_nothing_of_it(harness, caplog):
    def read(body, service):
        raise ZeroDivisionError("payload 4711")

    gate = harness.gate()
    gate.config.served_model.protocol.read = read
    components = harness.components(gate)
    with serving(public_app.application(components)) as url:
        response = post(harness, url, harness.infer_body([1, 2]))
    assert (response.status_code, error_of(response.content)) == (500, "the gateway failed")
    assert harness.metric('modeltoll_refusals_total{error="ModeltollError"}') == 1
    assert any(record.levelno >= logging.ERROR for record in caplog.records)  # the operator gets the traceback


def test_neither_keys_nor_payloads_nor_names_are_in_metrics_logs_or_errors(harness, caplog):
    caplog.set_level(logging.DEBUG)
    secret = 47.110815
    with serving(harness.application()) as url:
        redeem = redemption(harness, url)
        said = [
            post(harness, url, harness.infer_body([secret, 1])),
            redeem(),
            redeem("bob-key"),
            post(harness, url, b'{"47.110815"'),
        ]
        said += [httpx.post(url + harness.path, headers=JSON_TYPE | {"authorization": "Bearer wrong-key"})]
        harness.upstream.handler = lambda path, body: Answer(500, "text/plain", body)
        said += [post(harness, url, harness.infer_body([secret, 2]))]
        harness.upstream.handler = lambda path, body: Answer(200, "application/json", body)
        said += [post(harness, url, harness.infer_body([secret, 3]))]
    errors = " ".join(response.text for response in said if response.status_code not in (200, 402))
    logged = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    assert len(errors) > 100
    assert "AnswerError" in logged
    for word in ("47.110815", "-key", "alice", "bob", "127.0.0"):
        assert word not in errors
        assert word not in logged
        assert word not in harness.metrics.render().decode()


def test_metrics_count_what_happened(harness):
    admin = admin_application(harness.upstream, "/v2/health/ready", harness.ledger, harness.metrics)
    harness.metrics.set_unit(harness.model, 0.0001, at_minimum=True)
    with serving(harness.application()) as url, serving(admin) as operator:
        post(harness, url, harness.infer_body([[1, 2], [3, 4]]))
        post(harness, url, harness.infer_body([1, 2]), **{"x-api-key": "vip-key"})
        post(harness, url, b"{")
        response = httpx.get(operator + "/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#"))
    for sample, value in {
        'modeltoll_requests_total{mode="redeem",model="digits"}': 1,
        'modeltoll_requests_total{mode="exempt",model="digits"}': 1,
        'modeltoll_rows_total{model="digits"}': 3,
        'modeltoll_work_seconds_count{model="digits"}': 2,
        'modeltoll_request_seconds_count{model="digits"}': 2,
        'modeltoll_refusals_total{error="RequestError"}': 1,
        "modeltoll_without_ledger_total": 0,
        'modeltoll_unit_seconds{model="digits"}': 0.0001,
        'modeltoll_unit_at_minimum{model="digits"}': 1,
    }.items():
        assert float(lines[sample]) == value, sample


# The operator's side


async def get(app: Starlette, path):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as client:
        return await client.get(path)


def test_readiness_says_which_of_the_two_is_not_ready(harness, monkeypatch):
    admin = admin_application(harness.upstream, "/v2/health/ready", harness.ledger, harness.metrics)
    assert asyncio.run(get(admin, "/livez")).json() == {"live": True}
    assert asyncio.run(get(admin, "/readyz")).json() == {"ready": True, "upstream": True, "ledger": True}
    assert harness.upstream.requests == [("/v2/health/ready", b"")]
    harness.upstream.handler = lambda path, body: Answer(503, "text/plain", b"")
    response = asyncio.run(get(admin, "/readyz"))
    assert (response.status_code, response.json()) == (503, {"ready": False, "upstream": False, "ledger": True})
    asyncio.run(harness.ledger.close())
    assert asyncio.run(get(admin, "/readyz")).json() == {"ready": False, "upstream": False, "ledger": False}
    assert asyncio.run(get(admin, "/livez")).status_code == 200
    assert asyncio.run(get(admin, "/v2/models/digits")).status_code == 404


def test_readiness_does_not_wait_for_a_model_server_or_ledger_that_hangs(harness, monkeypatch):
    monkeypatch.setattr("modeltoll.gateway.admin.health._TIMEOUT", 0.01)

    class Hanging:
        async def fetch(self, path, head=None):
            await asyncio.Event().wait()

        async def check_writable(self):
            await asyncio.Event().wait()

    admin = admin_application(Hanging(), "/v2/health/ready", Hanging(), harness.metrics)
    assert asyncio.run(get(admin, "/readyz")).json() == {"ready": False, "upstream": False, "ledger": False}
