"""Key files change atomically, are used only where they are valid, and are read again while a gateway runs."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from modeltoll.errors import CallerRefused, SettingsError
from modeltoll.gateway.callers.api_key_file import (
    KeyDocument,
    KeyFileError,
    KeyRecord,
    change_keys,
    draw_key,
    read_keys,
    with_key,
    with_new_key,
    without_key,
)
from modeltoll.gateway.callers.api_keys import ApiKeys
from modeltoll.gateway.callers.identify import CallerIdentifier, RequestIdentity, Tier, hash_key
from modeltoll.gateway.callers.known_honest import known_honest_callers
from modeltoll.gateway.settings.callers import CallerSettings
from modeltoll.records import Caller
from modeltoll.testing.clock import FakeClock

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TIERS = {"normal": Tier(), "strict": Tier(multiplier=4.0), "exempt": Tier(exempt=True)}


def key_record(name="alice", key="secret", **members):
    return KeyRecord(name=name, sha256=hash_key(key), created=NOW, **members)


def write(path, *lines):
    change_keys(path, lambda _: KeyDocument(keys=lines))
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "keys.json", key_record())


@pytest.fixture
def clock():
    return FakeClock(NOW.timestamp())


@pytest.fixture
def api_keys(file, clock):
    api_keys = ApiKeys(file, TIERS, clock)
    api_keys.file_watch.read()
    return api_keys


# The file


def test_a_key_is_random_and_long_and_never_stored(tmp_path):
    (key, sha256), (other, _) = draw_key(), draw_key()
    assert key != other
    assert len(key) >= 43
    assert sha256 == hash_key(key)
    path = write(tmp_path / "keys.json", KeyRecord(name="alice", sha256=sha256, created=NOW))
    assert key not in path.read_text()
    assert read_keys(path).keys[0].sha256 == sha256


def test_written_keys_read_back_and_the_file_is_readable_by_its_owner_only(tmp_path):
    lines = (
        key_record(tier="strict", organisation="acme", expires=NOW + DAY, note="über 'quotes'"),
        key_record("bob", "other"),
    )
    path = write(tmp_path / "keys.json", *lines)
    assert read_keys(path).keys == lines
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["version"] == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["keys.json", "keys.json.lock"]


def test_a_file_that_an_editor_saved_with_a_byte_order_mark_and_other_line_ends_holds_the_same_keys(file):
    saved = file.read_bytes()
    keys = read_keys(file)
    file.write_bytes(b"\xef\xbb\xbf" + saved.replace(b"\n", b"\r\n"))
    assert read_keys(file) == keys
    change_keys(file, lambda document: document)
    assert file.read_bytes() == saved


def test_a_change_keeps_the_files_permissions_and_a_link_stays_a_link(tmp_path, file):
    file.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(file)
    change_keys(link, lambda document: with_key(document, key_record("bob", "other")))
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [key.name for key in read_keys(file).keys] == ["alice", "bob"]


def test_concurrent_changes_are_all_kept_and_no_reader_sees_a_partial_file(tmp_path, file):
    over, seen = threading.Event(), []

    def read():
        while not over.is_set():
            seen.append(len(read_keys(file).keys))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            jobs = [lambda doc, n=n: with_key(doc, key_record(f"caller-{n}", f"key-{n}")) for n in range(40)]
            list(pool.map(lambda job: change_keys(file, job), jobs))
    finally:
        over.set()
        reader.join(60)
    assert len(read_keys(file).keys) == 41
    assert seen == sorted(seen)


def test_a_change_that_fails_leaves_the_file_as_it_was(file):
    before = file.read_bytes()
    with pytest.raises(KeyFileError):
        change_keys(file, lambda document: without_key(document, "nobody"))
    assert file.read_bytes() == before


INVALID = {
    "no JSON": "{",
    "another version": '{"version": 2}',
    "a name twice": '{"keys": [], "keys2": []}',
    "no keys": '{"keys": 7}',
    "a plain key": '{"keys": [{"name": "a", "sha256": "secret", "created": "2026-11-01T00:00:00Z"}]}',
    "a time without a zone": json.dumps(
        {"keys": [{"name": "a", "sha256": "0" * 64, "created": "2026-11-01T00:00:00"}]}
    ),
    "a key twice": json.dumps({"keys": [{"name": "a", "sha256": "0" * 64, "created": "2026-11-01T00:00:00Z"}] * 2}),
    "nothing": "",
    "deep nesting": "[" * 100_000,
    "no text": "\udcff",
}


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID)
def test_an_invalid_file_is_refused_by_name_without_showing_its_keys(tmp_path, text):
    path = tmp_path / "keys.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError, match=r"keys\.json: ") as caught:
        read_keys(path)
    assert "secret" not in str(caught.value)
    before = path.read_bytes()
    with pytest.raises(SettingsError):
        change_keys(path, lambda document: document)
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_written_is_reported(tmp_path):
    with pytest.raises(SettingsError, match="cannot be written: No such file"):
        write(tmp_path / "nowhere" / "keys.json")


def test_a_caller_gets_a_second_key_only_on_request():
    document = KeyDocument(keys=(key_record(),))
    with pytest.raises(KeyFileError, match="alice has a key already"):
        with_key(document, key_record(key="other"))
    assert len(with_key(document, key_record(key="other"), another=True).keys) == 2
    expired = KeyDocument(keys=(key_record(expires=NOW),))
    assert len(with_key(expired, key_record(key="other")).keys) == 2


def test_revoking_removes_all_keys_of_a_caller_or_the_named_one():
    document = KeyDocument(keys=(key_record(), key_record(key="other"), key_record("bob", "third")))
    assert [key.name for key in without_key(document, "alice").keys] == ["bob"]
    left = without_key(document, "alice", hash_key("other")[:8])
    assert [key.sha256 for key in left.keys] == [hash_key("secret"), hash_key("third")]
    for name, identity in (("carol", None), ("bob", hash_key("other")[:8])):
        with pytest.raises(KeyFileError, match=f"no key of {name}"):
            without_key(document, name, identity)


def test_rotation_keeps_the_terms_and_sets_an_expiry_for_the_old_keys():
    old = key_record(tier="strict", organisation="acme", note="word", expires=NOW + 90 * DAY)
    later = NOW + 30 * DAY
    before, bob, new = with_new_key(
        KeyDocument(keys=(old, key_record("bob", "b"))), "alice", "0" * 64, later, 7 * DAY
    ).keys
    assert (before.sha256, before.expires) == (old.sha256, later + 7 * DAY)
    assert bob == key_record("bob", "b")
    assert (new.tier, new.organisation, new.note) == ("strict", "acme", "word")
    assert (new.created, new.expires) == (later, later + 90 * DAY)  # valid for as long as the old one


def test_rotation_never_prolongs_a_key_and_needs_a_valid_one():
    soon = key_record(expires=NOW + timedelta(hours=1))
    assert with_new_key(KeyDocument(keys=(soon,)), "alice", "0" * 64, NOW, 7 * DAY).keys[0].expires == soon.expires
    with pytest.raises(KeyFileError, match="still valid"):
        with_new_key(KeyDocument(keys=(key_record(expires=NOW),)), "alice", "0" * 64, NOW, DAY)


# The key_store


def test_callers_have_the_tier_and_the_organisation_of_their_key(tmp_path, clock):
    api_keys = ApiKeys(
        write(tmp_path / "k", key_record(tier="strict", organisation="acme"), key_record("bob", "b")), TIERS, clock
    )
    api_keys.file_watch.read()
    assert api_keys.caller("secret") == Caller("key:alice", groups=("org:acme",), markup=4.0)
    assert api_keys.caller("b") == Caller("key:bob")
    assert api_keys.caller("other") is None


def test_a_key_is_refused_from_the_second_of_its_expiry(tmp_path, clock):
    api_keys = ApiKeys(write(tmp_path / "k", key_record(expires=NOW + DAY)), TIERS, clock)
    api_keys.file_watch.read()
    clock.advance(DAY.total_seconds() - 0.5)
    assert (api_keys.caller("secret").name, api_keys.valid_count) == ("key:alice", 1)
    clock.advance(0.5)
    with pytest.raises(CallerRefused, match="expired"):
        api_keys.caller("secret")
    assert api_keys.valid_count == 0


def test_a_changed_file_takes_effect_at_the_next_check_and_not_before(file, api_keys):
    change_keys(file, lambda document: with_key(without_key(document, "alice"), key_record("bob", "b")))
    assert (api_keys.caller("secret").name, api_keys.caller("b")) == ("key:alice", None)
    api_keys.file_watch.check()
    assert (api_keys.caller("secret"), api_keys.caller("b").name) == (None, "key:bob")


@pytest.mark.parametrize("text", ["{", '{"keys": [{"name": "x"}]}', None])
def test_an_invalid_file_leaves_the_last_valid_keys_active_and_is_logged_once(file, api_keys, caplog, text):
    good = file.read_text()
    file.unlink() if text is None else file.write_text(text)
    with caplog.at_level(logging.INFO, "modeltoll.gateway"):
        for _ in range(3):
            api_keys.file_watch.check()
        assert (api_keys.file_watch.invalid, api_keys.caller("secret").name, len(caplog.records)) == (
            True,
            "key:alice",
            1,
        )
        assert "stays active" in caplog.text
        file.write_text(good)
        api_keys.file_watch.check()
    assert (api_keys.file_watch.invalid, api_keys.caller("secret").name) == (False, "key:alice")
    assert "secret" not in caplog.text


def test_an_unknown_tier_makes_the_whole_file_invalid(file, api_keys):
    change_keys(file, lambda document: with_key(document, key_record("bob", "b", tier="gold")))
    with pytest.raises(SettingsError, match="no tier 'gold'; there are: normal, strict, exempt"):
        api_keys.file_watch.read()
    api_keys.file_watch.check()
    assert (api_keys.file_watch.invalid, api_keys.caller("b")) == (True, None)


def test_an_unchanged_file_is_not_read_again(file, api_keys):
    status = file.stat()
    file.write_text(file.read_text().replace("alice", "mally"))  # as long, and as old
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    api_keys.file_watch.check()
    assert api_keys.caller("secret").name == "key:alice"


def test_a_running_file_watch_checks_the_file_repeatedly(file, api_keys, monkeypatch):
    async def watch():
        checked = asyncio.Event()
        loop = asyncio.get_running_loop()
        check = api_keys.file_watch.check
        monkeypatch.setattr(api_keys.file_watch, "check", lambda: (check(), loop.call_soon_threadsafe(checked.set)))
        async with api_keys.file_watch.running(interval=0.0):
            change_keys(file, lambda document: with_key(document, key_record("bob", "b")))
            checked.clear()
            await asyncio.wait_for(checked.wait(), 60)
            checked.clear()
            await asyncio.wait_for(checked.wait(), 60)  # one that began after the change
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(watch()) == set()
    assert api_keys.caller("b").name == "key:bob"


def test_keys_that_the_settings_do_not_list_are_looked_up_in_the_key_store(api_keys):
    identifier = CallerIdentifier({hash_key("listed"): Caller("key:listed")}, credentials=(api_keys,))

    def name(key):
        return identifier.identify(RequestIdentity(f"Bearer {key}", None, "203.0.113.9", None)).name

    assert (name("listed"), name("secret")) == ("key:listed", "key:alice")
    with pytest.raises(CallerRefused, match="not known"):
        name("nobody's")


def test_a_change_that_cannot_be_written_leaves_the_file_as_it_was(file, monkeypatch):
    """As on a full disk: the keys that were there still are, and no half-written file lies beside them."""
    before = file.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match="No space left"):
        change_keys(file, lambda document: with_key(document, key_record("bob", "other")))
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir() if path.name.endswith(".new")] == []


# Known honest callers


def test_callers_are_known_to_be_honest_by_any_of_their_keys_and_until_the_latest_mark(tmp_path):
    """Marks in the settings have no time: the whole log counts."""
    path = write(
        tmp_path / "keys.json",
        key_record("alice", "a", known_honest=NOW),
        key_record("alice", "b", known_honest=NOW + DAY),
        key_record("alice", "c"),
        key_record("bob", "d"),
        key_record("carol", "e", known_honest=NOW),
    )
    keys = [
        {"name": "carol", "sha256": hash_key("f"), "known_honest": True},
        {"name": "dave", "sha256": hash_key("g"), "known_honest": True},
        {"name": "erin", "sha256": hash_key("h")},
    ]
    settings = CallerSettings.model_validate({"keys": keys, "key_file": path})
    until = {"key:alice": (NOW + DAY).timestamp(), "key:carol": math.inf, "key:dave": math.inf}
    assert known_honest_callers(settings) == until
    assert known_honest_callers(CallerSettings()) == {}


def test_a_key_file_that_cannot_be_read_knows_nobody(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        known_honest_callers(CallerSettings(key_file=tmp_path / "missing.json"))


def _many(count):
    created = "2026-01-01T00:00:00Z"
    return [
        {"name": f"u{number}", "sha256": hash_key(f"k{number}"), "created": created, "tier": "normal"}
        for number in range(count)
    ]


@pytest.mark.parametrize("place", [0, 499, 500, 1203])
def test_a_fault_anywhere_in_a_large_file_is_named_by_its_place(tmp_path, place):
    path, keys = tmp_path / "keys.json", _many(1204)
    keys[place]["sha256"] = "AB" * 32
    path.write_text(json.dumps({"version": 1, "keys": keys}))
    with pytest.raises(SettingsError) as raised:
        read_keys(path)
    assert raised.value.faults == [
        f"{path}: keys.{place}.sha256: is not a SHA-256 in hexadecimal; make one with: printf %s KEY | sha256sum"
    ]


def test_a_key_twice_in_a_large_file_is_found_and_a_right_one_holds_all_keys_in_their_order(tmp_path):
    path, keys = tmp_path / "keys.json", _many(1204)
    path.write_text(json.dumps({"version": 1, "keys": keys}))
    assert [key.sha256 for key in read_keys(path).keys] == [key["sha256"] for key in keys]
    path.write_text(json.dumps({"version": 1, "keys": [*keys, keys[0]]}))
    with pytest.raises(SettingsError, match="a key is listed twice"):
        read_keys(path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"keys": 1}', '{"keys": {"0": {}}}', '{"keys": [], "more": 1}', "{"])
def test_what_is_no_key_file_is_refused_or_empty_as_the_whole_document_is(tmp_path, text):
    path = tmp_path / "keys.json"
    path.write_text(text)
    try:
        expected = KeyDocument.model_validate_json(text)
    except ValidationError:
        with pytest.raises(SettingsError):
            read_keys(path)
    else:
        assert read_keys(path) == expected
