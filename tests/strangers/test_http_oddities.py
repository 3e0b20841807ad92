"""Requests in the shapes that old clients, proxies, scanners and attackers send, to the gateway's own HTTP server."""

from __future__ import annotations

import json

import pytest

from modeltoll import wire
from modeltoll.records import Answer
from modeltoll.testing.model_servers import FakeUpstream
from raw_http import exchange, serving_gateway, statuses

BODY = b'{"rows": [[1, 2]]}'
TYPE = b"Content-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n" % (len(BODY), BODY)
ASK_ALSO = b"POST /predict HTTP/1.1\r\nHost: x\r\n" + TYPE + LENGTH + b"\r\n" + BODY  # what an attacker smuggles


def answer(_path, _body):
    return Answer(200, "application/json", json.dumps({"scores": [[0.6, 0.3, 0.1]]}).encode())


@pytest.fixture
def upstream():
    return FakeUpstream(answer)


@pytest.fixture
def gateway(application_settings, upstream):
    path = application_settings(
        {"json_path": {"route": "/predict", "inputs": "rows", "scores": "scores", "ready": "/ready"}},
        listen="127.0.0.1:0",
        callers={"anonymous_credit": {"seconds": 1e6, "units": 1e6}},
    )
    with serving_gateway(path, upstream) as place:
        yield place


def post(target=b"/predict", head=b"Host: x\r\n", version=b"1.1"):
    return b"POST %s HTTP/%s\r\n%s%s%s\r\n%s" % (target, version, head, TYPE, LENGTH, BODY)


def toll_in(received):
    return wire.decode_toll(received[received.index(b'{"type"') :])


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(version=b"1.0"),
        post(version=b"1.0", head=b""),
        post(b"http://gateway.example/predict"),
        post(b"http://gateway.example:8080/predict"),
        post(b"/%70redict"),
        post(head=b"Host: gateway.example:99999\r\n"),
        post(head=b"Host: [::1]:80\r\n"),
        post(head=b"Host:\r\n"),
        post(head=b"Host: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"),
        post(head=b"Host: x\r\nConnection: Toll-Accept\r\n"),
        b"POST /predict HTTP/1.1\r\nHost: x\r\n" + TYPE + CHUNKED + b"\r\n" + CHUNKS + b"0\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTrailer: X-Sum\r\n"
        + TYPE
        + CHUNKED
        + b"\r\n"
        + CHUNKS
        + b"0\r\nX-Sum: 1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\n"
        + TYPE
        + CHUNKED
        + b"\r\n"
        + CHUNKS.replace(b"\r\n", b";a=b\r\n", 1)
        + b"0\r\n\r\n",
        b"\r\n" + post(),
    ],
)
def test_a_request_in_an_unusual_shape_that_http_allows_gets_its_toll(gateway, request_bytes):
    received = exchange(gateway, request_bytes)
    assert statuses(received) == [402]
    if b"chunked" not in received.lower():
        assert toll_in(received).rows == 1


def test_http_1_0_closes_the_connection_and_gets_a_length(gateway):
    received = exchange(gateway, post(version=b"1.0") + post(version=b"1.0"))
    assert statuses(received) == [402]
    assert b"connection: close" in received.lower()
    assert b"transfer-encoding" not in received.lower()


def test_pipelined_requests_are_answered_in_order(gateway):
    received = exchange(gateway, post() + post(b"/other") + post())
    assert statuses(received) == [402, 404, 402]


@pytest.mark.parametrize(
    "target",
    [
        b"//predict",
        b"/predict/",
        b"/./predict",
        b"/x/../predict",
        b"/predict%2f",
        b"/%2fpredict",
        b"/PREDICT",
        b"/predict;a=b",
        b"/predict%00",
        b"/predict%20",
        b"/%2e%2e/predict",
        b"/pr\xc3\xa9dict",
        b"/pr%C3%A9dict",
        b"/",
        b"/predict/predict",
        b"*",
        b"http://x",
        b"http://x/",
        b"x:443",
    ],
)
def test_no_other_spelling_of_a_path_reaches_the_model(gateway, upstream, target):
    received = exchange(gateway, post(target))
    assert statuses(received) in ([404], [400])
    assert upstream.requests == []


@pytest.mark.parametrize(
    "method", [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"PATCH", b"DELETE", b"PROPFIND", b"QUERY"]
)
def test_other_methods_are_refused_and_nothing_of_the_request_is_echoed(gateway, upstream, method):
    received = exchange(gateway, method + b" /predict HTTP/1.1\r\nHost: x\r\nX-Api-Secret: tell-nobody\r\n\r\n")
    assert statuses(received) in ([404], [400])
    assert b"tell-nobody" not in received
    assert upstream.requests == []


def test_head_of_a_readiness_path_has_no_body(gateway):
    received = exchange(gateway, b"HEAD /ready HTTP/1.1\r\nHost: x\r\n\r\nGET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
    assert statuses(received) == [200, 200]
    head = received.split(b"\r\n\r\n")[1]
    assert head.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        LENGTH + b"Content-Length: 5\r\n",
        b"Content-Length: 5\r\n" + LENGTH,
        b"Content-Length: %d, %d\r\n" % (len(BODY), len(BODY)),
        b"Content-Length: +%d\r\n" % len(BODY),
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x12\r\n",
        b"Content-Length: 1_8\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
        LENGTH + CHUNKED,
        CHUNKED + LENGTH,
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"X: y\r\n folded: chunked\r\n" + LENGTH,
        b"X\x00: y\r\n" + LENGTH,
        b"X: a\rTransfer-Encoding: chunked\r\n" + LENGTH,
    ],
)
def test_heads_whose_length_is_in_doubt_are_refused_and_nothing_behind_them_is_a_request(gateway, upstream, head):
    received = exchange(gateway, b"POST /predict HTTP/1.1\r\nHost: x\r\n" + TYPE + head + b"\r\n" + BODY + ASK_ALSO)
    assert statuses(received) == [400]
    assert upstream.requests == []


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"-5\r\n12345\r\n",
        b"fffffffffffffffff\r\n",
        b"5\r\n1234567\r\n",
        b"0x5\r\n12345\r\n",
        b"5 \n12345\r\n",
    ],
)
def test_chunks_that_are_not_well_formed_end_the_connection(gateway, upstream, body):
    received = exchange(
        gateway, b"POST /predict HTTP/1.1\r\nHost: x\r\n" + TYPE + CHUNKED + b"\r\n" + body + b"0\r\n\r\n" + ASK_ALSO
    )
    assert statuses(received) == [400]
    assert upstream.requests == []


def test_a_body_is_asked_for_only_where_it_will_be_read(gateway):
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + TYPE
    assert statuses(exchange(gateway, head % b"/predict" + LENGTH + b"\r\n" + BODY)) == [100, 402]
    for refused in (head % b"/predict" + b"Content-Length: 99999999\r\n\r\n", head % b"/other" + LENGTH + b"\r\n"):
        received = exchange(gateway, refused)
        assert statuses(received) in ([413], [404])
        assert b"connection: close" in received.lower()  # what comes next could be the body or a request


def test_a_caller_that_ends_its_sending_side_still_gets_the_answer_or_is_taken_as_gone(gateway):
    assert statuses(exchange(gateway, post(), hang_up=True)) in ([402], [])


def test_below_a_prefix_that_the_proxy_passes_on(application_settings, upstream):
    path = application_settings(
        listen="127.0.0.1:0", root_path="/ml", callers={"anonymous_credit": {"seconds": 1e6, "units": 1e6}}
    )
    with serving_gateway(path, upstream) as place:
        for target in (b"/ml/predict", b"/predict", b"/%6dl/predict"):
            received = exchange(place, post(target, b"Host: x\r\nToll-Accept: sha256; mode=redeem\r\n"))
            assert statuses(received) == [402]
            assert toll_in(received).redeem == ".well-known/modeltoll/redeem"
        for target in (b"/mlpredict", b"/ml", b"/ml//predict", b"/ml/ml/predict", b"/other/predict"):
            assert statuses(exchange(place, post(target))) == [404]
