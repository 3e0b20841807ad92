"""Tokens: believed only where signature, times, issuer and audience are right; a bad one is 401 and no toll."""

from __future__ import annotations

import base64
import json

import httpx
import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import CallerRefused, SettingsError
from modeltoll.gateway.assembly.callers import build_identifier, build_jwt_credentials
from modeltoll.gateway.callers.identify import CallerIdentifier, RequestIdentity, Tier, hash_key
from modeltoll.gateway.callers.json_web_tokens import JwtCredentials, JwtPolicy
from modeltoll.gateway.callers.verification_keys import read_verification_keys
from modeltoll.gateway.settings.load import load_settings
from modeltoll.records import Caller
from modeltoll.testing.clock import FakeClock
from modeltoll.testing.model_servers import serving

NOW = 1_800_000_000
SECRET = "s" * 32
KEYS = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
TIERS = {"normal": Tier(), "strict": Tier(multiplier=4.0)}


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def claims(**members):
    return {"sub": "alice", "exp": NOW + 60, **members}


def signed(members=None, key=SECRET, algorithm="HS256", **headers):
    return jwt.encode(claims() if members is None else members, key, algorithm, headers=headers or None)


def tokens(algorithms=("HS256",), keys=None, **terms):
    credentials = JwtCredentials(
        JwtPolicy(tuple(algorithms), "normal", **terms), TIERS, keys or SECRET.encode(), FakeClock(NOW)
    )
    if credentials.file_watch:
        credentials.file_watch.read()
    return credentials


def refused(credentials, token, match="not valid here"):
    with pytest.raises(CallerRefused, match=match) as caught:
        credentials.caller(token)
    assert caught.value.status == 401
    return caught.value.private


def test_the_sub_of_a_valid_token_is_the_caller():
    assert tokens().caller(signed()) == Caller("jwt:alice")


@pytest.mark.parametrize("algorithm", KEYS)
def test_public_keys_verify_what_their_private_keys_signed(tmp_path, algorithm):
    file = tmp_path / "key.pem"
    file.write_bytes(pem(KEYS[algorithm]))
    credentials = tokens([algorithm], file)
    assert credentials.caller(signed(key=KEYS[algorithm], algorithm=algorithm)).name == "jwt:alice"
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    refused(credentials, signed(key=stranger, algorithm="RS256"))


def test_a_set_of_keys_is_asked_by_the_tokens_key_id(tmp_path):
    file = tmp_path / "jwks.json"
    sets = {"RS256": jwt.algorithms.RSAAlgorithm, "ES256": jwt.algorithms.ECAlgorithm}
    listed = [
        {**kind.to_jwk(KEYS[name].public_key(), as_dict=True), "kid": name, "alg": name} for name, kind in sets.items()
    ]
    file.write_text(json.dumps({"keys": listed}))
    credentials = tokens(sets, file)
    for name in sets:
        assert credentials.caller(signed(key=KEYS[name], algorithm=name, kid=name)).name == "jwt:alice"
    assert "id" in refused(credentials, signed(key=KEYS["RS256"], algorithm="RS256", kid="other"))
    assert "id" in refused(credentials, signed(key=KEYS["RS256"], algorithm="RS256", kid="ES256"))
    assert credentials.caller(signed(key=KEYS["RS256"], algorithm="RS256")).name == "jwt:alice"  # any key may be meant


def unsigned(**members):
    parts = ({"alg": "none", "typ": "JWT"}, claims(**members))
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return f"{texts[0]}.{texts[1]}."


def test_a_token_with_no_or_another_signature_is_refused(tmp_path):
    """Neither 'none', nor a symmetric signature made with the public key, which is public."""
    file = tmp_path / "key.pem"
    file.write_bytes(pem(KEYS["RS256"]))
    credentials = tokens(["RS256"], file)
    refused(credentials, unsigned())
    refused(tokens(), unsigned())
    head, body, _ = signed(key="x" * 32).split(".")
    confused = jwt.api_jws.PyJWS()
    confused._algorithms["HS256"] = Raw(jwt.algorithms.HMACAlgorithm.SHA256)
    refused(credentials, confused.encode(json.dumps(claims()).encode(), pem(KEYS["RS256"]), "HS256"))
    refused(credentials, f"{head}.{body}.AAAA")
    refused(credentials, signed(key=SECRET))


class Raw(jwt.algorithms.HMACAlgorithm):
    """A token signed by HMAC with a public key as the secret."""

    def prepare_key(self, key):
        return key


TIMES = {
    "over": ({"exp": NOW}, "expired"),
    "long over": ({"exp": 0}, "expired"),
    "not yet": ({"nbf": NOW + 1}, "not valid yet"),
    "no end": ({"exp": None}, "not valid here"),
    "an end that is no time": ({"exp": "tomorrow"}, "not valid here"),
    "an end that is a truth": ({"exp": True}, "not valid here"),
    "an endless end": ({"exp": float("inf")}, "not valid here"),
    "a beginning that is no time": ({"nbf": "today"}, "not valid here"),
}


@pytest.mark.parametrize(("members", "match"), TIMES.values(), ids=TIMES)
def test_times_are_checked_by_the_gateways_clock(members, match):
    refused(tokens(), signed(claims(**members)), match)


def test_clocks_may_differ_by_the_leeway_and_no_more():
    credentials = tokens(leeway_seconds=30.0)
    assert credentials.caller(signed(claims(exp=NOW - 29, nbf=NOW + 29)))
    refused(credentials, signed(claims(exp=NOW - 30)), "expired")
    refused(credentials, signed(claims(nbf=NOW + 31)), "not valid yet")


def test_a_token_must_have_an_end_and_a_subject():
    refused(tokens(), signed({"sub": "alice"}))
    refused(tokens(), signed({"exp": NOW + 60}))
    for sub in ("", "a\nb", "x" * 201, "a\0b"):
        refused(tokens(), signed(claims(sub=sub)))


def test_issuer_and_audience_must_be_the_ones_that_are_expected():
    credentials = tokens(issuer="https://id.example", audience="toll")
    good = {"iss": "https://id.example", "aud": ["other", "toll"]}
    assert credentials.caller(signed(claims(**good)))
    for members in ({}, good | {"iss": "https://evil.example"}, good | {"aud": "other"}, {"aud": "toll"}):
        refused(credentials, signed(claims(**members)))
    refused(tokens(), signed(claims(aud="somebody else")))  # meant for another, and none is expected here


def test_tier_and_organisation_come_from_the_claims_that_are_named():
    credentials = tokens(tier_claim="plan", organisation_claim="org")
    assert credentials.caller(signed(claims(plan="strict", org="acme"))) == Caller(
        "jwt:alice", groups=("org:acme",), markup=4.0
    )
    assert credentials.caller(signed()) == Caller("jwt:alice")
    assert tokens().caller(signed(claims(plan="strict", org="acme"))) == Caller("jwt:alice")
    for members in ({"plan": "gold"}, {"plan": 7}, {"plan": None}, {"org": "a b"}, {"org": ["acme"]}):
        refused(credentials, signed(claims(**members)))


def test_tokens_with_unknown_extensions_and_overlong_tokens_are_refused():
    assert "crit" in refused(tokens(), signed(crit=["b64x"], b64x=True))
    assert "longer" in refused(tokens(), signed(claims(padding="x" * 9000)))


@given(st.text(max_size=60) | st.from_regex(r"[\w-]{0,30}\.[\w-]{0,30}\.[\w-]{0,30}", fullmatch=True))
def test_any_text_gives_a_caller_none_or_a_refusal(text):
    credentials, token = tokens(), text.count(".") == 2 and text.isascii()
    try:
        assert credentials.caller(text) is None
    except CallerRefused:
        assert token


def test_api_keys_go_before_tokens_and_what_is_neither_is_not_known():
    callers = CallerIdentifier({hash_key("a.b.c"): Caller("key:dots")}, credentials=(tokens(),))

    def name(key):
        return callers.identify(RequestIdentity(f"Bearer {key}", None, "203.0.113.9", None)).name

    assert (name("a.b.c"), name(signed())) == ("key:dots", "jwt:alice")
    for key, match in (("nobody", "API key is not known"), ("a.b.d", "token is not valid here")):
        with pytest.raises(CallerRefused, match=match):
            name(key)


def test_over_http_a_bad_token_is_401_in_the_protocols_format_and_the_model_server_is_not_asked(harness):
    harness.identifier = CallerIdentifier(credentials=(tokens(),))
    with serving(harness.application()) as url:

        def ask(token):
            headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
            return httpx.post(url + harness.path, content=harness.infer_body([1, 2]), headers=headers)

        good, bad = ask(signed()), ask(signed(key="x" * 32))
    assert (good.status_code, bad.status_code) == (402, 401)
    assert bad.json() == {"error": "the token is not valid here"}
    assert bad.headers["www-authenticate"] == "Bearer"
    assert len(harness.upstream.requests) == 1
    assert harness.account(Caller("jwt:alice")).rows == 1


# Key files and settings


def test_a_changed_key_file_takes_effect_at_the_next_check_and_an_invalid_one_never(tmp_path):
    """An issuer goes from one key to the next without a restart."""
    file = tmp_path / "key.pem"
    file.write_bytes(pem(KEYS["RS256"]))
    credentials = tokens(["RS256"], file)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    old, new = (signed(key=key, algorithm="RS256") for key in (KEYS["RS256"], other))
    file.write_bytes(b"garbage")
    credentials.file_watch.check()
    assert (credentials.file_watch.invalid, credentials.caller(old).name) == (True, "jwt:alice")
    file.write_bytes(pem(other))
    credentials.file_watch.check()
    assert (credentials.file_watch.invalid, credentials.caller(new).name) == (False, "jwt:alice")
    refused(credentials, old)


def private(encryption):
    return KEYS["RS256"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("text", "algorithm", "mend"),
    [
        (b"garbage", "RS256", "holds no key for RS256"),
        (pem(KEYS["ES256"]), "RS256", "holds no key for RS256"),
        (pem(KEYS["RS256"]), "ES256", "holds no key for ES256"),
        (pem(KEYS["RS256"]), "HS256", "holds no key for HS256"),
        (private(NoEncryption()), "RS256", "holds a private key"),
        (private(BestAvailableEncryption(b"word")), "RS256", "holds no key"),
        (b"short", "HS256", "shorter than 32 bytes"),
        (b'{"keys": []}', "RS256", "holds no key"),
        (b"{", "RS256", "holds no key"),
        (b'{"keys": [7]}', "RS256", "holds no key"),
        (b"", "HS256", "holds no key|shorter than 32 bytes"),
    ],
)
def test_a_file_without_a_fitting_key_is_a_fault_that_shows_nothing_of_it(tmp_path, text, algorithm, mend):
    file = tmp_path / "key"
    file.write_bytes(text)
    with pytest.raises(SettingsError, match=mend) as caught:
        read_verification_keys(file, (algorithm,))
    assert "PRIVATE" not in str(caught.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_verification_keys(tmp_path / "nowhere", (algorithm,))


def settings(folder, **jwt_members):
    model = {"tariff": "t", "output": {"name": "p", "kind": "logits"}, "measures": [{"name": "gap"}]}
    callers = {"anonymous": False, "jwt": {"algorithms": ["HS256"], **jwt_members}}
    path = folder / "toll.yaml"
    path.write_text(yaml.safe_dump({"upstream": {"url": "http://a"}, "models": {"m": model}, "callers": callers}))
    return load_settings(path)


def test_the_secret_comes_from_the_environment_or_from_a_file(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text(SECRET + "\n")
    from_file = settings(tmp_path, key_file="secret", tier="strict", leeway_seconds=7)
    monkeypatch.setenv("MODELTOLL_CALLERS__JWT__SECRET", SECRET)
    from_environment = settings(tmp_path, tier="strict", leeway_seconds=7)
    for loaded in (from_file, from_environment):
        credentials = build_jwt_credentials(loaded)
        assert [key.key for key in credentials._keys.keys] == [SECRET.encode()]
        assert (credentials._policy.tier, credentials._policy.leeway_seconds) == ("strict", 7.0)
        assert SECRET not in repr(loaded) + repr(credentials._policy)
    assert build_identifier(from_file).credentials == ()


@pytest.mark.parametrize(
    ("members", "mend"),
    [
        ({}, "name a key_file, a key_url, or a secret"),
        ({"key_file": "a", "secret": SECRET}, "no two of them"),
        ({"secret": "short"}, "at least 32"),
        ({"algorithms": ["none"], "key_file": "a"}, "HS256"),
        ({"algorithms": [], "key_file": "a"}, "at least 1"),
        ({"algorithms": ["HS256", "RS256"], "key_file": "a"}, "cannot be combined"),
        ({"algorithms": ["RS256"], "secret": SECRET}, "a secret is for HS256"),
        ({"key_file": "a", "tier": "gold"}, "no tier 'gold'"),
    ],
)
def test_insecure_settings_are_refused(tmp_path, members, mend):
    with pytest.raises(SettingsError, match=mend) as caught:
        settings(tmp_path, **members)
    assert SECRET not in str(caught.value)
