"""The verbs of ``keys``: what is printed once, what is listed, and what is refused with what to do."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from typer.testing import CliRunner

from modeltoll.cli import app
from modeltoll.gateway.callers.identify import hash_key
from modeltoll.gateway.callers.key_file import read_keys

MODEL = {"tariff": "t.json", "output": {"name": "p", "kind": "probabilities"}, "measures": [{"name": "entropy"}]}


@pytest.fixture
def place(tmp_path):
    document = {"upstream": {"url": "http://127.0.0.1:1"}, "models": {"digits": MODEL}}
    document["callers"] = {"key_file": "keys.json", "tiers": {"gold": {"multiplier": 0.1}}}
    (tmp_path / "toll.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


def keys(place, verb, *arguments):
    return CliRunner().invoke(app, ["keys", verb, str(place / "toll.yaml"), *map(str, arguments)])


def done(*arguments):
    result = keys(*arguments)
    assert result.exit_code == 0, result.output
    return result


def lines(place):
    return read_keys(place / "keys.json").keys


def test_a_new_key_is_all_that_goes_to_standard_output_and_only_its_hash_is_kept(place):
    result = done(place, "create", "alice", "--tier", "gold", "--organisation", "acme", "--note", "on [the] phone")
    key = result.stdout.removesuffix("\n")
    (line,) = lines(place)
    assert re.fullmatch(r"mt_[\w-]{43}", key)
    assert (line.name, line.sha256, line.tier, line.organisation) == ("alice", hash_key(key), "gold", "acme")
    assert key not in result.stderr + (place / "keys.json").read_text()
    assert "shown this once" in result.stderr


def test_keys_are_listed_with_their_terms_and_never_themselves(place):
    key = done(place, "create", "alice", "--expires", "90d", "--note", "on [the] phone").stdout.strip()
    done(place, "create", "bob", "--expires", "2999-12-31")
    table = done(place, "list").stdout
    for word in ("alice", hash_key(key)[:8], "on [the] phone", "2999-12-31 00:00"):
        assert word in table
    result = done(place, "list", "--json", "-")
    alice, bob = json.loads(result.stdout)
    assert (alice["name"], alice["id"], alice["expired"], bob["name"]) == ("alice", hash_key(key)[:8], False, "bob")
    assert key not in table + result.stdout


def test_a_key_is_taken_back_alone_or_with_all_others_of_its_name(place):
    first = done(place, "create", "alice").stdout.strip()
    done(place, "create", "alice", "--another")
    done(place, "revoke", "alice", "--id", hash_key(first)[:8])
    assert [line.sha256 == hash_key(first) for line in lines(place)] == [False]
    assert "1 revoked" in done(place, "revoke", "alice").stderr
    assert lines(place) == ()


def test_rotation_hands_out_a_new_key_and_leaves_the_old_one_its_overlap(place):
    old = done(place, "create", "alice", "--tier", "strict").stdout.strip()
    result = done(place, "rotate", "alice", "--overlap", "7d")
    before, after = lines(place)
    assert (before.sha256, after.sha256) == (hash_key(old), hash_key(result.stdout.strip()))
    assert (before.expires - after.created).total_seconds() == 7 * 86_400
    assert (after.tier, after.expires) == ("strict", None)
    assert old not in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "mend"),
    [
        (("create", "alice", "--tier", "golden"), 2, "there are: exempt, discounted, normal, strict, gold"),
        (("create", "a b"), 2, "name: "),
        (("create", "alice", "--organisation", "a b"), 2, "organisation: "),
        (("create", "alice", "--note", "x" * 201), 2, "note: "),
        (("create", "alice", "--expires", "soon"), 2, "90d, 12h or 30m"),
        (("create", "alice", "--expires", "2001-01-01"), 2, "in the past"),
        (("rotate", "alice", "--overlap", "-1d"), 2, "--overlap: "),
        (("list",), 2, "modeltoll keys create makes a key file"),
        (("revoke", "alice"), 2, "modeltoll keys create makes a key file"),
        (("rotate", "alice"), 1, "create one"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(place, arguments, code, mend):
    result = keys(place, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert mend in result.stderr
    assert not (place / "keys.json").exists()


def test_a_second_key_of_a_name_must_be_asked_for(place):
    done(place, "create", "alice")
    result = keys(place, "create", "alice")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "rotate it" in result.stderr


def test_settings_without_a_key_file_say_how_to_name_one(place):
    document = yaml.safe_load((place / "toll.yaml").read_text())
    del document["callers"]["key_file"]
    (place / "toll.yaml").write_text(yaml.safe_dump(document))
    result = keys(place, "list")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "callers.key_file: is not set" in result.stderr
