"""Where the gateway listens, how long it keeps connections, and how they end."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time

import httpx
import pytest

from modeltoll.demo.processes import free_port
from modeltoll.errors import SettingsError
from modeltoll.gateway.server.listening import listen, listen_all
from modeltoll.records import Answer
from modeltoll.testing.model_servers import FakeUpstream
from raw_http import connect, exchange, serving_gateway, statuses

BODY = b'{"rows": [[1, 2]]}'
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(BODY)
REQUEST = HEAD + b"\r\n" + BODY
CREDIT = {"anonymous_credit": {"seconds": 1e6, "units": 1e6}}


@pytest.fixture
def upstream():
    return FakeUpstream(
        lambda _path, _body: Answer(200, "application/json", json.dumps({"scores": [[0.6, 0.3, 0.1]]}).encode())
    )


def hears(host, port):
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def test_the_ipv6_wildcard_hears_both_families():
    with listen("listen", "[::]:0") as listening:
        port = listening.getsockname()[1]
        assert hears("::1", port)
        assert hears("127.0.0.1", port)


def test_a_single_ipv6_address_hears_no_other_one():
    with listen("listen", "[::1]:0") as listening:
        assert not hears("127.0.0.1", listening.getsockname()[1])


@pytest.mark.parametrize("order", [1, -1])
def test_both_wildcards_of_one_port_may_be_listed(order):
    port = free_port()
    with listen_all("listen", [f"0.0.0.0:{port}", f"[::]:{port}"][::order]) as sockets:
        assert len(sockets) == 2
        assert hears("127.0.0.1", port)
        assert hears("::1", port)


def test_several_addresses_serve_the_same_gateway(application_settings, upstream, tmp_path):
    """The server serves all sockets; so do several workers, which share them."""
    ports = free_port(), free_port()
    unix = tmp_path / "public.sock"
    path = application_settings(
        listen=[f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}", f"unix:{unix}?mode=0600"],
        admin=f"127.0.0.1:{free_port()}",
        upstream={"url": "http://127.0.0.1:9"},
        callers=CREDIT,
    )
    process = served(path, tmp_path / "log")
    try:
        places = f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}", str(unix)
        await_listening(places, process)
        assert [statuses(exchange(place, REQUEST)) for place in places] == [[502]] * 3  # nobody listens at port 9
        assert stat.S_IMODE(unix.stat().st_mode) == 0o600
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert not unix.exists()
    assert "unix:" in (tmp_path / "log").read_text()


def served(path, log):
    with log.open("wb") as out:
        command = [sys.executable, "-m", "modeltoll", "serve", str(path)]
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)


def await_listening(places, process):
    for place in places:
        for _ in range(600):
            assert process.poll() is None
            try:
                connect(place).close()
                break
            except OSError:
                time.sleep(0.05)  # another process starts: there is nothing else to wait for
        else:
            raise AssertionError(place)


def test_peers_of_a_unix_socket_are_one_caller_and_a_proxy_behind_it_is_trusted_where_listed(
    application_settings, upstream, tmp_path
):
    callers = []
    for trusted in ([], ["unix"]):
        unix = tmp_path / f"{len(trusted)}.sock"
        path = application_settings(
            listen=f"unix:{unix}",
            callers=CREDIT | {"trusted_proxies": trusted},
            ledger={"url": f"sqlite:///{len(trusted)}.db"},
        )
        with serving_gateway(path, upstream) as place:
            assert stat.S_IMODE(unix.stat().st_mode) == 0o660
            sent = HEAD + b"X-Forwarded-For: 192.0.2.1, 203.0.113.7:5\r\n\r\n" + BODY
            assert statuses(exchange(place, sent)) == [402]
            assert statuses(exchange(place, REQUEST)) == [402]
        callers.append(account_names(tmp_path / f"{len(trusted)}.db"))
    assert callers == [["net:unix"], ["net:203.0.113.7", "net:unix"]]


def account_names(database):
    rows = sqlite3.connect(database).execute("SELECT caller FROM accounts WHERE caller LIKE 'net:%' ORDER BY caller")
    return [name for (name,) in rows]


def test_a_socket_left_by_a_killed_process_is_replaced_and_nothing_else_is(tmp_path):
    left, live, file = tmp_path / "left.sock", tmp_path / "live.sock", tmp_path / "file"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(left))
    file.write_text("precious")
    with listen_all("listen", [f"unix:{left}"]), socket.socket(socket.AF_UNIX) as other:
        assert hears_unix(left)
        other.bind(str(live))
        other.listen()
        for taken in (live, file):
            with pytest.raises(SettingsError, match="cannot listen on"), listen_all("listen", [f"unix:{taken}"]):
                pass
    assert not left.exists()
    assert live.exists()
    assert file.read_text() == "precious"


def hears_unix(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    return True


def test_a_path_too_long_for_a_socket_is_a_plain_fault(tmp_path):
    with pytest.raises(SettingsError, match="cannot listen on"), listen_all("listen", [f"unix:/{'x' * 200}"]):
        pass


def test_while_draining_each_response_closes_its_connection_and_idle_ones_end_at_last(application_settings, tmp_path):
    """Without it a client's next request meets a connection that was closed under it."""
    port, admin = free_port(), free_port()
    path = application_settings(
        listen=f"127.0.0.1:{port}",
        admin=f"127.0.0.1:{admin}",
        upstream={"url": "http://127.0.0.1:9"},
        operation={"drain_seconds": 3, "keep_alive_seconds": 60},
    )
    process = served(path, tmp_path / "log")
    try:
        await_listening([f"127.0.0.1:{admin}", f"127.0.0.1:{port}"], process)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client, connect(f"127.0.0.1:{port}") as idle:
            assert "connection" not in client.post("/nothing").headers
            process.send_signal(signal.SIGTERM)
            while (
                httpx.get(f"http://127.0.0.1:{admin}/readyz").status_code != 503
                or b"draining" not in (tmp_path / "log").read_bytes()
            ):
                time.sleep(0.02)
            assert client.post("/nothing").headers["connection"] == "close"
            assert client.post("/nothing").headers["connection"] == "close"  # on a new connection
            assert idle.recv(100) == b""
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_an_idle_connection_is_kept_as_long_as_the_setting_says(application_settings, tmp_path):
    port = free_port()
    path = application_settings(
        listen=f"127.0.0.1:{port}",
        admin=f"127.0.0.1:{free_port()}",
        upstream={"url": "http://127.0.0.1:9"},
        operation={"keep_alive_seconds": 1},
    )
    process = served(path, tmp_path / "log")
    try:
        await_listening([f"127.0.0.1:{port}"], process)
        with connect(f"127.0.0.1:{port}") as connection:
            connection.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        assert statuses(received) == [404]
    finally:
        process.kill()
        process.wait()
