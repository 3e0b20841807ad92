"""Argon2id by argon2-cffi, with reused memory."""

from __future__ import annotations

import pytest
from argon2.exceptions import HashingError
from argon2.low_level import Type, hash_secret_raw

from modeltoll.puzzle import argon2id, precomputed
from modeltoll.puzzle.argon2id import REUSED_KIB, Argon2id


def published(seed, n, memory_kib):
    return hash_secret_raw(n.to_bytes(8, "big"), seed, 1, memory_kib, 1, 32, Type.ID)


@pytest.mark.parametrize("memory_kib", [8, 256, 1024, REUSED_KIB, REUSED_KIB + 4])
def test_the_values_are_argon2_cffis_own_however_often_the_memory_is_used(memory_kib):
    function = Argon2id(memory_kib)
    for seed, n in ((bytes(16), 0), (b"s" * 16, 2**51 + 5), (b"t" * 16, 2**64 - 1), (bytes(16), 0)):
        assert function.evaluate(seed, n) == published(seed, n, memory_kib)


def test_a_search_ends_at_the_first_counter_whose_value_begins_with_the_check():
    function, seed = Argon2id(8), b"s" * 16
    value = published(seed, 7, 8)
    assert function.search(seed, value[:16], 3, 9) == (7, value)
    assert function.search(seed, value[:16], 3, 7) is None
    assert function.search(seed, value[:16], 8, 9) is None


def test_large_memory_is_mapped_once_and_freed(monkeypatch):
    """For any number of evaluations, and nothing is left afterwards."""
    taken = []
    real = argon2id.map_memory
    monkeypatch.setattr(argon2id, "map_memory", lambda size: taken.append(ReusedMemory(real(size))) or taken[-1].pages)
    function = Argon2id(REUSED_KIB)
    for n in range(3):
        function.evaluate(bytes(16), n)
    assert [kept.size for kept in taken] == [1024 * REUSED_KIB]
    del function
    taken[0].pages.close()  # BufferError if anything still held it


class ReusedMemory:
    def __init__(self, pages):
        self.pages, self.size = pages, len(pages)


def test_memory_that_cannot_be_allocated_is_an_error(monkeypatch):
    def refuse(*_given, **_options):
        raise OSError("out of memory")

    monkeypatch.setattr(argon2id.mmap, "mmap", refuse)
    with pytest.raises(HashingError, match="out of memory"):
        Argon2id(REUSED_KIB)


def test_where_callbacks_are_forbidden_malloc_is_used(monkeypatch):
    """As on a hardened system; the values are the same."""

    class Forbidding:
        def __getattr__(self, name):
            return getattr(real, name)

        def callback(self, *_given):
            raise MemoryError

    real = argon2id.ffi
    monkeypatch.setattr(argon2id, "ffi", Forbidding())
    assert Argon2id(REUSED_KIB).evaluate(bytes(16), 9) == published(bytes(16), 9, REUSED_KIB)


def test_all_precomputed_memories_are_reused():
    assert min(precomputed.PRECOMPUTED_KIB) >= REUSED_KIB
