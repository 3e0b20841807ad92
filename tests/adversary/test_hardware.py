"""A thief with a graphics card, which computes SHA-256 as fast as ten thousand cores: which puzzles stolen rows get."""

from __future__ import annotations

import pytest

from laboratory import KEYS, Laboratory
from modeltoll.puzzle.counter import LADDER, LEAST_SUSPECTED_KIB, MIN_EVALUATIONS
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.precomputed import PRECOMPUTED_KIB

UNITS = {"five": 5e-3, "one": 1e-3, "half": 5e-4, "tenth": 1e-4}  # by model: reference seconds of a unit
SHA256_BELOW = 1e-3
FAST = {
    "sha256 alone": "sha256; mode=sealed; memory=0MiB; receipts",
    "sha256 first": "sha256, argon2id; mode=sealed; memory=64MiB; receipts",
    "redeem": "sha256, hashcash; mode=redeem",
    "hashcash alone": "hashcash",
    "nothing": "",
}


@pytest.fixture(scope="module")
def gateway(laboratory: Laboratory):
    settings = laboratory.settings(models={name: laboratory.variant(name, unit=unit) for name, unit in UNITS.items()})
    settings["callers"]["credit"] = {"seconds": 1e6, "units": 1}
    with laboratory.gateway(settings=settings) as gateway:
        yield gateway


@pytest.mark.parametrize("accept", FAST.values(), ids=FAST)
@pytest.mark.parametrize("model", UNITS)
def test_a_row_of_a_millisecond_and_more_gets_argon2id_whatever_the_client_asks_for(
    gateway, thief, victim, photograph_patches, model, accept
):
    client = thief(gateway, KEYS[list(UNITS).index(model) * len(FAST) + list(FAST.values()).index(accept)])
    before = len(gateway.log())
    tolls = [
        client.toll(row, model=model, accept=accept)["puzzle"] for row in (*photograph_patches(8), *victim.test[:8])
    ]
    works = [line["work_seconds"] for line in gateway.log()[before:]]
    dear = [puzzle for puzzle, work in zip(tolls, works, strict=True) if work >= SHA256_BELOW]
    assert dear or model == "tenth"
    assert {puzzle["name"] for puzzle in dear} <= {"argon2id"}
    assert all(puzzle["name"] == "argon2id" for puzzle in tolls) or min(works) < SHA256_BELOW


@pytest.mark.parametrize("model", UNITS)
def test_nearly_all_work_of_a_theft_is_memory_hard(gateway, thief, photograph_patches, model):
    """One row at a time, not suspected yet, by a client that asks for SHA-256 alone."""
    client, before, names = thief(gateway), len(gateway.log()), []
    for number, patch in enumerate(photograph_patches(48)):
        toll = client.toll(patch, model=model, accept=FAST["sha256 alone"], **{"x-api-key": KEYS[20 + number // 3]})
        names.append(toll["puzzle"]["name"])
    work = {"sha256": 0.0, "argon2id": 0.0}
    for name, line in zip(names, gateway.log()[before:], strict=True):
        assert not line["suspected"]
        work[name] += line["work_seconds"]
    assert work["argon2id"] > 0.0
    assert work["sha256"] <= 0.1 * work["argon2id"]


def test_memory_follows_the_ladder(gateway, thief, photograph_patches):
    """The largest memory of which half the published wait holds eight evaluations, from 64 KiB on."""
    client, seen = thief(gateway, KEYS[40]), set()
    for model in UNITS:
        for row in photograph_patches(6, seed=9):
            toll = client.toll(row, model=model)
            memory = toll["puzzle"].get("m_kib")
            if memory is None:
                continue
            assert memory in LADDER
            seen.add(memory)
            if 2 * memory < min(PRECOMPUTED_KIB):  # a larger one may be missing in the stock
                assert toll["typical_seconds"] * DEFAULT_PROFILE.rate(2 * memory) < 1.5 * MIN_EVALUATIONS
    assert len(seen) >= 3


def test_a_suspected_caller_gets_memory_for_the_smallest_row(gateway, thief, victim, photograph_patches):
    client = thief(gateway, KEYS[41])
    client.toll(photograph_patches(100, seed=3), model="tenth")
    names, memories = set(), set()
    for row in (*victim.test[:10], *photograph_patches(10, seed=4)):
        puzzle = client.toll(row, model="tenth", accept=FAST["sha256 alone"])["puzzle"]
        names.add(puzzle["name"])
        memories.add(puzzle.get("m_kib"))
    assert gateway.log()[-1]["suspected"]
    assert names == {"argon2id"}
    assert max(memories) > min(LADDER)
    assert max(memories) <= LEAST_SUSPECTED_KIB  # its client offers none, and 8 MiB may be asked of any
