"""A URL opens any ledger, and an invalid one is refused with a remedy."""

from __future__ import annotations

import asyncio
import sys
import traceback

import pytest

from modeltoll.errors import LedgerError, SettingsError
from modeltoll.evidence_records import EVIDENCE_SECONDS
from modeltoll.ledger.from_url import ledger_from_url, ledger_spec, open_ledger
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.ledger.registry import LEDGERS
from modeltoll.ledger.sqlite import SqliteLedger
from modeltoll.testing.clock import FakeClock
from modeltoll.testing.ledgers import check_ledger


def test_every_line_of_the_table_names_a_ledger(stores):
    for scheme, url in stores.items():
        check_ledger(lambda url=url: ledger_from_url(url), survives_reopen=scheme != "memory")
    assert {*stores, "redis", "rediss", "valkeys", "unix", "postgres"} == LEDGERS.built_in.keys()
    assert (
        len({ledger_spec(f"{scheme}://host").store for scheme in ("redis", "rediss", "valkey", "valkeys", "unix")}) == 1
    )


def test_a_sqlite_url_names_a_relative_or_an_absolute_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url, name in [
        ("sqlite:///relative.db", "relative.db"),
        (f"sqlite:///{tmp_path}/absolute.db", "absolute.db"),
        ("sqlite:///with%20blank%3F%23.db", "with blank?#.db"),
        ("sqlite:///file:odd.db?period_days=1", "file:odd.db"),
    ]:
        ledger = ledger_from_url(url)
        assert isinstance(ledger, SqliteLedger)
        asyncio.run(ledger.open())
        assert (tmp_path / name).is_file()
        asyncio.run(ledger.close())


def test_evidence_starts_anew_after_90_days_by_default():
    assert isinstance(ledger_from_url("memory://"), MemoryLedger)
    assert ledger_from_url("memory://")._period == EVIDENCE_SECONDS == 90 * 86_400
    assert ledger_from_url("memory://?period_days=0.5")._period == 43_200
    assert ledger_from_url("sqlite:///a.db?period_days=7")._period == 7 * 86_400


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("", "memory:// or postgres:// or postgresql:// or"),
        ("ledger.db", "memory:// or postgres:// or postgresql:// or"),
        ("oracle://somewhere", "memory:// or postgres:// or postgresql:// or"),
        ("sqlite:ledger.db", "memory:// or postgres:// or postgresql:// or"),
        ("http://[broken", "not a URL"),
        ("sqlite://ledger.db", "three or four slashes"),
        ("sqlite://", "three or four slashes"),
        ("sqlite:///", "names no file"),
        ("sqlite:///a%00b", "names no file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///a.db#b", "%23"),
        ("sqlite:///a.db?mode=ro", "'mode'"),
        ("sqlite:///a.db?period_days=1&period_days=2", "twice"),
        ("memory://name", "nothing else"),
        ("memory:///name", "nothing else"),
        ("memory://?period_days=", "above 0"),
        ("memory://?period_days=soon", "above 0"),
        ("memory://?period_days=0", "above 0"),
        ("memory://?period_days=-1", "above 0"),
        ("memory://?period_days=nan", "above 0"),
        ("memory://?period_days=inf", "above 0"),
        ("memory://?period_days=1e308", "above 0"),
        ("postgresql://host:port/base", "PostgreSQL does not understand"),
        ("postgresql://user:%zz@host/base", "PostgreSQL does not understand"),
        ("postgresql://host/base?sslmod=require", "'sslmod'"),
        ("postgresql://host/base?timeout=0", "timeout must be a number above 0"),
        ("postgresql://host/base?connections=0.5", "connections must be a whole number"),
        ("postgresql://host/base?connections=", "connections must be a whole number"),
        ("valkey://", "names no host"),
        ("valkey:///0", "names no host"),
        ("redis://host:port", "must be a number from 1"),
        ("redis://host:99999", "must be a number from 1"),
        ("redis://host/ledger", "the database must be a number"),
        ("redis://host/0?db=1", "as the path"),
        ("redis://host/0?ssl_ca_cert=ca.pem", "perhaps you mean ssl_ca_certs"),
        ("redis://:a/b@host/0", "%2F"),
        ("redis://:a?b@host/0", "%3F"),
        ("redis://:a#b@host/0", "%23"),
        ("redis+sentinel://host:26379/name", "Sentinel is not supported"),
        ("rediss-sentinel://host:26379/name", "Sentinel is not supported"),
        ("redis+cluster://host", "a cluster is not supported"),
        ("redis+socket:///run/valkey.sock", "unix:///run/valkey/valkey.sock"),
        ("unix://", "for a Unix socket write"),
        ("unix://host/run/valkey.sock", "for a Unix socket write"),
        ("unix:///run/valkey.sock?db=one", "must be a number"),
        ("unix:///run/valkey.sock?ssl_ca_certs=ca.pem", "no TLS"),
        ("postgresql+psycopg://user@host/base", "write postgresql:// without it"),
        ("postgres+asyncpg://user@host/base", "write postgresql:// without it"),
        ("jdbc:postgresql://host/base", "write postgresql://"),
        ("sqlite+aiosqlite:///a.db", "write sqlite:// without it"),
        ("postgresql://a,b/base?target_session_attrs=standby", "must be read-write"),
        ("redis://host/0?timeout=never", "timeout must be a number above 0"),
        ("redis://host/0?ssl_ca_certs=ca.pem", "rediss:// and valkeys:// only"),
    ],
)
def test_a_wrong_url_is_refused_with_a_remedy(url, remedy):
    with pytest.raises(SettingsError, match=r"^ledger: ") as refusal:
        ledger_from_url(url)
    assert remedy in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "oracle://user:hunter2@host/base",
        "http://user:hunter2@[host",
        "postgresql://user:hunter2%zz@host/base",
        "postgresql://user:hunter2@host:port/base",
        "postgresql://user@host/base?password=hunter2&sslmod=require",
        "redis://user:hunter2@host:port",
        "redis://user:a?hunter2@host/0",
        "redis://user:a#hunter2@host/0",
        "redis://user:a/hunter2@host/0",
        "redis+sentinel://user:hunter2@host/0",
        "valkey://user:hunter2@/0",
    ],
)
def test_a_password_in_a_url_is_never_shown(url):
    with pytest.raises(SettingsError) as refusal:
        ledger_from_url(url)
    assert "hunter2" not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize(
    ("scheme", "module", "extra"), [("postgresql", "psycopg", "postgres"), ("rediss", "redis", "valkey")]
)
def test_a_driver_that_is_not_installed_is_named_with_its_extra(scheme, module, extra, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == module or ".ledger." in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=rf"{scheme}:// needs {module}: pip install 'modeltoll\[{extra}\]'"):
        ledger_from_url(f"{scheme}://host/0")


def test_the_fake_clock_moves_only_on_request():
    clock = FakeClock(100.0)
    assert clock() == clock() == clock.now == 100.0
    clock.advance(2.5)
    assert clock() == 102.5


def test_an_opened_ledger_is_closed_at_the_end_of_the_block_even_where_that_fails(tmp_path):
    url, seen = f"sqlite:///{tmp_path}/one.db", []

    async def use(fail):
        async with open_ledger(url) as ledger:
            seen.append(ledger)
            await ledger.check_writable()
            if fail:
                raise KeyError("inside")

    asyncio.run(use(fail=False))
    with pytest.raises(KeyError, match="inside"):
        asyncio.run(use(fail=True))
    for ledger in seen:
        with pytest.raises(LedgerError):
            asyncio.run(ledger.check_writable())


def test_a_missing_ledger_is_not_created_by_a_read(tmp_path):
    async def look():
        async with open_ledger(f"sqlite:///{tmp_path}/mistyped.db", create=False):
            pytest.fail("there is nothing to open")

    with pytest.raises(LedgerError, match="there is no ledger in"):
        asyncio.run(look())
    assert list(tmp_path.iterdir()) == []
