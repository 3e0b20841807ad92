"""After kill -9 under load nothing acknowledged is lost, and nothing was released unpriced."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "load" / "kills.py"


def script():
    spec = importlib.util.spec_from_file_location("kills", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


kills = script()


@pytest.mark.parametrize(
    ("store", "victim"),
    [
        ("sqlite", "gateway"),
        ("postgresql", "worker"),
        ("postgresql", "ledger"),
        ("valkey", "gateway"),
        ("valkey", "ledger"),
    ],
)
def test_after_a_kill_the_ledger_holds_every_toll_and_at_most_the_requests_in_flight_besides(store, victim):
    result = kills.trial(store, victim, kills.Plan(seconds=1.5, connections=8))
    assert result["holds"], result
