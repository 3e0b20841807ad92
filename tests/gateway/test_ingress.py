"""What callers may take before a gate has seen their requests: places, bytes, time, content types."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from dataclasses import replace

import httpx
import pytest

from modeltoll import wire
from modeltoll.errors import CallerBusy, Overloaded
from modeltoll.gateway import threads
from modeltoll.gateway.protocols.strict_json import load_request
from modeltoll.gateway.public import parsing
from modeltoll.gateway.public.shared_capacity import SharedCapacity
from modeltoll.gateway.settings.body_limits import largest_redemption
from modeltoll.gateway.upstream.hang_up import HangUpUpstream
from modeltoll.gateway.upstream.http_upstream import HttpUpstream
from modeltoll.testing.model_servers import serving

JSON_TYPE = {"content-type": "application/json"}


def ask(harness, url, key="alice-key", path=None, **headers):
    headers = {"x-api-key": key, **JSON_TYPE} | headers
    return httpx.post(url + (path or harness.path), content=harness.infer_body([1, 2]), headers=headers, timeout=30)


def connect(harness, url, sent, key="alice-key", length=100, path=None):
    """A connection that has sent the head of a request and some of its body."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    head = f"POST {path or harness.path} HTTP/1.1\r\nHost: toll\r\nX-Api-Key: {key}\r\nContent-Length: {length}\r\n"
    connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + sent)
    return connection


def status_of(connection):
    return int(connection.recv(4096).split(b" ")[1])


# Shares


def test_one_caller_takes_at_most_its_share_of_what_the_others_leave():
    capacity = SharedCapacity(256, 0.5, unit="requests")
    taken = {}
    with contextlib.ExitStack() as stack:
        for caller in "abcdefgh":
            taken[caller] = 0
            with contextlib.suppress(CallerBusy, Overloaded):
                while True:
                    stack.enter_context(capacity.hold(caller)).add(1)
                    taken[caller] += 1
        assert list(taken.values()) == [128, 64, 32, 16, 8, 4, 2, 1]
        assert capacity.held == 255
        with capacity.hold("i") as last:
            last.add(1)
            with capacity.hold("j") as none, pytest.raises(Overloaded) as full:
                none.add(1)
            assert full.value.status == 503
    assert capacity.held == 0


def test_a_single_holding_may_take_all_that_is_free():
    capacity = SharedCapacity(100, 0.25, unit="bytes")
    with capacity.hold("a") as one:
        one.add(90)
        with capacity.hold("a") as other, pytest.raises(CallerBusy) as busy:
            other.add(1)
        assert (busy.value.status, busy.value.retry_after) == (429, 1)
        with pytest.raises(Overloaded):
            one.check(11)
    assert capacity.held == 0


def test_sockets_that_send_one_byte_shut_nobody_else_out(harness):
    harness.max_requests = 32
    with serving(harness.application()) as url, contextlib.ExitStack() as stack:
        for _ in range(32):
            stack.enter_context(connect(harness, url, b"{"))
        while ask(harness, url).status_code != 429:  # until the server has read their heads
            pass
        assert ask(harness, url, "bob-key").status_code == 402
        assert ask(harness, url, "vip-key").status_code == 200
        assert ask(harness, url).headers["retry-after"] == "1"


def test_bodies_that_do_not_fit_together_are_refused_and_their_bytes_come_free(harness):
    harness.max_body, harness.max_bodies = 60_000, 100_000

    def refused():
        with connect(harness, url, b"", "bob-key", 55_000) as declared:
            return _refused(declared)

    with serving(harness.application()) as url:
        with connect(harness, url, b"x" * 50_000, length=60_000):
            while not refused():  # until the server has read those bytes
                pass
            assert ask(harness, url, "bob-key").status_code == 402  # a small one fits
        while refused():  # until the server has noticed that the first caller has gone
            pass


def _refused(connection):
    connection.settimeout(0.3)
    try:
        return status_of(connection) == 503
    except TimeoutError:
        return False


# Sizes


def test_redeem_and_settle_read_no_more_than_a_token_or_receipts_can_be(harness):
    harness.max_redemption = largest_redemption(1000, 2000)
    assert harness.max_redemption == 2667 + 65_536
    with serving(harness.application()) as url:
        for path, length in ((wire.REDEEM_PATH, harness.max_redemption + 1), (wire.SETTLE_PATH, 33_000)):
            with connect(harness, url, b"", length=length, path=path) as connection:
                assert status_of(connection) == 413


# Time


def test_a_body_at_the_least_rate_succeeds_and_a_slower_one_is_dropped(harness, monkeypatch):
    monkeypatch.setattr(parsing, "_GRACE_SECONDS", 0.5)
    harness.least_rate = 1000.0
    body = harness.infer_body([1, 2]) + b" " * 2000
    with serving(harness.application()) as url:
        with connect(harness, url, b"", length=len(body)) as honest:
            for start in range(0, len(body), 200):  # 2000 bytes a second, for longer than the grace
                honest.sendall(body[start : start + 200])
                time.sleep(0.1)
            assert status_of(honest) == 402
        begin = time.monotonic()
        with connect(harness, url, b"", length=len(body)) as slow, contextlib.suppress(OSError):
            for byte in body:  # some 20 bytes a second: never silent for long, and never done
                slow.sendall(bytes([byte]))
                slow.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    assert status_of(slow) == 408
                    break
            assert slow.recv(100) == b""  # the connection is closed
        assert time.monotonic() - begin < 5


# Content types


@pytest.mark.parametrize("path", [None, wire.REDEEM_PATH, wire.SETTLE_PATH])
@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "text/json",
        "text/plain; application/json",
    ],
)
def test_what_a_page_may_send_without_asking_is_refused(harness, path, kind):
    with serving(harness.application()) as url:
        response = ask(harness, url, path=path, **{"content-type": kind})
    assert (response.status_code, "application/json" in response.json()["error"]) == (415, True)
    assert harness.upstream.requests == []


@pytest.mark.parametrize("first", ["text/plain", "application/json"])
def test_a_request_with_two_content_types_is_refused(harness, first):
    double = [("content-type", first), ("content-type", "application/json"), ("x-api-key", "alice-key")]
    with serving(harness.application()) as url:
        two = httpx.post(url + harness.path, content=harness.infer_body([1, 2]), headers=double)
    assert (two.status_code, harness.upstream.requests) == (415, [])


FROM_A_BROWSER = [
    {"origin": "https://elsewhere.example"},
    {"origin": "null"},
    {"origin": ""},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-origin"},
    {"origin": "https://elsewhere.example", "sec-fetch-site": "cross-site"},
]


def asked_without_type(harness, url, path, headers):
    """Of all routes that take a body: the status of a request without a content type, and of the same in plain text."""
    if path == wire.REDEEM_PATH:
        accept = {"content-type": "application/json", wire.ACCEPT_HEADER: "sha256; mode=redeem"}
        body = harness.redemption(wire.decode_toll(ask(harness, url, **accept).content))
    elif path == wire.SETTLE_PATH:
        body = wire.encode_settlement((b"receipt",))
    else:
        body = harness.infer_body([1, 2])
    key = {"x-api-key": "alice-key"}
    return [
        httpx.post(url + (path or harness.path), content=body, headers=key | headers | kind, timeout=30).status_code
        for kind in ({}, {"content-type": "text/plain"})
    ]


@pytest.mark.parametrize(("path", "status"), [(None, 402), (wire.REDEEM_PATH, 200), (wire.SETTLE_PATH, 204)])
def test_no_content_type_is_json_where_no_browser_sends_the_request(harness, path, status):
    with serving(harness.application()) as url:
        assert asked_without_type(harness, url, path, {}) == [status, 415]


@pytest.mark.parametrize("headers", FROM_A_BROWSER, ids=str)
@pytest.mark.parametrize("path", [None, wire.REDEEM_PATH, wire.SETTLE_PATH])
def test_a_browsers_request_without_a_content_type_is_refused(harness, path, headers):
    with serving(harness.application()) as url:
        assert asked_without_type(harness, url, path, headers) == [415, 415]


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"])
def test_json_by_any_of_its_names_is_served(harness, kind):
    with serving(harness.application()) as url:
        assert ask(harness, url, **{"content-type": kind}).status_code == 402


def test_raw_tensors_may_be_octets_and_nothing_that_a_page_may_send(harness):
    body = harness.infer_body([1, 2])
    with serving(harness.application()) as url:
        statuses = [
            ask(harness, url, **{"content-type": kind, wire.BINARY_HEADER: str(len(body))}).status_code
            for kind in ("application/octet-stream", "text/plain")
        ]
        octets = ask(harness, url, **{"content-type": "application/octet-stream"}).status_code
    assert (statuses, octets) == ([402, 415], 415)


# Huge bodies


def test_huge_bodies_are_read_one_at_a_time_and_small_ones_do_not_wait():
    active, most, lock, leave = 0, 0, threading.Lock(), threading.Event()

    def read():
        nonlocal active, most
        with lock:
            active, most = active + 1, max(most, active + 1)
        leave.wait(30)
        with lock:
            active -= 1

    async def story():
        huge = [asyncio.ensure_future(threads.off_loop_by_size(threads.HUGE_BYTES + 1, read)) for _ in range(4)]
        await asyncio.sleep(0.05)
        assert await threads.off_loop_by_size(threads.LARGE_BYTES + 1, lambda: "large") == "large"
        assert await threads.off_loop_by_size(1, lambda: "small") == "small"
        leave.set()
        await asyncio.gather(*huge)

    asyncio.run(story())
    assert most == 1


# The model server


class Server:
    """A server on a socket; ``answers`` says for each request of each connection what to do."""

    def __init__(self, *connections):
        self.requests = 0
        self._scripts = iter(connections)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(10)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        for script in self._scripts:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._talk, args=(connection, script), daemon=True).start()

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _talk(self, connection, script):
        with connection:
            for step in script:
                received = b""
                while b"\r\n\r\n{}" not in received:
                    chunk = connection.recv(65536)
                    if not chunk:
                        return
                    received += chunk
                self.requests += 1
                connection.sendall(step)


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
RETRIES = {
    "closed before a byte, once": ([[OK, b""], [OK]], ["200", "200"], 3),
    "closed again on the new connection": ([[OK, b""], [b""], [OK]], ["200", "UpstreamError"], 3),
    "closed on a new connection": ([[b""], [OK]], ["UpstreamError"], 1),
    "closed after a byte": ([[OK, b"H"], [OK]], ["200", "UpstreamError"], 2),
    "closed inside the head": ([[OK, OK[:20]], [OK]], ["200", "UpstreamError"], 2),
    "closed inside the body": ([[OK, OK[:-1]], [OK]], ["200", "UpstreamError"], 2),
}


@pytest.mark.parametrize(("script", "seen", "requests"), RETRIES.values(), ids=RETRIES)
def test_a_request_is_sent_again_once_where_a_kept_connection_was_closed_without_a_byte(script, seen, requests):
    retries = []

    async def story():
        upstream = HttpUpstream(server.url, timeout=10.0, on_retry=lambda: retries.append(1))
        await upstream.open()
        try:
            return [await outcome(upstream) for _ in seen]
        finally:
            await upstream.close()

    async def outcome(upstream):
        try:
            return str((await upstream.predict("/", b"{}")).status)
        except Exception as error:  # noqa: BLE001  its name is what is compared
            return type(error).__name__

    with contextlib.closing(Server(*script)) as server:
        assert asyncio.run(story()) == seen
    assert server.requests == requests
    assert len(retries) == (requests > len(seen))


def test_a_caller_who_hangs_up_cancels_the_request_to_the_model_server(harness):
    inside, cancelled = threading.Event(), threading.Event()

    class Slow:
        async def predict(self, path, body, content_type, head):
            inside.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    harness.upstream = HangUpUpstream(Slow())
    body = harness.infer_body([1, 2])
    with serving(harness.application()) as url:
        with connect(harness, url, body, length=len(body)):
            assert inside.wait(30)
            assert not cancelled.is_set()
        assert cancelled.wait(30)
    assert harness.log() == []
    assert harness.metric('modeltoll_refusals_total{error="UpstreamError"}') == 0


def test_a_caller_who_gave_up_frees_the_last_place_at_once(harness):
    """Of a prediction, and of a request for metadata that is passed on."""
    harness.max_requests = 1
    inside = threading.Event()

    class Silent(HttpUpstream):
        def __init__(self):
            pass

        async def predict(self, path, body, content_type="", head=None):
            inside.set()
            await asyncio.Event().wait()

        async def fetch(self, path, head=None):
            return await self.predict(path, b"")

    harness.upstream = HangUpUpstream(Silent())
    body = harness.infer_body([1, 2])
    with serving(harness.application()) as url:
        for method, sent in (("POST", body), ("GET", b"")):
            inside.clear()
            with _asking(harness, url, method, sent) as connection:
                assert inside.wait(30)
                assert ask(harness, url, "bob-key").status_code == 503
                connection.close()
            seen = set()
            while 400 not in seen:  # a place, and a fault of its own; before, until the server has noticed: 503
                with _asking(harness, url, "POST", b"{", "bob-key") as other:
                    seen.add(status_of(other))
            assert seen <= {400, 503}


def _asking(harness, url, method, body, key="alice-key"):
    host, port = url.removeprefix("http://").split(":")
    path = harness.path if method == "POST" else "/v2/health/ready"
    head = f"{method} {path} HTTP/1.1\r\nHost: toll\r\nX-Api-Key: {key}\r\nContent-Length: {len(body)}\r\n"
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
    return connection


def test_a_huge_document_lets_other_threads_run_while_it_is_decoded():
    body = b"[" + b",".join([b"1e0", b"2"] * 400_000) + b"]"
    ticks, done = 0, threading.Event()

    def tick():
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    ticking = threading.Thread(target=tick)
    ticking.start()
    document = load_request(body)
    done.set()
    ticking.join()
    assert document == [1.0, 2] * 400_000
    assert ticks > 2  # one decoder call that holds the interpreter would leave none


def test_a_row_of_another_version_is_a_row_of_its_own(harness):
    gate, seen = harness.gate(), []
    charge = harness.ledger.charge

    async def noting(caller, one):
        seen.append(one.fingerprints)
        return await charge(caller, one)

    harness.ledger.charge = noting
    body = harness.infer_body([1, 2])
    for path in (harness.path, harness.path, "/v2/models/digits/versions/1/infer"):
        asyncio.run(gate.handle(replace(harness.request(body), path=path)))
    assert seen[0] == seen[1] != seen[2]
