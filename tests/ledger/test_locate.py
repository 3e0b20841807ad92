"""One URL opens any ledger, and a wrong one says how to mend it."""

from __future__ import annotations

import asyncio

import pytest

from modeltoll.errors import SettingsError
from modeltoll.ledger.book import HALF_LIFE
from modeltoll.ledger.locate import STORES, locate
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.ledger.sqlite import SqliteLedger
from modeltoll.testing.clock import FakeClock
from modeltoll.testing.ledgers import check_ledger


def test_every_line_of_the_table_names_a_ledger(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    urls = {"memory": "memory://", "sqlite": "sqlite:///ledger.db"}
    assert urls.keys() == STORES.keys()
    for scheme, url in urls.items():
        check_ledger(lambda url=url: locate(url), survives_reopen=scheme != "memory")


def test_a_sqlite_url_names_a_relative_or_an_absolute_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url, name in [
        ("sqlite:///relative.db", "relative.db"),
        (f"sqlite:///{tmp_path}/absolute.db", "absolute.db"),
        ("sqlite:///with%20blank%3F%23.db", "with blank?#.db"),
        ("sqlite:///file:odd.db?half_life_days=1", "file:odd.db"),
    ]:
        ledger = locate(url)
        assert isinstance(ledger, SqliteLedger)
        asyncio.run(ledger.open())
        assert (tmp_path / name).is_file()
        asyncio.run(ledger.close())


def test_the_half_life_is_30_days_unless_the_url_says_otherwise():
    assert isinstance(locate("memory://"), MemoryLedger)
    assert locate("memory://")._half_life == HALF_LIFE == 30 * 86_400
    assert locate("memory://?half_life_days=0.5")._half_life == 43_200
    assert locate("sqlite:///a.db?half_life_days=7")._half_life == 7 * 86_400


@pytest.mark.parametrize(
    ("url", "mend"),
    [
        ("", "memory:// or sqlite://"),
        ("ledger.db", "memory:// or sqlite://"),
        ("oracle://somewhere", "memory:// or sqlite://"),
        ("sqlite:ledger.db", "memory:// or sqlite://"),
        ("http://[broken", "not a URL"),
        ("sqlite://ledger.db", "mind the slashes"),
        ("sqlite://", "mind the slashes"),
        ("sqlite:///", "names no file"),
        ("sqlite:///a%00b", "names no file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///a.db#b", "%23"),
        ("sqlite:///a.db?mode=ro", "'mode'"),
        ("sqlite:///a.db?half_life_days=1&half_life_days=2", "twice"),
        ("memory://name", "nothing else"),
        ("memory:///name", "nothing else"),
        ("memory://?half_life_days=", "above 0"),
        ("memory://?half_life_days=soon", "above 0"),
        ("memory://?half_life_days=0", "above 0"),
        ("memory://?half_life_days=-1", "above 0"),
        ("memory://?half_life_days=nan", "above 0"),
        ("memory://?half_life_days=inf", "above 0"),
        ("memory://?half_life_days=1e308", "above 0"),
    ],
)
def test_a_wrong_url_is_refused_with_its_mend(url, mend):
    with pytest.raises(SettingsError, match=r"^ledger: ") as refusal:
        locate(url)
    assert mend in str(refusal.value)


def test_a_password_in_a_url_is_never_shown():
    with pytest.raises(SettingsError) as refusal:
        locate("oracle://user:hunter2@host/base")
    assert "hunter2" not in str(refusal.value)


def test_the_fake_clock_moves_only_when_told():
    clock = FakeClock(100.0)
    assert clock() == clock() == clock.now == 100.0
    clock.advance(2.5)
    assert clock() == 102.5
