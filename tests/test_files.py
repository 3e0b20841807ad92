"""Files are replaced whole or not at all, and a file of arrays is read or refused with one error."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from modeltoll import files
from modeltoll.errors import ArrayFileError, CalibrationError
from modeltoll.files import create_folder, read_array, read_arrays, read_numbers, replace_atomically, replacing

ARRAYS = {"x": np.arange(6.0).reshape(2, 3), "y": np.array(["a", "b"])}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mode_of(path):
    return path.stat().st_mode & 0o777


def test_a_new_file_gets_the_mode_that_is_given_or_the_usual_one(tmp_path):
    before = os.umask(0o027)
    try:
        replace_atomically(tmp_path / "secret", b"1", mode=0o600)
        replace_atomically(tmp_path / "usual", b"2")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "secret") == 0o600
    assert mode_of(tmp_path / "usual") == 0o640
    assert (tmp_path / "usual").read_bytes() == b"2"


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "one"
    path.write_bytes(b"old")
    path.chmod(0o604)
    replace_atomically(path, b"new", mode=0o600)
    assert (path.read_bytes(), mode_of(path), names(tmp_path)) == (b"new", 0o604, ["one"])


def test_content_that_fails_half_way_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "one"
    replace_atomically(path, b"old")

    def fail():
        with replacing(path) as file:
            file.write(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["one"])


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "one"
    replace_atomically(path, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_atomically(path, b"new")
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["one"])


def test_content_and_name_are_synchronised_in_that_order(tmp_path, monkeypatch):
    path, events = tmp_path / "one", []
    sync, replace = os.fsync, type(path).replace

    def watched_sync(descriptor):
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def watched_replace(self, target):
        events.append("replace")
        return replace(self, target)

    monkeypatch.setattr(files.os, "fsync", watched_sync)
    monkeypatch.setattr(type(path), "replace", watched_replace)
    replace_atomically(path, b"new")
    assert events == ["file", "replace", "folder"]


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file(tmp_path):
    path = tmp_path / "one"
    replace_atomically(path, b"old")
    code = (
        "import pathlib, sys, time\nfrom modeltoll.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'new'); file.flush(); print('half', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"half\n"
        writer.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"old"
    (part,) = set(names(tmp_path)) - {"one"}
    assert part.endswith(f".{writer.pid}{files.PART}")


def test_a_folder_is_made_with_those_above_it_and_may_exist(tmp_path):
    create_folder(tmp_path / "a" / "b")
    create_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_arrays_are_read_as_they_were_written(tmp_path):
    np.savez(tmp_path / "all.npz", **ARRAYS)
    np.save(tmp_path / "one.npy", ARRAYS["x"])
    read = read_arrays(tmp_path / "all.npz")
    assert list(read) == ["x", "y"]
    assert all(np.array_equal(read[name], ARRAYS[name]) for name in ARRAYS)
    assert list(read_arrays(tmp_path / "all.npz", ("y",))) == ["y"]
    assert np.array_equal(read_array(tmp_path / "one.npy"), ARRAYS["x"])


def test_numbers_of_any_type_are_floats_and_nothing_else_is_a_number(tmp_path):
    for array in (np.arange(3, dtype=np.uint8), np.array([[True, False]]), np.float32([0.5])):
        np.save(tmp_path / "one.npy", array)
        numbers = read_numbers(tmp_path / "one.npy")
        assert numbers.dtype == np.float64
        assert np.array_equal(numbers, array)
    for array in (np.array(["1.5"]), np.array([1j]), np.array(["2026-01-01"], "datetime64[D]")):
        np.save(tmp_path / "one.npy", array)
        with pytest.raises(ArrayFileError, match="cannot be read as numbers"):
            read_numbers(tmp_path / "one.npy")


@pytest.fixture
def spoilt(tmp_path):
    np.savez(tmp_path / "all.npz", **ARRAYS)
    np.save(tmp_path / "one.npy", ARRAYS["x"])
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object))
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no array")
    (tmp_path / "header").write_bytes(b"\x93NUMPY\x01\x00\x0a\x00{'descr': ")
    (tmp_path / "cut").write_bytes((tmp_path / "all.npz").read_bytes()[:-40])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "one.npy").read_bytes()[:-4])
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("x", "not an array")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "reason"),
    {
        "nowhere": "cannot be read: No such file",
        ".": "cannot be read: Is a directory",
        "one.npy": "single array .*, not an .npz archive",
        "objects.npz": "holds Python objects",
        "empty": "damaged",
        "text": "damaged",
        "header": "damaged",
        "cut": "damaged",
        "zip": "holds x, which is not an array",
        "all.npz": "lacks z and holds x, y",
    }.items(),
)
def test_an_archive_that_cannot_be_read_is_named_with_the_reason(spoilt, name, reason):
    wanted = ("x", "z") if name == "all.npz" else None
    with pytest.raises(ArrayFileError, match=reason) as refused:
        read_arrays(spoilt / name, wanted)
    assert str(spoilt / name) in str(refused.value)
    assert isinstance(refused.value, CalibrationError)


@pytest.mark.parametrize(
    ("name", "reason"),
    {
        "nowhere": "No such file",
        "all.npz": "is an .npz archive, not",
        "objects.npy": "Python objects",
        "empty": "damaged",
        "cut.npy": "damaged",
        "header": "damaged",
    }.items(),
)
def test_an_array_that_cannot_be_read_is_named_with_the_reason(spoilt, name, reason):
    with pytest.raises(ArrayFileError, match=reason):
        read_array(spoilt / name)


def test_every_damaged_byte_is_read_or_refused_with_the_one_error(tmp_path):
    np.savez_compressed(tmp_path / "all.npz", **ARRAYS)
    whole, rng, refused = (tmp_path / "all.npz").read_bytes(), np.random.default_rng(0), 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            read_arrays(tmp_path / "damaged.npz")
        except ArrayFileError:
            refused += 1
    assert refused > len(whole) // 3


def test_importing_it_does_not_import_numpy():
    code = "import sys, modeltoll.files; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
