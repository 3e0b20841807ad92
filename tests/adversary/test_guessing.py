"""A thief who guesses: counters, proofs and tokens, at the redeem path, which takes any number of guesses."""

from __future__ import annotations

import base64
import secrets

import pytest

from laboratory import KEYS
from modeltoll import wire
from modeltoll.puzzle.proof import proof_of
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.toll_records import Solution

REDEEM = "argon2id; mode=redeem; memory=64MiB"


@pytest.fixture(scope="module")
def gateway(laboratory):
    with laboratory.gateway() as gateway:
        yield gateway


def redeem(thief, toll, *, proof=b"", counters=()):
    """The status of an attempt to redeem a toll."""
    body = wire.encode_redemption(toll.payload, proof=proof, counters=counters)
    return thief.client.post(wire.REDEEM_PATH, content=body).status_code


def guesses(toll):
    """Proofs that can be made of what is published, without an evaluation."""
    parts = toll.challenge.parts
    checks, seeds = b"".join(part.check for part in parts), b"".join(part.seed for part in parts)
    zeros = tuple([0] * len(parts))
    yield proof_of(Solution(zeros, checks))
    yield proof_of(Solution(zeros, seeds))
    yield proof_of(Solution(zeros, bytes(16 * len(parts))))
    yield from ((checks * 2)[:32], (seeds * 2)[:32], bytes(32), b"\xff" * 32, toll.payload[:32], toll.payload[-32:])
    yield from (secrets.token_bytes(32) for _ in range(50))


CASES = {
    "one honest row": lambda victim: victim.test[:1],
    "64 honest rows": lambda victim: victim.test[:64],
    "a row of noise": lambda victim: secrets.SystemRandom().random() * victim.test[:1][:, ::-1],
}


@pytest.mark.parametrize("case", CASES)
def test_no_counter_and_nothing_that_is_published_buys_an_answer(gateway, thief, victim, case):
    """Counters below the bound, the right one among them, were all that a token asked for once."""
    thief = thief(gateway, KEYS[0])
    toll = wire.decode_toll(thief.ask(CASES[case](victim), accept=REDEEM).content)
    assert (toll.mode, toll.admission) == ("redeem", False)
    parts = len(toll.challenge.parts)
    counters = range(min(toll.challenge.parts[0].bound, 300))
    assert {redeem(thief, toll, counters=(counter,) * parts) for counter in counters} == {403}
    assert {redeem(thief, toll, proof=proof) for proof in guesses(toll)} == {403}
    solution = solve(toll.challenge, SolveControl())
    assert redeem(thief, toll, counters=solution.counters) == 403
    assert redeem(thief, toll, proof=proof_of(solution)) == 200


def test_an_admission_is_not_guessed_either(laboratory, thief, victim):
    settings = laboratory.settings(callers={"anonymous_credit": {"seconds": 1e-6, "units": 1}})
    with laboratory.gateway(settings=settings) as gateway:
        thief, asked = thief(gateway), len(laboratory.server.bodies)
        toll = wire.decode_toll(thief.ask(victim.test[:8]).content)
        assert toll.admission
        parts = len(toll.challenge.parts)
        counters = range(min(toll.challenge.parts[0].bound, 300))
        assert {redeem(thief, toll, counters=(counter,) * parts) for counter in counters} == {403}
        assert {redeem(thief, toll, proof=proof) for proof in guesses(toll)} == {403}
        assert len(laboratory.server.bodies) == asked


def test_a_proof_buys_one_toll_and_no_other(gateway, thief, victim):
    one, other = thief(gateway, KEYS[1]), thief(gateway, KEYS[2])
    first, second = (wire.decode_toll(one.ask(victim.test[n : n + 1], accept=REDEEM).content) for n in (3, 4))
    proof = proof_of(solve(first.challenge, SolveControl()))
    assert redeem(one, second, proof=proof) == 403
    assert redeem(other, first, proof=proof) == 403
    mixed = wire.encode_redemption(second.payload[:40] + first.payload[40:], proof=proof)
    assert one.client.post(wire.REDEEM_PATH, content=mixed).status_code == 403
    assert redeem(one, first, proof=proof) == 200


def test_the_work_for_one_toll_is_a_fresh_draw(gateway, thief, victim):
    """The same row asked again and again: no two tolls share a seed, so that no evaluation serves twice."""
    thief = thief(gateway, KEYS[3])
    tolls = [wire.decode_toll(thief.ask(victim.test[:1], accept=REDEEM).content) for _ in range(20)]
    seeds = [part.seed for toll in tolls for part in toll.challenge.parts]
    assert len(set(seeds)) == len(seeds)


def test_a_sealed_answer_does_not_open_without_the_secret(gateway, thief, victim):
    thief = thief(gateway, KEYS[4])
    toll = thief.toll(victim.test[:1], accept="argon2id; mode=sealed; memory=64MiB; receipts")
    sealed = base64.urlsafe_b64decode(toll["sealed"] + "==")
    assert b"outputs" not in sealed
    assert "token" not in toll
