"""The audit fails on known vulnerabilities, and on packages that cannot be audited."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "audit.py"
SPEC = importlib.util.spec_from_file_location("audit", SCRIPT)
audit = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit)

CLEAN = {"name": "Clean", "version": "1", "vulns": []}
KNOWN = {"name": "known", "version": "1", "vulns": [{"id": "PYSEC-1"}, {"id": "PYSEC-2"}]}
SKIPPED = {"name": "skipped", "skip_reason": "not found"}


def page(version, *vulnerabilities):
    return lambda _: {"info": {"version": version}, "vulnerabilities": list(vulnerabilities)}


def unreachable(_):
    raise urllib.error.URLError("no route")


def must_not_fetch(_):
    raise AssertionError("the project page must not be read")


def test_vulnerabilities_found_by_pip_audit_are_problems():
    assert audit.audit([CLEAN], {"clean": "1"}, must_not_fetch) == []
    assert audit.audit([KNOWN], {"known": "1"}, must_not_fetch) == ["known 1: PYSEC-1, PYSEC-2"]


def test_the_newest_version_is_checked_on_its_projects_page():
    versions = {"skipped": "2"}
    assert audit.audit([SKIPPED], versions, page("2")) == []
    assert audit.audit([SKIPPED], versions, page("2", {"id": "A", "withdrawn": "2026-01-01T00:00:00Z"})) == []
    assert audit.audit([SKIPPED], versions, page("2", {"id": "A", "withdrawn": None})) == ["skipped 2: A"]


@pytest.mark.parametrize(
    "fetch", [page("3"), unreachable, lambda _: {}, lambda _: []], ids=["older", "gone", "empty", "odd"]
)
def test_a_package_that_cannot_be_audited_is_a_problem(fetch):
    """Also an older version, about which the project page says nothing."""
    assert audit.audit([SKIPPED], {"skipped": "2"}, fetch) == ["skipped could not be audited: not found"]


def test_an_installed_package_that_was_not_audited_is_a_problem():
    assert audit.audit([CLEAN], {"clean": "1", "other": "3", "modeltoll": "1"}, must_not_fetch) == [
        "other was not audited"
    ]


def test_without_output_of_pip_audit_the_audit_fails(monkeypatch):
    no_output = subprocess.CompletedProcess([], 1, stdout=b"")
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: no_output)
    with pytest.raises(SystemExit, match="nothing was audited"):
        audit.run_pip_audit("somewhere")


def test_a_folder_without_packages_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["audit.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="no packages"):
        audit.main()


def test_the_own_package_need_not_be_published():
    assert audit.audit([{"name": "modeltoll", "skip_reason": "not found"}], {}, unreachable) == []
