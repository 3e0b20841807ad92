"""The command ``calibrate``: kinds, callers and strangers of files and logs, and targets that cannot be met."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from honest_kinds import NAMES, rows
from modeltoll.cli import app
from modeltoll.cli.calibrate.fitting import busy_machine
from modeltoll.cli.calibrate.sources import NamedFile, RowSources, named_files, seconds_with_unit
from modeltoll.errors import SettingsError
from modeltoll.ledger.from_url import open_ledger
from modeltoll.pricing.calibration_file import load_calibration
from modeltoll.pricing.leak_samples import save_leaks
from modeltoll.records import Caller, Charge, Leaks, LogEntry, Work
from modeltoll.settlement_records import Receipt

KIND_MEMBERS = {"name", "rows", "mean_units", "interval", "p99_ms", "max_log_evidence"}


def run(*arguments):
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


def assert_refused(code, message, *arguments):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert message in " ".join(result.stderr.split())


def together(*parts):
    return Leaks(
        NAMES, np.concatenate([part.values for part in parts]), np.concatenate([part.classes for part in parts])
    )


@pytest.fixture(scope="module")
def leaks(tmp_path_factory):
    """Honest rows of three callers of whom one is odd, a declared kind, and a thief."""
    path = tmp_path_factory.mktemp("calibrate") / "leaks.npz"
    honest = together(rows(2000, classes=2), rows(400, 3.0, -2.0, seed=4, classes=2))
    callers = ("anna",) * 1500 + ("bert",) * 500 + ("odd",) * 400
    samples = {
        "calibration": honest,
        "kind:dark": rows(600, -0.3, 0.8, seed=5),
        "photographs": rows(400, 1.5, 2.5, seed=6),
    }
    save_leaks(path, NAMES, samples, {"calibration": callers})
    return path


@pytest.fixture(scope="module")
def document(leaks):
    """What the command writes as JSON, and its output."""
    out = leaks.with_name("tariff.json")
    options = ["--unit-ms", 10, "--strangers", leaks, "--known-honest", "anna", "--json", leaks.with_name("out.json")]
    result = run("--leaks", leaks, "--out", out, *options)
    assert result.exit_code == 0, result.output
    return json.loads(leaks.with_name("out.json").read_text()), result, out


def test_kinds_and_callers_are_lists_of_one_shape(document):
    found, _, _ = document
    assert [kind["name"] for kind in found["kinds"]] == ["all traffic", "class 0", "class 1", "dark"]
    assert [caller["name"] for caller in found["callers"]] == ["anna", "bert", "odd"]
    for each in (*found["kinds"], *found["callers"]):
        assert set(each) >= KIND_MEMBERS
        assert each["interval"][0] <= each["mean_units"] <= each["interval"][1]
        assert list(each["waits_ms"]) == ["0.5", "0.95", "0.99", "0.999"]


def test_the_calibration_holds_what_was_rehearsed(document):
    found, _, out = document
    stored = load_calibration(out)
    assert {report.name: report.max_log_evidence for report in stored.kind_reports} == {
        each["name"]: each["max_log_evidence"] for each in (*found["kinds"], *found["callers"])
    }
    assert [(kind.role, kind.name) for kind in stored.kinds if kind.role in {"declared", "caller"}] == [
        ("caller", "anna"),
        ("declared", "dark"),
    ]
    assert stored.suspicion.rho0 == found["suspicion"]["rho0"]
    assert [stranger.name for stranger in stored.strangers] == ["photographs"]


def test_suspects_are_named_with_what_would_free_them_and_it_is_proposed(document):
    found, result, _ = document
    assert [each["name"] for each in found["would_free"]] == ["odd"]
    assert "caller odd would be suspected; --known-honest odd" in " ".join(result.stderr.split())
    assert any("--known-honest odd" in line for line in found["proposals"])
    assert "proposed, so that every honest caller" in result.stdout


def test_nothing_is_promised_to_callers_of_fewer_than_1000_rows(document):
    found, result, _ = document
    assert found["not_promised"] == [{"name": "bert", "rows": 500}, {"name": "odd", "rows": 400}]
    assert "nothing is promised to callers with fewer than 1,000 rows: bert (500 rows), odd (400 rows)" in " ".join(
        result.stderr.split()
    )


def test_strangers_show_what_each_kind_costs(document):
    found, result, _ = document
    (stranger,) = found["strangers"]
    assert stranger["name"] == "photographs"
    assert stranger["suspected_at"] is not None
    assert set(stranger["units_without"]) == {"classes", "dark"}
    assert "what kinds cost" in result.stdout


def test_without_inputs_the_rarest_rows_stand_for_strangers_and_it_is_said(leaks, tmp_path):
    out = tmp_path / "out.json"
    result = run("--leaks", leaks, "--out", tmp_path / "t.json", "--unit-ms", 10, "--json", out)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert said.count("generic strangers are made of inputs, which recorded leaks and the log do not hold") == 1
    strangers = json.loads(out.read_text())["strangers"]
    assert [(each["name"], each["generic"]) for each in strangers] == [
        ("rarest tenth by entropy", True),
        ("rarest tenth by novelty", True),
    ]
    assert load_calibration(tmp_path / "t.json").strangers == ()


def test_classes_of_too_few_rows_are_named_as_not_promised(tmp_path):
    honest = rows(2000, classes=2)
    honest.classes[:100], honest.classes[100:140] = 7, 9
    path, out = tmp_path / "leaks.npz", tmp_path / "out.json"
    save_leaks(path, NAMES, {"calibration": honest})
    options = ["--leaks", path, "--out", tmp_path / "t.json", "--unit-ms", 10, "--json", out]
    result = run(*options)
    assert result.exit_code == 0, result.output
    few = json.loads(out.read_text())["classes_not_promised"]
    assert [each["class"] for each in few] == [7, 9]
    named = (
        f"rows for a kind of their own: 7 ({few[0]['rows']} rows), 9 ({few[1]['rows']} rows); give more rows of them"
    )
    assert named in " ".join(result.stderr.split())
    assert "other classes" in {kind.name for kind in load_calibration(tmp_path / "t.json").kinds}
    result = run(*options, "--class-rows", 25)
    assert json.loads(out.read_text())["classes_not_promised"] == []
    assert {"class 7", "class 9"} <= {kind.name for kind in load_calibration(tmp_path / "t.json").kinds}


def test_strangers_who_would_not_be_found_are_named(leaks, tmp_path):
    alike = tmp_path / "alike.npz"
    save_leaks(alike, NAMES, {"alike": rows(400, classes=2, seed=77)})
    options = ["--unit-ms", 10, "--strangers", leaks, "--strangers", alike]
    result = run("--leaks", leaks, "--out", tmp_path / "t.json", *options)
    assert "warning: alike would not be found in 5,000 rows of one account" in " ".join(result.stderr.split())


def test_the_table_has_words_for_the_promise_and_both_times(document):
    _, result, _ = document
    for words in (
        "yes, below 1",
        "at most 1?",
        "a row without a gateway",
        "the gateway's own time",
        "log evidence",
    ):
        assert words in result.stdout


def test_the_proposed_options_free_the_suspect(leaks, tmp_path):
    options = ["--unit-ms", 10, "--known-honest", "all", "--json", tmp_path / "out.json"]
    result = run("--leaks", leaks, "--out", tmp_path / "t.json", *options)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["would_free"] == []
    odd = next(each for each in found["callers"] if each["name"] == "odd")
    assert odd["suspected_at"] is None


def test_callers_for_all_prints_what_it_costs(leaks, tmp_path):
    """The odd caller's log counts for everyone: a stranger like it is no longer suspected."""
    alike = tmp_path / "alike.npz"
    save_leaks(alike, NAMES, {"alike": rows(400, 3.0, -2.0, seed=9, classes=2).values})
    options = ["--unit-ms", 10, "--known-honest", "all", "--callers-for-all", "--strangers", f"alike={alike}"]
    result = run("--leaks", leaks, "--out", tmp_path / "t.json", *options, "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    assert "what --callers-for-all costs" in result.stdout
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["strangers_without_callers"][0]["name"] == "alike"
    names = [kind.name for kind in load_calibration(tmp_path / "t.json").kinds if kind.role == "declared"]
    assert names == ["dark", "callers 1", "callers 2", "callers 3"]


def test_settings_of_suspicion_reach_the_calibration(leaks, tmp_path):
    options = ["--rho", 0.4, "--rho0", 0.05, "--alpha", 1e-5, "--surcharge", 50]
    result = run("--leaks", leaks, "--out", tmp_path / "t.json", "--unit-ms", 10, *options)
    assert result.exit_code == 0, result.output
    terms = load_calibration(tmp_path / "t.json").suspicion
    assert (terms.rho, terms.alpha, terms.maximum) == (0.4, 1e-5, 50.0)
    assert terms.rho0 >= 0.05


def test_a_wait_that_cannot_be_met_fails_and_writes_nothing(leaks, tmp_path):
    """A fit may choose a g whose waits on rows held back are longer than asked for; it must not pass for a success."""
    out = tmp_path / "t.json"
    assert_refused(1, "no g lets 99 %", "--leaks", leaks, "--out", out, "--unit-ms", 10, "--p99-wait", "1ms")
    assert not out.exists()


def test_a_wait_that_is_missed_on_rows_held_back_fails_too(leaks, tmp_path, monkeypatch):
    """The choice is made on other rows: with those held back the target may be missed."""
    from modeltoll.pricing import fit, selection  # noqa: PLC0415

    monkeypatch.setattr(fit, "select_terms", lambda *_: selection.TermsChoice(0.9, (0.5, 0.5), 1.0, None))
    result = run("--leaks", leaks, "--out", tmp_path / "t.json", "--unit-ms", 10, "--p99-wait", "12ms")
    assert result.exit_code == 1
    errors = " ".join(result.stderr.split())
    assert "no tariff was written: --p99-wait: 99 % of the honest rows held back wait at most" in errors
    assert "not 12.0 ms" in errors
    assert not (tmp_path / "t.json").exists()


@pytest.mark.parametrize("text", ["100", "0.5", "ms", "s", "-1s", "nan s", "1min"])
def test_a_time_without_its_unit_is_refused(leaks, tmp_path, text):
    with pytest.raises(SettingsError, match="not a time with its unit"):
        seconds_with_unit(text, "--p99-wait")
    assert seconds_with_unit("500ms", "") == seconds_with_unit("0.5s", "") == 0.5
    if text == "100":
        assert_refused(2, "not a time with its unit", "--leaks", leaks, "--out", tmp_path / "t", "--p99-wait", text)


def test_options_that_contradict_each_other_are_refused(leaks, tmp_path):
    out = ("--out", tmp_path / "t.json")
    assert_refused(2, "give one of --inputs, --requests, --leaks and --from-ledger", *out)
    assert_refused(2, "--kinds changes inputs", "--leaks", leaks, *out, "--kinds", "blur")
    assert_refused(2, "--kind: write NAME=FILE", "--leaks", leaks, *out, "--kind", "night.npy")
    assert_refused(2, "give the gateway's settings", "--leaks", leaks, *out, "--kind", "night=night.npy")
    assert_refused(2, "there are no rows of 'zoe'", "--leaks", leaks, *out, "--known-honest", "zoe")
    assert_refused(1, "no sample called 'moon'", "--leaks", leaks, *out, "--kind", f"moon={leaks}")
    assert_refused(2, "does not name the callers", *_without_callers(tmp_path), *out)


def _without_callers(folder):
    save_leaks(folder / "plain.npz", NAMES, {"honest": rows(300)})
    return "--leaks", folder / "plain.npz", "--known-honest", "all"


def test_files_are_named_once():
    found = named_files(["a=b.npy", "c.npz"], "--strangers", need_name=False)
    assert found == (NamedFile("a", Path("b.npy")), NamedFile("", Path("c.npz")))
    with pytest.raises(SettingsError, match="a is there twice"):
        named_files(["a=b.npy", "a=c.npy"], "--kind", need_name=True)
    with pytest.raises(SettingsError, match="--kinds changes inputs"):
        RowSources(None, None, True, kinds="blur")


def test_a_raised_tax_is_said(tmp_path):
    """With no tolerance at all the errors of a kind's law are found in 100,000 rows, so the tax is raised, and said to be."""
    kind = rows(2000, 0.5, 0.5, seed=10, classes=1)
    save_leaks(tmp_path / "l.npz", NAMES, {"honest": rows(1000, classes=1), "kind:blur": kind})
    options = ["--unit-ms", 10, "--rho", 0, "--rho0", 0, "--json", tmp_path / "out.json"]
    result = run("--leaks", tmp_path / "l.npz", "--out", tmp_path / "t.json", *options)
    assert result.exit_code == 0, result.output
    terms = json.loads((tmp_path / "out.json").read_text())["suspicion"]
    assert terms["rho0"] > terms["asked_rho0"] == 0.0
    assert f"rho0 was raised from 0 to {terms['rho0']:g}" in " ".join(result.stderr.split())
    assert load_calibration(tmp_path / "t.json").suspicion.rho0 == terms["rho0"]


def test_a_kind_that_no_tax_frees_fails_and_writes_nothing(tmp_path, monkeypatch):
    """The steps of the tax are made too small for the errors of the kind's law."""
    from modeltoll.pricing import rehearsal  # noqa: PLC0415

    monkeypatch.setattr(rehearsal, "RHO0_STEPS", (1e-6,))
    kind = rows(2000, 0.5, 0.5, seed=10, classes=1)
    save_leaks(tmp_path / "l.npz", NAMES, {"honest": rows(1000, classes=1), "kind:blur": kind})
    options = ["--unit-ms", 10, "--rho", 0, "--rho0", 0]
    result = run("--leaks", tmp_path / "l.npz", "--out", tmp_path / "t.json", *options)
    assert result.exit_code == 1
    assert "no tariff was written: blur would be suspected after" in " ".join(result.stderr.split())
    assert not (tmp_path / "t.json").exists()


def test_a_novelty_that_knows_other_kinds_than_the_calibration_is_reported(document, leaks, tmp_path):
    _, result, _ = document
    assert "novelty was fitted without kinds" in " ".join(result.stderr.split())
    clean = Leaks(
        (*NAMES, "novelty:clean"), np.concatenate([rows(400).values, rows(400, seed=1).values[:, 1:]], axis=1)
    )
    save_leaks(tmp_path / "clean.npz", clean.measures, {"honest": clean})
    result = run("--leaks", tmp_path / "clean.npz", "--out", tmp_path / "t.json", "--unit-ms", 10)
    assert result.exit_code == 0, result.output
    assert "a measure was fitted with kinds, and none are declared here" in " ".join(result.stderr.split())
    assert load_calibration(tmp_path / "t.json").measures == NAMES


def test_a_busy_machine_is_reported(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 0.0, 0.0))
    assert "a load of 3.0 on 4 cores" in busy_machine()[0]
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 0.0, 0.0))
    assert busy_machine() == []


@pytest.fixture(scope="module")
def shadow(tmp_path_factory):
    """Settings of a gateway in shadow mode, and its ledger's log: two callers, classes, and leaks without kinds."""
    folder = tmp_path_factory.mktemp("shadow")
    keys = [
        {
            "name": name,
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
            "known_honest": name in {"anna", "late", "new"},
        }
        for name in ("anna", "odd", "late", "new")
    ]
    model = {
        "tariff": "tariff.json",
        "mode": "shadow",
        "output": {"name": "p", "kind": "probabilities"},
        "measures": [{"name": "entropy"}, {"name": "novelty", "file": "novelty.npz"}],
    }
    document = {
        "upstream": {"url": "http://127.0.0.1:1"},
        "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
        "callers": {"keys": keys},
        "models": {"digits": model},
    }
    (folder / "modeltoll.yaml").write_text(yaml.safe_dump(document))
    asyncio.run(_log(f"sqlite:///{folder}/ledger.db"))
    return folder / "modeltoll.yaml"


async def _log(url):
    """Callers anna and odd in shadow mode; late, whose tolls of 300 rows are paid, and new, who paid for none."""
    sent = {"anna": rows(2200, classes=2), "odd": rows(400, 3.0, -2.0, seed=4, classes=2)}
    sent |= {"late": rows(400, 1.0, 1.0, seed=5, classes=2), "new": rows(100, seed=6, classes=2)}
    names = (*NAMES, "novelty:clean")
    async with open_ledger(url) as ledger:
        for name, leaks in sent.items():
            mode = "sealed" if name in {"late", "new"} else "shadow"
            caller = Caller(f"key:{name}")
            for start in range(0, len(leaks.values), 100):
                some = slice(start, start + 100)
                values = np.concatenate([leaks.values[some], leaks.values[some, 1:] + 1.0], axis=1)
                marks = tuple(f"{name}{row:04}".encode()[-8:].rjust(8) for row in range(start, start + 100))
                at = datetime(2030, 1, 1, tzinfo=UTC).timestamp() + start
                await ledger.charge(caller, Charge("digits", 100, (1.0, 1.0), (), marks, 0, "unpriced", at))
                entry = LogEntry(
                    at,
                    "digits",
                    100,
                    names,
                    tuple(map(tuple, values.tolist())),
                    (0.5,) * 100,
                    Work(0.1, 100, 0.1),
                    mode,
                    tuple(leaks.classes[some].tolist()),
                )
                await ledger.bill(caller, entry)
        receipt = Receipt(b"r" * 16, expires=4e9, rows=300)
        await ledger.settle(Caller("key:late"), [receipt], None, 2e9)


def test_the_log_gives_classes_callers_and_clean_columns_and_marked_keys_are_kinds(shadow, tmp_path):
    options = ["--from-ledger", "--unit-ms", 10, "--out", tmp_path / "t.json", "--json", tmp_path / "out.json"]
    result = run(shadow, *options)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out.json").read_text())
    stored = load_calibration(tmp_path / "t.json")
    assert stored.measures == NAMES
    assert stored.clean_scores is not None
    assert stored.coordinates == NAMES
    assert {"class 0", "class 1"} <= {kind.name for kind in stored.kinds}
    own = {kind.label: kind.rows for kind in stored.kinds if kind.role == "caller"}
    assert list(own) == ["key:anna", "key:late"]
    assert own["key:late"] == 240, "of the 300 rows that it has paid for, a fifth is held back"
    assert "key:new has settled 0 rows before any suspicion" in " ".join(result.stderr.split())
    assert {each["label"] or "-" for each in found["callers"]} == {"key:anna", "key:late", "-"}
    assert len(found["would_free"]) == 1


@pytest.mark.parametrize("named", ["odd", "key:odd", "all"])
def test_keys_are_named_as_in_the_settings(shadow, tmp_path, named):
    result = run(shadow, "--from-ledger", "--unit-ms", 10, "--out", tmp_path / "t.json", "--known-honest", named)
    assert result.exit_code == 0, result.output
    labels = sorted(kind.label for kind in load_calibration(tmp_path / "t.json").kinds if kind.role == "caller")
    assert "key:anna" in labels
    assert len(labels) == 3
    assert_refused(2, "there are no rows of 'zoe'", shadow, "--from-ledger", "--unit-ms", 10, "--known-honest", "zoe")
