"""The admin API: its operations, its OpenAPI document, and its authentication."""

from __future__ import annotations

import asyncio
import base64
import hmac
import math
from datetime import UTC, datetime

import httpx
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from modeltoll.errors import LedgerError, SettingsError
from modeltoll.evidence_records import EvidenceUpdate
from modeltoll.gateway.admin import auth
from modeltoll.gateway.admin.api.app import api_application
from modeltoll.gateway.admin.api.operations import AdminApi, without_password
from modeltoll.gateway.admin.auth import AdminAuth
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.callers.api_key_file import KeyRecord, change_keys, read_keys
from modeltoll.gateway.settings.load import load_settings
from modeltoll.gateway.state import ServerState
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.records import Caller
from modeltoll.settlement_records import Adjustment, Receipt, Standing

TOKEN = "the-operators-token"
HERE = {"host": "127.0.0.1:9090"}


class ApiFixture:
    """The admin API of a gateway with one charged caller in its ledger and one key in its key file."""

    def __init__(self, folder, harness, calibration):
        self.harness, self.keys = harness, folder / "keys.json"
        save_calibration(calibration, folder / "tariff.json")
        line = KeyRecord(name="carol", sha256="c" * 64, created=datetime(2026, 1, 1, tzinfo=UTC))
        change_keys(self.keys, lambda document: document.model_copy(update={"keys": (line,)}))
        self.path = folder / "modeltoll.yaml"
        self.write()
        self.settings = load_settings(self.path)
        self.state = ServerState(settings_loaded_at=1.5e9)
        gates = {harness.model: harness.gate()}
        self.api = AdminApi(self.settings, gates, harness.ledger, self.state, harness.clock)
        self.application = api_application(self.api, "/api")
        self.client = TestClient(self.application, headers=HERE)

    def write(self, **members):
        document = {
            "upstream": {"url": "http://127.0.0.1:1"},
            "ledger": {"url": "memory://"},
            "callers": {
                "key_file": "keys.json",
                "keys": [{"name": "dave", "sha256": "d" * 64}],
                "jwt": {"algorithms": ["HS256"], "secret": "jwt-secret-" * 4},
            },
            "secrets": ["5" * 64],
            "models": {
                "digits": {
                    "tariff": "tariff.json",
                    "output": {"name": "p", "kind": "probabilities"},
                    "measures": [{"name": "entropy"}],
                }
            },
        }
        self.path.write_text(yaml.safe_dump(document | members))

    def post(self, path, **members):
        return self.client.post(path, json=members)


@pytest.fixture
def api_fixture(tmp_path, harness, calibration):
    api_fixture = ApiFixture(tmp_path, harness, calibration)
    harness.handle(harness.infer_body([1, 2]))
    return api_fixture


# Operations


def test_status_has_the_state_and_the_models(api_fixture):
    response = api_fixture.client.get("/status").json()
    assert (response["settled"], response["broken"], response["leaving"]) == ("2017-07-14T02:40:00Z", False, False)
    (model,) = response["models"]
    assert (model["name"], model["mode"], model["measures"]) == ("digits", "enforce", ["entropy"])
    assert model["unit_seconds"] == api_fixture.harness.tariff.calibration.unit_seconds
    api_fixture.state.settings_invalid = True
    assert api_fixture.client.get("/status").json()["broken"] is True


def test_accounts_are_listed_and_reset(api_fixture):
    (account,) = api_fixture.client.get("/accounts").json()["accounts"]
    assert (account["caller"], account["rows"], account["requests"]) == ("key:alice", 1, 1)
    shown = api_fixture.client.get("/account", params={"caller": "key:alice"}).json()
    (explained,) = shown["accounts"]
    assert account["evidence"]["suspected"] is None  # lists have what the ledger has
    assert explained["evidence"]["suspected"] is False
    assert explained["evidence"]["nearest_kind"] == "all traffic"
    assert [cell["rows"] for cell in explained["evidence"]["cells"]] == [1]
    assert explained | {"evidence": None} == account | {"evidence": None}
    (line,) = api_fixture.client.get("/log").json()["lines"]
    assert (line["mode"], line["rows"], line["measures"], line["classes"]) == ("sealed", 1, ["entropy"], [0])
    assert "alice" not in line["who"]
    assert api_fixture.client.get("/log", params={"after": line["line"]}).json()["lines"] == []
    assert api_fixture.post("/account/reset", caller="key:alice").json() == {"models": ["digits"]}
    assert api_fixture.post("/account/reset", caller="key:alice").status_code == 404
    assert api_fixture.client.get("/account", params={"caller": "key:alice"}).status_code == 404
    assert len(api_fixture.client.get("/log").json()["lines"]) == 1


def test_the_standing_of_a_caller_is_shown_and_reset(api_fixture):
    ledger = api_fixture.harness.ledger
    before = asyncio.run(ledger.standing(Caller("key:alice")))
    asyncio.run(ledger.adjust(Caller("key:alice"), Adjustment(unsettled=2.5, prepaid=1.25)))
    receipt = Receipt(b"r" * 16, 1e12, rows=7, new_account=0.5)
    asyncio.run(ledger.settle(Caller("key:alice"), (receipt,), None, api_fixture.harness.clock()))
    shown = api_fixture.client.get("/account", params={"caller": "key:alice"}).json()
    assert shown["unsettled_seconds"] == before.unsettled + 2.5
    assert shown["prepaid_seconds"] == before.prepaid + 1.25
    assert shown["new_account_seconds_paid"] == before.new_account + 0.5
    assert shown["settled_rows"] == before.settled_rows + 7
    api_fixture.post("/account/reset", caller="key:alice")
    assert asyncio.run(ledger.standing(Caller("key:alice"))) == Standing()


def test_a_caller_without_an_account_has_a_standing(api_fixture):
    asyncio.run(api_fixture.harness.ledger.adjust(Caller("key:new"), Adjustment(prepaid=1.25)))
    for further in ({}, {"model": "digits"}):
        shown = api_fixture.client.get("/account", params={"caller": "key:new"} | further).json()
        assert (shown["accounts"], shown["prepaid_seconds"]) == ([], 1.25)
    assert api_fixture.client.get("/account", params={"caller": "key:nobody"}).status_code == 404
    assert api_fixture.post("/account/reset", caller="key:new").status_code == 404


def test_a_tier_is_changed_in_the_key_file(api_fixture):
    assert api_fixture.post("/account/tier", caller="key:carol", tier="exempt").json() == {"keys": 1}
    assert [key.tier for key in read_keys(api_fixture.keys).keys] == ["exempt"]
    (key,) = api_fixture.client.get("/keys").json()["keys"]
    assert (key["caller"], key["tier"], key["identity"]) == ("key:carol", "exempt", "cccccccc")
    assert "c" * 9 not in api_fixture.client.get("/keys").text
    assert api_fixture.post("/account/tier", caller="key:nobody", tier="exempt").status_code == 404
    assert api_fixture.post("/account/tier", caller="net:1.2.3.0/24", tier="exempt").status_code == 409
    assert api_fixture.post("/account/tier", caller="key:carol", tier="golden").status_code == 404
    api_fixture.keys.write_text("{")
    assert api_fixture.post("/account/tier", caller="key:carol", tier="exempt").status_code == 409
    assert api_fixture.client.get("/keys").status_code == 409


def test_a_caller_is_marked_as_known_honest_in_the_key_file(api_fixture):
    marked = api_fixture.post("/account/known-honest", caller="key:carol", known_honest=True).json()
    assert marked == {"keys": 1, "known_honest": "2025-06-15T15:06:40Z"}
    (key,) = api_fixture.client.get("/keys").json()["keys"]
    assert key["known_honest"] == marked["known_honest"]
    assert read_keys(api_fixture.keys).keys[0].known_honest == datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC)
    assert (
        api_fixture.post("/account/known-honest", caller="key:carol", known_honest=False).json()["known_honest"] is None
    )
    assert read_keys(api_fixture.keys).keys[0].known_honest is None
    for caller, status in (("key:nobody", 404), ("net:1.2.3.4", 409)):
        assert api_fixture.post("/account/known-honest", caller=caller, known_honest=True).status_code == status
    assert api_fixture.post("/account/known-honest", caller="key:carol").status_code == 400


def test_suspects_are_listed_with_their_evidence(api_fixture):
    """By the evidence that the latest bill stored; a caller whose account is of another tariff is not one of them."""
    assert api_fixture.client.get("/suspects").json() == {"considered": 1, "suspects": []}
    harness = api_fixture.harness
    identity, threshold = harness.tariff.identity, -math.log(harness.tariff.calibration.suspicion.alpha)
    update = EvidenceUpdate("key:alice", identity, threshold + 2.0)
    (_, _, entry) = asyncio.run(harness.ledger.log(0, 1))[0]
    asyncio.run(harness.ledger.bill(Caller("key:alice"), entry, updates=(update,)))
    (suspect,) = api_fixture.client.get("/suspects").json()["suspects"]
    assert (suspect["caller"], suspect["rows_of_evidence"]) == ("key:alice", 1)
    assert suspect["surcharge"] == pytest.approx(math.e)
    asyncio.run(
        harness.ledger.bill(
            Caller("key:alice"), entry, updates=(EvidenceUpdate("key:alice", identity, threshold - 1.0),)
        )
    )
    assert api_fixture.client.get("/suspects").json()["suspects"] == []


def test_without_a_key_file_no_tier_can_be_changed(tmp_path, harness, calibration):
    api_fixture = ApiFixture(tmp_path, harness, calibration)
    callers = api_fixture.settings.callers.model_copy(update={"key_file": None})
    settings = api_fixture.settings.model_copy(update={"callers": callers})
    client = TestClient(api_application(AdminApi(settings, {}, harness.ledger, ServerState(), harness.clock), "/api"))
    assert client.get("/keys").json() == {"keys": []}
    assert client.post("/account/tier", json={"caller": "key:carol", "tier": "exempt"}).status_code == 409
    mark = {"caller": "key:carol", "known_honest": True}
    assert client.post("/account/known-honest", json=mark).status_code == 409


def test_settings_are_shown_without_their_secrets(api_fixture):
    response = api_fixture.client.get("/settings")
    assert response.json()["settings"]["limits"]["rows"] == 1024
    for secret in ("5" * 64, "jwt-secret-", "d" * 64):
        assert secret not in response.text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hunter2@h/db", "postgresql://u:**********@h/db"),
        ("postgresql://u@h/db?password=hunter2&x=1", "postgresql://u@h/db?password=**********&x=1"),
        ("valkey://:hunter2@h:1/0", "valkey://:**********@h:1/0"),
        ("sqlite:///a.db", "sqlite:///a.db"),
    ],
)
def test_a_ledgers_password_is_not_shown(url, shown):
    assert without_password(url) == shown


def test_a_ledger_that_does_not_answer_is_a_503(api_fixture, monkeypatch):
    async def dead(*_):
        raise LedgerError("the ledger does not answer", private="password hunter2")

    monkeypatch.setattr(api_fixture.harness.ledger, "largest", dead)
    response = api_fixture.client.get("/accounts")
    assert (response.status_code, response.json()) == (503, {"error": "the ledger does not answer"})


def test_a_request_that_does_not_match_the_schema_is_refused_with_the_field(api_fixture):
    for path, params in (
        ("/accounts", {"limit": 0}),
        ("/accounts", {"limits": 1}),
        ("/account", {}),
        ("/log", {"after": "x"}),
    ):
        response = api_fixture.client.get(path, params=params)
        assert (response.status_code, next(iter(params), "caller") in response.json()["error"]) == (400, True)
    assert api_fixture.client.get("/accounts?limit=1&limit=2").status_code == 400
    assert api_fixture.client.get("/account", params={"caller": "a\0b"}).status_code == 400
    assert (
        api_fixture.client.post("/account/reset", content=b'{"caller": "key:alice"}').status_code == 400
    )  # without content type
    assert api_fixture.post("/account/reset", caller="x" * 100_000).status_code == 413
    assert api_fixture.client.get("/nothing").json() == {"error": "Not Found"}
    assert api_fixture.client.delete("/accounts").status_code == 405


def test_the_page_shows_every_endpoint_and_loads_nothing(api_fixture):
    page = api_fixture.client.get("/")
    for path in api_fixture.client.get("/openapi.json").json()["paths"]:
        assert path in page.text
    assert "script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


# OpenAPI document


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_response_matches_the_document(api_fixture, mode):
    """Schemathesis sends requests that the document allows and others; statuses, types and schemas match it."""
    document = api_fixture.client.get("/openapi.json").json()
    del document["security"]  # the token is checked before the API
    routes = [Mount("/api", api_fixture.application), Route("/document", lambda _: JSONResponse(document))]
    schema = schemathesis.openapi.from_asgi("/document", Starlette(routes=routes))
    tried = []
    for operation in (result.ok() for result in schema.get_all_operations()):

        @settings(max_examples=25, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def holds(case):
            tried.append(case.operation.label)
            case.call_and_validate()

        if mode is GenerationMode.POSITIVE or operation.query or operation.body:
            holds()
    assert len(set(tried)) >= 5


# Authentication


def authenticated(api_fixture, token):
    return TestClient(AdminAuth(api_fixture.application, token))


@pytest.mark.parametrize(
    "shown",
    [
        None,
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Digest {TOKEN}",
        "Basic !!!",
        "Basic " + base64.b64encode(b"operator").decode(),
        "Basic " + base64.b64encode(b"operator:wrong").decode(),
        TOKEN,
    ],
)
def test_without_the_token_everything_is_401(api_fixture, shown):
    client = authenticated(api_fixture, TOKEN)
    headers = {} if shown is None else {"authorization": shown}
    for path in ("/status", "/openapi.json", "/", "/try/", "/nowhere"):
        response = client.get(path, headers=headers)
        assert (response.status_code, response.json()) == (
            401,
            {"error": "the admin token is needed: send it as Authorization: Bearer TOKEN"},
        )
        assert response.headers["www-authenticate"].startswith("Basic")
    assert client.post("/account/reset", json={"caller": "key:alice"}, headers=headers).status_code == 401


@pytest.mark.parametrize("shown", [f"Bearer {TOKEN}", "Basic " + base64.b64encode(f"any:{TOKEN}".encode()).decode()])
def test_with_the_token_any_host_name_is_served(api_fixture, shown):
    client = authenticated(api_fixture, TOKEN)
    assert client.get("/status", headers={"authorization": shown, "host": "box.example"}).status_code == 200


def test_every_token_is_compared_in_constant_time_and_as_hashes_of_one_length(api_fixture, monkeypatch):
    """So the time of a refusal depends neither on the length nor on the prefix of the token."""
    compared, real = [], hmac.compare_digest

    def compare(left, right):
        compared.append((len(left), len(right)))
        return real(left, right)

    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    client = authenticated(api_fixture, TOKEN)
    for shown in ("", "Bearer x", f"Bearer {TOKEN}", "Basic !!!", "Bearer " + "x" * 5000):
        client.get("/status", headers={"authorization": shown})
    assert compared == [(32, 32)] * 5


@pytest.mark.parametrize("host", ["127.0.0.1:9090", "localhost:9090", "localhost", "[::1]:9090", "[::1]", "127.8.0.1"])
def test_without_a_token_loopback_names_are_served(api_fixture, host):
    assert authenticated(api_fixture, None).get("/status", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9090", "127.0.0.1.evil.example", "10.0.0.1:9090", "x"])
def test_without_a_token_other_host_names_are_refused(api_fixture, host):
    assert authenticated(api_fixture, None).get("/status", headers={"host": host}).status_code == 403


def test_cross_site_requests_change_nothing(api_fixture):
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        headers = {"authorization": f"Bearer {TOKEN}", "sec-fetch-site": site}
        response = authenticated(api_fixture, TOKEN).post(
            "/account/reset", json={"caller": "key:alice"}, headers=headers
        )
        assert response.status_code == status


def test_a_gateway_requires_the_token_except_for_health_and_metrics(api_fixture, monkeypatch):
    monkeypatch.setenv("MODELTOLL_ADMIN_TOKEN", TOKEN)
    gateway = build_gateway(load_settings(api_fixture.path))

    async def statuses(**headers):
        async with gateway.shared.open():
            transport = httpx.ASGITransport(gateway.admin)
            async with httpx.AsyncClient(transport=transport, base_url="http://box.example", headers=headers) as client:
                paths = ("/livez", "/readyz", "/metrics", "/api/status", "/try/", "/api/", "/dashboard/x")
                return [(await client.get(path)).status_code for path in paths]

    assert asyncio.run(statuses()) == [200, 503, 200, 401, 401, 401, 401]
    assert asyncio.run(statuses(authorization=f"Bearer {TOKEN}"))[:6] == [200, 503, 200, 200, 200, 200]


@pytest.mark.parametrize("address", ["0.0.0.0:9090", "[::]:9090", "10.0.0.1:9090", "box.example:9090"])
def test_an_admin_address_that_is_not_loopback_needs_a_token(api_fixture, address, monkeypatch):
    api_fixture.write(admin=address)
    with pytest.raises(SettingsError, match="set MODELTOLL_ADMIN_TOKEN"):
        load_settings(api_fixture.path)
    monkeypatch.setenv("MODELTOLL_ADMIN_TOKEN", TOKEN)
    loaded = load_settings(api_fixture.path)
    assert TOKEN not in repr(loaded) + str(loaded) + loaded.model_dump_json()
    monkeypatch.setenv("MODELTOLL_ADMIN_TOKEN", "short")
    with pytest.raises(SettingsError, match="admin_token: is not 16 to 256") as caught:
        load_settings(api_fixture.path)
    assert "short" not in str(caught.value)
