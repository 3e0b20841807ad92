"""Metrics, logs and settings have one name each, in the program and in every document."""

from __future__ import annotations

import importlib
import json
import logging
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from modeltoll import errors, wire
from modeltoll.client.sidecar_metrics import SidecarMetrics
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.core import unmeasured
from modeltoll.gateway.core.request import ADMISSION, EXEMPT, FREE, PREPAID, SHADOW
from modeltoll.gateway.observability.audit import AuditRecord
from modeltoll.gateway.observability.logging_setup import JsonFormatter
from modeltoll.gateway.observability.metric_catalogue import METRICS, PREFIX
from modeltoll.gateway.observability.worker_metrics import merge_metrics
from modeltoll.gateway.settings.gateway import Settings
from modeltoll.gateway.settings.load import load_settings

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "reference" / "observability.md").read_text()
EVERY_SETTING = ROOT / "docs" / "reference" / "every-setting.yaml"
TEXTS = [
    path
    for folder, ending in (("docs", "*.md"), ("deploy", "*"), ("src", "*.py"))
    for path in (ROOT / folder).rglob(ending)
    if path.is_file() and path.suffix in {".md", ".py", ".yaml", ".yml", ".json"}
]
_NOT_METRICS = {"modeltoll_kind", "modeltoll_version", "modeltoll_sha256", "modeltoll_unknown"}  # members of files
_SUFFIXES = re.compile(r"_(bucket|sum|count|created)$")


def page_of(tmp_path):
    """The metrics page of a gateway that has all that can be measured."""
    (tmp_path / "keys.json").write_text('{"version": 1, "keys": []}')
    model = {
        "protocol": "json",
        "json_path": {"route": "/predict", "inputs": "rows", "scores": "scores"},
        "output": {"kind": "probabilities"},
        "measures": [{"name": "entropy"}],
        "mode": "shadow",
        "tariff": "none.json",
    }
    document = {
        "upstream": {"url": "http://127.0.0.1:1"},
        "ledger": {"url": "memory://"},
        "callers": {"key_file": "keys.json"},
        "operation": {"audit_file": "audit.jsonl"},
        "models": {"digits": model},
    }
    (tmp_path / "modeltoll.yaml").write_text(yaml.safe_dump(document))
    return build_gateway(load_settings(tmp_path / "modeltoll.yaml")).shared.metrics.render().decode()


def sample_name(family):
    return family.name + ("_total" if family.type == "counter" else "")


def test_the_page_has_the_metrics_of_the_catalogue_and_no_other(tmp_path):
    page = page_of(tmp_path)
    families = {
        sample_name(family): (family.type, family.documentation)
        for family in text_string_to_metric_families(page)
        if not family.name.endswith("_created")
    }
    expected = {
        PREFIX + metric.name: (metric.kind, metric.text) for metric in METRICS.values() if metric.name != "workers"
    }
    assert families == expected
    assert "worker=" in merge_metrics({0: page, 1: page})


def test_names_follow_the_conventions_of_prometheus():
    for metric in METRICS.values():
        assert re.fullmatch(r"[a-z][a-z_]*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert not metric.text.endswith("."), metric.name
        assert set(metric.labels) <= {"model", "mode", "error", "reason", "measure", "p", "method", "code"}
        assert not re.search(r"(?<!_)(ms|minutes|hours|kib|mib)\b", metric.name)


def test_every_metric_that_a_text_names_is_one_and_all_are_in_the_reference():
    known = {PREFIX + name for name in METRICS}
    proxy = {
        sample_name(family)
        for family in text_string_to_metric_families(SidecarMetrics().render().decode())
        if not family.name.endswith("_created")
    }
    used = {
        (path.relative_to(ROOT).as_posix(), _SUFFIXES.sub("", name))
        for path in TEXTS
        for name in re.findall(r"`(modeltoll_[a-z_0-9]*[a-z])[`{]|\b(modeltoll_[a-z_0-9]*[a-z])\{", path.read_text())
        for name in name
        if name and name not in _NOT_METRICS
    }
    assert len(used) > 20
    assert {(path, name) for path, name in used if name not in known | proxy} == set()
    assert {name for name in known if f"`{name}`" not in PAGE} == set()
    clients = (ROOT / "docs" / "how-to" / "clients.md").read_text()
    assert {name for name in proxy if f"`{name}`" not in PAGE + clients} == set()


def _members(heading):
    """The first column of the table below a heading of the page."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)`", section, re.MULTILINE)


def test_the_members_of_the_log_and_of_the_audit_log_are_those_of_the_reference():
    error = (ValueError, ValueError("x"), None)
    record = logging.LogRecord("modeltoll", logging.INFO, "x.py", 1, "message", (), error)
    assert _members("Log") == list(json.loads(JsonFormatter().format(record)))
    line = AuditRecord(0.0, "", "POST", "/", 200, 0.0).line()
    assert _members("Audit log") == list(json.loads(line)) == [field.name for field in fields(AuditRecord)]
    assert all(name in dir(errors) for name in re.findall(r"such as `(Upstream\w+)`", PAGE))


# Settings


def _given(value, name=""):
    """The dotted names that a document gives, with ``NAME`` and ``N`` where the reference has them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _given(inner, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for inner in value:
            yield from _given(inner, f"{name}.N")
    yield name


@pytest.fixture
def setting_names(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    reference = importlib.import_module("settings_reference")
    return {name for section in reference.sections() for name, _ in section.settings()}


def test_every_setting_has_an_example(setting_names):
    given = {
        re.sub(r"^(models|callers\.tiers)\.[^.]+", r"\1.NAME", name)
        for document in yaml.safe_load_all(EVERY_SETTING.read_text())
        for name in _given(document)
    }
    assert len(setting_names) > 100
    assert setting_names - given == set()


def test_the_examples_can_be_used(tmp_path, monkeypatch):
    for number, document in enumerate(yaml.safe_load_all(EVERY_SETTING.read_text())):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(document))
        assert isinstance(load_settings(path), Settings)


def test_the_examples_are_in_the_reference():
    assert EVERY_SETTING.read_text() in (ROOT / "docs" / "reference" / "settings.md").read_text()


def test_the_reasons_and_modes_of_the_labels_are_those_of_the_reference():
    reasons = {unmeasured.REQUEST, unmeasured.CONTENT_TYPE, unmeasured.VERSION}
    reasons |= {unmeasured.ANSWER, unmeasured.STATUS, unmeasured.FAILURE}
    row = next(line for line in PAGE.splitlines() if line.startswith("| `reason` | why shadow"))
    assert set(re.findall(r"`([a-z-]+)`", row)) - {"reason"} == reasons
    modes = {ADMISSION, EXEMPT, FREE, PREPAID, SHADOW, *wire.MODES}
    row = next(line for line in PAGE.splitlines() if line.startswith("| `mode` | `sealed`"))
    assert set(re.findall(r"`([a-z-]+)`", row)) - {"mode"} == modes
