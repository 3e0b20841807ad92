"""Argon2id by the native kernels: argon2-cffi's values, its errors, and no memory that stays."""

from __future__ import annotations

import random
import threading
from functools import partial
from itertools import product

import pytest
from argon2.exceptions import HashingError
from argon2.low_level import Type, hash_secret_raw
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.puzzle import functions, native_argon2id
from modeltoll.puzzle.argon2id import REUSED_KIB, Argon2id
from modeltoll.puzzle.counter import Argon2idCounter
from modeltoll.puzzle.functions import argon2id
from modeltoll.puzzle.native_argon2id import NativeArgon2id, argon2id_kernels
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.records import MachineProfile, Work

SEED = bytes(range(16))


def published(seed, n, memory_kib):
    return hash_secret_raw(n.to_bytes(8, "big"), seed, 1, memory_kib, 1, 32, Type.ID)


@pytest.fixture(scope="session")
def every(compiled):
    """For each kernel that this processor runs: the function that makes it, of a memory in KiB."""
    return [partial(NativeArgon2id, kernel=name, library=compiled) for name in argon2id_kernels(compiled)]


def test_plain_code_runs_everywhere(compiled):
    assert argon2id_kernels(compiled)[-1] == "plain"


@pytest.mark.parametrize("memory_kib", [8, 9, 11, 64, 100, 512, 515, 1024, 1028, REUSED_KIB, REUSED_KIB + 4])
def test_the_values_are_argon2_cffis_own_however_often_the_memory_is_used(every, memory_kib):
    """Memory that is no multiple of four blocks, one slice and several of addresses, one counter at a time and two."""
    cases = ((bytes(16), 0), (b"s" * 16, 2**51 + 5), (b"t" * 16, 2**64 - 2), (bytes(16), 0))
    for function, (seed, n) in product([kernel(memory_kib) for kernel in every], cases):
        value, following = (published(seed, one, memory_kib) for one in (n, n + 1))
        assert function.evaluate(seed, n) == value
        assert function.search(seed, following[:16], n, n + 2) == (n + 1, following)
        assert function.search(seed, value[:16], n, n + 2) == (n, value)


@settings(max_examples=50)
@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1), st.integers(8, 700))
def test_the_fastest_kernel_gives_argon2_cffis_values(compiled, seed, n, memory_kib):
    function = NativeArgon2id(memory_kib, argon2id_kernels(compiled)[0], compiled)
    assert function.evaluate(seed, n) == published(seed, n, memory_kib)


@pytest.mark.parametrize("memory_kib", [64, 2048])
def test_a_search_ends_at_the_first_counter_whose_value_begins_with_the_check(every, memory_kib):
    """Wherever it lies in the range; nothing outside of the range is found."""
    value = published(SEED, 70, memory_kib)
    for function in (kernel(memory_kib) for kernel in every):
        for start, stop in ((70, 71), (69, 71), (68, 71), (65, 90)):
            assert function.search(SEED, value[:16], start, stop) == (70, value)
        for start, stop in ((71, 75), (66, 70), (67, 70), (70, 70)):
            assert function.search(SEED, value[:16], start, stop) is None
        assert function.search(SEED, value[:15] + bytes((value[15] ^ 1,)), 70, 71) is None


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (2**64 - 1, 2**64 + 1), (2**64, 2**64 + 1)])
def test_a_counter_that_has_more_than_eight_bytes_is_an_error(every, start, stop):
    with pytest.raises(OverflowError):
        every[0](8).search(SEED, bytes(16), start, stop)


def test_threads_have_memory_of_their_own(every):
    found = {}

    def work(n):
        found[n] = every[0](256).evaluate(SEED, n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: published(SEED, n, 256) for n in range(4)}


class KeptPages:
    def __init__(self, pages):
        self.pages, self.size = pages, len(pages)


def test_solving_frees_its_memory(monkeypatch):
    """On two cores each has one piece of memory, and both are free afterwards."""
    if not argon2id_kernels():
        pytest.skip("no native kernel was built")
    taken = []
    real = native_argon2id.map_memory
    monkeypatch.setattr(
        native_argon2id, "map_memory", lambda size: taken.append(KeptPages(real(size))) or taken[-1].pages
    )
    maker = Argon2idCounter(
        MachineProfile("", "", 1.0, {REUSED_KIB: 1.0}), ladder=[REUSED_KIB], max_memory_kib=REUSED_KIB
    )
    challenge, solution = maker.make(Work(2.0, 1, 2.0), random.Random(1))
    made = len(taken)
    assert maker.solve(challenge, SolveControl(cores=2)) == solution
    assert 1 <= len(taken) - made <= 2
    for kept in taken:
        kept.pages.close()  # BufferError if anything still held it


def test_memory_that_cannot_be_allocated_is_an_error(every, monkeypatch):
    def refuse(_size):
        raise OSError("out of memory")

    monkeypatch.setattr(native_argon2id, "map_memory", refuse)
    with pytest.raises(HashingError, match="out of memory"):
        every[0](REUSED_KIB)


def test_without_a_kernel_argon2_cffi_is_used(monkeypatch, tmp_path):
    assert argon2id_kernels(tmp_path / "none.so") == ()
    assert isinstance(argon2id(8, native=False), Argon2id)
    monkeypatch.setattr("modeltoll.puzzle.functions.argon2id_kernels", tuple)
    assert isinstance(argon2id(8), Argon2id)


def test_a_thread_keeps_one_evaluator_of_each_small_memory_and_never_much(monkeypatch):
    """Their values are those of new ones; large memories are not kept."""
    made = []
    monkeypatch.setattr(
        "modeltoll.puzzle.functions.evaluator", lambda memory: made.append(memory) or (lambda *_: bytes([memory % 251]))
    )

    def use():
        for _ in range(2):
            for memory in (64, 1024, 512, 0, REUSED_KIB):
                assert functions.kept_evaluator(memory)(SEED, 1) == bytes([memory % 251])
        for memory in range(1024, REUSED_KIB, 8):
            functions.kept_evaluator(memory)
            assert sum(functions._kept.by_memory) <= functions._MOST_KEPT_KIB

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert [made.count(memory) for memory in (64, 512, 0, REUSED_KIB)] == [1, 1, 2, 2]
    assert made.count(1024) >= 1
