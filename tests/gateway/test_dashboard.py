"""The dashboard over HTTP: its security policy, its messages for missing data, and what it never shows."""

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
from modeltoll.pricing.unpriced_tariff import UnpricedTariff
from modeltoll.records import Caller
from modeltoll.settlement_records import Adjustment, Receipt
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


def make_traffic(plans, mode="enforce", ledger=None):
    ledger = ledger or MemoryLedger()
    asyncio.run(ledger.open())
    traffic = SampleTraffic.start(ledger, TARIFF, NOW)
    asyncio.run(simulate_day(traffic, plans))
    return traffic


@pytest.fixture(scope="module")
def sample_traffic_day():
    return make_traffic([*sample_callers(0.1), CallerPlan(HOSTILE, 30)])


def get(app, path="/", **query):
    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://operator") as client:
            return await client.get(path, params=query or None)

    return asyncio.run(ask())


class PageParser(HTMLParser):
    """Collects the elements of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def parse(response):
    return PageParser(response.text)


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
def test_every_page_has_its_policy_and_nothing_that_the_policy_forbids(sample_traffic_day, page):
    path, query = PAGES[page]
    response = get(sample_traffic_day.dashboard, path, **query)
    rules = (rule.strip().split(" ") for rule in response.headers["content-security-policy"].split(";"))
    assert {name: allowed for name, *allowed in rules} == POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-store"
    found = parse(response)
    for tag, attributes in found.elements:
        assert tag not in {"style", "iframe", "object", "embed", "base", "img"}
        assert not [name for name in attributes if name == "style" or name.startswith(("on", "hx-on"))]
        assert tag != "script" or attributes["src"] in FILES
    for link in [each.get("href") for each in found.of("a")] + [each["href"] for each in found.of("link")]:
        assert not re.match(r"[a-z]*:|//", link), link


@pytest.mark.parametrize("page", PAGES)
def test_names_and_query_values_are_escaped(sample_traffic_day, page):
    path, query = PAGES[page]
    text = get(sample_traffic_day.dashboard, path, **query).text
    assert "<script>alert" not in text
    assert "<img" not in text


def test_a_hostile_name_is_shown_as_text_and_links_to_its_history(sample_traffic_day):
    found = parse(get(sample_traffic_day.dashboard, callers="all"))
    assert HOSTILE.name in found.texts
    (link,) = [each["href"] for each in found.of("a") if "script" in each.get("href", "")]
    response = get(sample_traffic_day.dashboard, f"/{link}")
    assert response.status_code == 200
    assert HOSTILE.name in parse(response).texts


@pytest.mark.parametrize("name", FILES)
def test_files_are_served_unchanged_with_their_type(name):
    response = get(
        dashboard_application(MemoryLedger(), [DashboardModel(MODEL, "enforce", TARIFF)], lambda: NOW), f"/{name}"
    )
    folder, kind = dashboard_app._FILES[name]
    assert response.content == (folder / name).read_bytes()
    assert response.headers["content-type"].startswith(kind)
    assert "content-security-policy" in response.headers


def test_no_other_file_is_served(sample_traffic_day):
    for path in ("/site.py", "/../site.py", "/%2e%2e/site.py", "/files/htmx.min.js", "/LICENSE-htmx", "/templates/"):
        assert get(sample_traffic_day.dashboard, path).status_code == 404


def test_everything_that_a_page_loads_is_served(sample_traffic_day):
    found = parse(get(sample_traffic_day.dashboard))
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
    folder = dashboard_app._DASHBOARD_FILES
    assert "Zero-Clause BSD" in (folder / "LICENSE-htmx").read_text()
    assert "The MIT License" in (folder / "LICENSE-uPlot").read_text()


def test_the_page_shows_every_panel_that_an_operator_needs(sample_traffic_day):
    text = parse(get(sample_traffic_day.dashboard)).text
    for heading in (
        "Last 24 hours",
        "Callers under suspicion",
        "Callers by nearest kind",
        "Waits of callers",
        "Drift of the traffic",
        "Callers",
        "Price in force",
        "What if: other settings",
    ):
        assert heading in text
    assert "suspected" in text
    assert THIEF.name in text


def test_other_settings_are_shown_beside_those_in_force(sample_traffic_day):
    text = parse(get(sample_traffic_day.dashboard, maximum="1")).text
    assert "replayed, settings in force" in text
    assert "replayed, these settings" in text
    assert "replayed, these settings" not in parse(get(sample_traffic_day.dashboard)).text
    assert "'g' must lie between 0 and 1" in parse(get(sample_traffic_day.dashboard, g="7")).text


def test_a_caller_is_found_by_name_and_by_hash(sample_traffic_day):
    hashed = sample_traffic_day.ledger.logged_as(THIEF)
    for query in ({"name": THIEF.name}, {"hash": hashed}):
        response = get(sample_traffic_day.dashboard, "/caller", model=MODEL, **query)
        assert response.status_code == 200
        text = parse(response).text
        assert hashed in text
        assert "suspected" in text
        assert "Leaks compared with honest callers" in text


def test_the_page_of_a_caller_shows_its_standing():
    traffic = make_traffic(sample_callers(0.02))
    receipt = Receipt(b"r" * 16, 1e12, rows=12345, prepaid=7.0)
    asyncio.run(traffic.ledger.settle(THIEF, (receipt,), None, traffic.clock()))
    text = parse(get(traffic.dashboard, "/caller", name=THIEF.name)).text
    for heading in ("unsettled work, all models", "prepaid work, all models", "settled rows, all models", "12,345"):
        assert heading in text
    asyncio.run(traffic.ledger.adjust(Caller("key:new"), Adjustment(prepaid=7.0)))  # paid, and not answered yet
    response = get(traffic.dashboard, "/caller", name="key:new")
    assert (response.status_code, "prepaid work, all models" in parse(response).text) == (200, True)


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        ("/", {"model": "nobody"}, "There is no such model"),
        ("/caller", {"model": "nobody", "name": "key:alice"}, "There is no such model"),
        ("/caller", {}, "The ledger has no such caller"),
        ("/caller", {"name": ""}, "This is not a valid caller name"),
        ("/caller", {"name": "key:nobody"}, "The ledger has no such caller"),
        ("/caller", {"hash": "0" * 16}, "The ledger has no such caller"),
        ("/caller", {"name": "key:\0"}, "This is not a valid caller name"),
    ],
)
def test_unknown_models_and_callers_are_404(sample_traffic_day, path, query, said):
    response = get(sample_traffic_day.dashboard, path, **query)
    assert response.status_code == 404
    assert said in parse(response).text


class FailingLedger(MemoryLedger):
    """A ledger that raises an error while ``failing`` is set."""

    failing = False

    async def log(self, after, limit):
        if self.failing:
            raise LedgerError("the ledger's server cannot be reached", private="10.0.0.7:6379")
        return await super().log(after, limit)

    async def account(self, caller, model):
        if self.failing:
            raise LedgerError("the ledger's server cannot be reached", private="10.0.0.7:6379")
        return await super().account(caller, model)


def test_without_a_ledger_the_page_has_an_error_and_the_panels_that_need_none():
    traffic = make_traffic(sample_callers(0.02), ledger=FailingLedger())
    app = traffic.dashboard
    assert get(app).status_code == 200
    traffic.ledger.failing = True
    traffic.clock.advance(60.0)
    for path, query in (("/", {}), ("/caller", {"name": THIEF.name})):
        response = get(app, path, **query)
        assert response.status_code == 503
        found = parse(response)
        assert "The ledger does not answer: the ledger's server cannot be reached." in found.text
        assert "10.0.0.7" not in response.text
        assert "alert" in [attributes.get("role") for _, attributes in found.elements]
    text = parse(get(app)).text
    assert "Price in force" in text
    assert "Drift of the traffic" in text
    assert "Last 24 hours" not in text
    traffic.ledger.failing = False
    assert get(app).status_code == 200


def test_a_ledger_that_fails_between_two_reads_of_one_page_is_an_error():
    traffic = make_traffic(sample_callers(0.02), ledger=FailingLedger())
    app = traffic.dashboard
    get(app)
    traffic.ledger.failing = True  # the latest snapshot is still used
    assert get(app).status_code == 200
    response = get(app, "/caller", name=THIEF.name)
    assert response.status_code == 503
    assert "cannot be reached" in parse(response).text


def test_a_page_is_rendered_once_per_snapshot(monkeypatch):
    rendered = []
    overview = dashboard_app.overview
    monkeypatch.setattr(
        dashboard_app, "overview", lambda snapshot, options: rendered.append(options) or overview(snapshot, options)
    )
    traffic = make_traffic(sample_callers(0.02))
    app = traffic.dashboard
    assert get(app).content == get(app).content
    assert get(app, sort="rows").status_code == 200
    assert len(rendered) == 2
    traffic.clock.advance(60.0)
    get(app)
    assert len(rendered) == 3


def test_an_empty_ledger_has_a_page_that_says_so():
    text = parse(get(make_traffic([]).dashboard)).text
    assert "The log has no requests to this model in the last 24 hours" in text
    assert "The ledger has no callers of this model" in text
    assert "This process has measured no rows since its start" in text


def test_a_model_in_shadow_mode_shows_that_nothing_was_charged():
    traffic = make_traffic(sample_callers(0.02), mode="shadow")
    models = [DashboardModel(MODEL, "shadow", TARIFF, traffic.monitor)]
    assert (
        "work (shadow mode, not charged)"
        in parse(get(dashboard_application(traffic.ledger, models, traffic.clock))).text
    )


def test_a_model_without_a_tariff_shows_its_traffic_and_callers():
    traffic = make_traffic(sample_callers(0.02))
    app = dashboard_application(
        traffic.ledger, [DashboardModel(MODEL, "shadow", UnpricedTariff(MEASURES))], traffic.clock
    )
    found = parse(get(app, sort="evidence"))
    assert "This model has no tariff yet" in found.text
    assert "Callers" in found.text
    assert "Price in force" not in found.text
    caller = parse(get(app, "/caller", name=THIEF.name)).text
    assert "Without a tariff there is no suspicion" in caller


def test_of_several_models_each_has_its_page():
    traffic = make_traffic(sample_callers(0.02))
    models = [DashboardModel(MODEL, "enforce", TARIFF, traffic.monitor), DashboardModel("other", "enforce", TARIFF)]
    app = dashboard_application(traffic.ledger, models, traffic.clock)
    found = parse(get(app))
    links = {each["href"]: each.get("aria-current") for each in found.of("a") if "model=" in each["href"]}
    assert links["?model=digits"] == "page"
    assert links["?model=other"] is None
    other = parse(get(app, model="other"))
    assert "The log has no requests to this model" in other.text
    assert THIEF.name not in other.text


def test_it_can_be_mounted_at_any_path(sample_traffic_day):
    app = Starlette(routes=[Mount("/some/where", sample_traffic_day.dashboard)])
    page = httpx.URL("http://operator/some/where/")
    found = parse(get(app, page.path))
    links = {each["href"] for each in found.of("a") + found.of("link") if not each["href"].startswith("#")}
    for link in sorted(links):
        assert get(app, page.join(link).raw_path.decode()).status_code == 200, link


def test_it_accepts_reads_only(sample_traffic_day):
    async def ask(method):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(sample_traffic_day.dashboard), base_url="http://localhost"
        ) as client:
            return await client.request(method, "/")

    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert asyncio.run(ask(method)).status_code == 405


@pytest.fixture
def gateway(tmp_path, calibration):
    save_calibration(calibration, tmp_path / "tariff.json")
    (tmp_path / "modeltoll.yaml").write_text(
        "upstream: {url: 'http://127.0.0.1:1'}\n"
        f"callers: {{keys: [{{name: alice, sha256: {hash_key('alice-key')}}}]}}\n"
        "models: {digits: {tariff: tariff.json, output: {name: p, kind: probabilities}, measures: [{name: entropy}]}}\n"
    )
    return build_gateway(load_settings(tmp_path / "modeltoll.yaml"))


def test_the_admin_address_serves_it_and_the_public_address_does_not(gateway):
    async def look():
        async with gateway.open():
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(gateway.admin), base_url="http://localhost"
            ) as client:
                inside = await client.get("/dashboard", follow_redirects=True)
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(gateway.public), base_url="http://localhost"
            ) as client:
                return inside, await client.get("/dashboard/")

    inside, outside = asyncio.run(look())
    assert (inside.status_code, inside.url.path) == (200, "/dashboard/")
    assert "Last 24 hours" in inside.text
    assert outside.status_code == 404


def test_a_gates_requests_are_shown_without_keys_and_payloads(harness):
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
    assert "1 request" in parse(pages[1]).text


def test_unknown_query_values_are_ignored(sample_traffic_day):
    query = urlencode({"sort": "nonsense", "callers": "\0", "extra": "x" * 5000})
    assert get(sample_traffic_day.dashboard, f"/?{query}").status_code == 200
