"""JWK sets at a URL, from a real HTTP server: fetched in time, rotated, bounded, and nothing else that a token names."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from modeltoll.errors import CallerRefused, KeysAwaited, SettingsError
from modeltoll.gateway.callers.identify import Tier
from modeltoll.gateway.callers.json_web_tokens import JwtCredentials, JwtPolicy
from modeltoll.gateway.callers.key_set_url import KeySetSource, KeySetUrl
from modeltoll.gateway.settings.load import load_settings
from modeltoll.testing.clock import FakeClock
from served_gateway import CLASSIFIER, ROWS, SCORES, read_request, response, served_gateway, socket_server, wait_until

OLD, NEW = (rsa.generate_private_key(65537, 2048) for _ in range(2))
DAY = 86_400.0


def jwk(key, identity="old"):
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": identity, "use": "sig", "alg": "RS256"}


def token(key=OLD, identity="old", **header):
    claims = {"sub": "alice", "exp": time.time() + 600}
    return jwt.encode(claims, key, "RS256", headers={"kid": identity} | header)


class Issuer:
    """An HTTP server that answers with ``status``, ``headers`` and ``body``, and counts what it was ``asked``."""

    def __init__(self):
        self.status, self.headers, self.asked = 200, {}, []
        self.publish(jwk(OLD))

    def publish(self, *keys):
        self.body = json.dumps({"keys": keys}).encode()

    @contextmanager
    def running(self, tls=None):
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked.append((self.path, self.headers))
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(issuer.body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http{'s' * bool(tls)}://127.0.0.1:{server.server_port}/jwks?tenant=a"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.fixture
def issuer():
    return Issuer()


def credentials(url, clock=None, **source):
    key_set = KeySetUrl(KeySetSource(url, ("RS256",), **source), clock=clock or FakeClock(1e6))
    policy = JwtPolicy(("RS256",), "normal")
    return JwtCredentials(policy, {"normal": Tier()}, key_set, time.time)


async def until(condition):
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition did not become true")


def test_the_set_is_fetched_once_for_many_tokens(issuer):
    async def go():
        with issuer.running() as url:
            found = credentials(url)
            with pytest.raises(CallerRefused):  # nobody is admitted before the keys are there
                found.caller(token())
            async with found.key_set.running():
                assert {found.caller(token()).name for _ in range(50)} == {"jwt:alice"}
        (path, headers), *more = issuer.asked
        assert (path, more) == ("/jwks?tenant=a", [])
        assert "authorization" not in headers

    asyncio.run(go())


def test_a_new_key_is_fetched_when_a_token_names_it_and_no_oftener_than_in_ten_seconds(issuer):
    async def go():
        clock = FakeClock(1e6)
        with issuer.running() as url:
            found = credentials(url, clock)
            async with found.key_set.running():
                issuer.publish(jwk(NEW, "new"))
                with pytest.raises(CallerRefused):  # fetched just now
                    found.caller(token(NEW, "new"))
                clock.now += 10
                with pytest.raises(KeysAwaited) as caught:
                    found.caller(token(NEW, "new"))
                assert (caught.value.status, caught.value.retry_after) == (503, 1)
                await until(lambda: found.key_set.keys.candidates("new", "RS256"))
                assert found.caller(token(NEW, "new")).name == "jwt:alice"
                with pytest.raises(CallerRefused):  # the old key is withdrawn
                    found.caller(token())
                for number in range(200):  # what a forger sends asks the issuer for nothing more
                    with pytest.raises(CallerRefused):
                        found.caller(token(NEW, f"forged-{number}"))
                await asyncio.sleep(0.1)
                assert len(issuer.asked) == 2

    asyncio.run(go())


def test_a_new_key_without_a_name_is_fetched_after_a_token_that_it_has_signed(issuer):
    async def go():
        clock = FakeClock(1e6)
        unnamed = [{name: value for name, value in jwk(key).items() if name != "kid"} for key in (OLD, NEW)]
        issuer.publish(unnamed[0])
        signed = jwt.encode({"sub": "alice", "exp": time.time() + 600}, NEW, "RS256")
        with issuer.running() as url:
            found = credentials(url, clock)
            async with found.key_set.running():
                issuer.publish(unnamed[1])
                clock.now += 10
                with pytest.raises(CallerRefused):
                    found.caller(signed)
                await until(lambda: len(issuer.asked) == 2 and not found.key_set.want())
                assert found.caller(signed).name == "jwt:alice"

    asyncio.run(go())


def test_nothing_that_a_token_names_is_fetched_or_believed(issuer):
    async def go():
        other = Issuer()
        other.publish(jwk(NEW, "new"))
        with issuer.running() as url, other.running() as foreign:
            found = credentials(url)
            async with found.key_set.running():
                for header in (
                    {"jku": foreign},
                    {"x5u": foreign},
                    {"jwk": jwk(NEW)},
                    {"jku": foreign, "jwk": jwk(NEW)},
                ):
                    for identity in ("old", "new"):
                        with pytest.raises(CallerRefused):
                            found.caller(token(NEW, identity, **header))
                await asyncio.sleep(0.1)
        assert (other.asked, len(issuer.asked)) == ([], 1)

    asyncio.run(go())


BROKEN = {
    "status": {"status": 500},
    "a redirect": {"status": 302, "headers": {"Location": "REDIRECT"}},
    "no JSON": {"body": b"<html>"},
    "a list": {"body": b"[]"},
    "no keys": {"body": b'{"keys": []}'},
    "too large": {"body": b'{"keys": [], "x": "' + b"a" * (256 << 10) + b'"}'},
    "a bomb": {"body": gzip.compress(bytes(64 << 20)), "headers": {"Content-Encoding": "gzip"}},
    "a private key": {"body": json.dumps(RSAAlgorithm.to_jwk(OLD, as_dict=True)).encode()},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_is_no_set_leaves_the_keys_before_in_force_for_a_day(issuer, broken, caplog):
    async def go():
        clock, other = FakeClock(1e6), Issuer()
        other.publish(jwk(NEW, "new"))
        with issuer.running() as url, other.running() as foreign:
            found = credentials(url, clock)
            async with found.key_set.running():
                for name, value in broken.items():
                    setattr(issuer, name, value)
                if "Location" in issuer.headers:
                    issuer.headers = {"Location": foreign}
                clock.now += 10
                with pytest.raises(KeysAwaited):
                    found.caller(token(NEW, "new"))
                await until(lambda: found.key_set.invalid)
                assert found.caller(token()).name == "jwt:alice"
                clock.now += DAY - 20
                assert found.caller(token()).name == "jwt:alice"
                clock.now += 20
                with pytest.raises(KeysAwaited):  # a key that was withdrawn must not live on
                    found.caller(token())
            assert other.asked == []
        assert caplog.text.count("cannot be used") == 1
        assert str(OLD.private_numbers().d)[:20] not in caplog.text

    asyncio.run(go())


def test_a_set_in_gzip_is_read_and_one_that_comes_back_is_used_again(issuer):
    async def go():
        clock = FakeClock(1e6)
        issuer.status = 503
        with issuer.running() as url:
            found = credentials(url, clock)
            async with found.key_set.running():
                with pytest.raises(KeysAwaited):
                    found.caller(token())
                issuer.status, issuer.headers = 200, {"Content-Encoding": "gzip"}
                issuer.body = gzip.compress(issuer.body)
                clock.now += 10
                with pytest.raises(KeysAwaited):
                    found.caller(token())
                await until(lambda: not found.key_set.invalid)
                assert found.caller(token()).name == "jwt:alice"

    asyncio.run(go())


def test_a_reload_keeps_the_keys_of_the_same_set_and_no_other(issuer):
    async def go():
        clock = FakeClock(1e6)
        with issuer.running() as url:
            first = KeySetUrl(KeySetSource(url, ("RS256",)), clock=clock)
            async with first.running():
                pass
            issuer.status = 500
            for source, kept in ((KeySetSource(url, ("RS256",), 60.0), 1), (KeySetSource(url + "b", ("RS256",)), 0)):
                second = KeySetUrl(source, first, clock)
                async with second.running():
                    assert (len(second.keys.keys), second.invalid) == (kept, True)

    asyncio.run(go())


def test_a_url_with_the_certificate_of_an_own_authority(issuer, tmp_path):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    async def fetched(tls):
        found = credentials(url, tls=tls)
        async with found.key_set.running():
            return len(found.key_set.keys.keys)

    with issuer.running(context) as url:
        assert asyncio.run(fetched(ssl.create_default_context(cafile=tmp_path / "ca.pem"))) == 1
        assert asyncio.run(fetched(None)) == 0


def test_a_gateway_of_such_settings_knows_its_callers(issuer, tmp_path):
    def talk(connection, _number):
        while read_request(connection):
            connection.sendall(response())

    with issuer.running() as url, socket_server(talk) as server:
        callers = {"anonymous": False, "jwt": {"algorithms": ["RS256"], "key_url": url}}
        with served_gateway(tmp_path, server, {"m": CLASSIFIER}, callers=callers) as gate:

            def status(written):
                headers = {"Authorization": f"Bearer {written}"}
                return httpx.post(f"{gate.url}/predict", json=ROWS, headers=headers)

            assert (status(token()).status_code, status(token()).content) == (200, SCORES)
            assert status(token(NEW)).status_code == 401
            issuer.publish(jwk(OLD), jwk(NEW, "new"))
            key_set = gate.gateway.key_set
            key_set._tried_at -= 10  # as if ten seconds had passed
            first = status(token(NEW, "new"))
            assert (first.status_code, first.headers["retry-after"]) == (503, "1")
            wait_until(lambda: status(token(NEW, "new")).status_code == 200)
            assert len(issuer.asked) == 2


REFUSED = {
    "http of another machine": ({"key_url": "http://issuer.example/jwks"}, "https://"),
    "a user": ({"key_url": "https://me:secret@issuer.example/jwks"}, "https://"),
    "a file": ({"key_url": "file:///etc/passwd"}, "https://"),
    "two sources": ({"key_url": "https://issuer.example/jwks", "key_file": "set.json"}, "no two of them"),
    "HS256": ({"key_url": "https://issuer.example/jwks", "algorithms": ["HS256"]}, "HS256"),
    "certificates alone": ({"key_file": "set.json", "key_url_ca_file": "ca.pem"}, "key_url_ca_file"),
}


@pytest.mark.parametrize(("section", "says"), REFUSED.values(), ids=REFUSED)
def test_settings_that_would_admit_anybody_are_refused(tmp_path, section, says):
    model = json.dumps(CLASSIFIER)
    jwt_section = json.dumps({"algorithms": ["RS256"]} | section)
    path = tmp_path / "modeltoll.yaml"
    path.write_text(
        f"upstream: {{url: 'http://127.0.0.1:1'}}\ncallers: {{jwt: {jwt_section}}}\nmodels: {{m: {model}}}\n"
    )
    with pytest.raises(SettingsError, match=says) as caught:
        load_settings(path)
    assert "secret@" not in str(caught.value)
