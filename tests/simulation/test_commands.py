"""The commands ``simulate``, ``explain``, and ``calibrate`` on recorded leaks and logs."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from modeltoll.cli import app
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.pricing.calibration_file import load_calibration, save_calibration
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.leak_samples import save_leaks
from modeltoll.records import Caller, Charge, Leaks, LogEntry, Work

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
NAMES = ("entropy", "novelty")
SETTINGS = """
upstream: {url: "http://127.0.0.1:1"}
ledger: {url: "sqlite:///LEDGER"}
models:
  digits:
    tariff: tariff.json
    output: {name: p, kind: probabilities}
    measures: [{name: entropy, weight: 3}, {name: novelty, file: private.npy}]
"""


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_ok(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def assert_refused(code, message, *arguments):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in " ".join(result.stderr.split())


def rows(count, shift=0.0, seed=0):
    return np.random.default_rng(seed).lognormal(shift, size=(count, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with leaks, their tariff, settings, and a ledger with the log of a gateway in shadow mode."""
    folder = tmp_path_factory.mktemp("commands")
    samples = {"calibration": rows(800), "honest": rows(400, seed=1), "thief": rows(300, 2.0, seed=2)}
    save_leaks(folder / "leaks.npz", NAMES, samples)
    (folder / "modeltoll.yaml").write_text(SETTINGS.replace("LEDGER", str(folder / "ledger.db")))
    run_ok(
        "calibrate",
        "--leaks",
        folder / "leaks.npz",
        "--out",
        folder / "tariff.json",
        "--undefended-ms",
        8,
        "--model",
        "digits",
    )
    tariff = ConformalTariff(load_calibration(folder / "tariff.json"))
    asyncio.run(_serve(f"sqlite:///{folder / 'ledger.db'}", tariff, samples["thief"]))
    return folder


async def _serve(url, tariff, leaks):
    ledger = ledger_from_url(url)
    await ledger.open()
    for index, row in enumerate(leaks):
        caller = Caller(f"key:{'mallory' if index < 100 else f'honest-{index % 7}'}")
        cells = tariff.assess(Leaks(NAMES, row[None]), np.random.default_rng(index)).cells
        entry = Charge(
            "digits",
            1,
            tuple(row),
            tuple(cells.tolist()),
            (index.to_bytes(8, "big"),),
            tariff.cell_count,
            tariff.identity,
            time.time(),
        )
        await ledger.charge(caller, entry)
        await ledger.bill(caller, LogEntry(1.0, "digits", 1, NAMES, (tuple(row),), (0.5,), Work(0.1, 1, 0.1), "shadow"))
    await ledger.close()


@pytest.mark.parametrize(
    ("data", "ratios"),
    [
        (
            "mnist",
            {("standard", 10_000): 1.140, ("copycat", 10_000): 289.17, ("copycat", 11_000): 299.40,
             ("adaptiveknockoff", 10_000): 288.52, ("data free", 1_946_875): 19.11},
        ),
        (
            "cifar10",
            {("standard", 8_938): 1.230, ("copycat", 8_938): 161.28, ("copycat", 29_938): 174.32,
             ("adaptiveknockoff", 8_938): 158.63, ("data free", 19_512_500): 9.170},
        ),
    ],
)  # fmt: skip
def test_the_published_ratios_are_printed(data, ratios):
    trace = REFERENCE / f"model_extraction_attack_accuracy_{data}.csv"
    standard = REFERENCE / f"time_privacy_cost_{data}.csv"
    result = run_ok("simulate", trace, "--standard", standard, "--tariff", "published", "--json", "-")
    found = {(row["mode"], row["queries"]): row for row in json.loads(result.stdout)}
    for key, ratio in ratios.items():
        assert found[key]["ratio"] == pytest.approx(ratio, rel=1e-3)
        assert list(found[key]) == ["mode", "queries", "seconds_without", "seconds_with", "ratio"]
    table = run_ok("simulate", trace, "--standard", standard, "--tariff", "published").stdout
    assert "adaptiveknockoff" in table


def test_leaks_are_replayed_through_several_tariffs(folder):
    result = run_ok(
        "simulate", folder / "leaks.npz", "--tariff", folder / "tariff.json", "--tariff", "published", "--rows", 500,
        "--accounts", "1,50", "--fillers", "2", "--filler-p", "0.1..1", "--abandon", "5", "--honest-rows", 100,
        "--figure", folder / "ratios.png", "--json", folder / "lines.json",
    )  # fmt: skip
    lines = json.loads((folder / "lines.json").read_text())
    assert {line["tariff"] for line in lines} == {"conformal", "published"}
    assert len(lines) == 2 * (2 + 2 + 5 + 1 + 1 + 1)
    assert list(lines[0])[:5] == ["mode", "queries", "seconds_without", "seconds_with", "ratio"]
    assert lines[0]["seconds_without"] == pytest.approx(400 * 0.008), "the undefended time is in the tariff"
    assert "thief, 50 accounts" in result.stdout
    assert (folder / "ratios.png").read_bytes().startswith(b"\x89PNG")


def test_honest_callers_are_simulated_without_thieves(folder, tmp_path):
    save_leaks(tmp_path / "honest.npz", NAMES, {"honest": rows(300, seed=5)})
    result = run_ok(
        "simulate",
        tmp_path / "honest.npz",
        "--tariff",
        folder / "tariff.json",
        "--figure",
        tmp_path / "f.png",
        "--json",
        "-",
    )
    assert [line["mode"] for line in json.loads(result.stdout)] == [
        "honest, as recorded",
        "honest, 20 callers of 10,000 rows",
    ]


def test_invalid_simulations_are_refused(folder, tmp_path):
    trace, leaks, tariff = REFERENCE / "time_privacy_cost_mnist.csv", folder / "leaks.npz", folder / "tariff.json"
    assert_refused(2, "--standard: give the standard user's trace", "simulate", trace, "--tariff", "published")
    assert_refused(2, "a trace has totals", "simulate", trace, "--standard", trace, "--tariff", tariff)
    assert_refused(
        2,
        "--figure: a figure is drawn of an .npz",
        "simulate",
        trace,
        "--tariff",
        "published",
        "--figure",
        tmp_path / "f.png",
    )
    assert_refused(2, "--undefended-ms: give the time", "simulate", leaks, "--tariff", "published")
    assert_refused(
        2,
        "--measure: the leaks are of entropy, novelty, not of pate",
        "simulate",
        leaks,
        "--tariff",
        "published",
        "--measure",
        "pate",
    )
    assert_refused(2, "--accounts: '1,x' is not a list", "simulate", leaks, "--tariff", tariff, "--accounts", "1,x")
    assert_refused(
        2, "--fillers: '1.5' is not a list of whole", "simulate", leaks, "--tariff", tariff, "--fillers", "1.5"
    )
    assert_refused(2, "is not a distribution of p", "simulate", leaks, "--tariff", tariff, "--filler-p", "1..0")
    assert_refused(1, "cannot read", "simulate", leaks, "--tariff", tmp_path / "absent.json")
    save_leaks(tmp_path / "other.npz", ("gap",), {"honest": rows(300)[:, :1]})
    assert_refused(
        1, "leaks of entropy, novelty were not recorded", "simulate", tmp_path / "other.npz", "--tariff", tariff
    )
    save_leaks(tmp_path / "thieves.npz", NAMES, {"thief": rows(300)})
    assert_refused(1, "'honest' is needed", "simulate", tmp_path / "thieves.npz", "--tariff", tariff)


def test_a_tariff_has_its_source_time_and_command(folder):
    provenance = load_calibration(folder / "tariff.json").provenance
    assert provenance.source == str(folder / "leaks.npz")
    assert provenance.command.split()[0] == "modeltoll"
    assert provenance.created[:2] == "20"
    assert load_calibration(folder / "tariff.json").undefended_seconds == 0.008


def test_recorded_measures_are_weighted_as_stated(folder, tmp_path):
    first, second = NAMES
    chosen = ("--measures", f"{second}=3,{first}", "--unit-ms", 10, "--json", "-")
    found = json.loads(
        run_ok("calibrate", "--leaks", folder / "leaks.npz", "--out", tmp_path / "t.json", *chosen).stdout
    )
    assert found["weights"] == {second: 0.75, first: 0.25}


def test_g_and_weights_are_selected_for_a_wait_and_against_thieves(folder, tmp_path):
    command = ("calibrate", "--leaks", folder / "leaks.npz", "--out", tmp_path / "t.json", "--unit-ms", 10)
    result = run_ok(
        *command,
        "--p99-wait",
        "200ms",
        "--thieves",
        folder / "leaks.npz",
        "--figure",
        tmp_path / "f.png",
        "--json",
        "-",
    )
    found = json.loads(result.stdout)
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert found["thieves_units"]["thief"] > 2.0
    assert found["g"] == load_calibration(tmp_path / "t.json").g
    assert "mean price of thief" in run_ok(*command, "--thieves", folder / "leaks.npz").stdout
    missed = run(*command, "--p99-wait", "40ms")  # which the rows held back do not keep, chosen on too few others
    assert missed.exit_code == 1
    assert "--p99-wait: 99 % of the honest rows held back wait at most" in " ".join(missed.stderr.split())
    assert_refused(1, "no g lets 99 % of honest rows wait", *command, "--p99-wait", "0.001s")
    assert_refused(2, "--p99-wait: 'soon' is not a time", *command, "--p99-wait", "soon")


def test_a_shadow_log_is_calibrated_with_the_weights_of_the_settings(folder):
    result = run_ok(
        "calibrate", folder / "modeltoll.yaml", "--from-ledger", "--unit-ms", 5, "--out", folder / "logged.json"
    )
    fitted = load_calibration(folder / "logged.json", model="digits", measures=NAMES)
    assert fitted.honest_rows == 240
    assert fitted.weights == (0.75, 0.25)
    assert "sent 100 of the 300 rows" in " ".join(result.stderr.split())
    assert fitted.provenance.source == "the shadow log of digits"


def test_invalid_calibrations_are_refused(folder, tmp_path):
    leaks, settings = folder / "leaks.npz", folder / "modeltoll.yaml"
    assert_refused(2, "give one of --inputs, --requests, --leaks and --from-ledger", "calibrate", settings)
    assert_refused(2, "give one of", "calibrate", settings, "--leaks", leaks, "--from-ledger")
    assert_refused(2, "without settings, give --leaks and --out", "calibrate", "--leaks", leaks)
    assert_refused(
        2, "the settings say which measures", "calibrate", settings, "--leaks", leaks, "--measures", "entropy"
    )
    assert_refused(2, "there is no 'letters'", "calibrate", settings, "--leaks", leaks, "--model", "letters")
    weighted = ("calibrate", "--leaks", leaks, "--out", folder / "t.json", "--unit-ms", 1, "--measures")
    for wrong in ("novelty=x", "novelty=0", "novelty=-1", "novelty=nan", "entropy,entropy"):
        assert_refused(2, "a measure and its weight", *weighted, wrong)
    assert_refused(2, "--undefended-ms: give the model server's time", "calibrate", settings, "--leaks", leaks)
    assert_refused(
        1, "leaks of gap were not recorded", "calibrate", "--leaks", leaks, "--out", tmp_path / "t", "--measures", "gap"
    )
    assert not (tmp_path / "t").exists()


def test_training_inputs_among_honest_ones_are_refused_before_any_request(folder):
    np.save(folder / "private.npy", np.eye(4))
    np.save(folder / "inputs.npy", np.concatenate([np.eye(4)[:2], 2 * np.eye(4)]))
    assert_refused(
        1,
        "2 of the 6 rows of",
        "calibrate",
        folder / "modeltoll.yaml",
        "--inputs",
        folder / "inputs.npy",
    )


def test_a_row_and_a_caller_are_explained(folder):
    ledger = f"sqlite:///{folder / 'ledger.db'}"
    command = ("explain", folder / "tariff.json", "--leak", "novelty=9", "--leak", "entropy=1")
    text = run_ok(*command, "--caller", "key:mallory", "--ledger", ledger).stdout
    for words in (
        "p among all traffic, which decides",
        "suspicion begins at",
        "ln M of all 100 rows",
        "nearest kind: all",
    ):
        assert words in text
    for words in ("under suspicion: the largest of price, clean price and 1", "against the caller: entropy p 0..0.01"):
        assert words in text
    plain, suspect = (
        json.loads(run_ok(*command, *more, "--json", "-").stdout)
        for more in ((), ("--caller", "key:mallory", "--ledger", ledger))
    )
    assert plain["caller"] is None
    assert suspect["caller"]["rows"] == suspect["caller"]["counted"] == 100
    assert suspect["caller"]["tests"][0]["block_rows"] == 0
    assert sum(cell["rows"] for cell in suspect["caller"]["cells"]) == suspect["caller"]["leading"]["rows"]
    units = max(1.0, plain["row"]["factor"], plain["row"]["clean_factor"])
    assert suspect["row"]["surcharged"]
    assert suspect["row"]["seconds"] == pytest.approx(
        units * plain["row"]["unit_seconds"] * suspect["caller"]["surcharge"]
    )


def test_a_row_is_explained_with_its_class_and_its_clean_leaks(folder, tmp_path):
    calibration = load_calibration(folder / "tariff.json")
    save_calibration(replace(calibration, clean_scores=2.0 * calibration.scores), tmp_path / "clean.json")
    command = ("explain", tmp_path / "clean.json", "--leak", "novelty=1", "--leak", "entropy=1", "--json", "-")
    plain, clean = (
        json.loads(run_ok(*command, *more).stdout)["row"]
        for more in ((), ("--clean", "novelty=90", "--clean", "entropy=1", "--class", 3))
    )
    assert clean["seconds"] == plain["seconds"]  # the clean price is for suspects
    assert clean["clean_factor"] > plain["clean_factor"]
    assert [reading["clean_leak"] for reading in clean["readings"]] == [1.0, 90.0]
    assert_refused(
        2, "give --leak too", "explain", folder / "tariff.json", "--class", 3, "--caller", "a", "--ledger", "b"
    )


def test_accounts_of_one_organisation_pay_more(folder):
    command = ("simulate", folder / "leaks.npz", "--tariff", folder / "tariff.json", "--rows", 300, "--accounts", 300,
               "--fillers", "1", "--honest-callers", 0, "--json", "-")  # fmt: skip
    apart, together = (json.loads(run_ok(*command, *more).stdout) for more in ((), ("--together",)))
    of_accounts = [[line["ratio"] for line in lines if line["family"] == "accounts"] for lines in (apart, together)]
    assert of_accounts[1][0] > 2.0 * of_accounts[0][0]


def test_the_groups_and_the_discount_of_a_caller_are_explained(folder):
    """One rare row is not suspected, 60 of a group's callers are; a suspected caller has no discount."""
    ledger = f"sqlite:///{folder / 'ledger.db'}"
    command = ("explain", folder / "tariff.json", "--leak", "novelty=9", "--leak", "entropy=1", "--ledger", ledger)
    asyncio.run(_member(ledger, ConformalTariff(load_calibration(folder / "tariff.json"))))
    more = ("--caller", "key:member", "--group", "org:thieves", "--discount", 0.5)
    text = run_ok(*command, *more).stdout
    assert "org:thieves: 60 rows of all its callers since" in text
    assert "a group of the caller's is under suspicion" in text
    assert "discount" in text
    found = json.loads(run_ok(*command, *more, "--json", "-").stdout)
    assert found["row"]["group_surcharge"] == found["caller"]["groups"][0]["surcharge"] > 1.0
    assert found["caller"]["discount"] == 0.5
    suspect = json.loads(run_ok(*command, "--caller", "key:mallory", "--discount", 0.5, "--json", "-").stdout)
    assert suspect["caller"]["discount"] == 0.0
    assert_refused(2, "--discount", *command, *more[:-1], 2)


async def _member(url, tariff):
    """60 callers of one group, each with one row of the rarest bin."""
    ledger = ledger_from_url(url)
    await ledger.open()
    for index in range(60):
        name = "key:member" if index == 0 else f"key:member-{index}"
        fingerprints = ((10**6 + index).to_bytes(8, "big"),)
        entry = Charge("digits", 1, (9.0, 9.0), (0,), fingerprints, tariff.cell_count, tariff.identity, time.time())
        await ledger.charge(Caller(name, groups=("org:thieves",)), entry)
    await ledger.close()


def test_invalid_explanations_are_refused(folder):
    tariff, ledger = folder / "tariff.json", f"sqlite:///{folder / 'ledger.db'}"
    assert_refused(2, "give --leak for a row", "explain", tariff)
    assert_refused(2, "give --leak for a row", "explain", tariff, "--caller", "key:mallory")
    assert_refused(2, "a row needs the leaks of entropy, novelty", "explain", tariff, "--leak", "entropy=1")
    assert_refused(1, "has no account of 'key:nobody'", "explain", tariff, "--caller", "key:nobody", "--ledger", ledger)
    other = ("--out", folder / "other.json", "--unit-ms", 8, "--model", "digits", "--seed", 1)
    run_ok("calibrate", "--leaks", folder / "leaks.npz", *other)
    assert_refused(
        1, "belongs to another tariff", "explain", folder / "other.json", "--caller", "key:mallory", "--ledger", ledger
    )
