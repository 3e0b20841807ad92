"""The transport pays: answers arrive byte for byte, in both modes, with httpx and httpx2."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import httpx2
import pytest
from starlette.responses import RedirectResponse

from modeltoll import wire
from modeltoll.client.httpx import AsyncTollTransport, TollTransport
from modeltoll.client.purse import Purse
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.records import Answer, MachineProfile

BODY = bytes(range(256)) * 3
ANSWER = Answer(200, "application/x-tensor; a=1", BODY)
REDEEM = {wire.ACCEPT_HEADER: "sha256; mode=redeem"}


def iter_body(driver):
    """A body that can be sent once."""

    async def later():
        yield b"one,"
        yield b"two"

    return later() if driver.is_async else iter((b"one,", b"two"))


def test_a_sealed_answer_arrives_byte_for_byte_after_one_request(driver, toll_server):
    purse = Purse()
    response = driver.send(driver.toll(purse), "POST", toll_server.serve_toll(ANSWER), content=b"row")
    assert (response.status_code, response.reason_phrase, response.content) == (200, "OK", BODY)
    assert response.headers["content-type"] == ANSWER.content_type
    assert response.headers["content-length"] == str(len(BODY))
    assert toll_server.paths() == ["/infer"]
    assert toll_server.received[0][3] == b"row"
    assert [(paid.puzzle, paid.mode, paid.rows) for paid in purse.payments] == [("sha256", "sealed", 1)]


def test_a_redeemed_answer_arrives_byte_for_byte_after_two_requests(driver, toll_server, key):
    purse = Purse()
    response = driver.send(
        driver.toll(purse), "POST", toll_server.serve_toll(ANSWER), content=b"row", headers=key | REDEEM
    )
    assert (response.status_code, response.reason_phrase, response.content) == (200, "OK", BODY)
    assert response.headers["content-type"] == ANSWER.content_type
    assert response.headers["x-redeemed"] == "yes"
    assert toll_server.paths() == ["/infer", wire.REDEEM_PATH]
    assert [paid.mode for paid in purse.payments] == ["redeem"]


def test_a_redemption_carries_the_callers_credentials_and_cookies_but_not_its_body(driver, toll_server, key):
    url = toll_server.serve_toll(ANSWER)
    headers = key | REDEEM | {"cookie": "a=b", "x-api-key": "k", "content-type": "text/csv", "range": "bytes=0-1"}
    toll_server.handlers["/elsewhere"] = toll_server.handlers["/infer"]
    once = {"content": iter_body(driver), "headers": headers, "extensions": {"target": b"/elsewhere"}}
    response = driver.send(driver.toll(), "POST", url, **once)
    assert response.content == BODY
    method, path, sent, body = toll_server.received[-1]
    assert (method, path, sent["content-type"]) == ("POST", wire.REDEEM_PATH, "application/json")
    assert (sent["authorization"], sent["cookie"], sent["x-api-key"]) == (key["authorization"], "a=b", "k")
    assert set(json.loads(body)) == {"token", "proof"}
    assert sent["content-length"] == str(len(body))
    assert "range" not in sent
    assert "transfer-encoding" not in sent


def test_a_body_that_can_be_sent_once_is_sent_once(driver, toll_server):
    assert driver.send(driver.toll(), "POST", toll_server.serve_toll(ANSWER), content=iter_body(driver)).content == BODY
    assert [body for *_, body in toll_server.received] == [b"one,two"]


def test_hashcash_is_paid_by_redeeming(driver, toll_server, key):
    url = toll_server.serve_toll(ANSWER, maker=Hashcash(MachineProfile("unit", "", 1.0, {256: 1.0})))
    assert driver.send(driver.toll(), "POST", url, headers=key | REDEEM).content == BODY


@pytest.mark.parametrize("answer", [Answer(201, "", b""), Answer(503, "text/plain", b"no"), Answer(200, "a/b", b"x")])
def test_status_type_and_body_are_those_of_the_answer(driver, toll_server, answer):
    response = driver.send(driver.toll(), "GET", toll_server.serve_toll(answer))
    assert (response.status_code, response.content) == (answer.status, answer.body)
    assert response.headers.get("content-type", "") == answer.content_type


def test_headers_of_the_toll_are_removed_and_others_are_kept(driver, toll_server, toll, toll_response):
    sold = toll_response(toll(ANSWER), etag='"toll"')
    sold.raw_headers += [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-name", "Zoë".encode("latin-1"))]
    response = driver.send(driver.toll(), "GET", toll_server.serve_response(sold))
    assert not {"www-authenticate", "cache-control", "etag"} & set(response.headers)
    assert response.headers["x-served-by"] == "toll server"
    assert response.headers["x-name"] == "Zoë"
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert dict(response.cookies) == {"a": "1", "b": "2"}


def test_an_opened_answer_is_a_complete_response(driver, toll_server):
    transport = driver.toll()
    seen, chunks = driver.stream(transport, "GET", toll_server.serve_toll(ANSWER), lambda response: response.is_closed)
    assert (seen, b"".join(chunks)) == (False, BODY)
    response = driver.send(driver.toll(), "GET", toll_server.serve_toll(ANSWER))
    assert response.elapsed.total_seconds() > 0
    assert response.http_version == "HTTP/1.1"
    assert response.num_bytes_downloaded == len(BODY)
    assert response.request.method == "GET"


def test_a_compressed_toll_is_opened(driver, toll_server, toll, toll_response):
    packed = gzip.compress(wire.encode_toll(toll(ANSWER), "toll", "/infer"))
    response = driver.send(
        driver.toll(),
        "GET",
        toll_server.serve_response(toll_response(toll(ANSWER), packed, **{"content-encoding": "gzip"})),
    )
    assert response.content == BODY
    assert "content-encoding" not in response.headers


def test_a_large_answer_is_opened(driver, toll_server):
    body = random.Random(1).randbytes(3 << 20)
    assert driver.send(driver.toll(), "GET", toll_server.serve_toll(Answer(200, "a/b", body))).content == body


def test_a_toll_after_a_redirect_is_redeemed_at_its_origin(driver, toll_server, other_server, key):
    other_server.serve_toll(ANSWER)
    toll_server.serve_response(RedirectResponse(other_server.url + "/infer"), "/old")
    options = {"headers": REDEEM | key, "client": {"follow_redirects": True}}
    response = driver.send(driver.toll(), "GET", toll_server.url + "/old", **options)
    assert [history.status_code for history in response.history] == [307]
    assert (toll_server.paths(), other_server.paths()) == (["/old"], ["/infer", wire.REDEEM_PATH])
    # The library itself keeps credentials from another origin, so that server does not know the caller.
    assert all("authorization" not in headers for _, _, headers, _ in other_server.received)
    assert response.status_code == 403


def test_a_toll_accept_header_of_the_caller_is_kept(driver, toll_server):
    driver.send(driver.toll(), "GET", toll_server.url + "/a", headers={wire.ACCEPT_HEADER: "sha256; mode=redeem"})
    driver.send(driver.toll(Purse(memory_kib=3 * 1024)), "GET", toll_server.url + "/a")
    accept_headers = [headers["toll-accept"] for _, _, headers, _ in toll_server.received]
    assert accept_headers == ["sha256; mode=redeem", "argon2id, sha256; mode=sealed; memory=3MiB; receipts"]


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_the_default_inner_transport_is_created_and_closed(library, toll_server):
    transport = TollTransport()
    with library.Client(transport=transport) as client:
        assert client.get(toll_server.serve_toll(ANSWER)).content == BODY
        assert type(transport._inner) is library.HTTPTransport
        assert transport._inner._pool.connections
    assert not transport._inner._pool.connections


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_requests_of_derived_classes_are_served_too(library, toll_server):
    derived = type("Derived", (library.Request,), {"__module__": "other_package"})
    with TollTransport() as transport, library.Client(transport=transport) as client:
        assert client.send(derived("GET", toll_server.serve_toll(ANSWER))).content == BODY


def test_a_client_that_was_never_used_closes(driver):
    kind = AsyncTollTransport if driver.is_async else TollTransport
    transport = kind()
    asyncio.run(transport.aclose()) if driver.is_async else transport.close()
    assert transport._inner is None


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_threads_share_one_transport(library, toll_server):
    answers = [Answer(200, "a/b", str(number).encode()) for number in range(8)]
    for number, answer in enumerate(answers):
        toll_server.serve_toll(answer, f"/{number}", evaluations=500.0)
    purse = Purse()
    start = threading.Barrier(8)
    with TollTransport(purse=purse) as transport, library.Client(transport=transport) as client:

        def ask(number):
            start.wait()
            return [client.get(f"{toll_server.url}/{(number + k) % 8}").content for k in range(8)]

        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(ask, range(8)))
    assert got == [[str((number + k) % 8).encode() for k in range(8)] for number in range(8)]
    assert len(purse.payments) == 64


def test_importing_the_client_needs_neither_numpy_nor_a_library():
    code = (
        "import sys, modeltoll.client.httpx; "
        "print([m for m in ('numpy', 'scipy', 'httpx', 'httpx2', 'starlette', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
