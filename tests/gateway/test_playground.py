"""The playground over HTTP: its files, its configuration, and its content security policy."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from modeltoll.gateway.admin.playground import app as playground_app
from modeltoll.gateway.admin.playground.app import (
    PlaygroundConfig,
    PlaygroundDemo,
    PlaygroundModel,
    playground_application,
)
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.settings.load import load_settings
from modeltoll.pricing.calibration_file import save_calibration

MODEL = PlaygroundModel("digits", "/v2/models/digits/infer", "/v2/models/digits")
CONFIG = PlaygroundConfig("127.0.0.1:8080", (MODEL,))
DEMO = PlaygroundDemo(("one", "two"), b'{"digits": [], "patches": []}')
FILES = Path(playground_app.__file__).parent / "files"


def get(path, config=CONFIG, base="http://127.0.0.1:9090", **headers):
    async def ask():
        transport = httpx.ASGITransport(playground_application(config))
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def policy(response):
    rules = (rule.strip().split(" ") for rule in response.headers["content-security-policy"].split(";"))
    return {name: allowed for name, *allowed in rules}


@pytest.mark.parametrize("name", ["", *(path.name for path in sorted(FILES.iterdir()))])
def test_every_file_is_served_with_its_policy(name):
    response = get(f"/{name}")
    assert response.status_code == 200
    assert response.content == (FILES / (name or "index.html")).read_bytes()
    rules = policy(response)
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == ["'self'", "'wasm-unsafe-eval'"]
    assert rules["style-src"] == rules["worker-src"] == ["'self'"]
    assert rules["connect-src"] == ["'self'", "http://127.0.0.1:8080"]
    assert rules["frame-ancestors"] == rules["form-action"] == rules["base-uri"] == ["'none'"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


def test_the_page_has_no_inline_script_or_style_and_no_other_host():
    page = (FILES / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    for source in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert ":" not in source
        assert source.startswith("#") or (FILES / source).is_file()


def test_the_configuration_has_the_public_address_and_the_models():
    document = get("/gateway.json").json()
    assert document == {
        "gateway": "http://127.0.0.1:8080",
        "models": [{"name": "digits", "infer": MODEL.infer, "metadata": MODEL.metadata}],
        "demo": None,
    }
    assert get("/samples.json").status_code == 404


def test_the_demo_adds_keys_and_samples():
    config = PlaygroundConfig(CONFIG.listen, CONFIG.models, DEMO)
    assert get("/gateway.json", config).json()["demo"] == {"keys": ["one", "two"], "samples": "samples.json"}
    assert get("/samples.json", config).content == DEMO.samples


@pytest.mark.parametrize(
    ("listen", "host_header", "gateway"),
    [
        ("0.0.0.0:8080", "box.local:9090", "http://box.local:8080"),
        ("0.0.0.0:8080", "box.local", "http://box.local:8080"),
        ("[::]:8080", "[fd00::7]:9090", "http://[fd00::7]:8080"),
        ("[::]:8080", "[fd00::7]", "http://[fd00::7]:8080"),
        ("0.0.0.0:8080", "x; script-src *", "http://127.0.0.1:8080"),
        ("10.0.0.1:8080", "box.local:9090", "http://10.0.0.1:8080"),
    ],
)
def test_a_wildcard_address_is_replaced_by_the_host_name_of_the_request(listen, host_header, gateway):
    response = get("/gateway.json", PlaygroundConfig(listen, CONFIG.models), host=host_header)
    assert response.json()["gateway"] == gateway
    assert policy(response)["connect-src"] == ["'self'", gateway]


def test_no_other_file_is_served():
    for path in ("/../site.py", "/%2e%2e/site.py", "/files", "/page.ts", "/index.htm"):
        assert get(path).status_code == 404


@pytest.mark.parametrize(
    ("origins", "said"),
    [((), True), (("https://app.example.org",), True), (("http://127.0.0.1:9090",), False), (("*",), False)],
)
def test_the_page_says_before_any_request_that_the_gateway_does_not_let_it_send_one(origins, said):
    config = PlaygroundConfig(CONFIG.listen, CONFIG.models, cors_origins=origins)
    for path in ("/", "/index.html"):
        page = get(path, config).text
        assert ("cors: {origins: [&quot;http://127.0.0.1:9090&quot;]}" in page) is said
    assert "<b>" not in get("/", config, host="a<b>:9090").text


@pytest.fixture
def gateway(tmp_path, calibration):
    """A gateway that is not open, whose model server does not answer."""
    save_calibration(calibration, tmp_path / "tariff.json")
    (tmp_path / "modeltoll.yaml").write_text(
        "upstream: {url: 'http://127.0.0.1:1'}\n"
        "models: {digits: {tariff: tariff.json, output: {name: p, kind: probabilities}, measures: [{name: entropy}]}}\n"
    )
    return build_gateway(load_settings(tmp_path / "modeltoll.yaml"))


def test_the_front_page_lists_what_is_there_for_browsers_and_for_programs(gateway):
    async def ask(path, accept):
        transport = httpx.ASGITransport(gateway.admin)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, headers={"accept": accept})

    page, listed = (asyncio.run(ask("/", accept)) for accept in ("text/html,*/*", "*/*"))
    paths = [place["path"] for place in listed.json()["places"]]
    assert re.findall(r'href="(/[^"]*)">', page.text) == paths
    assert {"/metrics", "/readyz", "/dashboard/", "/api/", "/try/"} <= set(paths)
    for path in (*paths, re.search(r'rel="stylesheet" href="([^"]*)"', page.text)[1]):
        if path not in ("/readyz", "/dashboard/"):  # these need a model server and an open ledger
            assert asyncio.run(ask(path, "*/*")).status_code == 200


def test_the_admin_address_serves_the_page(gateway):
    async def ask(app, path):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.get(path, follow_redirects=True)

    page = asyncio.run(ask(gateway.admin, "/try"))
    assert (page.status_code, page.url.path) == (200, "/try/")
    document = asyncio.run(ask(gateway.admin, "/try/gateway.json")).json()
    assert document["models"] == [{"name": "digits", "infer": MODEL.infer, "metadata": MODEL.metadata}]
    assert asyncio.run(ask(gateway.public, "/try/")).status_code == 404
