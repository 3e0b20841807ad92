"""Model servers that ask the gateway for a key or a certificate: hosted endpoints, ``vllm --api-key``, Azure, mutual TLS."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import ssl
import subprocess
import sys

import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modeltoll.errors import SettingsError
from modeltoll.gateway.settings.load import load_settings
from modeltoll.testing.model_servers import serving
from served_gateway import (
    CLASSIFIER,
    ROWS,
    SCORES,
    read_request,
    response,
    served_gateway,
    socket_server,
    wait_until,
)

KEY = "server-key-4711"


class LockedServer:
    """A model server that answers those who send ``header`` with one of the ``accepted`` values."""

    def __init__(self, header="authorization", *accepted):
        self.header, self.accepted, self.seen = header, accepted or (f"Bearer {KEY}",), []

    async def answer(self, request):
        self.seen.append(dict(request.headers))
        if request.headers.get(self.header) not in self.accepted:
            return JSONResponse({"error": "Unauthorized"}, 401, {"WWW-Authenticate": "Bearer"})
        if request.url.path == "/v1/models":
            return JSONResponse({"object": "list", "data": [{"id": "chat", "owned_by": "vllm"}]})
        return Response(SCORES, media_type="application/json")

    def application(self):
        return Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])


def post(gate, **options):
    return httpx.post(f"{gate.url}/predict", json=ROWS, **options)


SECTIONS = {
    "bearer": ({"api_key": KEY}, "authorization", f"Bearer {KEY}"),
    "azure": ({"api_key": KEY, "api_key_header": "Api-Key"}, "api-key", KEY),
    "basic": ({"headers": {"Authorization": "Basic dTpw"}}, "authorization", "Basic dTpw"),
    "a further header": ({"api_key": KEY, "headers": {"openai-organization": "org-1"}}, "openai-organization", "org-1"),
    "a virtual host": ({"headers": {"host": "model.internal"}}, "host", "model.internal"),
    "instead of the caller's": (
        {"api_key": KEY, "request_headers": ["authorization", "x-tenant"], "headers": {"x-tenant": "a"}},
        "authorization",
        f"Bearer {KEY}",
    ),
}


@pytest.mark.parametrize(("section", "header", "value"), SECTIONS.values(), ids=SECTIONS)
def test_the_gateway_shows_its_own_key_to_predictions_metadata_and_readiness(tmp_path, section, header, value):
    server = LockedServer(header, value)
    with (
        serving(server.application()) as url,
        served_gateway(tmp_path, {"url": url} | section, {"m": CLASSIFIER}) as gate,
    ):
        assert post(gate, headers={"x-tenant": "b"}).status_code == 200
        assert httpx.get(f"{gate.url}/ready").status_code == 200
        assert httpx.get(f"{gate.admin}/readyz").status_code == 200
    assert {seen[header] for seen in server.seen} == {value}
    assert not any(seen.get("x-tenant") == "b" for seen in server.seen)


def test_a_wrong_key_is_the_operators_fault_and_shown_nowhere(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    server = LockedServer("authorization", "Bearer another")
    with (
        serving(server.application()) as url,
        served_gateway(tmp_path, {"url": url, "api_key": KEY}, {"m": CLASSIFIER}) as gate,
    ):
        answers = [post(gate), post(gate), httpx.get(f"{gate.url}/ready"), httpx.get(f"{gate.admin}/readyz")]
        pages = [httpx.get(gate.admin + path).text for path in ("/metrics", "/api/log", "/api/models", "/api/")]
        printed = repr(gate.gateway.settings) + str(gate.gateway.settings.model_dump())
    assert [answer.status_code for answer in answers] == [502, 502, 502, 503]
    assert not any("www-authenticate" in answer.headers for answer in answers)
    for text in (*pages, printed, caplog.text, *(answer.text + str(answer.headers) for answer in answers)):
        assert KEY not in text
    assert caplog.text.count("set upstream.api_key, or correct it") == 1


@pytest.mark.parametrize("reply", [b"no http\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n", b""])
def test_an_answer_that_cannot_be_read_shows_no_key_in_the_log(tmp_path, caplog, reply):
    def talk(connection, number):
        read_request(connection)
        connection.sendall(reply)

    section = {"api_key": KEY, "headers": {"x-secret": "header-4711"}}
    with socket_server(talk) as url, served_gateway(tmp_path, section | {"url": url}, {"m": CLASSIFIER}) as gate:
        assert post(gate).status_code == 502
    assert "the model server does not answer" in caplog.text
    assert "4711" not in caplog.text


@pytest.mark.parametrize("written", ["{}\n", "\ufeff{}\r\n", "  {}"])
def test_a_key_file_is_read_again_when_it_changes(tmp_path, written):
    file = tmp_path / "key"
    file.write_text(written.format(KEY))
    server = LockedServer("authorization", f"Bearer {KEY}")
    with (
        serving(server.application()) as url,
        served_gateway(tmp_path, {"url": url, "api_key_file": "key"}, {"m": CLASSIFIER}) as gate,
    ):
        assert post(gate).status_code == 200
        server.accepted = ("Bearer rotated-4711",)
        file.write_text(written.format("rotated-4711"))
        wait_until(lambda: post(gate).status_code == 200)
        file.write_text("")  # cannot be used: the key before it stays
        assert post(gate).status_code == 200


FAULTS = {
    "both": ({"api_key": KEY, "api_key_file": "key"}, "leave one out"),
    "line break": ({"api_key": KEY + "\nX-Evil: 1"}, "cannot hold"),
    "empty": ({"api_key": ""}, "empty"),
    "header with a line break": ({"headers": {"x": "secret-4711\r\nX-Evil: 1"}}, "cannot hold"),
    "framing": ({"headers": {"content-length": "1"}}, "content-length"),
    "hop by hop": ({"request_headers": ["connection"]}, "connection"),
    "no name": ({"request_headers": ["x y"]}, "not the name of a header"),
    "cookies of answers": ({"answer_headers": ["set-cookie"]}, "set-cookie"),
    "times of answers": ({"answer_headers": ["Server-Timing"]}, "server-timing"),
    "lengths of answers": ({"answer_headers": ["content-length"]}, "content-length"),
    "key twice": ({"api_key": KEY, "headers": {"Authorization": "Basic 4711"}}, "leave one out"),
    "user in the address": ({"url": "http://user:4711@127.0.0.1:1"}, "upstream.url"),
    "private key alone": ({"client_key": "key"}, "client_certificate"),
}


@pytest.mark.parametrize(("section", "says"), FAULTS.values(), ids=FAULTS)
def test_a_setting_that_cannot_be_used_is_refused_without_its_value(tmp_path, section, says):
    path = tmp_path / "modeltoll.yaml"
    path.write_text(yaml.safe_dump({"upstream": {"url": "http://127.0.0.1:1"} | section, "models": {"m": CLASSIFIER}}))
    with pytest.raises(SettingsError, match=says) as caught:
        load_settings(path)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize("section", [{"api_key_file": "none"}, {"ca_file": "none"}, {"client_certificate": "none"}])
def test_a_file_that_is_not_there_is_named(tmp_path, section):
    with (
        pytest.raises(SettingsError, match=f"upstream.{next(iter(section))}: .*none"),
        served_gateway(tmp_path, {"url": "https://127.0.0.1:1"} | section, {"m": CLASSIFIER}),
    ):
        pass


def command(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "modeltoll", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, **environment},
    )


def test_init_and_check_use_the_key_of_the_environment(tmp_path):
    server = LockedServer()
    with serving(server.application()) as url:
        refused = command(tmp_path, "init", url)
        assert refused.returncode == 1
        made = command(tmp_path, "init", url, MODELTOLL_UPSTREAM__API_KEY=KEY)
        assert made.returncode == 0, made.stderr
        written = (tmp_path / "modeltoll.yaml").read_text()
        path = tmp_path / "classifier.yaml"
        path.write_text(yaml.safe_dump({"upstream": {"url": url}, "models": {"m": CLASSIFIER}}))
        server.seen.clear()
        command(tmp_path, "check", path, MODELTOLL_UPSTREAM__API_KEY=KEY)
    assert "openai-chat" in written
    assert KEY not in written + made.stdout + made.stderr
    assert {seen.get("authorization") for seen in server.seen} == {f"Bearer {KEY}"}


def test_a_key_and_headers_of_the_environment_are_in_force(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELTOLL_UPSTREAM__API_KEY", KEY + "\n")
    monkeypatch.setenv("MODELTOLL_UPSTREAM__HEADERS", json.dumps({"X-Project": "p1"}))
    server = LockedServer()
    with serving(server.application()) as url, served_gateway(tmp_path, url, {"m": CLASSIFIER}) as gate:
        assert post(gate).status_code == 200
    assert server.seen[-1]["x-project"] == "p1"


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write(path, certificate, key):
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)


def certificates(folder):
    """An authority, and certificates of a server on 127.0.0.1 and of a client, each with its key in one file."""
    now = dt.datetime.now(dt.UTC)
    authority = ec.generate_private_key(ec.SECP256R1())

    def signed(name, key, *, is_authority=False):
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        return builder.sign(authority, hashes.SHA256())

    _write(folder / "authority.pem", signed("authority", authority, is_authority=True), authority)
    for name in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        _write(folder / f"{name}.pem", signed(name, key), key)


def test_a_server_with_certificates_of_its_own_authority_asks_for_the_gateways(tmp_path):
    certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "authority.pem")
    context.load_cert_chain(tmp_path / "server.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    def talk(connection, number):
        with context.wrap_socket(connection, server_side=True) as secured:
            while read_request(secured) is not None:
                secured.sendall(response())

    whole = {"ca_file": "authority.pem", "client_certificate": "client.pem"}
    statuses = {}
    with socket_server(talk) as url:
        address = url.replace("http://127.0.0.1", "https://localhost")
        for name, section in {"whole": whole, "no client": {"ca_file": "authority.pem"}, "system": {}}.items():
            with served_gateway(tmp_path, {"url": address} | section, {"m": CLASSIFIER}) as gate:
                statuses[name] = post(gate).status_code
    assert statuses == {"whole": 200, "no client": 502, "system": 502}
