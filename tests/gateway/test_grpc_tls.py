"""A model server over gRPC with TLS: a real server, whose certificate is checked, and which checks the gateway's."""

from __future__ import annotations

import grpc
import httpx
import numpy as np
import pytest
import trustme
from typer.testing import CliRunner

from grpc_gateway import MODEL, VIP, GrpcModelServer, grpc_gateway, infer_request, settings_document
from modeltoll.cli import app

OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the authority ``ca.pem``, another one, and certificates of a server, of another and of a client."""
    folder, authority = tmp_path_factory.mktemp("certificates"), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    for name, certificate in (
        ("server", authority.issue_cert("127.0.0.1", "localhost")),
        ("stranger", authority.issue_cert("model.example")),
        ("client", authority.issue_cert("gate.example", common_name="gate")),
    ):
        certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}-both.pem"))
    return folder


def credentials(files, name="server", *, clients=False):
    """Of a server with this certificate; ``clients``: it asks for theirs."""
    pair = (files / f"{name}.key").read_bytes(), (files / f"{name}.pem").read_bytes()
    authority = (files / "ca.pem").read_bytes() if clients else None
    return grpc.ssl_server_credentials([pair], authority, clients)


def replies(folder, calibration, upstream):
    """The status over gRPC and the status over HTTP of a request of an exempt caller."""
    with grpc_gateway(folder, settings_document(folder, upstream, calibration)) as gateway:
        with gateway.client(VIP) as client:
            over_grpc = client.infer(infer_request(np.random.default_rng(0).random(2)))
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.25, 0.5]}
        url = f"{gateway.url}/v2/models/{MODEL}/infer"
        over_http = httpx.post(url, json={"inputs": [tensor]}, headers={"x-api-key": VIP})
    return over_grpc.code, over_http.status_code


def test_a_server_whose_certificate_is_of_the_operators_authority_is_asked(files, tmp_path, calibration):
    with GrpcModelServer().serving(credentials(files)) as server:
        upstream = {"url": server.address, "ca_file": str(files / "ca.pem")}
        assert replies(tmp_path, calibration, upstream) == (OK, 200)
        assert len(server.bodies) == 2
        path = tmp_path / "modeltoll.yaml"
        checked = CliRunner().invoke(app, ["check", str(path)])
        assert checked.exit_code == 0, checked.output


def test_the_systems_authorities_are_asked_where_the_settings_name_none(files, tmp_path, calibration, monkeypatch):
    with GrpcModelServer().serving(credentials(files)) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(files / "ca.pem"))
        assert replies(tmp_path, calibration, {"url": server.address}) == (OK, 200)


@pytest.mark.parametrize(
    ("certificate", "upstream"),
    [("server", {"ca_file": "other.pem"}), ("server", {}), ("stranger", {"ca_file": "ca.pem"})],
    ids=["another authority", "none of the system's", "another name"],
)
def test_a_server_that_is_not_known_gets_no_request(files, tmp_path, calibration, certificate, upstream):
    files_named = {name: str(files / value) for name, value in upstream.items()}
    with GrpcModelServer().serving(credentials(files, certificate)) as server:
        found = replies(tmp_path, calibration, {"url": server.address, "timeout_seconds": 5.0, **files_named})
        assert found == (UNAVAILABLE, 502)
        assert not server.bodies


@pytest.mark.parametrize("shown", [("client.pem", "client.key"), ("client-both.pem", None), None])
def test_a_server_that_asks_for_a_certificate_gets_the_gateways(files, tmp_path, calibration, shown):
    upstream = {"ca_file": str(files / "ca.pem"), "timeout_seconds": 5.0}
    if shown is not None:
        certificate, key = shown
        upstream["client_certificate"] = str(files / certificate)
        upstream |= {"client_key": str(files / key)} if key else {}
    with GrpcModelServer().serving(credentials(files, clients=True)) as server:
        found = replies(tmp_path, calibration, {"url": server.address, **upstream})
        assert found == ((OK, 200) if shown else (UNAVAILABLE, 502))
        assert bool(server.bodies) == bool(shown)


def test_a_server_without_tls_gets_nothing(tmp_path, calibration):
    with GrpcModelServer().serving() as server:
        url = server.address.replace("grpc://", "grpcs://")
        assert replies(tmp_path, calibration, {"url": url, "timeout_seconds": 5.0}) == (UNAVAILABLE, 502)
        assert not server.bodies
