"""Responses of model servers as strangers write them, byte by byte: what the caller gets, and what goes to the log."""

from __future__ import annotations

import gzip
import zlib

import httpx
import pytest

from served_gateway import CLASSIFIER, ROWS, SCORES, read_request, response, served_gateway, socket_server

CHUNKED = "Transfer-Encoding: chunked"
GZIPPED, DEFLATED = gzip.compress(SCORES), zlib.compress(SCORES)
BOMB = gzip.compress(b" " * (2 << 20))


def chunked(*lines, trailers=b"", cut=False):
    head = "\r\n".join(("HTTP/1.1 200 OK", "Content-Type: application/json", CHUNKED, *lines)).encode() + b"\r\n\r\n"
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (SCORES[:7], SCORES[7:]))
    return head + (pieces if cut else pieces + b"0\r\n" + trailers + b"\r\n")


ANSWERED = {
    "plain": response(),
    "chunked": chunked(),
    "chunked with trailers": chunked("Trailer: x-checksum", trailers=b"x-checksum: 1\r\n"),
    "100 continue first": b"HTTP/1.1 100 Continue\r\n\r\n" + response(),
    "103 early hints first": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(),
    "gzip though not asked for": response(GZIPPED, "Content-Encoding: gzip"),
    "gzip in capitals": response(GZIPPED, "Content-Encoding: GZIP"),
    "deflate though not asked for": response(DEFLATED, "Content-Encoding: deflate"),
    "an empty content encoding": response(SCORES, "Content-Encoding:"),
    "a charset": response(SCORES, "Content-Type: application/json; charset=utf-8"),
    "a quoted charset": response(SCORES, 'Content-Type: application/json;charset="UTF-8"'),
    "a type of its own": response(SCORES, "Content-Type: application/vnd.server+json"),
    "no type": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(SCORES), SCORES),
    "HTTP/1.0 with a length": response(version="1.0"),
    "HTTP/1.0 until it closes": b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + SCORES,
    "connection: close": response(SCORES, "Connection: close"),
    "a header of 16 KiB": response(SCORES, "X-Long: " + "a" * (16 << 10)),
    "a hundred headers": response(SCORES, *(f"X-{number}: {number}" for number in range(100))),
    "200 without a reason": response(status="200"),
    "latin letters in a header": response(SCORES, "X-Name: M\u00fcller"),
}
OTHER_SUCCESS = {
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "205": b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
    "206": response(status="206 Partial Content"),
}
BAD_GATEWAY = {
    "301": response(b"", "Location: https://elsewhere.example/predict", status="301 Moved Permanently"),
    "307": response(b"", "Location: /predict/", status="307 Temporary Redirect"),
    "304": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "500": response(b'{"error": "secret-4711"}', status="500 Internal Server Error"),
    "a chunk is missing": chunked(cut=True),
    "shorter than it says": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + SCORES,
    "two lengths": response(SCORES, "Content-Length: 7"),
    "length and chunks": response(chunked().partition(b"\r\n\r\n")[2], CHUNKED),
    "a header of a mebibyte": response(SCORES, "X-Long: " + "a" * (1 << 20)),
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "not gzip": response(SCORES, "Content-Encoding: gzip"),
    "a piece of gzip": response(GZIPPED[:-4], "Content-Encoding: gzip"),
    "gzip and more": response(GZIPPED + SCORES, "Content-Encoding: gzip"),
    "a bomb": response(BOMB, "Content-Encoding: gzip"),
    "nothing": b"",
}


class ScriptedServer:
    """A model server that sends ``reply`` to every request and closes the connection. ``asked`` counts predictions."""

    reply, asked = b"", 0

    def __call__(self, connection, number):
        head, _ = read_request(connection)
        self.asked += head.startswith(b"POST")
        connection.sendall(self.reply)


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Gives the gateway's response where the model server replies with these bytes, and how often it was asked."""
    server, folder = ScriptedServer(), tmp_path_factory.mktemp("gateway")

    def post(reply):
        server.reply, server.asked = reply, 0
        return httpx.post(f"{gate.url}/predict", json=ROWS), server.asked

    with (
        socket_server(server) as url,
        served_gateway(folder, {"url": url, "max_answer_mib": 1}, {"m": CLASSIFIER}) as gate,
    ):
        yield post


@pytest.mark.parametrize("reply", ANSWERED.values(), ids=ANSWERED)
def test_a_response_that_can_be_read_is_answered_unchanged(ask, reply):
    found, asked = ask(reply)
    assert (found.status_code, found.content, asked) == (200, SCORES, 1)
    assert "content-encoding" not in found.headers


@pytest.mark.parametrize("reply", BAD_GATEWAY.values(), ids=BAD_GATEWAY)
def test_a_response_that_is_no_answer_is_a_bad_gateway_in_the_protocols_shape(ask, reply):
    found, asked = ask(reply)
    assert (found.status_code, asked) == (502, 1)
    assert found.json().keys() == {"error", "detail"}
    assert "secret" not in found.text
    assert "elsewhere" not in found.text
    assert "location" not in found.headers


@pytest.mark.parametrize(("status", "reply"), OTHER_SUCCESS.items())
def test_another_success_passes_in_shadow_mode(ask, status, reply):
    """Shadow mode lets everything pass that the model server answers; see ``tests/gateway/test_gate.py`` for enforce mode."""
    found, asked = ask(reply)
    assert (str(found.status_code), asked) == (status, 1)


def test_the_log_says_where_a_redirect_goes(ask, caplog):
    ask(BAD_GATEWAY["307"])
    assert "status 307 from /predict to /predict/; see upstream.url" in caplog.text
