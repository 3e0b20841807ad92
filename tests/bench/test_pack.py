"""Packing results loses none: whatever interrupts it, whoever reads or writes meanwhile, whatever else lies there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import threading
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modeltoll.bench.artifact_files import DamagedFile, write_document
from modeltoll.bench.experiment import HONEST, Experiment, experiment_of
from modeltoll.bench.identity import canonical
from modeltoll.bench.result_files import StoredResults, packed_line, read_results
from modeltoll.bench.result_packing import pack_results
from modeltoll.bench.runner import pending_jobs
from modeltoll.cli import app
from modeltoll.errors import ModeltollError

COMMITTED = Path(__file__).parents[2] / "results" / "bench"
COPYCAT = Experiment("quick", "digits", "copycat", "none", "none", "conformal", "entropy", "quick", 0, 300)
FIRST = replace(COPYCAT, version=1)  # of the time before keys
OTHERS = (
    replace(COPYCAT, seed=1),
    replace(COPYCAT, attack="standard", tariff="published"),
    replace(COPYCAT, attack=HONEST, workload="100,000 rows", queries=0),
    replace(COPYCAT, dataset="mnist"),
    replace(COPYCAT, suite="table2", dataset="mnist", queries=2_000_000),
    replace(COPYCAT, suite="table2", dataset="mnist", queries=100_000),
)
ALL = (COPYCAT, *OTHERS)
PACKED = "quick/digits.jsonl"


def result(plan, ratio=1.5, **members):
    """The document of a result, as far as files go."""
    plain = {
        **plan.key,
        "format": 1,
        "budget": plan.queries,
        "ratio": ratio,
        "live": None,
        "note": "ä \N{SNOWMAN} \u2028",
    }
    if (version := plain.pop("v")) > 1:
        plain["version"] = version
    return plain | members


def write(folder, plan, ratio=1.5, **members):
    path = plan.file(folder)
    write_document(path, result(plan, ratio, **members))
    return path


def ratios(folder):
    return {experiment_of(document): document["ratio"] for document in read_results(folder)}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path):
    for place, plan in enumerate(ALL):
        write(tmp_path / "work", plan, place + 0.123457)
    return tmp_path / "work"


def test_every_document_is_the_same_packed_as_in_its_own_file(folder):
    before = [(list(one), one) for one in read_results(folder)]
    packed = pack_results(folder)
    assert [(list(one), one) for one in read_results(folder)] == before
    assert len(before) == len(ALL)
    assert sorted(contents(folder)) == ["quick/digits.jsonl", "quick/mnist.jsonl", "table2/mnist.jsonl"]
    assert [(one.suite, one.dataset, one.results, one.added, one.removed_files) for one in packed] == [
        ("quick", "digits", 4, 4, 4),
        ("quick", "mnist", 1, 1, 1),
        ("table2", "mnist", 2, 2, 2),
    ]


def test_a_packed_file_is_sorted_compact_json_a_line_a_result(folder):
    pack_results(folder)
    text = (folder / PACKED).read_text("ascii")
    lines = text.splitlines()
    assert text.endswith("}\n")
    assert [json.loads(line)["attack"] for line in lines] == ["copycat", "copycat", "honest", "standard"]
    assert [json.dumps(json.loads(line), separators=(",", ":")) for line in lines] == lines
    for path in folder.rglob("*.jsonl"):
        plans = [experiment_of(json.loads(line)) for line in path.read_text().splitlines()]
        assert plans == sorted(plans, key=lambda plan: plan.order)


def test_one_result_more_changes_one_line(folder):
    pack_results(folder)
    before = (folder / PACKED).read_text().splitlines()
    write(folder, replace(COPYCAT, evasion="replay"))
    pack_results(folder)
    after = (folder / PACKED).read_text().splitlines()
    assert len(after) == len(before) + 1
    assert [line for line in after if line in before] == before


def test_packing_twice_changes_nothing(folder):
    pack_results(folder)
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in folder.rglob("*.jsonl")}
    again = pack_results(folder)
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in folder.rglob("*.jsonl")} == before
    assert all((one.added, one.replaced, one.removed_files) == (0, 0, 0) for one in again)


def test_kept_files_stay_and_win_and_are_counted_as_unchanged_the_second_time(folder):
    first = pack_results(folder, keep=True)
    assert len(list(folder.rglob("*.json"))) == len(ALL)
    assert sum(one.added for one in first) == len(ALL)
    again = pack_results(folder, keep=True)
    assert sum(one.unchanged for one in again) == len(ALL)
    write(folder, COPYCAT, 99.0)
    assert ratios(folder)[COPYCAT] == 99.0
    assert StoredResults(folder).get(COPYCAT)["ratio"] == 99.0


def test_a_newer_result_replaces_the_packed_one_in_another_folder(folder, tmp_path):
    destination = tmp_path / "far" / "away"
    pack_results(folder, destination)
    assert sorted(contents(folder)) == []
    write(folder, COPYCAT, 99.0)
    write(folder, replace(COPYCAT, seed=7), 7.0)
    (one, *_) = pack_results(folder, destination)
    assert (one.added, one.replaced, one.unchanged, one.results) == (1, 1, 0, 5)
    assert ratios(destination)[COPYCAT] == 99.0
    assert len(ratios(destination)) == len(ALL) + 1


def test_packed_results_of_a_folder_go_along_and_stay(folder, tmp_path):
    pack_results(folder)
    before = contents(folder)
    pack_results(folder, tmp_path / "there")
    assert contents(folder) == contents(tmp_path / "there") == before


def test_a_packed_result_is_done_and_one_that_could_be_driven_is_done_again(folder):
    pack_results(folder)
    assert pending_jobs([COPYCAT], folder) == []
    assert len(pending_jobs([COPYCAT, replace(COPYCAT, seed=5)], folder)) == 1
    assert [errand.experiments for errand in pending_jobs([COPYCAT], folder, live=True)] == [(COPYCAT,)]
    write(folder, COPYCAT, live={"rows": 5})
    pack_results(folder)
    assert pending_jobs([COPYCAT], folder, live=True) == []


def test_stored_results_see_what_is_packed_after_they_were_made(folder):
    stored = StoredResults(folder)
    assert all(stored.get(plan)["ratio"] for plan in ALL)
    write(folder, COPYCAT, 99.0)
    pack_results(folder)
    assert stored.get(COPYCAT)["ratio"] == 99.0
    assert stored.get(replace(COPYCAT, seed=5)) is None


SPOILT = {
    "a truncated line": lambda lines: [*lines[:2], lines[2][:-20], *lines[3:]],
    "a line that is no JSON": lambda lines: [*lines[:2], b"<<<<<<< HEAD", *lines[3:]],
    "an empty line": lambda lines: [*lines[:2], b"", *lines[2:]],
    "no experiment": lambda lines: [*lines[:2], b'{"format":1}', *lines[3:]],
    "another type": lambda lines: [*lines[:2], lines[2].replace(b'"workload":"', b'"workload":7,"x":"'), *lines[3:]],
    "no number": lambda lines: [*lines[:2], lines[2].replace(b"3.12346", b"NaN"), *lines[3:]],
    "no text": lambda lines: [*lines[:2], b"\xff" + lines[2], *lines[3:]],
    "another data set's": lambda lines: [*lines[:2], lines[2].replace(b'"digits"', b'"mnist"'), *lines[3:]],
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_damaged_line_is_named_and_nothing_is_lost(folder, spoil):
    pack_results(folder)
    lines = (folder / PACKED).read_bytes().split(b"\n")
    spoilt = spoil(lines)
    assert spoilt != lines
    (folder / PACKED).write_bytes(b"\n".join(spoilt))
    write(folder, replace(COPYCAT, seed=5))
    before = contents(folder)
    for act in (
        lambda: list(read_results(folder)),
        lambda: pack_results(folder),
        lambda: pending_jobs([COPYCAT], folder),
    ):
        with pytest.raises(DamagedFile, match=r"digits\.jsonl, line 3"):
            act()
    assert contents(folder) == before


def test_a_last_line_without_its_end_is_whole(folder):
    pack_results(folder)
    (folder / PACKED).write_bytes((folder / PACKED).read_bytes().rstrip(b"\n"))
    assert len(ratios(folder)) == len(ALL)
    pack_results(folder)
    assert (folder / PACKED).read_bytes().endswith(b"\n")


def test_everything_that_is_no_result_is_named_at_once_and_nothing_is_written(folder):
    truncated = COPYCAT.file(folder)
    truncated.write_bytes(truncated.read_bytes()[:100])
    foreign = folder / "quick" / "mnist" / "notes.json"
    foreign.write_text('{"mine": 1}')
    moved = folder / "table2" / "mnist" / "renamed.json"
    OTHERS[-1].file(folder).rename(moved)
    before = contents(folder)
    with pytest.raises(DamagedFile) as refused:
        pack_results(folder)
    first, *named = str(refused.value).splitlines()
    assert first == "nothing was packed:"
    assert [line.split(" ")[0] for line in named] == [str(truncated), str(foreign), str(moved)]
    assert contents(folder) == before


def test_what_is_not_named_like_a_result_stays(folder):
    others = {"quick/digits/readme.txt": b"x", "against-art.json": b"{}", "quick/other.json": b"{}"}
    for name, data in others.items():
        (folder / name).write_bytes(data)
    pack_results(folder)
    assert others.items() <= contents(folder).items()


def legacy_file(plan, folder):
    return plan.files(folder)[1]


def test_a_file_named_as_before_keys_is_packed_too(folder):
    write_document(legacy_file(FIRST, folder), result(FIRST, 7.5))
    before = ratios(folder)
    assert before[FIRST] == 7.5
    pack_results(folder)
    assert not list(folder.rglob("*.json"))
    assert ratios(folder) == before


def test_the_same_result_in_two_files_is_one_and_different_ones_are_refused(folder):
    write(folder, FIRST, 0.5)
    legacy_file(FIRST, folder).write_bytes(FIRST.file(folder).read_bytes())
    assert len(list(read_results(folder))) == len(ALL) + 1
    write_document(legacy_file(FIRST, folder), result(FIRST, 99.0))
    before = contents(folder)
    for act in (lambda: list(read_results(folder)), lambda: pack_results(folder)):
        with pytest.raises(DamagedFile, match="different results of one experiment") as refused:
            act()
        assert all(str(path) in str(refused.value) for path in FIRST.files(folder))
    assert contents(folder) == before
    write_document(legacy_file(FIRST, folder), result(FIRST, 0.5))
    (digits, *_) = pack_results(folder)
    assert (digits.results, digits.removed_files) == (5, 6)


def test_the_same_line_twice_is_one_and_different_ones_are_refused(folder):
    pack_results(folder)
    whole = (folder / PACKED).read_bytes()
    (folder / PACKED).write_bytes(whole + whole.split(b"\n")[1] + b"\n")
    assert len(list(read_results(folder))) == len(ALL)
    pack_results(folder)
    assert (folder / PACKED).read_bytes() == whole
    (folder / PACKED).write_bytes(whole + packed_line(result(COPYCAT, 99.0)))
    for act in (lambda: list(read_results(folder)), lambda: pack_results(folder)):
        with pytest.raises(DamagedFile, match=r"line 1 and .*digits\.jsonl, line 5 are different results"):
            act()


class Stop(BaseException):
    """An interruption that nothing catches."""


class Interruption:
    """Stops this process at its n-th look at, or change of, a file of a folder: once, or from then on as a kill does."""

    def __init__(self):
        self.folder, self.left, self.killed = None, 0, False
        sys.addaudithook(self._hear)  # there is no way to take it away again

    def _hear(self, event, arguments):
        if self.folder is None or event not in ("open", "os.rename", "os.remove", "os.link", "os.mkdir"):
            return
        if str(arguments[0]).startswith(self.folder):
            self.left -= 1
            if self.left == 0 or (self.left < 0 and self.killed):
                raise Stop

    @contextlib.contextmanager
    def at(self, step, folder, *, killed):
        self.folder, self.left, self.killed = str(folder), step, killed
        try:
            yield
        finally:
            self.folder = None


INTERRUPTION = Interruption()


def union(work, destination):
    """What can still be read: what lies in the working folder is newer."""
    return (ratios(destination) if destination else {}) | ratios(work)


@pytest.mark.parametrize("killed", [False, True], ids=["interrupted", "killed"])
@pytest.mark.parametrize("apart", [False, True], ids=["same folder", "another folder"])
def test_an_interruption_at_any_step_loses_nothing_and_the_same_command_goes_on(tmp_path, monkeypatch, killed, apart):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and nothing here takes the power away
    wanted = {plan: place + 20.5 for place, plan in enumerate(ALL)}
    for step in count(1):
        work = tmp_path / f"{step}" / "work"
        destination = tmp_path / f"{step}" / "packed" if apart else None
        for plan in ALL[:4]:
            write(work, plan, 1.0)
        pack_results(work, destination)
        for plan, ratio in wanted.items():
            write(work, plan, ratio)
        try:
            with INTERRUPTION.at(step, tmp_path / f"{step}", killed=killed):
                pack_results(work, destination)
        except Stop:
            assert union(work, destination) == wanted, step
            pack_results(work, destination)
            done = False
        else:
            done = True
        assert ratios(destination or work) == wanted, step
        assert not list(work.rglob("*.json"))
        assert not list(tmp_path.rglob("*.taken"))
        if done:
            break
    assert step > 30


def test_a_result_that_is_written_again_while_its_file_is_removed_is_put_back(folder, monkeypatch):
    rename, path = Path.rename, COPYCAT.file(folder)

    def late(self, target):
        if self == path:
            write(folder, COPYCAT, 99.0)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    (digits, *_) = pack_results(folder)
    assert digits.removed_files == 3
    assert list(folder.rglob("*.json")) == [path]
    assert ratios(folder)[COPYCAT] == 99.0


def test_a_newer_file_is_not_overwritten_by_one_that_was_taken_aside(folder):
    path = COPYCAT.file(folder)
    path.rename(path.with_name(f".{path.name}.{os.getpid()}.taken"))
    write(folder, COPYCAT, 99.0)
    pack_results(folder)
    assert ratios(folder)[COPYCAT] == 99.0
    assert not list(folder.rglob(".*"))


@pytest.mark.timeout(120)
def test_readers_see_every_result_and_none_goes_back_while_it_is_packed(folder):
    seen, wrong, over = [], [], threading.Event()

    def read():
        last = 0.0
        while not over.is_set():
            found = ratios(folder)
            now = found.get(COPYCAT, -1.0)
            if len(found) != len(ALL) or now < last:
                wrong.append((len(found), last, now))
            last = now
            seen.append(now)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 41):
        for plan in ALL:
            write(folder, plan, float(number))
        pack_results(folder)
    over.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(set(seen)) > 3


@pytest.mark.timeout(120)
def test_what_is_written_while_it_is_packed_is_never_lost(folder):
    over = threading.Event()

    def work(plan):
        for number in range(1, 101):
            write(folder, plan, float(number))

    def pack():
        while not over.is_set():
            with contextlib.suppress(ModeltollError):
                pack_results(folder)

    writers = [threading.Thread(target=work, args=(plan,)) for plan in ALL[:3]]
    packer = threading.Thread(target=pack)
    for thread in (packer, *writers):
        thread.start()
    for writer in writers:
        writer.join()
    over.set()
    packer.join()
    assert [ratios(folder)[plan] for plan in ALL[:3]] == [100.0] * 3
    pack_results(folder)
    assert len(ratios(folder)) == len(ALL)


def test_two_do_not_pack_into_one_folder_at_once(folder):
    before = contents(folder)
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ModeltollError, match="another process packs into"):
            pack_results(folder)
    finally:
        os.close(held)
    assert contents(folder) == before
    assert pack_results(folder)


def test_a_destination_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "file").touch()
    before = contents(folder)
    with pytest.raises(ModeltollError, match=r"file.* cannot be packed"):
        pack_results(folder, tmp_path / "file" / "deeper")
    assert contents(folder) == before


def bench(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_the_verb_shows_a_table_and_its_json(folder, tmp_path):
    shown = bench("pack", folder, "-o", tmp_path / "there", "--keep", "--json", "-")
    assert shown.exit_code == 0, shown.output
    rows = json.loads(shown.stdout)
    assert rows[0] == {
        "suite": "quick",
        "dataset": "digits",
        "file": str(tmp_path / "there" / PACKED),
        "results": 4,
        "added": 4,
        "replaced": 0,
        "unchanged": 0,
        "removed_files": 0,
    }
    assert len(rows) == 3
    table = bench("pack", folder)
    assert table.exit_code == 0
    assert "digits.jsonl" in table.stdout
    assert not list(folder.rglob("*.json"))


def test_the_verb_says_what_is_wrong_and_fails(folder, tmp_path):
    assert bench("pack", tmp_path / "nowhere").exit_code == 2
    COPYCAT.file(folder).write_text("{}")
    failed = bench("pack", folder)
    assert failed.exit_code == 1
    assert str(COPYCAT.file(folder)) in failed.stderr


def test_the_order_is_by_names_for_people_and_then_by_the_whole_key():
    assert COPYCAT.order == ("quick", "digits", "copycat-conformal-s0", canonical(COPYCAT.key))
    assert OTHERS[-1].order < OTHERS[-2].order
    assert OTHERS[-1].slug == OTHERS[-2].slug


@pytest.mark.parametrize(
    "path", sorted(COMMITTED.glob("*/*.jsonl")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_committed_results_are_as_packing_writes_them(path):
    documents = list(read_results(COMMITTED, path.parent.name, path.stem))
    assert b"".join(packed_line(one) for one in documents) == path.read_bytes()


def test_committed_results_are_packed():
    assert list(COMMITTED.glob("*/*.jsonl"))
    assert not list(COMMITTED.glob("*/*/*.json"))
