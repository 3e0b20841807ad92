"""The laws of machine profiles: named and sourced, exact on disk, and free of numpy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.puzzle.machine_profile import (
    DEFAULT_PROFILE,
    PROFILES,
    decode_profile,
    encode_profile,
    load_profile,
    save_profile,
)

VALID = json.loads(encode_profile(DEFAULT_PROFILE))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_shipped_profile_says_its_name_its_date_and_its_command(profile):
    assert PROFILES[profile.name] is profile
    assert "modeltoll bench-puzzle --save" in profile.source
    assert any(year in profile.source for year in ("2025", "2026", "2027"))
    assert sorted(profile.argon2id) == [64 * 2**rung for rung in range(13)], "64 KiB to 256 MiB"
    rates = [profile.argon2id[kib] for kib in sorted(profile.argon2id)]
    assert rates == sorted(rates, reverse=True), "more memory is slower"
    assert profile.sha256 > rates[0]


def test_a_profile_reads_back_exactly(tmp_path):
    path = tmp_path / "machine.json"
    save_profile(DEFAULT_PROFILE, path)
    assert load_profile(path) == DEFAULT_PROFILE


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"format": "other"}, "'format' must be"),
        ({"version": 2}, "'version' must be 1"),
        ({"name": ""}, "'name' must not be empty"),
        ({"sha256": 0}, "'sha256' must lie"),
        ({"argon2id": {}}, "nor 'argon2id'"),
        ({"argon2id": {"1": 5.0}}, "'argon2id.1' must be a memory"),
        ({"argon2id": {"8 MiB": 5.0}}, "'argon2id.8 MiB' must be a memory"),
        ({"argon2id": {"8192": -1.0}}, "'argon2id.8192' must lie"),
        ({"surprise": 1}, "'surprise' is not known"),
    ],
)
def test_an_error_names_the_member_and_the_remedy(changes, fault):
    with pytest.raises(CalibrationError, match=f"{fault}.*bench-puzzle --save"):
        decode_profile(json.dumps(VALID | changes).encode())


@given(
    st.binary(max_size=100) | st.sampled_from(sorted(VALID)).map(lambda name: json.dumps(VALID | {name: [1]}).encode())
)
def test_any_bytes_are_refused_with_a_calibration_error(data):
    with pytest.raises(CalibrationError):
        decode_profile(data)


def test_a_client_reads_profiles_without_numpy():
    program = "import sys, modeltoll.puzzle.machine_profile; sys.exit('numpy' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
