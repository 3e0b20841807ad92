"""The laws of seals and tokens."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll import wire
from modeltoll.errors import AnswerError, SealBroken, SettingsError, TokenExpired, TokenRefused
from modeltoll.puzzle import seal
from modeltoll.puzzle.counter import Sha256Counter
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.seal import (
    KeyRing,
    RedeemClaim,
    digest_solution,
    open_answer,
    open_token,
    redeem_claim,
    seal_answer,
    seal_token,
)
from modeltoll.puzzle.solver import solve
from modeltoll.records import Answer, Challenge, MachineProfile, Part, Solution, Work

PROFILE = MachineProfile("test", "made up", 1000.0, {256: 1000.0})
ANSWER = Answer(200, "application/json", b'{"y": 1}')
SOLUTION = Solution((5, 7), bytes(range(32)))
ASSOCIATED = b"the canonical challenge"
OLD, NEW, FOREIGN = (bytes([value]) * 32 for value in (1, 2, 3))
RING = KeyRing((NEW, OLD))
NOW = 1_750_000_000.0

answers = st.builds(
    Answer,
    st.integers(100, 599),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    st.binary(max_size=300),
)


@pytest.fixture
def rng():
    return random.Random(11)


def counter_claim(rng, seconds=0.3):
    work = Work(seconds, 1, seconds)
    challenge, solution = Sha256Counter(PROFILE).make(work, rng)
    digest = digest_solution(solution.counters)
    return RedeemClaim(ANSWER, challenge, digest, NOW + 60, "key:alice", b"q" * 32), solution.counters


def hashcash_claim(rng):
    challenge, _ = Hashcash(PROFILE).make(Work(0.5, 1, 0.5), rng)
    return RedeemClaim(ANSWER, challenge, b"", NOW + 60, "key:alice", b"q" * 32), solve(
        challenge, SolveControl()
    ).counters


@given(answers, st.binary(max_size=50), st.integers(0, 2**32))
def test_what_is_sealed_opens_byte_for_byte(answer, associated, seed):
    payload = seal_answer(answer, SOLUTION, associated, random.Random(seed))
    assert open_answer(payload, SOLUTION, associated) == answer


@given(st.integers(0), st.integers(1, 255))
def test_any_changed_byte_breaks_the_seal(position, change):
    payload = bytearray(seal_answer(ANSWER, SOLUTION, ASSOCIATED, random.Random(1)))
    payload[position % len(payload)] ^= change
    with pytest.raises(SealBroken):
        open_answer(bytes(payload), SOLUTION, ASSOCIATED)


@given(st.binary(max_size=100))
def test_foreign_bytes_never_open(payload):
    with pytest.raises(SealBroken):
        open_answer(payload, SOLUTION, ASSOCIATED)


def test_every_truncation_breaks_the_seal(rng):
    payload = seal_answer(ANSWER, SOLUTION, ASSOCIATED, rng)
    for length in range(len(payload)):
        with pytest.raises(SealBroken):
            open_answer(payload[:length], SOLUTION, ASSOCIATED)


@pytest.mark.parametrize(
    "solution",
    [
        Solution((5, 7), bytes(32)),
        Solution((5, 7), bytes(range(16, 32)) + bytes(range(16))),
        Solution((5,), bytes(range(16))),
        Solution((5, 7), bytes(range(31))),
        Solution((5, 7)),
        Solution(()),
    ],
    ids=["other", "exchanged parts", "one part", "short", "no secret", "nothing"],
)
def test_another_solution_does_not_open(solution, rng):
    payload = seal_answer(ANSWER, SOLUTION, ASSOCIATED, rng)
    with pytest.raises(SealBroken):
        open_answer(payload, solution, ASSOCIATED)


def test_another_challenge_does_not_open(rng):
    """Every published parameter is covered: the associated bytes are the whole challenge."""
    payload = seal_answer(ANSWER, SOLUTION, ASSOCIATED, rng)
    with pytest.raises(SealBroken):
        open_answer(payload, SOLUTION, ASSOCIATED + b" ")


CHALLENGES = {
    "argon2id": Challenge("argon2id", (Part(b"a" * 16, 9, b"c" * 16, 5), Part(b"b" * 16, 9, b"d" * 16)), 256, 1, 1),
    "timelock": Challenge(
        "timelock", (Part(b"a" * 16, 9, b"c" * 16), Part(b"b" * 16, 9, b"d" * 16)), modulus=b"\x81" * 256
    ),
}


def varied(challenge):
    """The challenge with each of its parameters changed in turn."""
    first, second = challenge.parts
    yield from (replace(challenge, parts=parts) for parts in [(first,), (second, first), (first, second, second)])
    for name, value in {"seed": b"x" * 16, "bound": 10, "check": b"x" * 16, "start": 6}.items():
        yield replace(challenge, parts=(replace(first, **{name: value}), second))
    if challenge.puzzle == "argon2id":
        yield from (replace(challenge, **{name: 512}) for name in ("memory_kib", "passes", "lanes"))
    else:
        yield replace(challenge, modulus=b"\x83" * 256)
    yield replace(challenge, puzzle="sha256")


@pytest.mark.parametrize("name", CHALLENGES)
def test_no_parameter_can_be_changed(name, rng):
    """Every one is covered by authentication, and so is the mode."""
    challenge = CHALLENGES[name]
    payload = seal_answer(ANSWER, SOLUTION, wire.canonical_challenge(challenge, wire.SEALED), rng)
    assert open_answer(payload, SOLUTION, wire.canonical_challenge(challenge, wire.SEALED)) == ANSWER
    for changed in varied(challenge):
        with pytest.raises(SealBroken):
            open_answer(payload, SOLUTION, wire.canonical_challenge(changed, wire.SEALED))
    with pytest.raises(SealBroken):
        open_answer(payload, SOLUTION, wire.canonical_challenge(challenge, wire.REDEEM))


def test_a_solution_without_secret_seals_nothing(rng):
    with pytest.raises(ValueError, match="secret"):
        seal_answer(ANSWER, Solution((5,)), ASSOCIATED, rng)


def test_a_puzzle_used_twice_does_not_repeat_its_nonce(rng):
    assert seal_answer(ANSWER, SOLUTION, ASSOCIATED, rng)[:12] != seal_answer(ANSWER, SOLUTION, ASSOCIATED, rng)[:12]


@pytest.mark.parametrize("kind", ["text/ü", "a\r\nSet-Cookie: b", "x" * 2**16])
def test_a_content_type_that_does_not_fit_is_an_error_of_the_upstream(kind, rng):
    with pytest.raises(AnswerError):
        seal_answer(Answer(200, kind, b""), SOLUTION, ASSOCIATED, rng)


@pytest.mark.parametrize(
    "text",
    [b"", b"\x00", b"\xff\xff", b"\x00\x00\x00", b"\x00\x00\x00\x05", b"\x00\x01\n\x00\xc8", b"\x00\x01\xe4\x00\xc8"],
)
def test_a_hostile_server_can_seal_nothing_but_answers(text, rng):
    """Too short, no HTTP status, or a content type with control characters: an error."""
    nonce = bytes(12)
    payload = nonce + seal.AESGCM(seal._seal_key(SOLUTION)).encrypt(nonce, text, ASSOCIATED)
    with pytest.raises(SealBroken, match="not an answer"):
        open_answer(payload, SOLUTION, ASSOCIATED)


@pytest.mark.parametrize("make", [counter_claim, hashcash_claim])
def test_a_token_gives_its_answer_for_the_solution_however_often(make, rng):
    claim, counters = make(rng)
    token = seal_token(RING, claim, rng)
    for _ in range(2):
        opened = open_token(RING, token, "key:alice", NOW)
        assert opened == claim
        assert redeem_claim(opened, counters) == ANSWER


@given(answers, st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.floats(NOW + 1, NOW + 1e6))
def test_a_claim_comes_back_as_it_went(answer, caller, expires):
    claim, _ = counter_claim(random.Random(1))
    claim = replace(claim, answer=answer, caller=caller, expires=expires)
    assert open_token(RING, seal_token(RING, claim, random.Random(2)), caller, NOW) == claim


@pytest.mark.parametrize("make", [counter_claim, hashcash_claim])
def test_no_other_counters_redeem(make, rng):
    claim, counters = make(rng)
    wrong = [(), counters[:-1], (*counters, 0), counters * 2, (-1,) * len(counters), (2**64,) * len(counters)]
    wrong += [(counters[0] - 1, *counters[1:]), (0,) * len(counters)]
    if len(counters) > 1:
        wrong.append(counters[::-1])
    for attempt in wrong:
        with pytest.raises(TokenRefused) as refused:
            redeem_claim(claim, attempt)
        assert str(refused.value) == seal.REFUSED


def test_hashcash_claims_cannot_be_redeemed_by_an_empty_digest(rng):
    """Nor can a counter's claim without a digest be redeemed at all."""
    claim, counters = counter_claim(rng)
    with pytest.raises(TokenRefused):
        redeem_claim(replace(claim, solution_digest=b""), counters)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_are_refused_as_a_token(token):
    with pytest.raises(TokenRefused) as refused:
        open_token(RING, token, "key:alice", NOW)
    assert str(refused.value) == seal.REFUSED
    assert not isinstance(refused.value, TokenExpired)


@given(st.integers(0), st.integers(1, 255))
def test_any_changed_byte_is_refused(position, change):
    claim, _ = counter_claim(random.Random(3))
    token = bytearray(seal_token(RING, claim, random.Random(4)))
    token[position % len(token)] ^= change
    with pytest.raises(TokenRefused, match="not valid here"):
        open_token(RING, bytes(token), "key:alice", NOW)


def test_every_truncation_and_extension_is_refused(rng):
    token = seal_token(RING, counter_claim(rng)[0], rng)
    for length in range(len(token)):
        with pytest.raises(TokenRefused):
            open_token(RING, token[:length], "key:alice", NOW)
    with pytest.raises(TokenRefused):
        open_token(RING, token + b"\0", "key:alice", NOW)


def test_a_foreign_key_and_another_caller_get_the_same_message(rng):
    """Only the operator's log has the reason."""
    claim, _ = counter_claim(rng)
    foreign = seal_token(KeyRing((FOREIGN,)), claim, rng)
    mine = seal_token(RING, claim, rng)
    refusals = []
    for token, caller in ((foreign, "key:alice"), (mine, "key:mallory")):
        with pytest.raises(TokenRefused) as refused:
            open_token(RING, token, caller, NOW)
        refusals.append(refused.value)
    assert {str(refusal) for refusal in refusals} == {seal.REFUSED}
    assert len({refusal.private for refusal in refusals}) == 2


def test_another_caller_does_not_learn_that_a_token_expired(rng):
    token = seal_token(RING, counter_claim(rng)[0], rng)
    with pytest.raises(TokenRefused) as refused:
        open_token(RING, token, "key:mallory", NOW + 100)
    assert not isinstance(refused.value, TokenExpired)


def test_a_token_is_valid_until_it_expires(rng):
    claim, _ = counter_claim(rng)
    token = seal_token(RING, claim, rng)
    assert open_token(RING, token, "key:alice", claim.expires - 0.001) == claim
    with pytest.raises(TokenExpired):
        open_token(RING, token, "key:alice", claim.expires)


def test_keys_rotate_with_overlap(rng):
    """An old token opens as long as its key is in the ring; new tokens are sealed by the first key."""
    claim, _ = counter_claim(rng)
    before, during, after = KeyRing((OLD,)), KeyRing((NEW, OLD)), KeyRing((NEW,))
    old, new = seal_token(before, claim, rng), seal_token(during, claim, rng)
    assert open_token(during, old, "key:alice", NOW) == claim
    assert open_token(after, new, "key:alice", NOW) == claim
    with pytest.raises(TokenRefused):
        open_token(after, old, "key:alice", NOW)


@pytest.mark.parametrize("keys", [(), (b"short",), (OLD, OLD), (OLD + b"x",)])
def test_unusable_rings_are_refused(keys):
    with pytest.raises(SettingsError):
        KeyRing(keys)


def test_keys_and_secrets_do_not_show_in_print(rng):
    assert repr(OLD)[2:-1] not in repr(KeyRing((OLD,)))
    assert "secret" not in repr(SOLUTION)
