"""The commands ``keys``: output, key file and errors."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from typer.testing import CliRunner

from modeltoll.cli import app
from modeltoll.gateway.callers.api_key_file import read_keys
from modeltoll.gateway.callers.identify import hash_key

MODEL = {"tariff": "t.json", "output": {"name": "p", "kind": "probabilities"}, "measures": [{"name": "entropy"}]}


@pytest.fixture
def folder(tmp_path):
    document = {"upstream": {"url": "http://127.0.0.1:1"}, "models": {"digits": MODEL}}
    document["callers"] = {"key_file": "keys.json", "tiers": {"gold": {"multiplier": 0.1}}}
    (tmp_path / "toll.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


def keys(folder, command, *arguments):
    return CliRunner().invoke(app, ["keys", command, str(folder / "toll.yaml"), *map(str, arguments)])


def run_ok(*arguments):
    result = keys(*arguments)
    assert result.exit_code == 0, result.output
    return result


def lines(folder):
    return read_keys(folder / "keys.json").keys


def test_standard_output_is_the_new_key_and_the_file_holds_its_hash(folder):
    result = run_ok(folder, "create", "alice", "--tier", "gold", "--organisation", "acme", "--note", "on [the] phone")
    key = result.stdout.removesuffix("\n")
    (line,) = lines(folder)
    assert re.fullmatch(r"mt_[\w-]{43}", key)
    assert (line.name, line.sha256, line.tier, line.organisation) == ("alice", hash_key(key), "gold", "acme")
    assert key not in result.stderr + (folder / "keys.json").read_text()
    assert "shown this once" in result.stderr


def test_the_list_has_the_terms_but_not_the_keys(folder):
    key = run_ok(folder, "create", "alice", "--expires", "90d", "--note", "on [the] phone").stdout.strip()
    run_ok(folder, "create", "bob", "--expires", "2999-12-31")
    table = run_ok(folder, "list").stdout
    for word in ("alice", hash_key(key)[:8], "on [the] phone", "2999-12-31 00:00"):
        assert word in table
    result = run_ok(folder, "list", "--json", "-")
    alice, bob = json.loads(result.stdout)
    assert (alice["name"], alice["id"], alice["expired"], bob["name"]) == ("alice", hash_key(key)[:8], False, "bob")
    assert key not in table + result.stdout


def test_one_key_or_all_keys_of_a_name_are_revoked(folder):
    first = run_ok(folder, "create", "alice").stdout.strip()
    run_ok(folder, "create", "alice", "--another")
    run_ok(folder, "revoke", "alice", "--id", hash_key(first)[:8])
    assert [line.sha256 == hash_key(first) for line in lines(folder)] == [False]
    assert "1 revoked" in run_ok(folder, "revoke", "alice").stderr
    assert lines(folder) == ()


def test_rotation_prints_a_new_key_and_the_old_one_expires_after_the_overlap(folder):
    old = run_ok(folder, "create", "alice", "--tier", "strict").stdout.strip()
    result = run_ok(folder, "rotate", "alice", "--overlap", "7d")
    before, after = lines(folder)
    assert (before.sha256, after.sha256) == (hash_key(old), hash_key(result.stdout.strip()))
    assert (before.expires - after.created).total_seconds() == 7 * 86_400
    assert (after.tier, after.expires) == ("strict", None)
    assert old not in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "fix"),
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
def test_errors_name_the_fix_and_write_nothing(folder, arguments, code, fix):
    result = keys(folder, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert fix in result.stderr
    assert not (folder / "keys.json").exists()


def test_a_second_key_of_a_name_needs_an_option(folder):
    run_ok(folder, "create", "alice")
    result = keys(folder, "create", "alice")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "rotate it" in result.stderr


def test_settings_without_a_key_file_are_an_error_that_names_the_setting(folder):
    document = yaml.safe_load((folder / "toll.yaml").read_text())
    del document["callers"]["key_file"]
    (folder / "toll.yaml").write_text(yaml.safe_dump(document))
    result = keys(folder, "list")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "callers.key_file: is not set" in result.stderr


def test_a_caller_is_marked_as_known_honest_and_the_mark_is_taken_away(folder):
    run_ok(folder, "create", "alice")
    run_ok(folder, "create", "bob")
    marked = run_ok(folder, "known-honest", "alice")
    assert "known honest as of" in marked.stderr
    alice, bob = lines(folder)
    assert alice.known_honest is not None
    assert bob.known_honest is None
    assert f"{alice.known_honest:%Y-%m-%d %H:%M}" in run_ok(folder, "list").stdout
    assert "no longer" in run_ok(folder, "known-honest", "alice", "--forget").stderr
    assert lines(folder)[0].known_honest is None
    before = lines(folder)
    assert keys(folder, "known-honest", "carol").exit_code == 1
    assert lines(folder) == before


def test_a_rotated_key_keeps_the_mark(folder):
    run_ok(folder, "create", "alice")
    run_ok(folder, "known-honest", "alice")
    run_ok(folder, "rotate", "alice")
    old, new = lines(folder)
    assert new.known_honest == old.known_honest is not None
