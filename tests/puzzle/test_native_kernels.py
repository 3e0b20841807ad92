"""The SHA-256 kernels find what pure Python finds."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modeltoll.puzzle import hash_scan
from modeltoll.puzzle.functions import check_of, evaluate, largest_digest
from modeltoll.puzzle.native_kernels import LIBRARY, PYTHON, kernels

SOURCES = [LIBRARY.with_name(name) for name in ("kernel.c", "argon2id_kernel.c")]
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def begins_with(check):
    """The range of digests that begin with a check of 16 bytes."""
    return check, check + b"\xff" * 16


@pytest.fixture(scope="session")
def every(compiled):
    return kernels(compiled)


def test_plain_code_runs_everywhere_and_python_comes_last(every):
    assert [kernel.name for kernel in every[-2:]] == ["plain", "python"]
    assert all(kernel.threads for kernel in every[:-1])
    assert not PYTHON.threads


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**50), st.integers(1, 300), st.integers(-3, 303))
@example(bytes(16), 2**32 - 100, 200, 150)
@example(bytes(16), 0, 1, 0)
def test_a_hidden_counter_is_found_wherever_the_range_begins_and_ends(every, seed, start, count, place):
    """And nothing outside of [start, start + count) is."""
    n = max(0, start + place)
    goal = begins_with(check_of(evaluate(seed, n, 0)))
    expected = n if start <= n < start + count else hash_scan.MISS
    assert [kernel.scan("sha256", seed, *goal, start, start + count) for kernel in every[:-1]] == [expected] * (
        len(every) - 1
    )


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**40), st.integers(1, 600), st.integers(1, 400))
def test_a_hashcash_counter_is_the_first_that_will_do(every, seed, block, count, bound):
    start = 256 * block  # as plain Python wants it
    goal = largest_digest(bound)
    found = {kernel.scan("sha256", seed, b"", goal, start, start + count) for kernel in every}
    digests = (hashlib.sha256(seed + n.to_bytes(8, "big")).digest() for n in range(start, start + count))
    first = next((start + n for n, digest in enumerate(digests) if digest <= goal), hash_scan.MISS)
    assert found == {first}


def test_a_digest_that_only_begins_like_the_goal_is_not_accepted(every):
    """One below the right digest's own value is refused, though 31 bytes agree; the value itself is accepted."""
    seed, n = bytes(range(16)), 77
    digest = hashlib.sha256(seed + n.to_bytes(8, "big")).digest()
    below = (int.from_bytes(digest, "big") - 1).to_bytes(32, "big")
    other = begins_with(digest[:15] + bytes((digest[15] ^ 1,)))
    for kernel in every[:-1]:
        assert kernel.scan("sha256", seed, b"", digest, n, n + 1) == n
        assert kernel.scan("sha256", seed, b"", below, n, n + 1) == hash_scan.MISS
        assert kernel.scan("sha256", seed, *other, n, n + 1) == hash_scan.MISS


def test_plain_python_stays_within_its_range():
    """[start, stop) is searched, wherever the blocks of 256 begin and end."""
    seed, n = b"s" * 16, 700
    check = begins_with(check_of(evaluate(seed, n, 0)))
    assert hash_scan.scan("sha256", seed, *check, 0, 701) == n
    assert hash_scan.scan("sha256", seed, *check, 512, 701) == n
    assert hash_scan.scan("sha256", seed, *check, 0, 700) == hash_scan.MISS
    assert hash_scan.scan("sha256", seed, *check, 768, 2000) == hash_scan.MISS


def test_without_a_library_there_is_plain_python(tmp_path):
    assert kernels(tmp_path / "none.so") == (PYTHON,)


@pytest.mark.parametrize("code", ["", "int modeltoll_version(void) { return 0; }"])
def test_a_foreign_library_is_not_used(code, tmp_path):
    """Without the functions, of another version, or not a library."""
    library = tmp_path / "foreign.so"
    library.write_bytes(b"no library")
    assert kernels(library) == (PYTHON,)
    if COMPILER is not None:
        source = tmp_path / "foreign.c"
        source.write_text(code + "\n")
        other = tmp_path / "other.so"
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(other), str(source)], check=True)
        assert kernels(other) == (PYTHON,)


def test_importing_loads_nothing():
    """The library is loaded by the first long search."""
    import sys  # noqa: PLC0415  as below

    code = "import sys, modeltoll.puzzle.solver; print('ctypes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_library_is_beside_its_source():
    assert all(source.exists() and Path(LIBRARY).parent == source.parent for source in SOURCES)
