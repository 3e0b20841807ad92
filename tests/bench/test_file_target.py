"""The target of file types, on a small machine with a tiny model of the layout of ``magika``."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from file_machine import TYPES, install_model, write_files
from modeltoll.bench import file_target
from modeltoll.bench.baseline import measure_baseline
from modeltoll.bench.datasets import UNKNOWN, DataError, accuracy, file_set
from modeltoll.bench.datasets.file_rows import HALF, MIXED, PADDING, FileFinder, FileKind, codes_of
from modeltoll.bench.datasets.file_set import FAMILIES, OTHER_PACKAGES, foreign_files
from modeltoll.bench.datasets.file_strangers import file_strangers
from modeltoll.bench.honest.distribution_shifts import ORDINARY
from modeltoll.bench.honest.file_callers import DECLARED_CALLERS, UNDECLARED_CALLERS
from modeltoll.bench.honest.workload import WORKLOADS
from modeltoll.bench.prepared_target import Workspace
from modeltoll.bench.report.aggregate import Results
from modeltoll.bench.report.files import affordable
from modeltoll.bench.report.page import report_sections
from modeltoll.bench.result_files import read_results
from modeltoll.bench.targets import TARGETS
from modeltoll.bench.victims.file_types import CODES, load_file_type_model
from modeltoll.cli import app
from modeltoll.errors import SettingsError
from modeltoll.records import Evidence
from modeltoll.testing.bench_plugins import check_victim
from modeltoll.testing.measures import check_measure


def quiet(_done, _most):
    """No progress."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A folder of 2,400 files, one of 480 others, and an installed model."""
    folder, rng = tmp_path_factory.mktemp("machine"), np.random.default_rng(0)
    for name, count in (("files", 400), ("packages", 80)):
        (folder / name).mkdir()
        write_files(folder / name, count, rng)
    install_model(folder / "site")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder / "site")
        patch.setattr(file_set, "_packages", lambda: folder / "packages")
        yield folder


@pytest.fixture(scope="module")
def workspace(machine):
    return Workspace(machine / "files", machine / "cache")


@pytest.fixture(scope="module")
def prepared(workspace):
    return TARGETS["magika"].prepare(workspace, quiet)


def keys(images):
    return {image.tobytes() for image in images}


def test_a_row_holds_both_ends_of_a_file_without_white_space_at_them():
    data = b"  \n" + bytes(range(33, 97)) * 200 + b"\n\n"
    row = codes_of(data)
    assert row[:64].tolist() == list(range(33, 97))
    assert row[-64:].tolist() == list(range(33, 97))
    short = codes_of(b" twelve bytes\n")
    assert short[:13].tolist() == list(b"twelve bytes\n")
    assert short[-13:].tolist() == list(b" twelve bytes")
    assert (short[13 : 2 * HALF - 13] == PADDING).all()
    assert codes_of(b"seven   b  "[:7]) is None
    assert codes_of(b" " * 9000) is None


def test_a_finder_takes_no_row_twice_and_only_files_of_the_kind(machine):
    finder = FileFinder([machine / "files"], np.random.default_rng(1))
    python, pictures = (
        finder.take(FileKind(frozenset({".py"})), 300),
        finder.take(DECLARED_CALLERS["images and ELF"], 900),
    )
    rest = finder.take(MIXED, 10_000)
    assert set(python.endings) == {".py"}
    assert len(python.paths) == 300
    assert set(pictures.endings) == {".png", ""}
    assert len(pictures.paths) == 800
    assert len(keys(python.rows) | keys(pictures.rows) | keys(rest.rows)) == 2400 == 1100 + len(rest.paths)
    again = FileFinder([machine / "files"], np.random.default_rng(1)).take(FileKind(frozenset({".py"})), 300)
    assert np.array_equal(again.rows, python.rows)


def test_a_finder_leaves_folders_out_and_limits_endings(machine):
    finder = FileFinder(
        [machine], np.random.default_rng(1), without=(machine / "files", machine / "site", machine / "cache")
    )
    assert {path.parent.name for path in finder.take(MIXED, 10_000).paths} == {"packages"}
    few = FileFinder([machine / "files"], np.random.default_rng(1)).take(FileKind(per_ending=7), 10_000)
    assert {ending: few.endings.count(ending) for ending in set(few.endings)} == dict.fromkeys(
        ["", ".py", ".json", ".png", ".txt", ".cfg"], 7
    )


def test_wheels_of_a_folder_stand_for_their_members_and_broken_ones_are_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "some-1.0-py3-none-any.whl", "w") as wheel:
        for number in range(20):
            wheel.writestr(f"some/m{number}.py", f"# module {number}\n" * 5)
        wheel.writestr("some-1.0.dist-info/RECORD", "metadata, not a file of the package")
    (tmp_path / "broken.whl").write_bytes(b"no archive at all")
    stolen, unseen = foreign_files(tmp_path)
    assert len(stolen) + len(unseen) == 20
    assert bytes(stolen[0, :9].astype(np.uint8)) == b"# module "
    with pytest.raises(DataError, match="a folder of files"):
        foreign_files(tmp_path / "none")


def test_strangers_are_made_of_files(machine):
    sample = FileFinder([machine / "files"], np.random.default_rng(1)).take(MIXED, 200)
    made = file_strangers(sample, 50, np.random.default_rng(2))
    assert (OTHER_PACKAGES, *made) == FAMILIES
    assert all(rows.shape == (50, 2048) and rows.dtype == np.uint16 and rows.max() <= PADDING for rows in made.values())
    heads, tails = (keys(np.ascontiguousarray(sample.rows[:, part])) for part in (slice(HALF), slice(HALF, None)))
    spliced = made["head of one, tail of another"]
    assert keys(np.ascontiguousarray(spliced[:, :HALF])) <= heads
    assert keys(np.ascontiguousarray(spliced[:, HALF:])) <= tails
    assert not keys(spliced) & keys(sample.rows)
    originals = {tuple(np.sort(row[:HALF])) for row in sample.rows}
    assert {tuple(np.sort(row[:HALF])) for row in made["shuffled bytes"]} <= originals
    assert (made["compressed"][:, 0] == 0x78).all()  # zlib's header
    assert (made["90 % padding"] == PADDING).mean() > 0.89
    closest = [(row != sample.rows).mean(axis=1).min() for row in made["5 % mutated"]]
    assert 0.0 < max(closest) < 0.08


def test_the_parts_of_the_target_are_disjoint(prepared, workspace):
    data_split, seen = prepared.data_split, set()
    callers = {**DECLARED_CALLERS, **UNDECLARED_CALLERS}
    kept = [caller.kept_back().x for caller in prepared.callers.values()]
    logged = [caller.logged() for caller in prepared.callers.values() if caller.logged is not None]
    parts = [data_split.private.x, data_split.calibration.x, data_split.honest.x, data_split.own, *kept, *logged]
    for part in (*parts, data_split.foreign.x, data_split.unseen_foreign):
        assert part.shape[1:] == (1, 2048)
        assert ((part >= 0.0) & (part <= 1.0)).all()
        assert not seen & keys(part), "a file is in two parts"
        seen |= keys(part)
    assert set(prepared.callers) < set(callers)
    assert prepared.classes == len(TYPES)
    for family, images in prepared.strangers().items():
        stolen = TARGETS["magika"].prepare(Workspace(workspace.data, workspace.cache, family), quiet).data_split.foreign
        assert not keys(images) & keys(stolen.x), family
    check_victim(prepared.victim, data_split.honest.x[:5])


def test_true_classes_are_those_of_endings_where_they_name_one(prepared):
    honest = prepared.data_split.honest
    predicted = prepared.victim.scores(honest.x).argmax(axis=1)
    named = honest.y != UNKNOWN
    assert 0 < named.sum() < len(named)
    assert set(predicted[~named]) == {TYPES.index("elf"), TYPES.index("txt")}  # without an ending, and .cfg
    assert accuracy(predicted, honest.y) == 1.0
    assert accuracy(predicted, np.full(len(predicted), UNKNOWN)) == 0.0


def test_files_that_were_read_stay_as_they_were(machine, prepared, workspace):
    """A running machine's files change; an interrupted run continues with those that it began with."""
    added = machine / "files" / "added.py"
    added.write_text("x = 'not in the cache'\n" * 9)
    file_target._files_and_model.cache_clear()
    again = TARGETS["magika"].prepare(workspace, quiet)
    added.unlink()
    assert np.array_equal(again.data_split.own, prepared.data_split.own)
    assert np.array_equal(again.data_split.private.y, prepared.data_split.private.y)


def test_too_few_files_are_refused(machine, tmp_path):
    (tmp_path / "few").mkdir()
    write_files(tmp_path / "few", 3, np.random.default_rng(0))
    with pytest.raises(DataError, match="--data-dir"):
        TARGETS["magika"].prepare(Workspace(tmp_path / "few", tmp_path / "cache"), quiet)


def test_without_the_package_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"modeltoll\[bench\]"):
        load_file_type_model()


def test_novelty_of_images_is_that_of_their_codes(prepared):
    images = prepared.data_split.honest.x[:6]
    evidence = Evidence(tuple(bytes([row]) for row in range(6)), prepared.victim.scores(images), images.reshape(6, -1))
    measure = prepared.leak_measures["novelty"]
    check_measure(measure, evidence)
    codes = Evidence(evidence.fingerprints, evidence.scores, np.round(evidence.inputs * CODES))
    assert np.array_equal(measure.measure(evidence), measure.codes.measure(codes))


def test_the_baseline_knows_the_callers_and_declares_those_in_the_log(prepared, workspace):
    baseline = measure_baseline(TARGETS["magika"], workspace.cache, lambda: prepared)
    assert {ORDINARY, ".py only", "images and ELF", ".md, .rst and .txt"} <= set(baseline.kinds)
    assert set(baseline.declared) == set(baseline.kinds) & set(DECLARED_CALLERS)
    assert set(baseline.strangers) == set(FAMILIES)
    assert (baseline.kinds[".py only"].classes == TYPES.index("python")).all()
    assert not WORKLOADS[".md, .rst and .txt"].declared
    assert WORKLOADS[".py only"].declared


def test_the_suite_runs_from_one_command_and_goes_on_where_it_stopped(machine, workspace, tmp_path):
    command = ["bench", "run", "magika", "-o", str(tmp_path), "--data-dir", str(workspace.data), "--queries", "60"]
    command += ["--cache", str(workspace.cache), "--attack", "copycat-trees", "--foreign", "random bytes"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    found = list(read_results(tmp_path))
    thieves = [one for one in found if one["attack"] == "copycat-trees"]
    ours = {one["evasion"]: one for one in thieves if one["tariff"] == "conformal"}
    assert set(ours) == {"none", "accounts-10", "accounts-100", "accounts-1000"}
    assert ours["none"]["accuracy"] is not None
    assert [point["queries"] for point in ours["none"]["course"] if point["fidelity"] is not None] == [4, 8, 16, 32, 60]
    callers = {one["workload"] for one in found if one["attack"] == "honest"}
    assert {ORDINARY, ".py only", "tiny files, under 200 bytes"} <= callers
    assert "gzip" not in callers
    sections = {section.title: section.table.rows for section in report_sections(Results(found))}
    callers_shown = {row[0]: row[1] for row in sections["Honest callers by file type"]}
    assert callers_shown[".py only"] == "yes"
    assert callers_shown[".md, .rst and .txt"] == "no"
    (thief,) = sections["Thieves of the model of file types"]
    assert thief[:2] == ("random bytes", "60")
    assert "\N{EN DASH}" not in thief
    (clone,) = sections["Clones of the model of file types"]
    assert clone[:3] == ("random bytes", "copycat-trees", "60")
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    assert len(list(read_results(tmp_path))) == len(found)


def test_a_thief_affords_rows_for_ten_times_the_time_and_the_largest_clone_of_no_more():
    course = [
        {"queries": 100, "seconds_with": 50.0, "fidelity": 0.3},
        {"queries": 200, "seconds_with": 150.0, "fidelity": None},
        {"queries": 400, "seconds_with": 950.0, "fidelity": 0.6},
    ]
    assert affordable({"course": course, "seconds_without": 10.0}) == (150.0, 0.3)
    assert affordable({"course": course, "seconds_without": 2.0}) == (40.0, None)
    assert affordable({"course": course, "seconds_without": 95.0}) == (400.0, 0.6)
    assert affordable({"course": course, "seconds_without": 500.0}) == (400.0, 0.6)
