"""The real model of ``magika``: rows are read as the package reads files, and clones of both kinds learn its answers."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from modeltoll.bench.datasets.file_rows import MIXED, FileFinder, codes_of
from modeltoll.bench.students.registry import student_factory
from modeltoll.bench.students.student import TrainingSchedule
from modeltoll.bench.victims.file_types import CODES, FileTypeVictim, load_file_type_model
from modeltoll.testing.bench_plugins import check_victim

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def model():
    return load_file_type_model()


@pytest.fixture(scope="module")
def sample():
    """300 files of the standard library."""
    return FileFinder(
        [Path(zlib.__file__ or pytest.__file__).parent, Path(sys.prefix, "lib")], np.random.default_rng(0)
    ).take(MIXED, 300)


def test_the_model_says_what_the_package_says(model, sample):
    from magika import Magika  # noqa: PLC0415  slow to import

    package = Magika()
    contents = [path.read_bytes() for path in sample.paths[:60]] + [
        b"\n \t" + b"%PDF-1.4\n" * 700,
        b"#!/bin/sh\necho 1\n",
    ]
    rows = np.array([codes_of(content) for content in contents])
    named = [model.classes_[place] for place in model.predict_proba(rows).argmax(axis=1)]
    told = [package.identify_bytes(content) for content in contents]
    assert [result.dl.label for result in told] == named
    scores = model.predict_proba(rows).max(axis=1)
    assert scores == pytest.approx([result.prediction.score for result in told], abs=1e-5)


def test_the_model_is_a_victim_and_knows_endings(model, sample):
    images = sample.rows[:5, None] / CODES
    check_victim(FileTypeVictim(model), images)
    assert len(model.classes_) > 200
    assert model.classes_[model.endings[".py"]] == "python"
    assert ".pl" not in model.endings  # Perl's and Prolog's


@pytest.mark.parametrize("name", ["bytenet", "trees"])
def test_clones_learn_the_models_answers(name, model, sample):
    images, rng = sample.rows[:, None] / CODES, np.random.default_rng(0)
    answers = model.predict_proba(sample.rows)
    student = student_factory(name, len(model.classes_)).student(rng)
    student.train(images[:200], answers[:200], TrainingSchedule(epochs=20), rng)
    common = np.bincount(answers[:200].argmax(axis=1)).argmax()
    labels = answers[200:].argmax(axis=1)
    assert (student.scores(images[200:]).argmax(axis=1) == labels).mean() > (labels == common).mean() + 0.1
