"""Groups, discounts and drift monitoring, from the settings to the toll."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest

from modeltoll.evidence_records import EVIDENCE_SECONDS
from modeltoll.gateway.assembly.build import build_identifier
from modeltoll.gateway.callers.identify import CallerIdentifier, RequestIdentity, Tier
from modeltoll.gateway.core.credit import Credit, CreditTerms
from modeltoll.gateway.core.drift_monitor import CHECK_ROWS, DriftMonitor
from modeltoll.gateway.settings.gateway import Settings
from modeltoll.ledger import account_math
from modeltoll.pricing.adaptive_g import AdaptiveG
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.drift import DriftDetector
from modeltoll.pricing.fit import RowCosts, fit_calibration
from modeltoll.records import Caller, Charge, Leaks

if TYPE_CHECKING:
    from modeltoll.records import Floats

SETTINGS = {
    "upstream": {"url": "http://127.0.0.1:8000"},
    "callers": {
        "keys": [
            {"name": "alice", "sha256": "a" * 64, "organisation": "acme", "discount": 0.25},
            {"name": "bob", "sha256": "b" * 64},
        ],
        "prefixes": {"ipv4": [16], "ipv6": [32]},
    },
    "models": {
        "digits": {
            "tariff": "t.json",
            "output": {"name": "p", "kind": "probabilities"},
            "measures": [{"name": "entropy"}],
        }
    },
}


def test_groups_and_discounts_come_from_the_settings():
    identifier = build_identifier(Settings(**SETTINGS))
    assert identifier.keys["a" * 64] == Caller("key:alice", groups=("org:acme",), discount=0.25)
    assert identifier.keys["b" * 64] == Caller("key:bob")
    assert (identifier.ipv4_prefixes, identifier.ipv6_prefixes) == ((16,), (32,))


def test_callers_have_the_terms_of_their_tier():
    """A multiplier below 1 is a discount beside the key's own; above 1 it is a markup; anonymous callers have one too."""
    tiers = {"strict": {"multiplier": 2.0}, "gold": {"multiplier": 0.25}}
    keys = [
        {"name": name, "sha256": digit * 64, "tier": tier, "discount": discount}
        for name, digit, tier, discount in [
            ("a", "a", "discounted", 0.0),
            ("b", "b", "strict", 0.5),
            ("c", "c", "gold", 0.5),
            ("d", "d", "exempt", 0.0),
        ]
    ]
    identifier = build_identifier(
        Settings(**SETTINGS | {"callers": {"keys": keys, "tiers": tiers, "anonymous_tier": "strict"}})
    )
    assert identifier.keys["a" * 64] == Caller("key:a", discount=0.5)
    assert identifier.keys["b" * 64] == Caller("key:b", discount=0.5, markup=2.0)
    assert identifier.keys["c" * 64] == Caller("key:c", discount=0.875)
    assert identifier.keys["d" * 64] == Caller("key:d", exempt=True)
    assert identifier.identify(RequestIdentity(None, None, "192.0.2.1", None)) == Caller(
        "net:192.0.2.1", groups=("prefix:192.0.2.0/24",), markup=2.0
    )


def test_a_tier_multiplies_the_price_of_rows(harness):
    body = harness.infer_body([1, 2])
    full = harness.handle(body, caller=Caller("key:a")).work.seconds
    for multiplier in (0.0, 0.5, 4.0):
        caller = Tier(multiplier=multiplier).caller(f"key:m{multiplier}")
        assert harness.handle(body, caller=caller).work.seconds == pytest.approx(multiplier * full)


@pytest.mark.parametrize("prefixes", [{"ipv4": [24]}, {"ipv4": [7]}, {"ipv6": [48]}, {"ipv4": [16, 16]}])
def test_prefixes_that_are_no_wider_networks_are_refused(prefixes):
    with pytest.raises(ValueError, match="prefixes"):
        Settings(**SETTINGS | {"callers": {"prefixes": prefixes}})


@pytest.mark.parametrize("key", [{"organisation": "a b"}, {"organisation": ""}, {"discount": 1.1}, {"discount": -0.1}])
def test_keys_with_odd_organisations_or_discounts_are_refused(key):
    with pytest.raises(ValueError, match=next(iter(key))):
        Settings(**SETTINGS | {"callers": {"keys": [{"name": "a", "sha256": "a" * 64, **key}]}})


def test_callers_of_one_organisation_make_each_others_rarest_rows_dearer(harness):
    """Thirty of them send one rare row each: the last pays more than an outsider, and is not suspected itself."""
    harness.upstream.handler = lambda path, body: harness.answer(harness.uncertain_scores(1))
    works = [
        harness.handle(harness.infer_body([n, 0]), caller=Caller(f"key:{n}", groups=("org:acme",))).work
        for n in range(30)
    ]
    outsider = harness.handle(harness.infer_body([99, 0]), caller=Caller("key:outsider")).work
    assert works[0].seconds == outsider.seconds
    assert works[-1].seconds > 5 * outsider.seconds
    assert works[-1].group_surcharge > 5.0
    assert not any(work.suspected for work in works)
    assert harness.log()[-2].work == works[-1], "the log tells why"


def test_a_neighbours_noise_changes_no_price_of_a_caller_with_200_settled_rows(make_neighbourhood):
    """40 rows of noise from another address of its /24: for a settled caller nothing, else tenfold for rare rows at most."""
    tariff, seconds_of = make_neighbourhood
    for settled in (0, 199, 200):
        alone, beside = seconds_of(settled, noise=0), seconds_of(settled, noise=40)
        rare = beside.rarest < 0.1
        assert 0 < rare.sum() < len(rare)
        assert np.array_equal(alone.rarest, beside.rarest)
        if settled >= 200:
            assert np.array_equal(beside.seconds, alone.seconds)
            assert 0.6 * tariff.unit_seconds < beside.seconds.mean() <= tariff.unit_seconds
        else:
            assert np.array_equal(beside.seconds[~rare], alone.seconds[~rare])
            ratios = beside.seconds[rare] / alone.seconds[rare]
            assert 5.0 < ratios.max() <= 10.0 * (1.0 + 1e-9)


@dataclasses.dataclass(frozen=True)
class PaidRows:
    """The work and the p-value of each row of a caller."""

    seconds: Floats
    rarest: Floats


@pytest.fixture
def make_neighbourhood():
    """A tariff with a unit of 3.2 ms, and the prices of 1,000 honest rows of an address in a /24 with ``noise`` rows."""
    rng = np.random.default_rng(11)
    costs = RowCosts(unit_seconds=0.0032)
    tariff = ConformalTariff(fit_calibration("m", Leaks(("novelty",), rng.lognormal(size=(4000, 1))), costs))
    honest = rng.lognormal(size=(1000, 1))

    def seconds_of(settled, noise):
        accounts = {}

        def charge(peer, leaks, place):
            caller = CallerIdentifier().identify(RequestIdentity(None, None, peer, None))
            assessment = tariff.assess(Leaks(("novelty",), leaks), np.random.default_rng(place))
            entry = Charge(
                "m", len(leaks), (float(leaks.sum()),), tuple(assessment.cells.tolist()),
                tuple((1000 * place + row).to_bytes(8, "big") for row in range(len(leaks))), tariff.cell_count, tariff.identity, 0.0,
            )  # fmt: skip
            for party in account_math.affected_accounts(caller):
                accounts[party.name], _ = account_math.charge(
                    accounts.get(party.name), party, entry, (), EVIDENCE_SECONDS
                )
            own, *groups = (accounts[party.name] for party in account_math.affected_accounts(caller))
            return assessment, dataclasses.replace(account_math.with_groups(own, groups), settled_rows=settled)

        if noise:
            charge("198.51.100.200", np.full((noise, 1), 1e6), 0)
        works = []
        for place, leaks in enumerate(honest, start=1):
            assessment, account = charge("198.51.100.7", leaks[None], place)
            works.append((tariff.work(assessment, account, tariff.verdict(account)).seconds, assessment.rarest[0]))
        return PaidRows(*np.array(works).T)

    return tariff, seconds_of


def test_a_discount_is_taken_off_the_toll(harness):
    full = harness.handle(harness.infer_body([1, 2]), caller=Caller("key:a")).work.seconds
    assert harness.handle(
        harness.infer_body([1, 2]), caller=Caller("key:b", discount=0.75)
    ).work.seconds == pytest.approx(full / 4)


@pytest.fixture
def monitored_harness(harness):
    """A harness whose gate has a drift monitor that the metrics export."""
    monitor = DriftMonitor(harness.model, DriftDetector(harness.tariff), harness.clock)
    harness.metrics.register_monitor(harness.model, harness.tariff.measures, harness.tariff.cells, monitor)
    harness.drift_monitor = monitor
    return harness


def test_new_rows_of_honest_callers_are_counted_by_bin(monitored_harness):
    for n in (1, 2, 2):
        monitored_harness.handle(monitored_harness.infer_body([n, 0]))
    monitored_harness.handle(monitored_harness.infer_body([3, 0]), caller=monitored_harness.vip)
    for _ in range(2):
        page = monitored_harness.metrics.render().decode()
        rows = [line for line in page.splitlines() if line.startswith("modeltoll_p_values_total{")]
        assert sum(float(line.rpartition(" ")[2]) for line in rows) == 2.0
        assert len(rows) == monitored_harness.tariff.cell_count
        assert all(f'model="{monitored_harness.model}"' in line and 'measure="entropy"' in line for line in rows)


def test_rows_of_suspected_callers_are_counted_as_drift_too(monitored_harness):
    """They may be those of an honest caller whose inputs have changed."""
    monitored_harness.upstream.handler = lambda path, body: monitored_harness.answer(
        monitored_harness.uncertain_scores(1)
    )
    monitored_harness.credit = CreditTerms(Credit(1e6, 1.0), Credit(1e6, 1.0))
    gate = monitored_harness.gate()
    works = [monitored_harness.handle(monitored_harness.infer_body([n, 0]), gate=gate).work for n in range(60)]
    assert sum(work.suspected for work in works) > 20
    assert monitored_harness.drift_monitor.reading().rows == 60


def test_drift_is_logged_once_and_exported_as_a_metric(monitored_harness, caplog):
    """Many callers, none of whom is suspected, and all of whose rows are rare."""
    monitored_harness.upstream.handler = lambda path, body: monitored_harness.answer(
        monitored_harness.uncertain_scores(1)
    )
    gate = monitored_harness.gate()
    with caplog.at_level(logging.WARNING, "modeltoll.gateway"):
        for n in range(2 * CHECK_ROWS):
            monitored_harness.handle(monitored_harness.infer_body([n, 0]), caller=Caller(f"key:{n}"), gate=gate)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("digits: ")
    assert "Calibrate again" in message
    assert "key:" not in message
    assert monitored_harness.metric('modeltoll_drift_detected{model="digits"}') == 1.0
    assert monitored_harness.metric('modeltoll_drift_mean_units{model="digits"}') > 10.0
    threshold = monitored_harness.metric('modeltoll_drift_log_threshold{model="digits"}')
    assert monitored_harness.metric('modeltoll_drift_log_evidence{model="digits"}') > threshold
    assert np.isfinite(threshold)


def test_where_it_is_asked_for_the_traffic_chooses_g_for_the_next_rows(harness):
    """Rows at p = 1, from callers under suspicion or not: a small g earns most of them."""
    monitor = DriftMonitor("digits", DriftDetector(harness.tariff), harness.clock, AdaptiveG(harness.tariff))
    harness.drift_monitor = monitor
    harness.metrics.register_monitor("digits", harness.tariff.measures, harness.tariff.cells, monitor)
    harness.credit = CreditTerms(Credit(1e6, 1.0), Credit(1e6, 1.0))
    harness.upstream.handler = lambda path, body: harness.answer(
        np.tile([1.0, 0.0, 0.0, 0.0], (json.loads(body)["inputs"][0]["shape"][0], 1))
    )
    gate = harness.gate()
    before = monitor.current_tariff(harness.tariff)
    first = harness.handle(harness.infer_body([0, 0]), Caller("key:first"), gate=gate).work
    for n in range(20):
        harness.handle(harness.infer_body([[n, row] for row in range(64)]), gate=gate)
    last = harness.handle(harness.infer_body([0, 1]), Caller("key:last"), gate=gate).work
    assert harness.metric('modeltoll_g{model="digits"}') == 0.5
    prices = [tariff.factor_at(1.0) for tariff in (before, monitor.current_tariff(harness.tariff))]
    assert prices[1] > 1.5 * prices[0]
    assert last.rows_seconds == pytest.approx(first.rows_seconds * prices[1] / prices[0])
