"""Connections to model servers that close idle ones: no request is lost, whenever the server closes."""

from __future__ import annotations

import socket
import threading

import httpx
import pytest

from served_gateway import CLASSIFIER, ROWS, read_request, response, served_gateway, socket_server

RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"


class OneEach:
    """A server that closes each connection after one response: silently, as the second request arrives, or by a reset."""

    def __init__(self, how):
        self.how, self.connections, self.dropped = how, 0, 0

    def __call__(self, connection, number):
        self.connections += 1
        if read_request(connection) is None:
            return
        connection.sendall(response())
        if self.how == "at once":
            return
        if read_request(connection) is not None:
            self.dropped += 1
        if self.how == "by a reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


@pytest.mark.parametrize("how", ["at once", "as the next request comes", "by a reset"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_request_that_meets_a_closing_connection_is_answered(tmp_path, how, method):
    server = OneEach(how)
    with (
        socket_server(server) as url,
        served_gateway(tmp_path, url, {"m": CLASSIFIER}) as gate,
        httpx.Client() as caller,
    ):

        def ask():
            return (
                caller.post(f"{gate.url}/predict", json=ROWS) if method == "POST" else caller.get(f"{gate.url}/ready")
            ).status_code

        assert [ask() for _ in range(9)] == [200] * 9
        retries = httpx.get(f"{gate.admin}/metrics").text
    assert server.dropped >= (0 if how == "at once" else 4)
    if how != "at once":  # there a request may or may not cross with the close
        assert f"modeltoll_upstream_retries_total {server.dropped}" in retries


def test_many_requests_at_once_meet_closing_connections(tmp_path):
    server = OneEach("as the next request comes")
    statuses = []
    with socket_server(server) as url, served_gateway(tmp_path, url, {"m": CLASSIFIER}) as gate:

        def ask():
            with httpx.Client() as caller:
                statuses.extend(caller.post(f"{gate.url}/predict", json=ROWS).status_code for _ in range(10))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert statuses == [200] * 80
    assert server.dropped > 0


@pytest.mark.parametrize(("keep", "connections"), [(4.0, 1), (0, 5)])
def test_keeping_connections_is_a_setting(tmp_path, keep, connections):
    seen = []

    def talk(connection, number):
        while read := read_request(connection):
            seen.append((number, b"connection: close" in read[0].lower()))
            connection.sendall(response())

    with socket_server(talk) as url:
        section = {"url": url, "keep_alive_seconds": keep}
        with served_gateway(tmp_path, section, {"m": CLASSIFIER}) as gate:
            for _ in range(5):
                assert httpx.post(f"{gate.url}/predict", json=ROWS).status_code == 200
    assert len({number for number, _ in seen}) == connections
    assert {closing for _, closing in seen} == {not keep}
