"""The sidecar: what it pays, what it forwards, and which hosts it never connects to."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from dataclasses import replace

import httpx
import pytest
from starlette.responses import RedirectResponse, Response, StreamingResponse

from modeltoll import wire
from modeltoll.client.purse import Purse
from modeltoll.client.receipts import Account
from modeltoll.client.sidecar import application, upstream_url
from modeltoll.client.sidecar_access import sidecar_access
from modeltoll.client.sidecar_metrics import SidecarMetrics
from modeltoll.errors import SettingsError
from modeltoll.records import Answer, MachineProfile
from modeltoll.toll_records import Challenge, Part, Toll
from served_sidecar import Sidecar

BODY = bytes(range(256)) * 3
ANSWER = Answer(200, "application/x-tensor; a=1", BODY)
UNIT = MachineProfile("unit", "an evaluation takes a second", 1.0, {256: 1.0})
EXPENSIVE = Toll("sealed", Challenge("sha256", (Part(b"s" * 16, 2**46 - 1, b"\0" * 16),)), b"", 1, 1.0)


@pytest.fixture
def sidecar(toll_server):
    with Sidecar(toll_server.url) as running:
        yield running


def test_a_program_without_support_for_tolls_gets_its_answer(toll_server, sidecar):
    toll_server.serve_toll(ANSWER)
    got = sidecar.ask("POST", "/infer", content=b"row")
    assert (got.status_code, got.content, got.headers["content-type"]) == (200, BODY, ANSWER.content_type)
    assert got.headers["content-length"] == str(len(BODY))
    assert "www-authenticate" not in got.headers
    assert [(path, body) for _, path, _, body in toll_server.received] == [("/infer", b"row")]
    page = sidecar.metrics()
    assert 'modeltoll_proxy_tolls_total{mode="sealed",puzzle="sha256"} 1.0' in page
    assert 'modeltoll_proxy_requests_total{outcome="answered"} 1.0' in page
    assert "modeltoll_proxy_rows_total 1.0" in page


def test_a_redemption_carries_the_programs_key(toll_server, sidecar, key):
    toll_server.serve_toll(ANSWER)
    got = sidecar.ask("POST", "/infer", content=b"row", headers=key | {wire.ACCEPT_HEADER: "sha256; mode=redeem"})
    assert got.content == BODY
    assert [(path, headers["authorization"]) for _, path, headers, _ in toll_server.received] == [
        ("/infer", key["authorization"]),
        (wire.REDEEM_PATH, key["authorization"]),
    ]


def test_a_response_without_toll_is_unchanged(toll_server, sidecar):
    packed = gzip.compress(b"hello" * 99)
    toll_server.serve_response(
        Response(packed, 201, {"content-encoding": "gzip", "x-own": "yes", "set-cookie": "a=1"}, "text/plain")
    )
    got = sidecar.ask("POST", "/infer?a=b%20c%2F", content=b"row", headers={"X-Own": "1", "Cookie": "b=2"})
    direct = httpx.post(toll_server.url + "/infer?a=b%20c%2F", content=b"row", verify=False)
    assert (got.status_code, got.reason_phrase, got.text) == (201, "Created", "hello" * 99)
    assert {name: got.headers[name] for name in direct.headers} == dict(direct.headers) | {"date": got.headers["date"]}
    assert set(got.headers) == set(direct.headers)
    _, _, sent, body = toll_server.received[0]
    assert (sent["x-own"], sent["cookie"], body, sent["host"]) == ("1", "b=2", b"row", toll_server.url[7:])


@pytest.mark.parametrize("case", [Response(status_code=204), Response(b"no", 404), Response(b"x"), Response(b"", 304)])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_each_kind_of_response_is_forwarded(toll_server, sidecar, case, method):
    """Also those without a body, and those without a content type, which get none."""
    toll_server.serve_response(case)
    got, direct = sidecar.ask(method, "/infer"), httpx.request(method, toll_server.url + "/infer", verify=False)
    assert (got.status_code, got.content) == (direct.status_code, direct.content)
    assert got.headers.get("content-length") == direct.headers.get("content-length")
    assert got.headers.get("content-type") == direct.headers.get("content-type")


def test_hop_by_hop_headers_are_not_forwarded(toll_server, sidecar):
    sent_headers = {
        "connection": "X-Mine",
        "x-mine": "1",
        "keep-alive": "timeout=5",
        "proxy-authenticate": "Basic",
        "x-kept": "1",
    }
    toll_server.serve_response(Response(b"ok", 200, sent_headers))
    sent = {
        "connection": "keep-alive, X-Hop",
        "x-hop": "1",
        "keep-alive": "1",
        "proxy-authorization": "Basic eDp5",
        "te": "trailers",
        "upgrade": "h2c",
        "x-kept": "1",
    }
    got = sidecar.ask("GET", "/infer", headers=sent)
    assert got.headers["x-kept"] == "1"
    assert not {"x-mine", "keep-alive", "proxy-authenticate"} & set(got.headers)
    asked = toll_server.received[0][2]
    assert asked["x-kept"] == "1"
    assert not {"x-hop", "keep-alive", "proxy-authorization", "te", "upgrade"} & set(asked)


def test_bodies_stream_both_ways(toll_server, sidecar):
    """The second half is sent only when the first has reached the program."""
    arrived = threading.Event()

    async def halves():
        yield b"one"
        assert await asyncio.to_thread(arrived.wait, 10)
        yield b"two"

    toll_server.handlers["/infer"] = lambda _request, _body: StreamingResponse(
        halves(), 200, media_type="text/event-stream"
    )
    with sidecar.stream("GET", "/infer") as response:
        chunks = response.iter_raw()
        assert next(chunks) == b"one"
        arrived.set()
        assert b"".join(chunks) == b"two"
    sidecar.ask("POST", "/infer", content=iter((b"a", b"b")))
    assert toll_server.received[-1][3] == b"ab"


def test_a_compressed_request_stays_compressed(toll_server, sidecar):
    packed = gzip.compress(b"row")
    toll_server.serve_response(Response(b"ok"))
    sidecar.ask("POST", "/infer", content=packed, headers={"content-encoding": "gzip"})
    assert (toll_server.received[0][3], toll_server.received[0][2]["content-encoding"]) == (packed, "gzip")


@pytest.mark.parametrize("options", [{"max_seconds": 1.0}, {"max_seconds": 1e30, "max_seconds_per_hour": 1.0}])
def test_what_is_above_a_limit_is_refused_with_402_and_the_reason(toll_server, toll_response, options):
    """Not a status that programs retry on, and nothing that another client takes for a toll."""
    toll_server.serve_response(toll_response(EXPENSIVE))
    with Sidecar(toll_server.url, profile=UNIT, **options) as sidecar:
        got = sidecar.ask("POST", "/infer")
        assert (got.status_code, wire.find_toll(got.content)) == (402, None)
        assert "the toll takes about" in got.json()["error"]
        assert 'outcome="refused"} 1.0' in sidecar.metrics()
    assert toll_server.paths() == ["/infer"]


def test_a_broken_seal_is_refused_with_402(toll_server, sidecar):
    toll_server.serve_toll(Answer(302, "a/b", b""))
    assert sidecar.ask("GET", "/infer").status_code == 402


def test_a_402_that_is_no_toll_is_forwarded(toll_server, sidecar):
    toll_server.serve_response(Response(b'{"price": 5}', 402, media_type="application/json"))
    got = sidecar.ask("GET", "/infer")
    assert (got.status_code, got.json()) == (402, {"price": 5})


def test_no_other_host_is_ever_contacted(toll_server, other_server, sidecar):
    """Neither if the program names one, nor if the upstream redirects to one."""
    there = other_server.url[7:]
    for target in (f"http://{there}/infer", f"@{there}/", "*"):
        assert b" 400 " in sidecar.raw(f"GET {target} HTTP/1.1\r\nHost: {there}\r\nConnection: close\r\n\r\n".encode())
    for host in (there, "localhost"):
        sidecar.raw(f"GET //{there}/infer HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    toll_server.serve_response(RedirectResponse(other_server.url + "/infer"))
    got = sidecar.ask("GET", "/infer")
    assert (got.status_code, got.headers["location"]) == (307, other_server.url + "/infer")
    assert other_server.received == []


HOSTS = {
    "localhost": 200,
    "LOCALHOST:9": 200,
    "localhost.": 200,
    "me.localhost:8081": 200,
    "127.0.0.1:8081": 200,
    "127.8.8.8": 200,
    "[::1]:8081": 200,
    "proxy.internal:8081": 200,
    "evil.example": 403,
    "127.0.0.1.evil.example": 403,
    "evil.example:127.0.0.1": 403,
    "localhost@evil.example": 403,
    "198.51.100.7": 403,
    "[2001:db8::1]": 403,
    "0.0.0.0": 403,
    "": 403,
    "[::1": 403,
}


@pytest.mark.parametrize("path", ["/infer", "/metrics"])
def test_a_foreign_host_name_is_refused(toll_server, path):
    """A page of another site can give its own name this machine's address (DNS rebinding)."""
    toll_server.serve_response(Response(b"ok"))
    with Sidecar(toll_server.url, sidecar_access(["Proxy.Internal"])) as sidecar:
        for host, status in HOSTS.items():
            got = sidecar.raw(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            assert got.startswith(f"HTTP/1.1 {status} ".encode()), host
        two = b"GET /infer HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        assert not sidecar.raw(two).startswith(b"HTTP/1.1 200 ")
    assert len(toll_server.received) == (sum(status == 200 for status in HOSTS.values()) if path == "/infer" else 0)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:9"}, 403),
        ({"origin": "https://app.example"}, 200),
        ({"origin": "HTTPS://app.example", "sec-fetch-site": "cross-site"}, 200),
        ({"origin": "https://app.example:8443"}, 403),
        ({"origin": "https://evil.example", "sec-fetch-site": "same-origin"}, 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_what_pages_of_other_sites_cause_is_refused(toll_server, headers, status, method):
    toll_server.handlers["/infer"] = lambda *_: Response(b"ok")
    with Sidecar(toll_server.url, sidecar_access((), ["https://app.example"])) as sidecar:
        got = sidecar.ask(method, "/infer", headers=headers)
        own = sidecar.ask(method, "/infer", headers={"origin": sidecar.url, "sec-fetch-site": "same-origin"})
    expected = 405 if method == "OPTIONS" and status == 200 else status  # the test server has no OPTIONS
    assert (got.status_code, own.status_code) == (expected, 405 if method == "OPTIONS" else 200)
    assert status == 200 or "proxy" in got.json()["error"]


def test_the_address_of_the_connection_is_an_own_name_of_a_sidecar_that_listens_on_all():
    access = sidecar_access()
    for host, address in (("10.0.0.5:8081", "10.0.0.5"), ("[fe80::1]:8081", "fe80::1%eth0")):
        assert access.refusal({}, [host], address) is None
        assert "host name" in access.refusal({}, [host], "10.0.0.6")
    assert access.refusal({}, [], "10.0.0.5") is None  # HTTP/1.0, which no browser sends


@pytest.mark.parametrize("name", ["", "a:8081", "http://a", "a/b", "a b"])
def test_an_invalid_host_name_is_refused(name):
    with pytest.raises(SettingsError, match="--host-name"):
        sidecar_access([name])
    assert sidecar_access(["::1", "10.0.0.1", "a.b"]).hosts == {"::1", "10.0.0.1", "a.b"}


@pytest.mark.parametrize("origin", ["", "a.example", "ftp://a", "https://", "https://a/b", "https://u@a", "null", "*"])
def test_an_invalid_origin_is_refused(origin):
    with pytest.raises(SettingsError, match="--allow-origin"):
        sidecar_access((), [origin])


def test_receipts_go_back_with_each_programs_own_key_and_at_the_end(toll_server):
    """What is left is posted when the sidecar stops."""
    toll_server.serve_receipts()
    with Sidecar(toll_server.url) as sidecar:
        for program in ("one", "two", "one"):
            sidecar.ask("POST", "/infer", content=b"row", headers={"authorization": program})
    returned = [
        (headers["authorization"], taken)
        for (_, _, headers, _), (_, taken) in zip(toll_server.received, toll_server.receipts(), strict=True)
        if taken
    ]
    assert sorted(returned) == [("one", (b"1",)), ("one", (b"3",)), ("two", (b"2",))]
    assert toll_server.paths() == [*["/infer"] * 3, *[wire.SETTLE_PATH] * 2]


@pytest.mark.parametrize("size", [3, 1 << 20, (1 << 20) + 1])
def test_a_short_request_is_sent_again_before_admission_is_paid(toll_server, toll, toll_response, key, size):
    """A longer one is not kept, and pays."""
    admission = replace(toll(ANSWER, "redeem"), admission=True)
    toll_server.handlers["/batch"] = lambda request, _body: (
        Response(b"batch") if "toll-settle" in request.headers else toll_response(admission, path="/batch")
    )
    with Sidecar(toll_server.url) as sidecar:
        assert sidecar.ask("POST", "/batch", content=b"r", headers=key).content == BODY
        account = Account(toll_server.url, key["authorization"])
        original = toll_server.handlers["/batch"]

        def late(request, body):
            if "toll-settle" not in request.headers:
                sidecar.purse.receipts.add(account, wire.SETTLE_PATH, b"r")
            return original(request, body)

        toll_server.handlers["/batch"] = late
        got = sidecar.ask("POST", "/batch", content=bytes(size), headers=key)
    assert got.content == (b"batch" if size <= 1 << 20 else BODY)
    assert [body for _, path, _, body in toll_server.received if path == "/batch"][1:] == [bytes(size)] * (
        2 if size <= 1 << 20 else 1
    )


def test_a_redirect_within_the_upstream_leads_back_to_the_sidecar(toll_server, sidecar):
    toll_server.serve_response(RedirectResponse(toll_server.url + "/new?a=1"))
    assert sidecar.ask("GET", "/infer").headers["location"] == "/new?a=1"


def test_a_prefix_of_the_upstream_is_kept(toll_server):
    toll_server.serve_response(Response(b"ok"), "/v1/infer")
    with Sidecar(toll_server.url + "/v1/") as sidecar:
        assert sidecar.ask("GET", "/infer").content == b"ok"


def test_an_upstream_that_is_down_is_502():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with Sidecar(url) as sidecar:
        assert sidecar.ask("GET", "/").status_code == 502
        assert 'outcome="failed"} 1.0' in sidecar.metrics()


@pytest.mark.parametrize("headers", [{"content-length": "9"}, {}])
def test_an_incomplete_answer_is_not_passed_as_complete(toll_server, sidecar, headers):
    async def die():
        yield b"half"
        raise ConnectionError("gone")

    toll_server.handlers["/infer"] = lambda _request, _body: StreamingResponse(die(), 200, headers)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        sidecar.ask("GET", "/infer")


def test_work_ends_when_the_program_hangs_up(toll_server, toll_response, wait_until):
    work_started, over = threading.Event(), threading.Event()
    toll_server.serve_response(toll_response(EXPENSIVE))

    class Watched(Purse):
        def pay(self, toll, cancelled=None):
            try:
                return super().pay(toll, cancelled)
            finally:
                over.set()

    running = Sidecar(toll_server.url)
    running._app = application(
        upstream_url(toll_server.url), Watched(float("inf"), progress=lambda *_: work_started.set()), SidecarMetrics()
    )
    with running:
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(b"GET /infer HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert work_started.wait(10)
        assert over.wait(10)


@pytest.mark.parametrize(
    "url", ["", "host", "ftp://host", "http://", "http://u:p@host", "http://host/?a=1", "http://host/#a", "http://[::1"]
)
def test_an_invalid_upstream_is_refused(url):
    with pytest.raises(SettingsError, match="--upstream"):
        upstream_url(url)
