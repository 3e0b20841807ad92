"""The meter counts, refuses and records queries, and bypassing it is detected; extraction runs are cached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from modeltoll.bench import checks
from modeltoll.bench import meter as meter_module
from modeltoll.bench.artifact_files import DamagedFile, pack_images, remove_partial_files, unpack_images, write_document
from modeltoll.bench.attack_setup import AttackSetup, PreparedAttack, prepare_attack
from modeltoll.bench.attacks.attack import BudgetSpent
from modeltoll.bench.defences.perturbations import TopOne
from modeltoll.bench.extraction import ExtractionRun, cached_seconds, load_cached, run_extraction
from modeltoll.bench.leak_measures import measure_all
from modeltoll.bench.meter import CountedVictim, InvalidQuery, Meter
from modeltoll.bench.shared_progress import no_progress
from modeltoll.errors import SettingsError


def truth(scores, leaks):
    return scores


@pytest.fixture
def meter(prepared):
    return Meter(CountedVictim(prepared.victim), prepared.leak_measures, (8, 8), 20, truth, no_progress)


def test_the_meter_counts_and_stops_at_the_budget(meter, prepared):
    oracle, images = meter.oracle, prepared.data_split.foreign.x
    assert np.array_equal(oracle.ask(images[:12]), prepared.victim.scores(images[:12]))
    assert (oracle.left, meter.rows) == (8, 12)
    with pytest.raises(BudgetSpent, match="9 rows were queried, but 8 are left"):
        oracle.ask(images[:9])
    assert (oracle.left, meter.rows) == (8, 12)
    oracle.ask(images[12:20])
    assert oracle.left == 0
    assert np.array_equal(meter.images, images[:20])
    assert np.allclose(
        meter.leaks, measure_all(prepared.leak_measures, prepared.victim.scores(images[:20]), images[:20])
    )


def test_a_defence_changes_the_answers_and_not_the_recorded_scores(prepared):
    meter = Meter(CountedVictim(prepared.victim), prepared.leak_measures, (8, 8), 5, TopOne().answer, no_progress)
    images = prepared.data_split.foreign.x[:5]
    answers = meter.oracle.ask(images)
    assert set(np.unique(answers)) == {0.0, 1.0}
    assert np.array_equal(meter.scores, prepared.victim.scores(images))


@pytest.mark.parametrize(
    "images", [np.full((2, 8, 8), 1.01), np.full((2, 8, 8), -0.1), np.full((1, 8, 8), np.nan), np.zeros((1, 7, 8))]
)
def test_queries_are_images_of_the_victims_shape_in_0_to_1(meter, images):
    with pytest.raises(InvalidQuery):
        meter.oracle.ask(images)
    assert meter.rows == 0


def test_the_oracle_has_no_attributes_but_its_protocol(meter):
    oracle = meter.oracle
    assert not hasattr(oracle, "__dict__")
    assert {name for name in dir(oracle) if not name.startswith("__")} == {"ask", "left"}
    with pytest.raises(AttributeError):
        oracle.left = 100


def test_only_the_first_images_are_recorded_and_all_leaks(prepared, monkeypatch):
    monkeypatch.setattr(meter_module, "IMAGES_KEPT", 7)
    meter = Meter(CountedVictim(prepared.victim), prepared.leak_measures, (8, 8), 20, truth, no_progress)
    images = prepared.data_split.foreign.x[:12]
    for start in (0, 5, 10):
        meter.oracle.ask(images[start : start + 5])
    assert np.array_equal(meter.images, images[:7])
    assert len(meter.leaks) == len(meter.scores) == meter.rows == 12


def test_images_that_are_not_recorded_are_freed(prepared, monkeypatch):
    monkeypatch.setattr(meter_module, "IMAGES_KEPT", 7)
    rounds, images = 50, np.resize(prepared.data_split.foreign.x, (200, 8, 8))
    meter = Meter(
        CountedVictim(prepared.victim), prepared.leak_measures, (8, 8), rounds * len(images), truth, no_progress
    )
    tracemalloc.start()
    try:
        for _ in range(rounds):
            meter.oracle.ask(images)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(meter.images) == 7
    assert held < rounds * images.nbytes / 2


def test_changing_an_answer_does_not_change_the_records(meter, prepared):
    images = prepared.data_split.foreign.x[:3].copy()
    meter.oracle.ask(images)[:] = 0.0
    images[:] = 0.0
    assert np.array_equal(meter.images, prepared.data_split.foreign.x[:3])
    assert (meter.scores.sum(axis=1) > 0.99).all()


class Idler:
    """An attack that uses half of its budget."""

    name = "idler"

    def run(self, oracle, resources, rng, on_round):
        oracle.ask(resources.foreign.x[: oracle.left // 2])

        class Clone:
            def scores(self, images):
                return np.full((len(images), resources.classes), 1 / resources.classes)

        on_round(Clone())
        return Clone()


class Intruder(Idler):
    """An attack that bypasses the meter and queries the victim behind the oracle."""

    def run(self, oracle, resources, rng, on_round):
        meter = type(oracle).ask.__closure__[0].cell_contents.__self__
        meter._victim.scores(resources.foreign.x[:7])
        return super().run(oracle, resources, rng, on_round)


def extraction(attack="standard", queries=60, seed=0):
    return ExtractionRun("digits", attack, "quick", queries, seed)


def run_attack(attack, prepared, queries=60, seed=0):
    extraction_run = extraction(queries=queries, seed=seed)
    return run_extraction(
        extraction_run, PreparedAttack(attack), prepared, truth, lambda images: images.mean(axis=(1, 2))
    )


def test_bypassing_the_meter_or_leaving_budget_fails_a_check(prepared):
    idle = run_attack(Idler(), prepared)
    assert not checks.budget_spent(idle, 60).holds
    assert checks.nothing_unmetered(idle).holds
    intruder = checks.nothing_unmetered(run_attack(Intruder(), prepared))
    assert not intruder.holds
    assert "the victim answered 37 rows, the meter counted 30" in intruder.note


def test_an_extraction_depends_on_its_seed_only_and_is_cached(prepared, tmp_path):
    def run(seed):
        attack = prepare_attack(AttackSetup("knockoff-random", "quick", "kernel", prepared.classes))
        return run_extraction(extraction("knockoff-random", seed=seed), attack, prepared, truth, lambda images: images)

    first, again, other = run(0), run(0), run(1)
    assert np.array_equal(first.images, again.images)
    assert first.curve == again.curve
    assert not np.array_equal(first.images, other.images)
    assert [point.queries for point in first.curve] == sorted({point.queries for point in first.curve})
    assert first.curve[-1].queries == 60
    extraction_run = extraction("knockoff-random")
    assert cached_seconds(extraction_run, tmp_path) is None
    stored = load_cached(extraction_run, tmp_path, lambda: first)
    loaded = load_cached(extraction_run, tmp_path, lambda: pytest.fail("it was cached"))
    assert cached_seconds(extraction_run, tmp_path) == first.seconds
    assert stored.curve == loaded.curve == first.curve
    assert np.array_equal(loaded.leaks, first.leaks)
    assert np.allclose(loaded.images, first.images, atol=1e-7)
    assert loaded.scaled == first.scaled
    assert loaded.scaled
    extraction_run.file(tmp_path).write_bytes(b"PK not an archive")
    with pytest.raises(DamagedFile, match="delete it"):
        load_cached(extraction_run, tmp_path, lambda: first)


def test_grey_levels_are_packed_without_loss_and_other_numbers_as_networks_read_them():
    rng = np.random.default_rng(0)
    bytes_ = rng.integers(0, 256, (5, 4, 4)) / 255.0
    assert pack_images(bytes_).dtype == np.uint8
    assert np.array_equal(unpack_images(pack_images(bytes_)), bytes_)
    others = rng.random((5, 4, 4))
    assert np.array_equal(unpack_images(pack_images(others)), others.astype(np.float32))


def test_an_unknown_attack_is_named():
    with pytest.raises(SettingsError) as refused:
        prepare_attack(AttackSetup("no such", "quick", "kernel", 10))
    assert "there is no attack 'no such'; there are: standard" in refused.value.faults[0]


def test_interrupted_writing_leaves_no_partial_file_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "one.json"
    write_document(path, {"a": 1})

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_document(path, {"a": 2})
    assert [one.name for one in path.parent.iterdir()] == ["one.json"]
    assert json.loads(path.read_text()) == {"a": 1}


def test_partial_files_of_ended_processes_are_removed_and_those_of_running_ones_stay(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = {f"one.json.{gone.pid}.part", f"one.json.{os.getpid()}.part", "a.part", "one.json"}
    for name in names:
        (tmp_path / name).touch()
    remove_partial_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names - {f"one.json.{gone.pid}.part"}
