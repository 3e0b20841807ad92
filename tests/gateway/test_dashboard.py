"""The dashboard as it is served: its policy, what it says when there is little to say, and what it never says."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser
from urllib.parse import urlencode

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from modeltoll.errors import LedgerError
from modeltoll.gateway.admin.dashboard import app as dashboard_app
from modeltoll.gateway.admin.dashboard.app import dashboard_application
from modeltoll.gateway.admin.dashboard.models import DashboardModel
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.settings.load import load_settings
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.pricing.calibration_file import save_calibration
from modeltoll.pricing.unpriced import UnpricedTariff
from modeltoll.records import Caller
from sample_traffic import (
    MEASURES,
    MODEL,
    THIEF,
    CallerPlan,
    SampleTraffic,
    build_tariff,
    sample_callers,
    simulate_day,
)

NOW = 1_750_000_000.0
POLICY = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'"],
    "connect-src": ["'self'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
}
HOSTILE = Caller("""key:</th><script>alert(1)</script>'"><img src=x onerror=alert(2)>{{7*7}}&amp;""")
FILES = sorted(dashboard_app._FILES)
TARIFF = build_tariff()


def lived(plans, mode="enforce", ledger=None):
    ledger = ledger or MemoryLedger()
    asyncio.run(ledger.open())
    town = SampleTraffic.start(ledger, TARIFF, NOW)
    asyncio.run(simulate_day(town, plans))
    return town


@pytest.fixture(scope="module")
def village():
    return lived([*sample_callers(0.1), CallerPlan(HOSTILE, 30)])


def get(app, path="/", **query):
    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://operator") as client:
            return await client.get(path, params=query or None)

    return asyncio.run(ask())


class Reader(HTMLParser):
    """Collects a page's elements with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def read(response):
    return Reader(response.text)


PAGES = {
    "overview": ("/", {}),
    "sorted": ("/", {"sort": "evidence", "callers": "all"}),
    "what if": ("/", {"g": "0.5", "weight_0": "1", "weight_1": "3"}),
    "a fault": ("/", {"g": "<script>alert(3)</script>"}),
    "thief": ("/caller", {"model": MODEL, "name": THIEF.name}),
    "hostile": ("/caller", {"model": MODEL, "name": HOSTILE.name}),
    "missing": ("/caller", {"model": MODEL, "name": "<script>alert(4)</script>"}),
    "no model": ("/", {"model": "<script>alert(5)</script>"}),
}


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_under_its_policy_and_holds_nothing_that_the_policy_forbids(village, page):
    path, query = PAGES[page]
    response = get(village.dashboard, path, **query)
    rules = (rule.strip().split(" ") for rule in response.headers["content-security-policy"].split(";"))
    assert {name: allowed for name, *allowed in rules} == POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-store"
    found = read(response)
    for tag, attributes in found.elements:
        assert tag not in {"style", "iframe", "object", "embed", "base", "img"}
        assert not [name for name in attributes if name == "style" or name.startswith(("on", "hx-on"))]
        assert tag != "script" or attributes["src"] in FILES
    for link in [each.get("href") for each in found.of("a")] + [each["href"] for each in found.of("link")]:
        assert not re.match(r"[a-z]*:|//", link), link


@pytest.mark.parametrize("page", PAGES)
def test_what_comes_from_outside_is_text_and_nothing_else(village, page):
    path, query = PAGES[page]
    text = get(village.dashboard, path, **query).text
    assert "<script>alert" not in text
    assert "<img" not in text


def test_a_hostile_name_reads_as_it_is_and_leads_to_its_own_history(village):
    found = read(get(village.dashboard, callers="all"))
    assert HOSTILE.name in found.words
    (link,) = [each["href"] for each in found.of("a") if "script" in each.get("href", "")]
    response = get(village.dashboard, f"/{link}")
    assert response.status_code == 200
    assert HOSTILE.name in read(response).words


@pytest.mark.parametrize("name", FILES)
def test_files_are_served_as_they_are_with_their_type(name):
    response = get(
        dashboard_application(MemoryLedger(), [DashboardModel(MODEL, "enforce", TARIFF)], lambda: NOW), f"/{name}"
    )
    folder, kind = dashboard_app._FILES[name]
    assert response.content == (folder / name).read_bytes()
    assert response.headers["content-type"].startswith(kind)
    assert "content-security-policy" in response.headers


def test_no_other_file_is_served(village):
    for path in ("/site.py", "/../site.py", "/%2e%2e/site.py", "/files/htmx.min.js", "/LICENSE-htmx", "/templates/"):
        assert get(village.dashboard, path).status_code == 404


def test_everything_that_a_page_loads_is_served(village):
    found = read(get(village.dashboard))
    loaded = [each["href"] for each in found.of("link")] + [each["src"] for each in found.of("script")]
    assert sorted(loaded) == FILES
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {
        name
        for _, attributes in found.elements
        for kind in ("aria-labelledby", "aria-describedby", "for")
        for name in attributes.get(kind, "").split()
    }
    assert targets <= set(ids)


def test_libraries_come_with_their_licences():
    folder = dashboard_app._OWN
    assert "Zero-Clause BSD" in (folder / "LICENSE-htmx").read_text()
    assert "The MIT License" in (folder / "LICENSE-uPlot").read_text()


def test_the_page_shows_every_panel_that_an_operator_needs(village):
    text = read(get(village.dashboard)).text
    for heading in (
        "The last day",
        "Honest waits against the promise",
        "Drift of honest traffic",
        "Callers",
        "The price in force",
        "Had other settings been in force",
    ):
        assert heading in text
    assert "suspected" in text
    assert THIEF.name in text


def test_other_settings_stand_beside_those_in_force(village):
    text = read(get(village.dashboard, maximum="1")).text
    assert "replayed, settings in force" in text
    assert "replayed, these settings" in text
    assert "replayed, these settings" not in read(get(village.dashboard)).text
    assert "'g' must lie between 0 and 1" in read(get(village.dashboard, g="7")).text


def test_a_caller_is_found_by_his_name_and_by_his_hash(village):
    hashed = village.ledger.logged_as(THIEF)
    for query in ({"name": THIEF.name}, {"hash": hashed}):
        response = get(village.dashboard, "/caller", model=MODEL, **query)
        assert response.status_code == 200
        text = read(response).text
        assert hashed in text
        assert "suspected" in text
        assert "His leak against the honest band" in text


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        ("/", {"model": "nobody"}, "There is no such model"),
        ("/caller", {"model": "nobody", "name": "key:alice"}, "There is no such model"),
        ("/caller", {}, "The ledger knows no such caller"),
        ("/caller", {"name": ""}, "Nobody can have such a name"),
        ("/caller", {"name": "key:nobody"}, "The ledger knows no such caller"),
        ("/caller", {"hash": "0" * 16}, "The ledger knows no such caller"),
        ("/caller", {"name": "key:\0"}, "Nobody can have such a name"),
    ],
)
def test_what_is_not_there_is_said_to_be_missing(village, path, query, said):
    response = get(village.dashboard, path, **query)
    assert response.status_code == 404
    assert said in read(response).text


class Broken(MemoryLedger):
    """A ledger that stops answering."""

    broken = False

    async def log(self, after, limit):
        if self.broken:
            raise LedgerError("the ledger's server cannot be reached", private="10.0.0.7:6379")
        return await super().log(after, limit)

    async def account(self, caller, model, at):
        if self.broken:
            raise LedgerError("the ledger's server cannot be reached", private="10.0.0.7:6379")
        return await super().account(caller, model, at)


def test_a_ledger_that_does_not_answer_gives_a_clear_page_with_what_needs_no_ledger():
    town = lived(sample_callers(0.02), ledger=Broken())
    app = town.dashboard
    assert get(app).status_code == 200
    town.ledger.broken = True
    town.clock.advance(60.0)
    for path, query in (("/", {}), ("/caller", {"name": THIEF.name})):
        response = get(app, path, **query)
        assert response.status_code == 503
        found = read(response)
        assert "The ledger does not answer: the ledger's server cannot be reached." in found.text
        assert "10.0.0.7" not in response.text
        assert "alert" in [attributes.get("role") for _, attributes in found.elements]
    text = read(get(app)).text
    assert "The price in force" in text
    assert "Drift of honest traffic" in text
    assert "The last day" not in text
    town.ledger.broken = False
    assert get(app).status_code == 200


def test_a_ledger_that_fails_between_two_reads_of_one_page_is_said_to():
    town = lived(sample_callers(0.02), ledger=Broken())
    app = town.dashboard
    get(app)
    town.ledger.broken = True  # the reading of a moment ago is still shown
    assert get(app).status_code == 200
    response = get(app, "/caller", name=THIEF.name)
    assert response.status_code == 503
    assert "cannot be reached" in read(response).text


def test_a_page_is_put_together_once_for_each_reading(monkeypatch):
    made = []
    overview = dashboard_app.overview
    monkeypatch.setattr(dashboard_app, "overview", lambda stand, wish: made.append(wish) or overview(stand, wish))
    town = lived(sample_callers(0.02))
    app = town.dashboard
    assert get(app).content == get(app).content
    assert get(app, sort="rows").status_code == 200
    assert len(made) == 2
    town.clock.advance(60.0)
    get(app)
    assert len(made) == 3


def test_an_empty_ledger_has_a_page_that_says_so():
    text = read(get(lived([]).dashboard)).text
    assert "The ledger's log has no line of this model from the last day" in text
    assert "The ledger knows nobody who has asked this model" in text
    assert "This gateway has seen no row since it started" in text


def test_a_model_in_shadow_mode_says_that_nothing_was_asked():
    town = lived(sample_callers(0.02), mode="shadow")
    shown = [DashboardModel(MODEL, "shadow", TARIFF, town.monitor)]
    assert "work that would have been asked" in read(get(dashboard_application(town.ledger, shown, town.clock))).text


def test_a_model_without_a_tariff_shows_its_traffic_and_callers():
    town = lived(sample_callers(0.02))
    app = dashboard_application(town.ledger, [DashboardModel(MODEL, "shadow", UnpricedTariff(MEASURES))], town.clock)
    found = read(get(app, sort="evidence"))
    assert "This model has no tariff yet" in found.text
    assert "Callers" in found.text
    assert "The price in force" not in found.text
    caller = read(get(app, "/caller", name=THIEF.name)).text
    assert "Without a tariff nobody is suspected" in caller


def test_of_several_models_each_has_its_page():
    town = lived(sample_callers(0.02))
    models = [DashboardModel(MODEL, "enforce", TARIFF, town.monitor), DashboardModel("other", "enforce", TARIFF)]
    app = dashboard_application(town.ledger, models, town.clock)
    found = read(get(app))
    links = {each["href"]: each.get("aria-current") for each in found.of("a") if "model=" in each["href"]}
    assert links["?model=digits"] == "page"
    assert links["?model=other"] is None
    other = read(get(app, model="other"))
    assert "The ledger's log has no line of this model" in other.text
    assert THIEF.name not in other.text


def test_it_can_be_mounted_anywhere_since_all_its_links_are_its_own(village):
    app = Starlette(routes=[Mount("/some/where", village.dashboard)])
    page = httpx.URL("http://operator/some/where/")
    found = read(get(app, page.path))
    links = {each["href"] for each in found.of("a") + found.of("link") if not each["href"].startswith("#")}
    for link in sorted(links):
        assert get(app, page.join(link).raw_path.decode()).status_code == 200, link


def test_it_changes_nothing_and_takes_nothing_but_reads(village):
    async def ask(method):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(village.dashboard), base_url="http://localhost"
        ) as client:
            return await client.request(method, "/")

    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert asyncio.run(ask(method)).status_code == 405


@pytest.fixture
def assembly(tmp_path, calibration):
    save_calibration(calibration, tmp_path / "tariff.json")
    (tmp_path / "modeltoll.yaml").write_text(
        "upstream: {url: 'http://127.0.0.1:1'}\n"
        f"callers: {{keys: [{{name: alice, sha256: {hash_key('alice-key')}}}]}}\n"
        "models: {digits: {tariff: tariff.json, output: {name: p, kind: probabilities}, measures: [{name: entropy}]}}\n"
    )
    return build_gateway(load_settings(tmp_path / "modeltoll.yaml"))


def test_the_operators_side_of_a_gateway_has_it_and_the_public_side_has_not(assembly):
    async def look():
        async with assembly.open():
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(assembly.admin), base_url="http://localhost"
            ) as client:
                inside = await client.get("/dashboard", follow_redirects=True)
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(assembly.public), base_url="http://localhost"
            ) as client:
                return inside, await client.get("/dashboard/")

    inside, outside = asyncio.run(look())
    assert (inside.status_code, inside.url.path) == (200, "/dashboard/")
    assert "The last day" in inside.text
    assert outside.status_code == 404


def test_what_goes_through_a_gate_is_on_its_dashboard_without_any_key_or_payload(harness):
    secret = 4242.4242
    asyncio.run(harness.gate().handle(harness.request(harness.infer_body([secret, 1.0]))))
    app = dashboard_application(
        harness.ledger, [DashboardModel(harness.model, "enforce", harness.tariff)], harness.clock
    )
    pages = [get(app), get(app, "/caller", name="key:alice")]
    for page in pages:
        assert "key:alice" in page.text
        assert "alice-key" not in page.text
        assert str(secret) not in page.text
    assert "1 request" in read(pages[1]).text


def test_queries_that_are_not_meant_are_passed_over(village):
    query = urlencode({"sort": "nonsense", "callers": "\0", "extra": "x" * 5000})
    assert get(village.dashboard, f"/?{query}").status_code == 200
