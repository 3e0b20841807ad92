"""Who comes under suspicion is counted once, and a customer of long standing is an alarm."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from modeltoll.evidence_records import EvidenceState, Verdict
from modeltoll.gateway.core.suspect_monitor import LONG_STANDING_ROWS, SuspectMonitor, SuspectTerms
from modeltoll.gateway.observability.metrics import GatewayMetrics
from modeltoll.records import Account, Caller
from modeltoll.testing.clock import FakeClock

DAY, THRESHOLD, MODEL = 86_400.0, 13.8, "digits"
SUSPECTED, HONEST = Verdict(surcharge=5.0, log_evidence=17.0), Verdict(log_evidence=2.0)


def account(caller="key:alice", *, age=0.0, log_evidence=0.0, carried_log=None, **caller_terms):
    """An account whose first request was ``age`` days ago, with the evidence that the latest bill stored."""
    state = replace(EvidenceState.new(3, 0.0, carried_log), log_evidence=log_evidence)
    now = 1000 * DAY
    return Account(Caller(caller, **caller_terms), MODEL, 1, 1, (0.0,), state, 0.0, "t", now - age * DAY, now)


@pytest.fixture
def clock():
    return FakeClock(1000 * DAY)


@pytest.fixture
def monitor(clock):
    return SuspectMonitor(SuspectTerms(MODEL, THRESHOLD, 30 * DAY), clock)


def numbers(monitor):
    counts = monitor.drain()
    return counts.recent, counts.new, counts.long_standing


def test_a_caller_is_counted_when_it_comes_under_suspicion_and_not_again(monitor):
    monitor.record(account(), HONEST, 0)
    assert numbers(monitor) == (0, 0, 0)
    for stored in (2.0, 17.0, 17.0):
        monitor.record(account(log_evidence=stored), SUSPECTED, 0)
    assert numbers(monitor) == (1, 1, 0)
    assert numbers(monitor) == (1, 0, 0), "new ones count once"


@pytest.mark.parametrize("known", [{"log_evidence": 17.0}, {"carried_log": 17.0}])
def test_who_was_under_suspicion_before_this_process_or_this_tariff_is_not_new(monitor, known):
    """The ledger knows: by the latest bill, or by the tariffs before, of whose evidence half counts."""
    monitor.record(account(**known), SUSPECTED, 0)
    assert numbers(monitor) == (1, 0, 0)


def test_a_caller_at_the_limit_is_counted_once_however_often_it_crosses_it(monitor):
    for verdict in (SUSPECTED, HONEST) * 5:
        monitor.record(account(), verdict, 0)
    assert numbers(monitor) == (0, 1, 0)


def test_suspects_of_the_last_day_are_counted(monitor, clock):
    for name in ("key:a", "key:b", "net:198.51.100.7"):
        monitor.record(account(name), SUSPECTED, 0)
    assert numbers(monitor) == (3, 3, 0)
    clock.advance(DAY / 2)
    monitor.record(account("key:a", log_evidence=17.0), SUSPECTED, 0)
    clock.advance(DAY / 2 + 1)
    assert numbers(monitor) == (1, 0, 0)


ALARMS = {
    "of long standing": ("key:alice", 31, LONG_STANDING_ROWS, True),
    "with a token": ("jwt:alice", 31, LONG_STANDING_ROWS, True),
    "new": ("key:alice", 29, 5000, False),
    "few settled rows": ("key:alice", 400, LONG_STANDING_ROWS - 1, False),
    "without a key": ("net:198.51.100.7", 400, 5000, False),
}


@pytest.mark.parametrize(("name", "age", "settled", "alarm"), ALARMS.values(), ids=ALARMS)
def test_a_customer_of_long_standing_under_suspicion_is_logged_with_its_name(
    monitor, caplog, name, age, settled, alarm
):
    with caplog.at_level(logging.WARNING, "modeltoll.gateway"):
        monitor.record(account(name, age=age), SUSPECTED, settled)
        monitor.record(account(name, age=age), SUSPECTED, settled)
    assert numbers(monitor) == (1, 1, int(alarm))
    assert len(caplog.records) == int(alarm)
    for record in caplog.records:
        assert record.levelno == logging.WARNING
        assert f"{MODEL}: {name} has come under suspicion, {age} days" in record.getMessage()
        assert f"{settled} settled rows" in record.getMessage()


def test_exempt_callers_are_no_suspects(monitor):
    monitor.record(account(exempt=True, age=400), SUSPECTED, 5000)
    assert numbers(monitor) == (0, 0, 0)


def test_the_memory_of_a_monitor_is_bounded(monitor):
    for number in range(10_100):
        monitor.record(account(f"key:{number}"), SUSPECTED, 0)
    assert numbers(monitor) == (10_000, 10_100, 0)


def test_the_metrics_count_suspects_without_their_names(monitor):
    metrics = GatewayMetrics()
    metrics.register_suspects(MODEL, monitor)
    monitor.record(account(age=31), SUSPECTED, 5000)
    monitor.record(account("key:bob"), SUSPECTED, 0)
    for _ in range(2):
        page = metrics.render().decode()
    for name, value in {
        "suspected_callers": 2.0,
        "new_suspects_total": 2.0,
        "long_standing_suspects_total": 1.0,
    }.items():
        assert f'modeltoll_{name}{{model="{MODEL}"}} {value}' in page.splitlines()
    assert "alice" not in page
    metrics.clear_models()
    assert "modeltoll_suspected_callers{" not in metrics.render().decode()
