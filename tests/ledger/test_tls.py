"""An encrypted URL uses TLS and accepts only certificates that it is configured to trust.

The servers of the tests speak no TLS themselves: a relay in front of them does. ``tests/strangers/test_ledger_tls.py`` has real
ones that do.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modeltoll.errors import LedgerError, SettingsError
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.records import Caller, Charge

ENTRY = Charge("m", 1, (0.5,), (1,), (b"12345678",), 3, "t", 1e9)


@pytest.fixture
def certificate(tmp_path):
    """A file with a certificate of 127.0.0.1, signed by itself, and one with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    shown, kept = tmp_path / "shown.pem", tmp_path / "kept.pem"
    shown.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    kept.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return shown, kept


SSL_REQUEST = (8).to_bytes(4, "big") + (80_877_103).to_bytes(4, "big")  # PostgreSQL's, before the handshake


@contextlib.asynccontextmanager
async def relay(port, certificate, *, asked=False):
    """The port of a TLS server that hands everything on to another port. ``asked``: TLS begins when PostgreSQL's client asks."""

    async def pour(source, sink):
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        sink.close()
        with contextlib.suppress(OSError):
            await sink.wait_closed()

    async def serve(reader, writer):
        serving.append(asyncio.current_task())
        if asked:
            assert await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST
            writer.write(b"S")
            await writer.start_tls(context)
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pour(reader, behind_writer), pour(behind_reader, writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    serving = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if asked else context) as server:
        yield server.sockets[0].getsockname()[1]
    async with asyncio.timeout(10):
        await asyncio.gather(*serving, return_exceptions=True)


@pytest.mark.parametrize("scheme", ["valkeys", "rediss"])
def test_an_encrypted_url_uses_tls_with_a_server_of_a_known_certificate(scheme, keyspace, valkey, certificate):
    async def go():
        async with relay(valkey.port, certificate) as port:
            url = keyspace.replace("valkey://", f"{scheme}://").replace(f":{valkey.port}/", f":{port}/")
            ledger = ledger_from_url(f"{url}?ssl_ca_certs={certificate[0]}")
            await ledger.open()
            assert (await ledger.charge(Caller("key:a"), ENTRY)).rows == 1
            await ledger.close()

    asyncio.run(go())


def test_an_untrusted_certificate_and_one_of_another_host_are_refused(keyspace, valkey, certificate):
    async def go():
        async with relay(valkey.port, certificate) as port:
            url = keyspace.replace("valkey://", "valkeys://").replace(f":{valkey.port}/", f":{port}/")
            other = url.replace("127.0.0.1", "localhost")
            for refused in (url, f"{other}?ssl_ca_certs={certificate[0]}"):
                with pytest.raises(LedgerError, match="do not accept each other's certificates"):
                    await ledger_from_url(refused).open()

    asyncio.run(go())


def test_a_missing_file_of_certificates_is_reported(keyspace):
    with pytest.raises(SettingsError, match="ssl_ca_certs: there is no such file"):
        ledger_from_url(keyspace.replace("valkey://", "valkeys://") + "?ssl_ca_certs=/none.pem")


def test_postgresql_over_tls_with_an_own_authority(database, postgres, certificate):
    async def go():
        async with relay(postgres.port, certificate, asked=True) as port:
            url = database.replace(f":{postgres.port}/", f":{port}/")
            ledger = ledger_from_url(f"{url}?sslmode=verify-full&sslrootcert={certificate[0]}")
            await ledger.open()
            assert (await ledger.charge(Caller("key:a"), ENTRY)).rows == 1
            await ledger.close()

    asyncio.run(go())
