"""The commands ``fit-teachers`` and ``fit-novelty``."""

import numpy as np
import pytest
from typer.testing import CliRunner

from modeltoll.bench.datasets import digits
from modeltoll.cli import app
from modeltoll.leak.layered_novelty import load_novelty
from modeltoll.leak.pate import PateMeasure
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


def test_an_invalid_file_is_an_error_without_traceback(private):
    folder, _ = private
    (folder / "bad.npy").write_bytes(b"nothing")
    result = CliRunner().invoke(
        app, ["fit-teachers", str(folder / "bad.npy"), str(folder / "y.npy"), "-o", str(folder / "t.npz")]
    )
    assert result.exit_code == 1
    assert "Traceback" not in result.output


@pytest.mark.torch
def test_fit_novelty_writes_a_measure(private):
    folder, unseen = private
    arguments = [str(folder / name) for name in ("X.npy", "y.npy")]
    result = CliRunner().invoke(app, ["fit-novelty", *arguments, "-o", str(folder / "n.npz"), "--points", "200"])
    assert result.exit_code == 0, result.output
    leak = load_novelty(folder / "n.npz").measure(evidence(unseen))
    assert leak.shape == (20,)
    assert (leak >= 0).all()
