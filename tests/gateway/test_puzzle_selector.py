"""The choice among puzzles depends on what a toll publishes, not on its work."""

from __future__ import annotations

import random

import pytest

from modeltoll import wire
from modeltoll.gateway.assembly.puzzles import build_puzzle_selector
from modeltoll.gateway.settings.served_models import PuzzleSettings
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.puzzle import expected_seconds
from modeltoll.records import Work

ACCEPTS = [
    wire.Accept(),
    wire.Accept(("sha256",)),
    wire.Accept(("argon2id",), memory_kib=0),
    wire.Accept(mode=wire.REDEEM, receipts=True),
]


def selector(**settings):
    return build_puzzle_selector(PuzzleSettings(**settings), DEFAULT_PROFILE)


def work(seconds, surcharge=1.0):
    return Work(seconds, 1, seconds, surcharge=surcharge)


def shown(chosen, seconds, accept, surcharge=1.0):
    """All that the toll of this work shows, but its random members."""
    puzzle, mode = chosen.choose(work(seconds, surcharge), accept)
    challenge, _ = puzzle.make(work(seconds, surcharge), random.Random(1))
    bounds = tuple(part.bound for part in challenge.parts)
    return puzzle.name, mode, challenge.puzzle, challenge.memory_kib, bounds


@pytest.mark.parametrize("surcharge", [1.0, 3.0])
@pytest.mark.parametrize("accept", ACCEPTS, ids=str)
@pytest.mark.parametrize("exponent", [-13, -11, -10, -9, -5])
def test_works_of_one_octave_show_the_same(exponent, accept, surcharge):
    """Also about the work at which sha256 ends, 1 ms, which lies within an octave."""
    chosen = selector()
    octave = [share * 2.0**exponent for share in (0.501, 0.52, 0.7, 0.95, 0.99, 1.0)]
    assert len({shown(chosen, seconds, accept, surcharge) for seconds in octave}) == 1


@pytest.mark.parametrize("accept", ACCEPTS, ids=str)
def test_a_blind_model_has_one_puzzle_for_all_and_it_is_memory_hard(accept):
    chosen = selector(disclose="blind", blind_seconds=0.5)
    seen = {
        shown(chosen, seconds, accept, surcharge) for seconds in (0.0, 1e-5, 9e-4, 0.1, 60.0) for surcharge in (1, 9)
    }
    assert len(seen) == 1
    assert seen.pop()[0] == "argon2id"


def test_a_blind_model_of_sha256_alone_shows_one_puzzle():
    chosen = selector(allow=["sha256"], disclose="blind", blind_seconds=0.5)
    assert len({shown(chosen, seconds, wire.Accept()) for seconds in (0.0, 1e-5, 9e-4, 0.1, 60.0)}) == 1


@pytest.mark.parametrize("disclose", ["exact", "coarse"])
def test_sha256_is_offered_below_a_millisecond_only(disclose):
    chosen = selector(disclose=disclose)
    names = [chosen.choose(work(ms / 1000), wire.Accept())[0].name for ms in (0.0, 0.4, 1.0, 20.0)]
    assert names == ["sha256", "sha256", "argon2id", "argon2id"]


def test_the_least_argon2id_tolls_have_64_kib():
    """Of 1 ms and more; less would leave a graphics card a hundred times the advantage."""
    chosen = selector()
    memories = [shown(chosen, ms / 1000, wire.Accept())[3] for ms in (1.0, 2.0, 4.0, 8.0)]
    assert memories == sorted(memories)
    assert memories[0] >= 64


def test_a_suspected_callers_memory_is_what_its_client_offers_down_to_8_mib():
    chosen = selector(suspected_memory_mib=256)
    for offered in (0, 8, 16):
        puzzle, _ = chosen.choose(work(30.0, 9.0), wire.Accept(memory_kib=1024 * offered))
        memories = [rung.memory_kib for rung in puzzle._suspected_rungs]
        assert max(memories) == 1024 * max(8, offered)


@pytest.mark.parametrize("disclose", ["exact", "coarse"])
@pytest.mark.parametrize("offered_mib", [0, 1, 8, 16, 64, 256])
def test_a_suspect_is_slowed_and_never_locked_out(offered_mib, disclose):
    """Its toll takes no more memory than its client offers, down to 8 MiB, and as much work as with more memory."""
    seconds, rng = 30.0, random.Random(1)
    puzzle, _ = selector(disclose=disclose).choose(work(seconds, 9.0), wire.Accept(memory_kib=1024 * offered_mib))
    challenges = [puzzle.make(work(seconds, 9.0), rng)[0] for _ in range(5)]
    for challenge in challenges:
        assert challenge.puzzle == "argon2id"
        assert challenge.memory_kib <= 1024 * max(8, offered_mib)
    expected = [expected_seconds(challenge, DEFAULT_PROFILE) for challenge in challenges]
    assert sum(expected) / len(expected) == pytest.approx(seconds, rel=0.35)
