"""Nobody gets past the meter: it counts, refuses, remembers, and what goes round it is noticed."""

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
from modeltoll.bench import meter as meter_room
from modeltoll.bench.artifact_files import DamagedFile, pack_images, remove_partial_files, unpack_images, write_document
from modeltoll.bench.attack_setup import AttackFactory, PreparedAttack, prepare_attack
from modeltoll.bench.attacks.attack import BudgetSpent
from modeltoll.bench.defences.perturbations import TopOne
from modeltoll.bench.extraction import ExtractionRun, cached_seconds, load_cached, run_extraction
from modeltoll.bench.leak_measures import measure_all
from modeltoll.bench.meter import CountedVictim, InvalidQuery, Meter
from modeltoll.bench.shared_progress import no_progress
from modeltoll.errors import SettingsError


def truth(scores):
    return scores


@pytest.fixture
def meter(prepared):
    return Meter(CountedVictim(prepared.victim), prepared.leak_measures, (8, 8), 20, truth, no_progress)


def test_the_meter_counts_and_stops_at_the_budget(meter, prepared):
    oracle, images = meter.oracle, prepared.data_split.foreign.x
    assert np.array_equal(oracle.ask(images[:12]), prepared.victim.scores(images[:12]))
    assert (oracle.left, meter.rows) == (8, 12)
    with pytest.raises(BudgetSpent, match="9 rows were asked for, and 8 are left"):
        oracle.ask(images[:9])
    assert (oracle.left, meter.rows) == (8, 12)
    oracle.ask(images[12:20])
    assert oracle.left == 0
    assert np.array_equal(meter.images, images[:20])
    assert np.allclose(
        meter.leaks, measure_all(prepared.leak_measures, prepared.victim.scores(images[:20]), images[:20])
    )


def test_a_defence_changes_what_is_told_and_not_what_is_measured(prepared):
    meter = Meter(CountedVictim(prepared.victim), prepared.leak_measures, (8, 8), 5, TopOne().answer, no_progress)
    images = prepared.data_split.foreign.x[:5]
    told = meter.oracle.ask(images)
    assert set(np.unique(told)) == {0.0, 1.0}
    assert np.array_equal(meter.scores, prepared.victim.scores(images))


@pytest.mark.parametrize(
    "images", [np.full((2, 8, 8), 1.01), np.full((2, 8, 8), -0.1), np.full((1, 8, 8), np.nan), np.zeros((1, 7, 8))]
)
def test_queries_are_images_of_the_victims_shape_in_0_to_1(meter, images):
    with pytest.raises(InvalidQuery):
        meter.oracle.ask(images)
    assert meter.rows == 0


def test_the_oracle_holds_nothing_that_could_be_taken(meter):
    oracle = meter.oracle
    assert not hasattr(oracle, "__dict__")
    assert {name for name in dir(oracle) if not name.startswith("__")} == {"ask", "left"}
    with pytest.raises(AttributeError):
        oracle.left = 100


def test_only_the_first_images_are_remembered_and_all_leaks(prepared, monkeypatch):
    monkeypatch.setattr(meter_room, "KEPT", 7)
    meter = Meter(CountedVictim(prepared.victim), prepared.leak_measures, (8, 8), 20, truth, no_progress)
    images = prepared.data_split.foreign.x[:12]
    for start in (0, 5, 10):
        meter.oracle.ask(images[start : start + 5])
    assert np.array_equal(meter.images, images[:7])
    assert len(meter.leaks) == len(meter.scores) == meter.rows == 12


def test_images_that_are_not_remembered_are_let_go(prepared, monkeypatch):
    monkeypatch.setattr(meter_room, "KEPT", 7)
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


def test_changing_an_answer_changes_nothing_that_is_remembered(meter, prepared):
    images = prepared.data_split.foreign.x[:3].copy()
    meter.oracle.ask(images)[:] = 0.0
    images[:] = 0.0
    assert np.array_equal(meter.images, prepared.data_split.foreign.x[:3])
    assert (meter.scores.sum(axis=1) > 0.99).all()


class Idler:
    """An attack that asks for less than it may."""

    name = "idler"

    def run(self, oracle, resources, rng, watch):
        oracle.ask(resources.foreign.x[: oracle.left // 2])

        class Clone:
            def scores(self, images):
                return np.full((len(images), resources.classes), 1 / resources.classes)

        watch(Clone())
        return Clone()


class Intruder(Idler):
    """One who gets hold of the victim behind the oracle and asks it, too."""

    def run(self, oracle, resources, rng, watch):
        meter = type(oracle).ask.__closure__[0].cell_contents.__self__
        meter._victim.scores(resources.foreign.x[:7])
        return super().run(oracle, resources, rng, watch)


def extraction(attack="standard", queries=60, seed=0):
    return ExtractionRun("digits", attack, "quick", queries, seed)


def loot_of(thief, prepared, queries=60, seed=0):
    plan = extraction(queries=queries, seed=seed)
    return run_extraction(plan, PreparedAttack(thief), prepared, truth, lambda images: images.mean(axis=(1, 2)))


def test_who_goes_round_the_meter_or_leaves_budget_is_marked(prepared):
    idle = loot_of(Idler(), prepared)
    assert not checks.budget_spent(idle, 60).holds
    assert checks.nothing_unmetered(idle).holds
    intruder = checks.nothing_unmetered(loot_of(Intruder(), prepared))
    assert not intruder.holds
    assert "the victim answered 37 rows, the meter counted 30" in intruder.note


def test_a_theft_is_the_same_with_the_same_seed_and_is_kept(prepared, tmp_path):
    def run(seed):
        thief = prepare_attack(AttackFactory("knockoff-random", "quick", "kernel", prepared.classes))
        return run_extraction(extraction("knockoff-random", seed=seed), thief, prepared, truth, lambda images: images)

    first, again, other = run(0), run(0), run(1)
    assert np.array_equal(first.images, again.images)
    assert first.curve == again.curve
    assert not np.array_equal(first.images, other.images)
    assert [point.queries for point in first.curve] == sorted({point.queries for point in first.curve})
    assert first.curve[-1].queries == 60
    plan = extraction("knockoff-random")
    assert cached_seconds(plan, tmp_path) is None
    stored = load_cached(plan, tmp_path, lambda: first)
    loaded = load_cached(plan, tmp_path, lambda: pytest.fail("it was kept"))
    assert cached_seconds(plan, tmp_path) == first.seconds
    assert stored.curve == loaded.curve == first.curve
    assert np.array_equal(loaded.leaks, first.leaks)
    assert np.allclose(loaded.images, first.images, atol=1e-3)
    assert loaded.scaled == first.scaled
    assert loaded.scaled
    plan.file(tmp_path).write_bytes(b"PK not an archive")
    with pytest.raises(DamagedFile, match="delete it"):
        load_cached(plan, tmp_path, lambda: first)


def test_grey_steps_are_kept_exactly_and_other_numbers_nearly():
    rng = np.random.default_rng(0)
    bytes_ = rng.integers(0, 256, (5, 4, 4)) / 255.0
    assert pack_images(bytes_).dtype == np.uint8
    assert np.array_equal(unpack_images(pack_images(bytes_)), bytes_)
    others = rng.random((5, 4, 4))
    assert np.allclose(unpack_images(pack_images(others)), others, atol=1e-3)


def test_an_attack_or_school_that_is_not_there_is_named():
    with pytest.raises(SettingsError) as refused:
        prepare_attack(AttackFactory("no such", "quick", "kernel", 10))
    assert "there is no attack 'no such'; there are: standard" in refused.value.faults[0]


def test_a_file_whose_writing_is_interrupted_leaves_nothing_and_the_old_one_stays(tmp_path, monkeypatch):
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


def test_what_killed_processes_left_is_swept_and_what_is_being_written_stays(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = {f"one.json.{gone.pid}.part", f"one.json.{os.getpid()}.part", "a.part", "one.json"}
    for name in names:
        (tmp_path / name).touch()
    remove_partial_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names - {f"one.json.{gone.pid}.part"}
