"""Calibration asks the running model server, row by row, and leaves no trace in the real ledger."""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from modeltoll import wire
from modeltoll.cli import app
from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.gateway.core.credit import Credit, CreditTerms
from modeltoll.gateway.settings.load import load_settings
from modeltoll.gateway.setup import calibrate
from modeltoll.gateway.setup.calibrate import CalibrationRequest, calibrate_model, fit_model, measure_rows
from modeltoll.gateway.setup.honest_rows import (
    CalibrationInputs,
    RowsToSend,
    corrupted_rows,
    generic_strangers,
    shape_of_rows,
)
from modeltoll.gateway.setup.row_files import read_table
from modeltoll.gateway.setup.row_requests import Refusals
from modeltoll.gateway.setup.row_sender import RowSender
from modeltoll.pricing.calibration import CalibrationProvenance
from modeltoll.pricing.fit import CalibrationTerms, HoldoutSplit, RowCosts
from modeltoll.records import Answer
from modeltoll.testing.model_servers import FakeUpstream, serving

WISHES = CalibrationRequest(CalibrationTerms(), RowCosts(), HoldoutSplit(), CalibrationProvenance("test"))


def model_server(harness):
    """A model whose scores depend on the input, as an ASGI application."""

    async def serve(scope, receive, send):
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        answer = speak(harness, scope["path"], body)
        headers = [(b"content-type", answer.content_type.encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    return serve


def speak(harness, path, body):
    if not body:
        return Answer(200, "application/json", json.dumps({"inputs": [TENSOR]}).encode())
    rows = np.array(json.loads(body)["inputs"][0]["data"], dtype=float).reshape(-1, 2)
    powers = np.exp(rows @ np.array([[3.0, 1, 0, 0], [0, 2, 1, 0]]))
    return harness.answer(powers / powers.sum(axis=1, keepdims=True))


TENSOR = {"name": "x", "datatype": "FP64", "shape": [-1, 2]}


@pytest.fixture
def running(harness, tmp_path):
    """The settings of a gateway before a model server that runs."""
    with serving(model_server(harness)) as url:
        model = {
            "tariff": "tariff.json",
            "output": {"name": "p", "kind": "probabilities"},
            "measures": [{"name": "entropy"}],
        }
        document = {"upstream": {"url": url}, "models": {"digits": model}}
        (tmp_path / "modeltoll.yaml").write_text(yaml.safe_dump(document))
        yield tmp_path / "modeltoll.yaml"


def test_thieves_rows_are_asked_for_too_and_cost_more(running, tmp_path):
    """Honest rows lie where the model is sure, the thieves' where it is not."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "honest.npy", rng.random((300, 2)) + np.array([1.0, 0.0]))
    np.save(tmp_path / "photographs.npy", 0.1 * rng.random((50, 2)))
    options = ["--inputs", tmp_path / "honest.npy", "--thieves", tmp_path / "photographs.npy", "--json", "-"]
    found = CliRunner().invoke(app, ["calibrate", str(running), *map(str, options)])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["thieves_units"]["photographs"] > 2.0
    leaks = ["--leaks", tmp_path / "x.npz", *options[2:]]
    refused = CliRunner().invoke(app, ["calibrate", str(running), *map(str, leaks)])
    assert refused.exit_code == 2
    assert "go with --inputs" in refused.stderr


def test_the_command_sends_kinds_of_tables_and_generic_strangers(running, tmp_path):
    np.save(tmp_path / "honest.npy", np.random.default_rng(0).random((400, 2)))
    np.save(tmp_path / "night.npy", np.random.default_rng(1).random((100, 2)) + 0.3)
    options = ["--inputs", tmp_path / "honest.npy", "--kinds", "jitter:0.05,missing,scale:0.1", "--kind-rows", 150]
    options += ["--kind", f"night={tmp_path / 'night.npy'}", "--json", "-"]
    found = CliRunner().invoke(app, ["calibrate", str(running), *map(str, options)])
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    names = [kind["name"] for kind in document["kinds"]]
    assert {"jitter:0.05", "scale:0.1", "night"} < set(names)
    assert any(name.startswith("missing:") for name in names)
    assert [each["name"] for each in document["strangers"]] == ["noise", "shuffled columns"]
    assert all(each["generic"] for each in document["strangers"])
    assert set(document["strangers"][0]["units_without"]) == {"jitter", "missing", "scale", "night", "classes"}
    assert document["undefended_seconds"] > 0.0
    assert document["gate_seconds"] > 0.0
    refused = CliRunner().invoke(app, ["calibrate", str(running), *map(str, [*options, "--kinds", "blur"])])
    assert refused.exit_code == 2
    assert "give --shape" in refused.stderr


def test_a_tariff_is_fitted_to_what_the_running_server_says(running, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs, heard = np.random.default_rng(0).random((210, 2)), []
    settings = load_settings(running)
    made = asyncio.run(calibrate_model(settings, "digits", inputs, WISHES, lambda *done: heard.append(done)))
    with pytest.raises(SettingsError, match="there are: digits"):
        asyncio.run(calibrate_model(settings, "letters", inputs, WISHES))
    assert made.honest_rows == 168
    assert made.unit_seconds > 0
    assert heard[-1] == (210, 210)
    assert not (tmp_path / "modeltoll.db").exists()


def watching(harness, says):
    return asyncio.run(
        measure_rows(
            RowSender(harness.gate().config.served_model, FakeUpstream(says), Refusals()),
            np.random.default_rng(0).random((3, 2)),
        )
    )


def test_the_gateways_own_time_is_that_of_rows_which_the_model_server_answers(running, harness, monkeypatch):
    """An admission toll comes before the model server is asked: timed by mistake, it would look like a gateway of no time."""
    asked, answering = [], speak

    def counted(harness, path, body):
        asked.append(len(body))
        return answering(harness, path, body)

    monkeypatch.setattr(sys.modules[__name__], "speak", counted)
    rows = np.random.default_rng(0).random((210, 2))
    calibration = asyncio.run(calibrate_model(load_settings(running), "digits", rows, WISHES))
    predictions = sum(size > 0 for size in asked)
    assert predictions == 20 + len(rows) + 2 * 100  # to warm up, to measure, and with and without a gateway
    assert calibration.gate_seconds > 0.0


@pytest.mark.parametrize("admission", [True, False])
def test_a_gateway_that_asks_for_admission_or_refuses_does_not_count_as_fast(harness, admission):
    if admission:
        credit = Credit(1e-9, 1.0)
        harness.credit = CreditTerms(credit, credit)
        harness.handle(harness.infer_body([1, 2]))
        toll = harness.handle(harness.infer_body([3, 4])).toll
        answer = Answer(402, "application/json", wire.encode_toll(toll, "", harness.path))
    else:
        answer = Answer(503, "application/json", b"{}")
    with pytest.raises(CalibrationError, match="own time cannot be measured"):
        calibrate._check_priced(answer)


def test_rows_are_asked_one_at_a_time_and_measured(harness):
    found = watching(harness, lambda path, body: speak(harness, path, body))
    assert found.leaks.values.shape == (3, 1)
    assert found.seconds.shape == (3,)
    assert len(found.requests) == 3
    assert found.undefended_seconds > 0


def test_a_server_that_refuses_or_cannot_be_measured_gives_no_tariff(harness):
    def refusing(path, body):
        return speak(harness, path, body) if not body else Answer(422, "application/json", b'{"error":"64 numbers"}')

    with pytest.raises(CalibrationError, match=r"row 1: the model server refused it with status 422: 64 numbers"):
        watching(harness, refusing)
    with pytest.raises(CalibrationError, match="row 1: a row of the model's scores sums"):
        watching(
            harness,
            lambda path, body: speak(harness, path, body) if not body else harness.answer([[1.0, 1.0, 1.0, 1.0]]),
        )


@pytest.mark.parametrize("array", [np.ones(3), np.ones((0, 3)), np.array([[np.inf, 1.0]])])
def test_rows_are_a_table_of_finite_numbers(tmp_path, array):
    np.save(tmp_path / "rows.npy", array)
    with pytest.raises(CalibrationError, match=r"rows\.npy"):
        read_table(tmp_path / "rows.npy")


def test_a_number_that_is_nan_is_a_missing_value(tmp_path):
    np.save(tmp_path / "rows.npy", np.array([[np.nan, 1.0]]))
    table = read_table(tmp_path / "rows.npy")
    assert not table.all_numbers
    assert table.values(0) == [None, 1.0]


def test_rows_of_any_shape_are_flattened(tmp_path):
    np.save(tmp_path / "rows.npy", np.arange(24).reshape(2, 3, 4))
    assert read_table(tmp_path / "rows.npy").numbers.shape == (2, 12)
    for wrong in ("nowhere.npy", "text.npy"):
        (tmp_path / "text.npy").write_text("no array")
        with pytest.raises(CalibrationError):
            read_table(tmp_path / wrong)


def test_a_file_may_name_the_caller_of_each_row(tmp_path):
    rows = np.arange(12.0).reshape(3, 2, 2)
    np.savez(tmp_path / "rows.npz", inputs=rows, callers=np.array(["a", "b", "a"]))
    file = read_table(tmp_path / "rows.npz")
    assert file.callers == ("a", "b", "a")
    assert (file.numbers.shape, file.shape) == ((3, 4), (2, 2))
    np.savez(tmp_path / "few.npz", inputs=rows, callers=np.array(["a", "b"]))
    with pytest.raises(CalibrationError, match="one name per row"):
        read_table(tmp_path / "few.npz")


def test_the_shape_of_a_row_is_stated_or_stored():
    assert shape_of_rows((28, 28), None) == (28, 28, 1)
    assert shape_of_rows((3072,), "32x32x3") == (32, 32, 3)
    assert shape_of_rows((4,), None) == (1, 1, 4)
    with pytest.raises(SettingsError, match="--shape"):
        shape_of_rows((784,), "28x27")


def test_rows_of_kinds_and_strangers_are_made_when_they_are_sent():
    inputs = np.random.default_rng(0).random((150, 64))
    kinds = corrupted_rows("noise,dark:0.4", inputs, (8, 8, 1), 100, seed=0)
    assert [(kind.name, kind.count) for kind in kinds][-1] == ("dark:0.4", 100)
    for kind in kinds:
        assert kind.make().numbers.shape == (100, 64)
        assert np.array_equal(kind.make().numbers, kind.make().numbers), "the same rows each time"
    assert [each.name for each in generic_strangers(inputs, (8, 8, 1), 0)] == [
        "noise",
        "shuffled columns",
        "permuted pixels",
    ]
    assert [each.name for each in generic_strangers(inputs, (1, 1, 64), 0)] == ["noise", "shuffled columns"]
    assert all(each.generic and len(each.make()) == each.count for each in generic_strangers(inputs, (8, 8, 1), 0))
    with pytest.raises(SettingsError, match="give --shape"):
        corrupted_rows("jitter,blur", inputs, (1, 1, 64), 100, seed=0)


def test_rows_of_kinds_and_strangers_are_sent_and_become_part_of_the_calibration(running):
    rng, heard = np.random.default_rng(0), []
    honest = rng.random((210, 2))
    sent = CalibrationInputs(
        honest,
        (RowsToSend.of("bold", 2.0 * rng.random((120, 2))),),
        (RowsToSend.of("thief", 0.1 * rng.random((60, 2))), RowsToSend("noise", 50, lambda: rng.random((50, 2)), True)),
        ("a", "b") * 105,
        {"a": "key:a"},
    )
    fit, callers = asyncio.run(
        fit_model(load_settings(running), "digits", sent, WISHES, lambda *done: heard.append(done))
    )
    assert callers == sent.callers
    names = [(kind.role, kind.name) for kind in fit.calibration.kinds]
    assert ("declared", "bold") in names
    assert ("caller", "a") in names
    assert ("caller", "b") not in names
    assert set(fit.unmarked) == {"b"}
    assert [(each.name, each.generic) for each in fit.calibration.strangers] == [("thief", False), ("noise", True)]
    assert heard[-1] == (440, 440)
    done = [done for done, _ in heard]
    assert (done[:210], done) == (list(range(1, 211)), sorted(done))
    assert {rows.role for rows in fit.held_back} >= {"all traffic", "declared", "caller"}


def test_a_kind_that_the_server_refuses_is_named(running, harness, monkeypatch):
    def refusing(harness, path, body):
        if body and json.loads(body)["inputs"][0]["data"][0] > 5:
            return Answer(422, "application/json", b'{"error":"too large"}')
        return speaking(harness, path, body)

    speaking = speak
    monkeypatch.setattr(sys.modules[__name__], "speak", refusing)
    sent = CalibrationInputs(np.random.default_rng(0).random((210, 2)), (RowsToSend.of("bold", np.full((60, 2), 9.0)),))
    with pytest.raises(CalibrationError, match="bold: row 1: the model server refused it with status 422: too large"):
        asyncio.run(fit_model(load_settings(running), "digits", sent, WISHES))
