"""The audit: nothing that is known passes, and nothing that nobody could be asked about."""

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


def gone(_):
    raise urllib.error.URLError("no route")


def nobody(_):
    raise AssertionError("the version's own page had said it")


def test_what_pip_audit_knows_is_taken_from_it():
    assert audit.audit([CLEAN], {"clean": "1"}, nobody) == []
    assert audit.audit([KNOWN], {"known": "1"}, nobody) == ["known 1: PYSEC-1, PYSEC-2"]


def test_the_newest_version_may_be_looked_up_on_its_projects_page():
    versions = {"skipped": "2"}
    assert audit.audit([SKIPPED], versions, page("2")) == []
    assert audit.audit([SKIPPED], versions, page("2", {"id": "A", "withdrawn": "2026-01-01T00:00:00Z"})) == []
    assert audit.audit([SKIPPED], versions, page("2", {"id": "A", "withdrawn": None})) == ["skipped 2: A"]


@pytest.mark.parametrize("fetch", [page("3"), gone, lambda _: {}, lambda _: []], ids=["older", "gone", "empty", "odd"])
def test_what_cannot_be_looked_up_is_a_failure(fetch):
    """Also an older version: what is known of the newest says nothing of it."""
    assert audit.audit([SKIPPED], {"skipped": "2"}, fetch) == ["skipped could not be looked up: not found"]


def test_an_installed_package_that_nobody_looked_at_is_a_failure():
    assert audit.audit([CLEAN], {"clean": "1", "other": "3", "modeltoll": "1"}, nobody) == ["other was not looked at"]


def test_where_pip_audit_says_nothing_the_audit_fails(monkeypatch):
    silent = subprocess.CompletedProcess([], 1, stdout=b"")
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: silent)
    with pytest.raises(SystemExit, match="nothing was audited"):
        audit.asked("somewhere")


def test_a_folder_without_packages_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["audit.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="no packages"):
        audit.main()


def test_what_is_being_audited_need_not_be_published():
    assert audit.audit([{"name": "modeltoll", "skip_reason": "not found"}], {}, gone) == []
