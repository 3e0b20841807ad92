"""The page to try the toll, as it is served: what it is told, and what its policy lets it do."""

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
OFFER = PlaygroundConfig("127.0.0.1:8080", (MODEL,))
DEMO = PlaygroundDemo(("one", "two"), b'{"digits": [], "patches": []}')
FILES = Path(playground_app.__file__).parent / "files"


def get(path, offer=OFFER, base="http://127.0.0.1:9090", **headers):
    async def ask():
        transport = httpx.ASGITransport(playground_application(offer))
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def policy(response):
    rules = (rule.strip().split(" ") for rule in response.headers["content-security-policy"].split(";"))
    return {name: allowed for name, *allowed in rules}


@pytest.mark.parametrize("name", ["", *(path.name for path in sorted(FILES.iterdir()))])
def test_every_file_of_the_page_is_served_under_its_policy(name):
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


def test_the_page_holds_no_script_and_no_style_of_its_own_and_names_no_other_host():
    page = (FILES / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    for source in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert ":" not in source
        assert source.startswith("#") or (FILES / source).is_file()


def test_the_page_is_told_where_the_public_side_is_and_what_it_serves():
    told = get("/gateway.json").json()
    assert told == {
        "gateway": "http://127.0.0.1:8080",
        "models": [{"name": "digits", "infer": MODEL.infer, "metadata": MODEL.metadata}],
        "demo": None,
    }
    assert get("/samples.json").status_code == 404


def test_the_demo_adds_keys_and_rows_to_try():
    offer = PlaygroundConfig(OFFER.listen, OFFER.models, DEMO)
    assert get("/gateway.json", offer).json()["demo"] == {"keys": ["one", "two"], "samples": "samples.json"}
    assert get("/samples.json", offer).content == DEMO.samples


@pytest.mark.parametrize(
    ("listen", "came_by", "gateway"),
    [
        ("0.0.0.0:8080", "box.local:9090", "http://box.local:8080"),
        ("0.0.0.0:8080", "box.local", "http://box.local:8080"),
        ("[::]:8080", "[fd00::7]:9090", "http://[fd00::7]:8080"),
        ("[::]:8080", "[fd00::7]", "http://[fd00::7]:8080"),
        ("0.0.0.0:8080", "x; script-src *", "http://127.0.0.1:8080"),
        ("10.0.0.1:8080", "box.local:9090", "http://10.0.0.1:8080"),
    ],
)
def test_a_house_that_listens_everywhere_is_asked_under_the_name_that_the_visitor_came_by(listen, came_by, gateway):
    response = get("/gateway.json", PlaygroundConfig(listen, OFFER.models), host=came_by)
    assert response.json()["gateway"] == gateway
    assert policy(response)["connect-src"] == ["'self'", gateway]


def test_no_other_file_is_served():
    for path in ("/../site.py", "/%2e%2e/site.py", "/files", "/page.ts", "/index.htm"):
        assert get(path).status_code == 404


def test_the_operators_side_of_a_gateway_has_the_page(tmp_path, calibration):
    save_calibration(calibration, tmp_path / "tariff.json")
    (tmp_path / "modeltoll.yaml").write_text(
        "upstream: {url: 'http://127.0.0.1:1'}\n"
        "models: {digits: {tariff: tariff.json, output: {name: p, kind: probabilities}, measures: [{name: entropy}]}}\n"
    )
    assembly = build_gateway(load_settings(tmp_path / "modeltoll.yaml"))

    async def ask(app, path):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.get(path, follow_redirects=True)

    page = asyncio.run(ask(assembly.admin, "/try"))
    assert (page.status_code, page.url.path) == (200, "/try/")
    told = asyncio.run(ask(assembly.admin, "/try/gateway.json")).json()
    assert told["models"] == [{"name": "digits", "infer": MODEL.infer, "metadata": MODEL.metadata}]
    assert asyncio.run(ask(assembly.public, "/try/")).status_code == 404
