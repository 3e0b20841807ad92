"""Settings: any text is settings or a list of all its faults, each with the setting's name and a mend."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import get_args, get_origin

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import SettingsError
from modeltoll.gateway.settings.gateway import Settings
from modeltoll.gateway.settings.load import load_settings

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
GOOD = """
upstream: {url: "http://127.0.0.1:8000"}
models:
  digits:
    tariff: digits.tariff.json
    output: {name: p, kind: probabilities}
    measures:
      - {name: entropy}
      - {name: novelty, file: private.npy}
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    """No variable of the machine's own, and nothing but temporary files about."""
    monkeypatch.chdir(tmp_path)


def write(text, name="modeltoll.yaml"):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def faults(text):
    with pytest.raises(SettingsError) as caught:
        load_settings(write(text))
    return caught.value.faults


def change(**members):
    """The good settings with other members, by dotted name."""
    document = yaml.safe_load(GOOD)
    for name, value in members.items():
        holder, steps = document, name.split("__")
        for step in steps[:-1]:
            holder = holder[int(step)] if isinstance(holder, list) else holder.setdefault(step, {})
        holder[int(steps[-1]) if isinstance(holder, list) else steps[-1]] = value
    return yaml.safe_dump(document)


def test_a_short_file_is_enough():
    settings = load_settings(write(GOOD))
    assert settings.listen == "127.0.0.1:8080"
    assert settings.models["digits"].mode == "enforce"
    assert settings.models["digits"].weights == (0.5, 0.5)
    assert settings.ledger.when_down == "refuse"
    assert settings.limits.body_mib == 8


def test_an_input_may_be_written_as_its_name():
    settings = load_settings(write(change(models__digits__inputs=["x", {"name": "y", "width": 3, "datatype": "FP32"}])))
    found = [(one.name, one.width, one.datatype) for one in settings.models["digits"].inputs]
    assert found == [("x", None, ""), ("y", 3, "FP32")]
    (fault,) = faults(change(models__digits__inputs=["x", {"name": "y", "size": 3}]))
    assert fault.startswith("models.digits.inputs.1.size")


def test_file_names_are_relative_to_the_settings_file():
    folder = Path.cwd() / "etc"
    write(GOOD, "etc/modeltoll.yaml")
    settings = load_settings(Path("etc/modeltoll.yaml"))
    assert settings.models["digits"].tariff.absolute() == folder / "digits.tariff.json"
    assert settings.models["digits"].measures[1].file.absolute() == folder / "private.npy"
    assert settings.ledger.url == f"sqlite:///{folder}/modeltoll.db"
    write(change(profile="machine.json", ledger__url="sqlite:///deep/er.db?period_days=7"), "etc/other.yaml")
    settings = load_settings(Path("etc/other.yaml"))
    assert settings.profile.absolute() == folder / "machine.json"
    assert settings.ledger.url == f"sqlite:///{folder}/deep/er.db?period_days=7"


@pytest.mark.parametrize("url", ["sqlite:////var/lib/modeltoll.db", "memory://"])
def test_what_is_named_from_the_root_stays(url):
    assert load_settings(write(change(ledger__url=url))).ledger.url == url
    absolute = load_settings(write(change(models__digits__tariff="/etc/t.json"))).models["digits"].tariff
    assert absolute == Path("/etc/t.json")


def test_every_fault_is_reported_at_once_with_its_name_and_a_mend():
    text = """
listen: 8080
lisen: 127.0.0.1:8080
upstream: {url: "ftp://model", timeout_seconds: -1}
callers: {trusted_proxies: [10.0.0.1/8], keys: [{name: a b, sha256: secret}]}
secrets: [abc]
models:
  "a/b": {}
  digits:
    output: {name: p, kind: labels, extra: 1}
    measures: [{name: novelty}, {name: entropy, file: x}, {name: magic}]
    puzzle: {disclose: never}
"""
    found = faults(text)
    named = {fault.partition(":")[0] for fault in found}
    assert {
        "listen",
        "lisen",
        "upstream.url",
        "upstream.timeout_seconds",
        "callers.trusted_proxies.0",
        "callers.keys.0.name",
        "callers.keys.0.sha256",
        "secrets.0",
        "models.a/b.[key]",
        "models.digits.tariff",
        "models.digits.output.extra",
        "models.digits.measures.0",
        "models.digits.measures.1",
        "models.digits.measures.2.name",
        "models.digits.puzzle.disclose",
    } <= named
    assert all(len(fault.partition(": ")[2]) > 10 for fault in found)
    assert not any("abc" in fault for fault in found)  # a secret is not repeated


ONE_FAULT = {
    "upstream__url": ("http://user:pw@host", "without user"),
    "upstream__timeout_seconds": (float("inf"), "finite"),
    "upstream__max_answer_mib": (65, "64"),
    "upstream__connections": (0, "1"),
    "upstream": ({"url": "http://a", "connections": 8, "max_concurrent": 9}, "above connections"),
    "listen": ("127.0.0.1:65536", "HOST:PORT"),
    "admin": (":9090", "HOST:PORT"),
    "limits__body_mib": (float("nan"), "finite"),
    "limits__rows": (0, "1"),
    "cors": ({"origins": ["https://app.example.org/path"]}, "without a path"),
    "callers__anonymous": (False, "no caller could send requests"),
    "callers__entry": ({"seconds": 1}, "replaced by callers.credit"),
    "callers": ({"anonymous_tier": "gold"}, "no tier 'gold'; there are: exempt, discounted, normal, strict"),
    "callers__tiers__gold": ({"multiplier": -1}, "0"),
    "callers__keys": ([{"name": "a", "sha256": "0" * 64}, {"name": "a", "sha256": "1" * 64}], "twice"),
    "secrets": (["0" * 64, "0" * 64], "twice"),
    "profile": (7, "path"),
    "ledger__when_down": ("shrug", "refuse"),
    "models": ({}, "at least 1"),
    "models__digits__mode": ("off", "shadow"),
    "models__digits__inputs": (["x", {"name": "x", "width": 3}], "twice"),
    "models__digits__measures": ([{"name": "gap"}, {"name": "gap"}], "twice"),
    "models__digits__measures__0__weight": (0, "0.000001|1e-06"),
    "models__digits__output__kind": ("labels", "how many classes"),
    "models__digits__puzzle__allow": (["hashcash"], "hashcash cannot be used in mode sealed"),
    "models__digits__puzzle__max_memory_mib": (0.05, "0.0625"),
    "models__digits__puzzle__suspected_memory_mib": (512, "256"),
    "models__digits__puzzle": ({"allow": ["hashcash"]}, "hashcash cannot be used in mode sealed"),
    "models__digits__puzzle__disclose": ("blind", "set blind_seconds"),
}


@pytest.mark.parametrize(("name", "fault"), ONE_FAULT.items(), ids=ONE_FAULT)
def test_a_value_that_cannot_be_used_is_a_fault_of_its_setting(name, fault):
    (found,) = faults(change(**{name: fault[0]}))
    assert found.startswith(
        name.removesuffix("__kind")
        .removesuffix("__allow")
        .removesuffix("__anonymous")
        .removesuffix("__disclose")
        .replace("__", ".")
    )
    assert re.search(fault[1], found)
    assert "pw" not in found


NO_MAPPINGS = ["", "- a", "text", "7", "null", "{1: 2}", "? [a]\n: b"]


@pytest.mark.parametrize("text", NO_MAPPINGS)
def test_a_file_without_settings_says_where_to_read_of_them(text):
    (found,) = faults(text)
    assert "modeltoll.yaml" in found


STRANGE = {
    "a tab": "a:\n\tb: 1",
    "an open bracket": "a: [",
    "a date that is none": "a: 2001-99-99",
    "a tag of Python's": "a: !!python/object/apply:os.system [ls]",
    "a tag that fails": "a: !!int ''",
    "another tag that fails": "a: !!timestamp x",
    "deep nesting": "[" * 1500,
    "a list in itself": "models: &a [*a]",
    "a mapping in itself": "&a {models: *a}",
    "a key that cannot be one": "{[a]: b}",
    "names of pydantic's own": "_env_file: /etc/passwd\n_cli_parse_args: true",
    "text of no Unicode": None,
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
def test_strange_yaml_is_a_fault_and_nothing_worse(text):
    if text is None:
        path = write("")
        path.write_bytes(b"\xff\xfe\x00\xff")
        with pytest.raises(SettingsError, match="UTF-8"):
            load_settings(path)
    else:
        assert faults(text)


def test_a_setting_that_is_said_twice_is_a_fault():
    """YAML would let the later one win in silence."""
    (found,) = faults(GOOD + "upstream: {url: 'http://127.0.0.1:9'}\n")
    assert "'upstream' is set twice" in found
    (found,) = faults(GOOD.replace("{name: entropy}", "{name: entropy, weight: 1, weight: 2}"))
    assert "'weight' is set twice" in found


def test_a_file_that_cannot_be_read_says_why():
    with pytest.raises(SettingsError, match="No such file"):
        load_settings(Path("nowhere.yaml"))
    with pytest.raises(SettingsError, match="directory"):
        load_settings(Path.cwd())


def test_the_environment_overrides_the_file(monkeypatch):
    monkeypatch.setenv("MODELTOLL_UPSTREAM__URL", "https://other:8443/base")
    monkeypatch.setenv("MODELTOLL_LISTEN", "0.0.0.0:80")
    monkeypatch.setenv("MODELTOLL_LEDGER__URL", "memory://")
    monkeypatch.setenv("MODELTOLL_LEDGER__WHEN_DOWN", "release")
    monkeypatch.setenv("MODELTOLL_LIMITS__ROWS", "7")
    monkeypatch.setenv("MODELTOLL_SECRETS", f'["{"a" * 64}"]')
    monkeypatch.setenv("MODELTOLL_MODELS__DIGITS__MODE", "shadow")
    monkeypatch.setenv("MODELTOLL_DATA", "/no/setting/of/the/gateway")
    settings = load_settings(write(change(limits__rows=5, limits__waiting=9)))
    assert settings.upstream.url == "https://other:8443/base"
    assert settings.listen == "0.0.0.0:80"
    assert (settings.ledger.url, settings.ledger.when_down) == ("memory://", "release")
    assert (settings.limits.rows, settings.limits.waiting) == (7, 9)
    assert settings.secrets[0].get_secret_value() == "a" * 64
    assert settings.models["digits"].mode == "shadow"
    assert settings.models["digits"].tariff.name == "digits.tariff.json"


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("MODELTOLL_LIMITS__ROWS", "many", "limits.rows"),
        ("MODELTOLL_UPSTREAM__TYPO", "1", "upstream.typo"),
        ("MODELTOLL_CALLERS", "{", "callers"),
        ("MODELTOLL_MODELS", "[]", "models"),
    ],
)
def test_faults_of_the_environment_are_faults_like_others(monkeypatch, variable, value, named):
    monkeypatch.setenv(variable, value)
    assert any(named in fault for fault in faults(GOOD))


def test_secrets_are_not_shown():
    settings = load_settings(write(change(secrets=["a" * 64])))
    assert "aaaa" not in repr(settings)
    assert "aaaa" not in str(settings.model_dump())


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
NAMES = st.sampled_from(
    ["listen", "upstream", "url", "ledger", "models", "digits", "tariff", "measures", "name", "keys", "secrets", "_x"]
)
DOCUMENTS = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=4) | PLAIN, inner, max_size=4),
    max_leaves=12,
)
TEXTS = (
    st.text(max_size=200)
    | st.text(alphabet="&*!?:-{}[],|>'\"%@`#~<= \n\tab01.", max_size=60)
    | st.dictionaries(NAMES, DOCUMENTS, max_size=6).map(lambda it: yaml.safe_dump(it, allow_unicode=True))
)


@given(TEXTS)
def test_any_text_is_settings_or_their_faults(text):
    path = Path("fuzz.yaml")
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = load_settings(path)
    except SettingsError as error:
        found = error.faults
    assert isinstance(found, Settings) or (found and all(isinstance(fault, str) and fault for fault in found))


def every_setting(model=Settings, under=""):
    """The dotted names of all settings, ``NAME`` for a model's name and ``N`` for a place in a list."""
    for name, field in model.model_fields.items():
        yield under + name
        for kind, place in nested(field.annotation):
            yield from every_setting(kind, f"{under}{name}{place}.")


def nested(annotation):
    """The settings classes inside a type, and how a name leads to them."""
    if hasattr(annotation, "model_fields"):
        yield annotation, ""
    for inner in get_args(annotation):
        if hasattr(inner, "model_fields"):
            places = {Mapping: ".NAME", tuple: ".N"}  # a section that may be left out has no place of its own
            yield inner, places.get(get_origin(annotation), "")


def reference():
    """The site's reference of the settings, as it is made when the documentation is built."""
    spec = importlib.util.spec_from_file_location(
        "settings_reference", DOCS.parents[1] / "site" / "settings_reference.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.settings_tables()


def test_every_setting_is_in_the_reference_once_with_its_meaning():
    listed = dict(re.findall(r"^\| `([a-zN.A-Z_0-9]+)` \|.*\| (.+) \|$", reference(), re.MULTILINE))
    names = list(every_setting())
    assert len(names) > 40
    assert sorted(listed) == sorted(names)
    assert all(len(meaning) > 10 for meaning in listed.values())


def test_the_manuals_examples_are_good_settings():
    for example in re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL):
        for document in example.split("\n---\n"):
            load_settings(write(document))
