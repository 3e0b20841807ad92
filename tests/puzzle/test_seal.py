"""The laws of seals and tokens."""

from __future__ import annotations

import hashlib
import hmac
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
from modeltoll.puzzle.proof import seal_key
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.seal import (
    KeyRing,
    OpenedAnswer,
    RedeemClaim,
    decrypt_token,
    digest_proof,
    encrypt_token,
    open_answer,
    proof_of,
    redeem_claim,
    seal_answer,
)
from modeltoll.puzzle.solver import solve
from modeltoll.records import Answer, MachineProfile, Work
from modeltoll.settlement_records import Receipt
from modeltoll.toll_records import Challenge, Part, Solution
from modeltoll.wire import Redemption

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
    """A claim, and what redeems it."""
    challenge, solution = Sha256Counter(PROFILE).make(Work(seconds, 1, seconds), rng)
    proof = proof_of(solution)
    return RedeemClaim(ANSWER, challenge, digest_proof(proof), NOW + 60, "key:alice", b"q" * 32), {"proof": proof}


def hashcash_claim(rng):
    challenge, _ = Hashcash(PROFILE).make(Work(0.5, 1, 0.5), rng)
    counters = solve(challenge, SolveControl()).counters
    return RedeemClaim(ANSWER, challenge, b"", NOW + 60, "key:alice", b"q" * 32), {"counters": counters}


def redeemed(claim, **solved):
    return redeem_claim(claim, Redemption(b"", **solved))


def sealed_text(text, length=0):
    """A seal of any plaintext: what a hostile server can make."""
    nonce = bytes(12)
    return nonce + seal.AESGCM(seal_key(SOLUTION)).encrypt(nonce, text.ljust(length, b"\0"), ASSOCIATED)


@given(answers, st.binary(max_size=50), st.integers(0, 2**32), st.binary(max_size=200), st.integers(0, 800))
def test_what_is_sealed_opens_byte_for_byte(answer, associated, seed, receipt, length):
    payload = seal_answer(answer, SOLUTION, associated, random.Random(seed), receipt=receipt, length=length)
    assert open_answer(payload, SOLUTION, associated) == OpenedAnswer(answer, receipt)


@given(st.binary(max_size=400), st.binary(max_size=120))
def test_a_padded_seal_has_the_same_length_whatever_it_holds(body, receipt):
    answer = Answer(200, "application/json", body)
    lengths = [
        len(seal_answer(answer, SOLUTION, ASSOCIATED, random.Random(1), receipt=receipt, length=length))
        for length in (1024, 0)
    ]
    content = 2 + len("application/json") + 2 + 2 + len(receipt) + 8 + len(body)
    assert lengths == [12 + 1024 + 16, 12 + content + 16]


def test_a_seal_that_is_longer_than_the_length_is_not_padded():
    short, long = (
        len(seal_answer(ANSWER, SOLUTION, ASSOCIATED, random.Random(1), length=length)) for length in (0, 10)
    )
    assert short == long


def test_a_receipt_that_does_not_fit_is_refused(rng):
    with pytest.raises(ValueError, match="receipt"):
        seal_answer(ANSWER, SOLUTION, ASSOCIATED, rng, receipt=bytes(2**16))


@given(st.integers(0, 400), st.integers(1, 255))
def test_padding_that_is_not_zero_breaks_the_seal(position, value):
    """Else a server could mark what it seals, or hide something behind it."""
    text = bytearray(plaintext().ljust(500, b"\0"))
    text[len(plaintext()) + position % (500 - len(plaintext()))] = value
    with pytest.raises(SealBroken, match="not an answer"):
        open_answer(sealed_text(bytes(text)), SOLUTION, ASSOCIATED)
    assert open_answer(sealed_text(plaintext(), 500), SOLUTION, ASSOCIATED) == OpenedAnswer(ANSWER, b"receipt")


def plaintext(kind=b"application/json", status=200, receipt=b"receipt", body=ANSWER.body):
    """The plaintext of a seal, written out."""
    head = len(kind).to_bytes(2, "big") + kind + status.to_bytes(2, "big")
    return head + len(receipt).to_bytes(2, "big") + receipt + len(body).to_bytes(8, "big") + body


@given(st.binary(max_size=80), st.integers(0, 100))
@settings(max_examples=300)
def test_any_plaintext_is_an_answer_or_broken(text, cut):
    for hostile in (text, plaintext()[: cut % len(plaintext())] + text):
        try:
            opened = open_answer(sealed_text(hostile), SOLUTION, ASSOCIATED)
        except SealBroken:
            continue
        assert 100 <= opened.answer.status <= 599
        assert opened.answer.content_type.isprintable()
        assert len(opened.answer.body) + len(opened.receipt) <= len(hostile)


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
    assert open_answer(payload, SOLUTION, wire.canonical_challenge(challenge, wire.SEALED)).answer == ANSWER
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
    [
        b"",
        b"\x00",
        b"\xff\xff",
        b"\x00\x00\x00",
        plaintext(status=5),
        plaintext(kind=b"\n"),
        plaintext(kind=b"\xe4"),
        plaintext()[:-1],
        plaintext(body=b"")[:-8] + b"\xff" * 8,
        plaintext() + b"x",
    ],
)
def test_a_hostile_server_can_seal_nothing_but_answers(text):
    """Too short, no HTTP status, a length beyond the end, or a content type with control characters: an error."""
    with pytest.raises(SealBroken, match="not an answer"):
        open_answer(sealed_text(text), SOLUTION, ASSOCIATED)


def test_keys_and_proofs_are_derived_as_documented():
    """HKDF-SHA256 (RFC 5869) without salt, written out: the key and the proof differ by their labels."""
    extracted = hmac.digest(bytes(32), SOLUTION.secret, "sha256")
    derived = {
        label: hmac.digest(extracted, label + b"\x01", "sha256")
        for label in (b"modeltoll seal v2", b"modeltoll proof v2")
    }
    assert [seal_key(SOLUTION), proof_of(SOLUTION)] == list(derived.values())
    assert (
        digest_proof(proof_of(SOLUTION)) == hashlib.sha256(b"modeltoll proof digest v2" + proof_of(SOLUTION)).digest()
    )


@pytest.mark.parametrize("solution", [Solution((5,)), Solution(()), Solution((5, 7), bytes(31))])
def test_a_solution_without_secret_has_no_proof(solution):
    with pytest.raises(ValueError, match="secret"):
        proof_of(solution)


@pytest.mark.parametrize("make", [counter_claim, hashcash_claim])
def test_a_token_gives_its_answer_for_the_solution_however_often(make, rng):
    claim, solved = make(rng)
    token = encrypt_token(RING, claim, rng)
    for _ in range(2):
        opened = decrypt_token(RING, token, "key:alice", NOW)
        assert opened == claim
        assert redeemed(opened, **solved) == ANSWER


receipts = st.none() | st.builds(
    Receipt, st.binary(min_size=16, max_size=16), st.floats(0, 2e9), st.floats(0, 1e6), st.integers(0, 10**6)
)


@given(
    answers,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.floats(NOW + 1, NOW + 1e6),
    st.none() | st.tuples(st.text(max_size=9), st.text(max_size=9)),
    receipts,
    st.integers(0, 3000),
)
def test_a_claim_comes_back_as_it_went(answer, caller, expires, admission, receipt, length):
    claim, _ = counter_claim(random.Random(1))
    claim = replace(claim, answer=answer, caller=caller, expires=expires, admission=admission, receipt=receipt)
    token = encrypt_token(RING, claim, random.Random(2), length=length)
    assert decrypt_token(RING, token, caller, NOW) == claim
    assert len(token) >= 17 + length + 16


@given(st.binary(max_size=300), st.text("a", max_size=20))
def test_a_padded_token_has_the_same_length_whatever_it_holds(body, caller):
    claim, _ = counter_claim(random.Random(1))
    claim = replace(claim, answer=Answer(200, "application/json", body), caller=caller)
    assert len(encrypt_token(RING, claim, random.Random(2), length=4096)) == 5 + 12 + 4096 + 16


def test_a_time_lock_and_a_puzzle_of_a_package_are_redeemed_by_their_proof(rng):
    proof = proof_of(SOLUTION)
    for challenge in (CHALLENGES["timelock"], replace(CHALLENGES["argon2id"], puzzle="acme")):
        claim = RedeemClaim(ANSWER, challenge, digest_proof(proof), NOW + 60, "key:alice", b"q" * 32)
        opened = decrypt_token(RING, encrypt_token(RING, claim, rng), "key:alice", NOW)
        assert opened == claim
        assert redeemed(opened, proof=proof) == ANSWER


def test_no_counters_redeem_a_hidden_counter():
    """Every counter below the bound is tried, the right one among them: the proof is needed, which takes F of it."""
    challenge, solution = Sha256Counter(PROFILE).make(Work(0.04, 1, 0.04), random.Random(5))
    proof = proof_of(solution)
    claim = RedeemClaim(ANSWER, challenge, digest_proof(proof), NOW + 60, "key:alice", b"q" * 32)
    bound = challenge.parts[0].bound
    assert solution.counters[0] < bound <= 128
    for n in range(bound):
        with pytest.raises(TokenRefused):
            redeemed(claim, counters=(n,))
    assert redeemed(claim, proof=proof) == ANSWER


def test_what_is_published_gives_no_proof():
    """A thief who knows the counters, but not F of them, derives no proof from anything in the toll."""
    challenge, solution = Sha256Counter(PROFILE).make(Work(0.04, 1, 0.04), random.Random(5))
    claim = RedeemClaim(ANSWER, challenge, digest_proof(proof_of(solution)), NOW + 60, "key:alice", b"q" * 32)
    (part,) = challenge.parts
    for n in range(part.bound):
        number = n.to_bytes(8, "big")
        for guess in (part.check, part.seed, bytes(16), number * 2, hashlib.sha256(part.seed + part.check).digest()):
            for proof in (guess.ljust(32, b"\0")[:32], proof_of(Solution((n,), guess[:16]))):
                with pytest.raises(TokenRefused):
                    redeemed(claim, proof=proof)


def test_no_other_proof_redeems(rng):
    claim, solved = counter_claim(rng)
    proof = solved["proof"]
    wrong = [b"", proof[:-1], proof + b"\0", bytes(32), claim.proof_digest, bytes([proof[0] ^ 1]) + proof[1:]]
    for attempt in wrong:
        with pytest.raises(TokenRefused) as refused:
            redeemed(claim, proof=attempt)
        assert str(refused.value) == seal.REFUSED


def test_no_other_counters_redeem_hashcash(rng):
    claim, solved = hashcash_claim(rng)
    (n,) = solved["counters"]
    for attempt in [(), (n, 0), (n, n), (-1,), (2**64,), (n - 1,)]:
        with pytest.raises(TokenRefused) as refused:
            redeemed(claim, counters=attempt)
        assert str(refused.value) == seal.REFUSED
    with pytest.raises(TokenRefused):
        redeemed(claim, proof=digest_proof(b""))


@pytest.mark.parametrize(
    ("make", "digest"), [(counter_claim, b""), (counter_claim, b"d" * 31), (hashcash_claim, b"d" * 32)]
)
def test_a_token_that_nothing_redeems_is_not_made(make, digest, rng):
    claim, _ = make(rng)
    with pytest.raises(ValueError, match="digest"):
        encrypt_token(RING, replace(claim, proof_digest=digest), rng)


def test_an_empty_digest_is_met_by_nothing(rng):
    claim, solved = counter_claim(rng)
    for attempt in ({"proof": b""}, {"counters": (0,)}, solved):
        with pytest.raises(TokenRefused):
            redeemed(replace(claim, proof_digest=b""), **attempt)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_are_refused_as_a_token(token):
    with pytest.raises(TokenRefused) as refused:
        decrypt_token(RING, token, "key:alice", NOW)
    assert str(refused.value) == seal.REFUSED
    assert not isinstance(refused.value, TokenExpired)


@given(st.integers(0), st.integers(1, 255))
def test_any_changed_byte_is_refused(position, change):
    claim, _ = counter_claim(random.Random(3))
    token = bytearray(encrypt_token(RING, claim, random.Random(4)))
    token[position % len(token)] ^= change
    with pytest.raises(TokenRefused, match="not valid here"):
        decrypt_token(RING, bytes(token), "key:alice", NOW)


def test_every_truncation_and_extension_is_refused(rng):
    token = encrypt_token(RING, counter_claim(rng)[0], rng)
    for length in range(len(token)):
        with pytest.raises(TokenRefused):
            decrypt_token(RING, token[:length], "key:alice", NOW)
    with pytest.raises(TokenRefused):
        decrypt_token(RING, token + b"\0", "key:alice", NOW)


def test_a_foreign_key_and_another_caller_get_the_same_message(rng):
    """Only the operator's log has the reason."""
    claim, _ = counter_claim(rng)
    foreign = encrypt_token(KeyRing((FOREIGN,)), claim, rng)
    mine = encrypt_token(RING, claim, rng)
    refusals = []
    for token, caller in ((foreign, "key:alice"), (mine, "key:mallory")):
        with pytest.raises(TokenRefused) as refused:
            decrypt_token(RING, token, caller, NOW)
        refusals.append(refused.value)
    assert {str(refusal) for refusal in refusals} == {seal.REFUSED}
    assert len({refusal.private for refusal in refusals}) == 2


def test_another_caller_does_not_learn_that_a_token_expired(rng):
    token = encrypt_token(RING, counter_claim(rng)[0], rng)
    with pytest.raises(TokenRefused) as refused:
        decrypt_token(RING, token, "key:mallory", NOW + 100)
    assert not isinstance(refused.value, TokenExpired)


def test_a_token_is_valid_until_it_expires(rng):
    claim, _ = counter_claim(rng)
    token = encrypt_token(RING, claim, rng)
    assert decrypt_token(RING, token, "key:alice", claim.expires - 0.001) == claim
    with pytest.raises(TokenExpired):
        decrypt_token(RING, token, "key:alice", claim.expires)


def test_keys_rotate_with_overlap(rng):
    """An old token opens as long as its key is in the ring; new tokens are encrypted by the first key."""
    claim, _ = counter_claim(rng)
    before, during, after = KeyRing((OLD,)), KeyRing((NEW, OLD)), KeyRing((NEW,))
    old, new = encrypt_token(before, claim, rng), encrypt_token(during, claim, rng)
    assert decrypt_token(during, old, "key:alice", NOW) == claim
    assert decrypt_token(after, new, "key:alice", NOW) == claim
    with pytest.raises(TokenRefused):
        decrypt_token(after, old, "key:alice", NOW)


@pytest.mark.parametrize("keys", [(), (b"short",), (OLD, OLD), (OLD + b"x",)])
def test_unusable_rings_are_refused(keys):
    with pytest.raises(SettingsError):
        KeyRing(keys)


def test_keys_secrets_and_receipts_do_not_show_in_print():
    assert "receipt" not in repr(OpenedAnswer(ANSWER, b"receipt"))
    assert repr(OLD)[2:-1] not in repr(KeyRing((OLD,)))
    assert "secret" not in repr(SOLUTION)


@pytest.mark.parametrize("parts", range(1, 9))
def test_keys_and_proofs_are_derived_as_rfc_5869_says(parts):
    rng = random.Random(parts)
    solution = Solution(tuple(range(parts)), rng.randbytes(16 * parts))
    extracted = hmac.digest(bytes(32), solution.secret, "sha256")
    assert seal_key(solution) == hmac.digest(extracted, b"modeltoll seal v2\x01", "sha256")
    assert proof_of(solution) == hmac.digest(extracted, b"modeltoll proof v2\x01", "sha256")
