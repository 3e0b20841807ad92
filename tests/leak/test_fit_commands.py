"""The commands ``fit-teachers`` and ``fit-novelty``."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from modeltoll.bench.datasets import digits
from modeltoll.cli import app, fit_measures
from modeltoll.leak.layered_novelty import load_novelty
from modeltoll.leak.pate import PateMeasure
from modeltoll.leak.teachers import fit_sklearn
from modeltoll.leak.teachers.vote_head import load_voters
from modeltoll.records import Evidence


@pytest.fixture
def private(tmp_path):
    images = digits()
    np.save(tmp_path / "X.npy", images.x[:400])
    np.save(tmp_path / "y.npy", images.y[:400])
    return tmp_path, images.x[400:420].reshape(20, -1)


def evidence(rows):
    return Evidence(tuple(bytes([number]) * 8 for number in range(len(rows))), inputs=rows)


def test_fit_teachers_writes_a_file_for_pate(private):
    folder, unseen = private
    arguments = [str(folder / name) for name in ("X.npy", "y.npy")]
    result = CliRunner().invoke(
        app, ["fit-teachers", *arguments, "-o", str(folder / "t.npz"), "--teachers", "10", "--cores", "1"]
    )
    assert result.exit_code == 0, result.output
    voters, teachers, _ = load_voters(folder / "t.npz")
    assert teachers == 10
    leak = PateMeasure(voters, teachers).measure(evidence(unseen))
    assert leak.shape == (20,)
    assert np.isfinite(leak).all()


def test_an_interrupted_training_keeps_its_teachers_and_continues_with_them(private, monkeypatch):
    folder, unseen = private
    command = ["fit-teachers", str(folder / "X.npy"), str(folder / "y.npy"), "--teachers", "10", "--cores", "1", "-o"]
    trained, before = [], fit_sklearn.train_teacher

    def train(*arguments):
        if len(trained) == 4:
            raise KeyboardInterrupt
        trained.append(arguments)
        return before(*arguments)

    monkeypatch.setattr(fit_sklearn, "train_teacher", train)
    interrupted = CliRunner().invoke(app, [*command, str(folder / "t.npz")])
    assert (interrupted.exit_code, (folder / "t.npz").exists()) == (130, False)
    assert "the same command continues" in " ".join(interrupted.stderr.split())

    monkeypatch.setattr(fit_sklearn, "train_teacher", lambda *arguments: before(*arguments) if trained.pop() else None)
    trained[:] = range(1, 7)  # six teachers are left, and no more may be trained
    assert CliRunner().invoke(app, [*command, str(folder / "t.npz")]).exit_code == 0
    assert (trained, (folder / "t.npz.parts").exists()) == ([], False)
    monkeypatch.setattr(fit_sklearn, "train_teacher", before)
    assert CliRunner().invoke(app, [*command, str(folder / "whole.npz")]).exit_code == 0
    votes = [load_voters(folder / name)[0](unseen) for name in ("t.npz", "whole.npz")]
    assert np.array_equal(*votes)


def test_the_first_teacher_says_how_long_all_take_and_hours_are_a_warning(private, monkeypatch):
    folder, _ = private
    command = ["fit-teachers", str(folder / "X.npy"), str(folder / "y.npy"), "--teachers", "10", "--cores", "1", "-o"]
    assert "need about" not in CliRunner().invoke(app, [*command, str(folder / "a.npz")]).stderr
    monkeypatch.setattr(fit_measures, "_LONG_SECONDS", 0.0)
    monkeypatch.setattr(fit_measures, "_HOURS", 0.0)
    said = " ".join(CliRunner().invoke(app, [*command, str(folder / "b.npz")]).stderr.split())
    assert "the others need about" in said
    assert "warning: fewer rows or columns" in said


def test_an_invalid_file_is_an_error_without_traceback(private):
    folder, _ = private
    (folder / "bad.npy").write_bytes(b"nothing")
    result = CliRunner().invoke(
        app, ["fit-teachers", str(folder / "bad.npy"), str(folder / "y.npy"), "-o", str(folder / "t.npz")]
    )
    assert result.exit_code == 1
    assert "Traceback" not in result.output


def fit_novelty(folder, *options):
    arguments = [str(folder / name) for name in ("X.npy", "y.npy")]
    return CliRunner().invoke(
        app, ["fit-novelty", *arguments, "-o", str(folder / "n.npz"), "--points", "200", *options]
    )


@pytest.mark.torch
def test_fit_novelty_writes_a_measure_with_a_network_of_torch(private):
    pytest.importorskip("torch")
    folder, unseen = private
    result = fit_novelty(folder, "--network", "torch", "--kinds", "dark:0.4")
    assert result.exit_code == 0, result.output
    leak = load_novelty(folder / "n.npz").measure(evidence(unseen))
    assert leak.shape == (20,)
    assert (leak >= 0).all()


def test_fit_novelty_needs_no_extra_and_says_what_the_measure_sees(private):
    folder, unseen = private
    result = fit_novelty(folder, "--network", "small", "--kinds", "dark:0.4,blur")
    assert result.exit_code == 0, result.output
    for part in ("8x8x1 numbers", "under the kinds", "dark:0.4", "blur:0.05", "permuted pixels (stranger)"):
        assert part in result.output
    measure = load_novelty(folder / "n.npz")
    assert measure.kinds[0] == "dark:0.4"
    for each in (measure, measure.clean):
        assert (each.measure(evidence(unseen)) >= 0).all()


def test_fit_novelty_without_kinds_or_labels_and_with_rows_of_a_kind(private):
    folder, unseen = private
    np.save(folder / "night.npy", unseen.reshape(-1, 8, 8) * 0.2)
    arguments = ["fit-novelty", str(folder / "X.npy"), "-o", str(folder / "n.npz"), "--kinds", "none"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert load_novelty(folder / "n.npz").clean is None
    result = CliRunner().invoke(app, [*arguments, "--kind", f"night={folder / 'night.npy'}"])
    assert result.exit_code == 0, result.output
    assert load_novelty(folder / "n.npz").kinds == ("night",)
    assert "kinds: night" in result.output


def test_fit_novelty_reads_texts_and_codes(private):
    folder, _ = private
    words = np.random.default_rng(0).integers(0, 3000, (40, 6))
    np.save(folder / "codes.npy", words[np.random.default_rng(1).integers(0, 40, (300, 5))].reshape(300, 30))
    np.save(folder / "texts.npy", np.array([f"row {i % 7} of {i}" for i in range(300)]))
    for name, width in (("codes", 30), ("texts", 2048)):
        path = str(folder / f"{name}.npy")
        result = CliRunner().invoke(app, ["fit-novelty", path, "-o", str(folder / "n.npz")])
        assert result.exit_code == 0, result.output
        assert f"{width} codes, in hashed pairs; kinds: none" in result.output
        assert load_novelty(folder / "n.npz").input_width == width


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kinds", "blurr,dark:7"], "--kinds: there is no kind 'blurr'"),
        (["--kinds", "blur", "--shape", "1x64"], "--shape"),
        (["--kind", "night"], "--kind: 'night' is not NAME=ROWS.npy"),
        (["--kind", "a=y.npy", "--kind", "a=y.npy"], "--kind: a name occurs twice"),
        (["--network", "deep"], "there is no network 'deep'"),
    ],
)
def test_a_wrong_option_is_named(private, options, message):
    result = fit_novelty(private[0], *options)
    assert result.exit_code == 2
    assert message in result.output


def test_rows_of_a_kind_of_another_width_are_refused(private):
    folder, _ = private
    np.save(folder / "odd.npy", np.zeros((5, 9)))
    result = fit_novelty(folder, "--kind", f"odd={folder / 'odd.npy'}")
    assert result.exit_code == 1
    assert "rows of 9 numbers" in result.output


def test_the_report_is_written_as_json_too(private):
    folder, _ = private
    result = fit_novelty(folder, "--network", "small", "--kinds", "dark:0.4", "--json", str(folder / "seen.json"))
    assert result.exit_code == 0, result.output
    seen = json.loads((folder / "seen.json").read_text())
    assert 0.8 < seen["accuracy"] <= 1.0
    assert [row["name"] for row in seen["rows"]][:2] == ["private rows", "dark:0.4"]
