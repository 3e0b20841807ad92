"""The commands ``accounts`` on every persistent ledger; they never create a ledger."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from io import StringIO

import psycopg
import pytest
import redis
from typer.testing import CliRunner

from modeltoll.cli import app
from modeltoll.evidence_records import RESTART_ROWS, EvidenceUpdate
from modeltoll.ledger.from_url import ledger_from_url, open_ledger
from modeltoll.records import Caller, DailyQuota, DailyUsage
from modeltoll.settlement_records import Receipt, Reservation
from modeltoll.testing.ledger_charges import MODEL, NOW, make_charge, make_log_entry
from modeltoll.testing.servers import PASSWORD

LASTING = ["sqlite", "postgresql", "valkey"]
ALICE = Caller("key:alice", groups=("org:acme",))


def accounts(command, *arguments):
    return CliRunner().invoke(app, ["accounts", command, *map(str, arguments)], env={"COLUMNS": "200"})


def run_ok(command, *arguments):
    result = accounts(command, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(params=LASTING)
def url(request, stores):
    """A ledger with accounts of Alice of Acme for two models, and of Bob for one."""

    async def fill():
        ledger = ledger_from_url(stores[request.param])
        await ledger.open()
        await ledger.charge(ALICE, make_charge(1, 2, at=NOW))
        await ledger.bill(ALICE, make_log_entry(3.5))
        await ledger.charge(ALICE, make_charge(1, at=NOW, model="letters"))
        await ledger.charge(Caller("key:bob"), make_charge(1, at=NOW))
        await ledger.bill(Caller("key:bob"), make_log_entry(9.0))
        await ledger.close()

    asyncio.run(fill())
    return stores[request.param]


def test_the_list_is_sorted_by_work_and_has_no_groups(url):
    listed = json.loads(run_ok("list", url, "--json", "-"))
    assert [(one["caller"], one["model"], one["rows"], one["work_seconds"]) for one in listed] == [
        ("key:bob", MODEL, 1, 9.0),
        ("key:alice", MODEL, 2, 3.5),
        ("key:alice", "letters", 1, 0.0),
    ]
    assert len(json.loads(run_ok("list", url, "--limit", 1, "--json", "-"))) == 1
    table = run_ok("list", url)
    assert "2025-06-15 15:06" in table
    assert "org:acme" not in table


def test_a_caller_or_a_group_is_shown_for_every_model_or_for_one(url):
    assert [one["model"] for one in json.loads(run_ok("show", url, "key:alice", "--json", "-"))] == ["letters", MODEL]
    (shown,) = json.loads(run_ok("show", url, "org:acme", "--model", MODEL, "--json", "-"))
    assert (shown["caller"], shown["rows"], shown["work_seconds"]) == ("org:acme", 2, 0.0)
    assert "key:alice, model suite" in run_ok("show", url, "key:alice")


def test_the_standing_of_a_caller_is_shown_and_deleted_by_a_reset(url):
    async def settle():
        async with open_ledger(url) as ledger:
            receipt = Receipt(b"r" * 16, NOW + 9.0, rows=17, prepaid=1.5, new_account=0.25)
            await ledger.settle(ALICE, (receipt,), Reservation(4.0, 10.0), NOW)

    asyncio.run(settle())
    (shown, _) = json.loads(run_ok("show", url, "key:alice", "--json", "-"))
    assert (shown["unsettled_seconds"], shown["prepaid_seconds"], shown["settled_rows"]) == (2.5, 0.0, 17)
    assert shown["new_account_seconds_paid"] == 0.25
    table = run_ok("show", url, "key:alice")
    assert "key:alice, over all models" in table
    assert "settled rows" in table
    assert "over all models" not in run_ok("show", url, "org:acme")  # groups settle nothing
    assert accounts("reset", url, "key:alice", "--model", "letters").exit_code == 0
    assert json.loads(run_ok("show", url, "key:alice", "--json", "-"))[0]["settled_rows"] == 0


def test_a_caller_without_an_account_has_a_standing(url):
    """As after an admission toll that was paid, before the first answer."""

    async def pay():
        async with open_ledger(url) as ledger:
            await ledger.settle(Caller("key:new"), (Receipt(b"r" * 16, NOW + 9.0, prepaid=1.5),), None, NOW)

    asyncio.run(pay())
    for further in ((), ("--model", MODEL)):
        (shown,) = json.loads(run_ok("show", url, "key:new", *further, "--json", "-"))
        assert (shown["caller"], shown["prepaid_seconds"], "rows" in shown) == ("key:new", 1.5, False)
    assert "key:new, over all models" in run_ok("show", url, "key:new")
    assert accounts("reset", url, "key:new").exit_code == 1  # there is no account to delete


def test_the_evidence_of_a_caller_is_listed_shown_and_deleted_by_a_reset(url):
    """As the latest bill stored it: 20 nats are 10^8.7."""

    async def suspect():
        async with open_ledger(url) as ledger:
            account = await ledger.account(ALICE, MODEL)
            update = EvidenceUpdate("key:alice", account.tariff, 20.0)
            await ledger.bill(ALICE, make_log_entry(0.5), updates=(update,))
            return account

    account = asyncio.run(suspect())
    (shown,) = json.loads(run_ok("show", url, "key:alice", "--model", MODEL, "--json", "-"))
    evidence = shown["evidence"]
    assert (evidence["log_evidence"], evidence["rows"], evidence["finished_log"]) == (20.0, account.evidence.rows, None)
    assert evidence["counts"] == list(account.evidence.counts)
    assert [block["block_rows"] for block in evidence["blocks"]] == list(RESTART_ROWS)
    assert [block["rows"] for block in evidence["blocks"]] == [account.evidence.rows] * len(RESTART_ROWS)
    table = run_ok("show", url, "key:alice", "--model", MODEL)
    assert "evidence at the latest bill, power of ten" in table
    assert "8.7" in table
    assert "8.7" in run_ok("list", url)
    deleted = accounts("reset", url, "key:alice", "--model", MODEL)
    assert f"evidence of {account.evidence.rows} rows since" in deleted.stderr
    assert "power of ten 8.7" in deleted.stderr


def test_usage_of_todays_quota_is_shown(url):
    async def spend():
        ledger = ledger_from_url(url)
        await ledger.open()
        await ledger.spend(ALICE, DailyUsage(int(time.time() // 86_400), 7, 2.5), DailyQuota(rows=100))
        await ledger.close()

    asyncio.run(spend())
    (shown,) = json.loads(run_ok("show", url, "key:alice", "--model", MODEL, "--json", "-"))
    assert (shown["rows_today"], shown["work_seconds_today"]) == (7, 2.5)
    assert "has used 7 rows and 2.500 s of work of its daily quota" in accounts("show", url, "key:alice").stderr


def test_a_reset_deletes_only_the_named_account(url):
    assert accounts("reset", url, "key:alice", "--model", "letters").exit_code == 0
    assert [one["model"] for one in json.loads(run_ok("show", url, "key:alice", "--json", "-"))] == [MODEL]
    result = accounts("reset", url, "key:alice")
    assert (result.exit_code, "deleted for suite" in result.stderr) == (0, True)
    assert [one["caller"] for one in json.loads(run_ok("list", url, "--json", "-"))] == ["key:bob"]
    assert json.loads(run_ok("show", url, "org:acme", "--json", "-"))[0]["rows"] == 2


def test_accounts_and_log_are_exported_as_lines_and_as_a_table(url, tmp_path):
    lines = [json.loads(line) for line in run_ok("export", url).splitlines()]
    assert lines == json.loads(run_ok("list", url, "--json", "-"))
    table = list(csv.DictReader(StringIO(run_ok("export", url, "--format", "csv"))))
    assert [(row["caller"], float(row["work_seconds"])) for row in table] == [
        (line["caller"], line["work_seconds"]) for line in lines
    ]
    assert [json.loads(row["leaks"]) for row in table] == [line["leaks"] for line in lines]
    out = tmp_path / "log.csv"
    assert run_ok("export", url, "--what", "log", "--format", "csv", "--out", out) == ""
    logged = list(csv.DictReader(StringIO(out.read_text())))
    assert [float(row["work_seconds"]) for row in logged] == [3.5, 9.0]
    assert logged[0]["at"] == "2025-06-15T15:06:40+00:00"
    assert "alice" not in out.read_text()  # the log has hashes only


def test_an_unknown_caller_is_an_error(url):
    for command in ("show", "reset"):
        result = accounts(command, url, "key:nobody")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "has no account of 'key:nobody'" in result.stderr


@pytest.mark.parametrize("store", LASTING)
@pytest.mark.parametrize("command", ["list", "show", "reset", "export"])
def test_a_missing_ledger_is_an_error_and_none_is_created(stores, store, command, tmp_path):
    result = accounts(command, stores[store], *(["key:alice"] if command in {"show", "reset"} else []))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no ledger" in result.stderr
    assert list(tmp_path.iterdir()) == []
    if store == "postgresql":
        with psycopg.connect(stores[store]) as direct:
            assert direct.execute("SELECT to_regnamespace('modeltoll')").fetchone() == (None,)
    if store == "valkey":
        port = int(stores[store].rpartition(":")[2].partition("/")[0])
        with redis.Redis(port=port, password=PASSWORD, db=7) as direct:
            assert direct.dbsize() == 0


def test_an_empty_file_is_no_ledger_and_stays_empty(tmp_path):
    empty = tmp_path / "empty.db"
    empty.touch()
    result = accounts("list", f"sqlite:///{empty}")
    assert (result.exit_code, "there is no ledger" in result.stderr) == (1, True)
    assert empty.stat().st_size == 0


def test_a_settings_file_can_name_the_ledger(tmp_path):
    model = "{tariff: t.json, output: {name: p, kind: logits}, measures: [{name: gap}]}"
    settings = tmp_path / "toll.yaml"
    settings.write_text(f"upstream: {{url: 'http://a'}}\nmodels: {{m: {model}}}\nledger: {{url: 'sqlite:///a.db'}}\n")
    assert "there is no ledger" in accounts("list", settings).stderr
    asyncio.run(_opened(f"sqlite:///{tmp_path}/a.db"))
    assert json.loads(run_ok("list", settings, "--json", "-")) == []


async def _opened(url):
    ledger = ledger_from_url(url)
    await ledger.open()
    await ledger.close()


@pytest.mark.parametrize(
    ("where", "fix"),
    [
        ("ledger.db", "the URL must begin with"),
        ("memory://", "the memory of another process"),
        ("sqlite:///a.db?mode=ro", "unknown option"),
        ("nowhere.yaml", "cannot be read"),
    ],
)
def test_an_invalid_ledger_is_a_wrong_command(where, fix):
    result = accounts("list", where)
    assert (result.exit_code, result.stdout) == (2, "")
    assert fix in result.stderr


def test_a_csv_cell_that_looks_like_a_formula_is_quoted(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"

    async def fill():
        ledger = ledger_from_url(url)
        await ledger.open()
        await ledger.charge(Caller("=cmd()"), make_charge(1))
        await ledger.close()

    asyncio.run(fill())
    (row,) = csv.DictReader(StringIO(run_ok("export", url, "--format", "csv")))
    assert row["caller"] == "'=cmd()"
