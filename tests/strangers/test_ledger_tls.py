"""Ledgers over TLS on real servers from Debian, Redis and PostgreSQL, with certificates of an authority of the operator's own."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis
import trustme

from modeltoll.errors import LedgerError
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.records import Caller, Charge
from modeltoll.testing.servers import ServerProcess

pytestmark = pytest.mark.strangers

ENTRY = Charge("m", 1, (0.5,), (1,), (b"12345678",), 3, "t", 1e9)
NOBODY = 65534 if os.geteuid() == 0 else None
REFUSED = "do not accept each other's certificates"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the authority ``ca.pem``, another one, and the server's and a client's certificates with their keys."""
    folder, authority = tmp_path_factory.mktemp("certificates"), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    for name, certificate in (
        ("server", authority.issue_cert("127.0.0.1")),
        ("client", authority.issue_cert("gate.example", common_name="gate")),
    ):
        certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        (folder / f"{name}.key").chmod(0o600)
    return folder


def program(name, *places):
    """The program, in the path or in one of these folders; the test fails where it is not installed."""
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", *map(str, places)]))
    assert found, f"{name} is not installed: make strangers"
    return found


@contextmanager
def started(server):
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def redis_url(files, tmp_path_factory):
    """A server that speaks TLS alone, and asks its clients for certificates."""
    command = [
        program("redis-server"),
        "--port",
        "0",
        "--save",
        "",
        "--requirepass",
        "secret",
        "--tls-auth-clients",
        "yes",
    ]
    for option, name in (
        ("--tls-cert-file", "server.pem"),
        ("--tls-key-file", "server.key"),
        ("--tls-ca-cert-file", "ca.pem"),
    ):
        command += [option, str(files / name)]
    own = {"ssl_ca_certs": files / "ca.pem", "ssl_certfile": files / "client.pem", "ssl_keyfile": files / "client.key"}

    def answers(port):
        try:
            with redis.Redis(
                host="127.0.0.1",
                port=port,
                password="secret",
                ssl=True,
                **{name: str(path) for name, path in own.items()},
            ) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    folder, url = tmp_path_factory.mktemp("redis"), "rediss://:secret@127.0.0.1:PORT"
    with started(ServerProcess(lambda port: [*command, "--tls-port", str(port)], folder, url, answers, None)) as server:
        yield server.url


@pytest.fixture(scope="module")
def postgres_url(files):
    """A server that takes clients over TLS alone."""
    with (
        tempfile.TemporaryDirectory(prefix="modeltoll-", ignore_cleanup_errors=True) as folder,  # its user can enter it
        started(postgres_with_tls(Path(folder), files)) as server,
    ):
        yield server.url


def postgres_with_tls(folder, files):
    data, places = folder / "data", sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for name in ("server.pem", "server.key", "ca.pem"):
        shutil.copy(files / name, folder / name)
        (folder / name).chmod(0o600)
    (folder / "password").write_text("secret")
    if NOBODY:
        for path in (folder, *folder.iterdir()):
            os.chown(path, NOBODY, NOBODY)
    initdb = [program("initdb", *places), "--auth=scram-sha-256", "--username=gate", f"--pgdata={data}", "--no-sync"]
    subprocess.run(
        [*initdb, f"--pwfile={folder / 'password'}"], cwd=folder, check=True, capture_output=True, user=NOBODY
    )
    (data / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n")
    options = {
        "ssl": "on",
        "ssl_cert_file": "../server.pem",
        "ssl_key_file": "../server.key",
        "ssl_ca_file": "../ca.pem",
    }
    command = [program("postgres", *places), "-D", str(data), "-h", "127.0.0.1", "-k", str(folder), "-c", "fsync=off"]
    command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    url = f"postgresql://gate:secret@127.0.0.1:PORT/postgres?sslmode=verify-full&sslrootcert={files / 'ca.pem'}"

    def answers(port):
        try:
            psycopg.connect(url.replace("PORT", str(port))).close()
        except psycopg.OperationalError:
            return False
        return True

    return ServerProcess(lambda port: [*command, "-p", str(port)], folder, url, answers, NOBODY)


def charged(url):
    """The rows of a caller after one charge."""

    async def go():
        ledger = ledger_from_url(url)
        await ledger.open()
        try:
            return (await ledger.charge(Caller("key:a"), ENTRY)).rows
        finally:
            await ledger.close()

    return asyncio.run(go())


def test_redis_over_tls_with_a_certificate_on_both_sides(redis_url, files):
    ca, own = f"ssl_ca_certs={files}/ca.pem", f"ssl_certfile={files}/client.pem&ssl_keyfile={files}/client.key"
    before = charged(f"{redis_url}/0?{ca}&{own}")
    assert charged(f"{redis_url.replace('rediss', 'valkeys')}/0?{ca}&{own}") == before + 1
    for refused in (f"{redis_url}/0?{own}", f"{redis_url}/0?ssl_ca_certs={files}/other.pem&{own}"):
        with pytest.raises(LedgerError, match=REFUSED):
            charged(refused)
    with pytest.raises(LedgerError):  # the server asks for a certificate
        charged(f"{redis_url}/0?{ca}")
    with pytest.raises(LedgerError):  # and hears nothing but TLS
        charged(f"{redis_url.replace('rediss', 'redis')}/0")


def test_postgresql_over_tls_with_an_own_authority(postgres_url, files):
    assert charged(postgres_url) == 1
    with pytest.raises(LedgerError, match=REFUSED):
        charged(postgres_url.replace("/ca.pem", "/other.pem"))
    with pytest.raises(LedgerError, match=REFUSED):  # the certificate is of 127.0.0.1 alone
        charged(postgres_url.replace("@127.0.0.1", "@localhost"))
    with pytest.raises(LedgerError, match="refuses the user or the password"):  # no line of pg_hba.conf is without TLS
        charged(postgres_url.replace("sslmode=verify-full", "sslmode=disable"))
