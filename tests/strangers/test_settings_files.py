"""Settings as editors, templates, shells and Kubernetes write them: files, secrets and variables."""

from __future__ import annotations

import os

import pytest

from modeltoll.errors import SettingsError
from modeltoll.gateway.assembly.startup_warnings import startup_warnings
from modeltoll.gateway.settings.load import load_settings

SECRET = "0123456789abcdef0123456789abcdef"
HEXADECIMAL = "ab" * 32
BASE = "upstream: {url: 'http://127.0.0.1:1'}\nledger: {url: 'memory://'}\n"
MODEL = "{tariff: t.json, mode: shadow, output: {name: p, kind: probabilities}, measures: [{name: entropy}]}"
MODELS = f"models:\n  m: {MODEL}\n"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch):
    for name in os.environ:
        if name.startswith("MODELTOLL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def load(tmp_path):
    def loaded(text=BASE + MODELS):
        path = tmp_path / "settings.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_settings(path)

    return loaded


def refused(load, text=BASE + MODELS):
    with pytest.raises(SettingsError) as refusal:
        load(text)
    return "; ".join(refusal.value.faults)


@pytest.mark.parametrize(
    "name",
    ["no", "on", "2024", "1.10", "2024-01-01", "2024-01-01 10:00:00", "true", "null", "~", "1_000", ".inf", "0x10"],
)
def test_a_name_that_yaml_reads_as_something_else_is_refused_with_its_line_and_the_advice_to_quote_it(load, name):
    message = refused(load, BASE + f"models:\n  {name}: {MODEL}\n")
    assert "line 4" in message
    assert "quotes" in message
    assert name in message or len(name) > 12
    assert list(load(BASE + f"models:\n  'x{name[:1]}': {MODEL}\n".replace("x~", "x")).models)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("callers: {keys: [{name: 007, sha256: " + HEXADECIMAL + "}]}", "octal"),
        ("callers: {keys: [{name: no, sha256: " + HEXADECIMAL + "}]}", "callers.keys.0.name: must be a text"),
        ("callers: {keys: [{name: a, sha256: " + "12" * 32 + "}]}", "callers.keys.0.sha256: must be a text"),
        ("limits: {rows: 010}", "octal"),
        ("limits: {rows: 1e3}", "whole number"),
        ("limits: {least_rate_kib: 1:30}", "base 60"),
        ("listen: 8080", "listen: 8080 is not HOST:PORT"),
        ("callers: {trusted_proxies: 10.0.0.0/8}", "must be a list"),
        ("limits: none", "must hold settings"),
        ("profile: 2024-01-01", "a date"),
    ],
)
def test_a_value_that_yaml_reads_as_something_else_is_refused_in_words_that_help(load, line, part):
    assert part in refused(load, BASE + line + "\n" + MODELS)


@pytest.mark.parametrize("digits", ["01234567" * 4, "12345678" * 4, "1234567890:12:12:12"])
def test_a_secret_of_digits_is_not_shown(load, digits):
    message = refused(load, BASE + f"callers: {{jwt: {{algorithms: [HS256], secret: {digits}}}}}\n" + MODELS)
    assert "quotes" in message
    assert digits not in message


def test_null_counts_as_not_given(load):
    text = BASE + "callers: {keys: null, prefixes: ~}\nlimits:\noperation: null\n" + MODELS
    assert load(text) == load()
    assert "models.m" in refused(load, BASE + "models:\n  m:\n")
    assert "upstream" in refused(load, "upstream:\nledger: {url: 'memory://'}\n" + MODELS)


@pytest.mark.parametrize("encode", [lambda text: b"\xef\xbb\xbf" + text, lambda text: text.replace(b"\n", b"\r\n")])
def test_byte_order_marks_and_ends_of_lines_of_other_systems_change_nothing(load, encode):
    assert load(encode((BASE + MODELS).encode())) == load()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_a_file_in_another_encoding_is_named_as_such(load, encoding):
    message = refused(load, ("# Größe\n" + BASE + MODELS).encode(encoding))
    assert "UTF-" in message or "YAML" in message


def test_tabs_and_settings_given_twice_are_named_with_their_line(load):
    assert "line 4: YAML is indented with blanks" in refused(load, BASE + f"models:\n\tm: {MODEL}\n")
    assert "line 4: 'm' is set twice" in refused(load, BASE + MODELS + f"  m: {MODEL}\n")


def test_merges_of_anchors_may_be_overridden(load):
    text = (
        BASE
        + f"models:\n  a: &a {MODEL}\n  b: &b\n    <<: *a\n    tariff: b.json\n  c:\n    <<: *b\n    mode: enforce\n"
    )
    found = load(text).models
    assert (found["b"].tariff.name, found["c"].tariff.name, found["c"].mode) == ("b.json", "b.json", "enforce")


ENDS = ["{}", "{}\n", "{}\r\n", "\ufeff{}", "\ufeff{}\r\n"]


@pytest.mark.parametrize("form", ENDS)
@pytest.mark.parametrize("how", ["variable", "file of a variable", "file in the settings", "settings"])
def test_a_secret_is_the_same_however_it_is_stored(load, tmp_path, monkeypatch, form, how):
    """With and without an end of line and a byte order mark; of each setting that holds one."""
    values = {
        "ADMIN_TOKEN": SECRET,
        "CALLERS__JWT__SECRET": SECRET,
        "UPSTREAM__API_KEY": SECRET,
        "LEDGER__URL": "valkey://:pass@host/0",
        "SECRETS": HEXADECIMAL,
    }
    text = BASE.replace("ledger: {url: 'memory://'}\n", "") + MODELS
    callers = "callers: {jwt: {algorithms: [HS256]"
    if how in ("variable", "file of a variable"):
        for name, value in values.items():
            (tmp_path / name).write_text(form.format(value), encoding="utf-8", newline="")
            stored = form.format(value) if how == "variable" else str(tmp_path / name) + "\n"
            monkeypatch.setenv(f"MODELTOLL_{name}" + ("" if how == "variable" else "_FILE"), stored)
        text += callers + "}}\n"
        if how == "file of a variable":  # a setting of its own, which is watched
            monkeypatch.delenv("MODELTOLL_UPSTREAM__API_KEY_FILE")
            monkeypatch.setenv("MODELTOLL_UPSTREAM__API_KEY", SECRET)
    else:

        def stored(name):
            (tmp_path / name).write_text(form.format(values[name]), encoding="utf-8", newline="")
            escaped = form.format(values[name]).replace("\n", "\\n").replace("\r", "\\r").replace("\ufeff", "\\uFEFF")
            return f"{{file: {name}}}" if how == "file in the settings" else f'"{escaped}"'

        text = f"admin_token: {stored('ADMIN_TOKEN')}\nsecrets: [{stored('SECRETS')}]\n" + MODELS
        text += f"ledger: {{url: {stored('LEDGER__URL')}}}\n{callers}, secret: {stored('CALLERS__JWT__SECRET')}}}}}\n"
        text += f"upstream: {{url: 'http://127.0.0.1:1', api_key: {stored('UPSTREAM__API_KEY')}}}\n"
    found = load(text)
    assert found.admin_token.get_secret_value() == SECRET
    assert found.callers.jwt.secret.get_secret_value() == SECRET
    assert found.upstream.api_key.get_secret_value() == SECRET
    assert found.ledger.url == "valkey://:pass@host/0"
    assert [secret.get_secret_value() for secret in found.secrets] == [HEXADECIMAL]


def test_a_secret_with_blanks_around_it_and_an_unreadable_file_are_refused_without_being_shown(
    load, tmp_path, monkeypatch
):
    text = BASE + "callers: {jwt: {algorithms: [HS256]}}\n" + MODELS
    monkeypatch.setenv("MODELTOLL_CALLERS__JWT__SECRET", SECRET + " ")
    message = refused(load, text)
    assert "callers.jwt.secret: begins or ends with a blank" in message
    assert SECRET not in message
    monkeypatch.delenv("MODELTOLL_CALLERS__JWT__SECRET")
    monkeypatch.setenv("MODELTOLL_CALLERS__JWT__SECRET_FILE", str(tmp_path / "nowhere"))
    assert "MODELTOLL_CALLERS__JWT__SECRET_FILE" in refused(load, text)
    (tmp_path / "nowhere").write_text("\n")
    assert "is empty" in refused(load, text)
    monkeypatch.setenv("MODELTOLL_CALLERS__JWT__SECRET", SECRET)
    assert "both set" in refused(load, text)


def test_variables_of_kubernetes_service_links_are_ignored_with_one_warning(load, monkeypatch):
    expected = load()
    links = {
        "MODELTOLL_SERVICE_HOST": "10.0.0.1",
        "MODELTOLL_SERVICE_PORT": "80",
        "MODELTOLL_SERVICE_PORT_HTTP": "80",
        "MODELTOLL_PORT": "tcp://10.0.0.1:80",
        "MODELTOLL_PORT_80_TCP": "tcp://10.0.0.1:80",
        "MODELTOLL_PORT_80_TCP_ADDR": "10.0.0.1",
        "MODELTOLL_ADMIN_PORT": "tcp://10.0.0.2:9090",
        "MODELTOLL_ADMIN_SERVICE_HOST": "10.0.0.2",
    }
    for name, value in links.items():
        monkeypatch.setenv(name, value)
    assert load() == expected
    found = [warning for warning in startup_warnings(expected, {}) if "service links" in warning]
    assert len(found) == 1


def test_a_misspelt_variable_is_named_and_an_empty_one_counts_as_not_set(load, monkeypatch):
    expected = load()
    monkeypatch.setenv("MODELTOLL_LIMITS_ROWS", "1")
    for empty in ("ADMIN_TOKEN", "PROFILE", "CALLERS__KEY_FILE", "SECRETS", "OPERATION__AUDIT_FILE"):
        monkeypatch.setenv(f"MODELTOLL_{empty}", "")
    assert load() == expected
    warnings = " ".join(startup_warnings(expected, {}))
    assert "MODELTOLL_LIMITS_ROWS is not a setting, and is ignored; perhaps you mean MODELTOLL_LIMITS__ROWS" in warnings
    assert "MODELTOLL_ADMIN_TOKEN is empty, and counts as not set" in warnings
    monkeypatch.setenv("MODELTOLL_LIMITS__ROW", "1")
    assert "limits.row: is not a setting" in refused(load)
