"""The names of results and cached extractions do not depend on the names of classes and fields."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from modeltoll.bench.experiment import Experiment
from modeltoll.bench.extraction import ExtractionRun

NEW = Experiment("quick", "digits", "copycat", "none", "none", "conformal", "entropy+novelty", "quick", 0, 300)
COPYCAT = replace(NEW, version=1)
LARGE_HONEST = replace(COPYCAT, suite="honest", dataset="cifar10", attack="honest", queries=0, workload="100,000 rows")
ABANDONING = replace(
    COPYCAT, suite="evasions", dataset="mnist", evasion="abandoning-1", tariff="published", measure="pate-eps", seed=2
)
COMMITTED = {
    "quick/digits/copycat-conformal-s0-2e2a2c4e.json": COPYCAT,
    "honest/cifar10/honest-100-000-rows-conformal-s0-91307f65.json": LARGE_HONEST,
    "evasions/mnist/copycat-abandoning-1-published-s2-a94d4016.json": replace(ABANDONING, queries=10_000),
}
EXTRACTION = ExtractionRun("digits", "knockoff", "quick", 300, 1, "none", "emnist", "dark:0.4")


@pytest.mark.parametrize(("name", "plan"), COMMITTED.items())
def test_files_from_before_keys_are_found_by_their_names(tmp_path, name, plan):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    assert plan.find(tmp_path) is None
    path.touch()
    assert plan.find(tmp_path) == path


@pytest.mark.parametrize(
    ("name", "plan"),
    {
        "quick/digits/copycat-conformal-s0-43be3ece.json": COPYCAT,
        "quick/digits/copycat-conformal-s0-b7acebf0.json": NEW,
        "thefts/digits-knockoff-none-1-dd3e6f609d8f.npz": EXTRACTION,
    }.items(),
)
def test_new_names_are_pinned(tmp_path, name, plan):
    path = tmp_path / name
    assert plan.file(tmp_path) == path


def test_a_result_of_an_earlier_version_is_not_taken_for_one_of_this_version(tmp_path):
    COPYCAT.file(tmp_path).parent.mkdir(parents=True)
    for path in COPYCAT.files(tmp_path):
        path.touch()
    assert NEW.find(tmp_path) is None
    assert COPYCAT.find(tmp_path) is not None


@pytest.mark.parametrize("plan", [NEW, EXTRACTION])
def test_every_field_is_in_the_key(plan):
    for one in fields(plan):
        other = "else" if isinstance(getattr(plan, one.name), str) else 77
        assert replace(plan, **{one.name: other}).key != plan.key
