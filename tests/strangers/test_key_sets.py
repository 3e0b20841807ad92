"""JWK sets as identity providers publish them: keys of several kinds in one set."""

from __future__ import annotations

import json
import logging

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from modeltoll.errors import CallerRefused, SettingsError
from modeltoll.gateway.callers.identify import Tier
from modeltoll.gateway.callers.json_web_tokens import JwtCredentials, JwtPolicy
from modeltoll.testing.clock import FakeClock

NOW = 1_800_000_000
RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC, OTHER_CURVE = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
KINDS = {
    rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
    ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
    ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
}


def jwk(key, identity, **members):
    kind = next(algorithm for of, algorithm in KINDS.items() if isinstance(key, of))
    named = {"kid": identity} if identity else {}
    return {**kind.to_jwk(key.public_key(), as_dict=True), **named, **members}


def signed(key, algorithm, identity=None):
    return jwt.encode(
        {"sub": "alice", "exp": NOW + 60}, key, algorithm, headers={"kid": identity} if identity else None
    )


def credentials(folder, keys, *algorithms):
    path = folder / "set.json"
    path.write_text(json.dumps({"keys": keys}))
    found = JwtCredentials(JwtPolicy(algorithms or ("RS256",), "normal"), {"normal": Tier()}, path, FakeClock(NOW))
    found.file_watch.read()
    return found


GOOD = jwk(RSA, "r1", use="sig", alg="RS256")
BESIDE = {
    "for encryption": jwk(OTHER_RSA, "enc", use="enc", alg="RSA-OAEP"),
    "for encryption, without alg": jwk(OTHER_RSA, "enc", use="enc"),
    "for wrapping keys": jwk(OTHER_RSA, "wrap", key_ops=["wrapKey"]),
    "EC": jwk(EC, "e1", alg="ES256"),
    "another curve": jwk(OTHER_CURVE, "e3", alg="ES384"),
    "Ed25519": jwk(ED25519, "d1", alg="EdDSA"),
    "PS256": jwk(OTHER_RSA, "p1", alg="PS256"),
    "an unknown kind": {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA", "kid": "q1"},
    "a symmetric key": {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I", "kid": "o1"},
    "no kind": {"kid": "x"},
    "a modulus that is none": {"kty": "RSA", "n": "!!", "e": "AQAB", "kid": "x"},
    "no object": "key",
    "use of another type": {**GOOD, "kid": "x", "key_ops": 5},
}


@pytest.mark.parametrize("other", BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("first", [True, False])
def test_a_key_that_verifies_nothing_here_is_named_once_and_leaves_the_others_in_force(tmp_path, caplog, other, first):
    with caplog.at_level(logging.WARNING, "modeltoll.gateway"):
        found = credentials(tmp_path, [GOOD, other] if first else [other, GOOD])
        found.file_watch.check(force=True)
    assert found.caller(signed(RSA, "RS256", "r1")).name == "jwt:alice"
    assert found.caller(signed(RSA, "RS256")).name == "jwt:alice"
    assert sum("is ignored" in record.message for record in caplog.records) == 1


def test_of_keys_with_one_id_and_of_keys_without_id_each_may_verify(tmp_path):
    for identity in ("same", None):
        found = credentials(
            tmp_path, [jwk(OTHER_RSA, identity), jwk(RSA, identity), jwk(EC, identity)], "RS256", "ES256"
        )
        for key, algorithm in ((RSA, "RS256"), (OTHER_RSA, "RS256"), (EC, "ES256")):
            for named in (identity, None):
                assert found.caller(signed(key, algorithm, named)).name == "jwt:alice"
    with pytest.raises(CallerRefused):
        found.caller(signed(rsa.generate_private_key(65537, 2048), "RS256"))


def test_a_key_verifies_its_own_algorithm_only(tmp_path):
    """Not another one that the settings accept, nor one that the token names, with the public key for a secret."""
    found = credentials(tmp_path, [jwk(RSA, "r1", alg="PS256"), jwk(EC, "e1")], "RS256", "ES256")
    for token in (signed(RSA, "RS256", "r1"), signed(RSA, "RS256"), signed(RSA, "RS256", "e1")):
        with pytest.raises(CallerRefused):
            found.caller(token)
    symmetric = credentials(tmp_path, [BESIDE["a symmetric key"]], "HS256")
    secret = "secret-secret-secret-secret-secr"
    assert symmetric.caller(signed(secret, "HS256", "o1")).name == "jwt:alice"
    mixed = credentials(tmp_path, [BESIDE["a symmetric key"], GOOD], "RS256")
    with pytest.raises(CallerRefused):
        mixed.caller(signed(secret, "HS256", "o1"))


def test_a_set_without_a_usable_key_says_why_of_each_and_shows_none(tmp_path):
    with pytest.raises(SettingsError) as refusal:
        credentials(tmp_path, [BESIDE["EC"], BESIDE["a symmetric key"]])
    assert [fault.partition(": ")[2] for fault in refusal.value.faults] == [
        "holds no key for RS256",
        "key 1 of the set (kid e1, kty EC, alg ES256) is ignored: it is for none of RS256",
        "key 2 of the set (kid o1, kty oct) is ignored: it is for none of RS256",
    ]


def test_a_set_with_any_private_key_is_refused(tmp_path):
    private = jwt.algorithms.ECAlgorithm.to_jwk(EC, as_dict=True)
    with pytest.raises(SettingsError, match="private key"):
        credentials(tmp_path, [GOOD, private])


def test_a_new_key_and_a_new_kind_in_the_set_are_used_when_the_file_changes(tmp_path):
    found = credentials(tmp_path, [GOOD])
    rotated = [GOOD, jwk(OTHER_RSA, "r2", alg="RS256"), BESIDE["EC"]]
    (tmp_path / "set.json").write_text("\ufeff" + json.dumps({"keys": rotated}), encoding="utf-8")
    found.file_watch.check()
    for key, identity in ((RSA, "r1"), (OTHER_RSA, "r2")):
        assert found.caller(signed(key, "RS256", identity)).name == "jwt:alice"
