"""What a release is held to before anything is published."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"


def release_notes():
    spec = importlib.util.spec_from_file_location("release_notes", ROOT / "deploy" / "release_notes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def workflow(name):
    return yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text())


CHANGELOG = "# Changelog\n\n## [0.2.0] - 2027-01-31\n\n### Added\n- This.\n\n## [0.1.0] - 2026-12-01\n\n- That.\n"


def test_the_notes_of_a_release_are_its_section_of_the_changelog():
    assert release_notes().notes_of(CHANGELOG, "0.2.0") == "### Added\n- This."
    assert release_notes().notes_of(CHANGELOG, "0.1.0") == "- That."


@pytest.mark.parametrize(
    ("changelog", "said"),
    [
        (CHANGELOG.replace("[0.2.0]", "[0.2.1]"), "no section"),
        (CHANGELOG.replace("0.2.0", "0x2x0"), "no section"),
        (CHANGELOG.replace("2027-01-31", "unreleased"), "no date"),
        (CHANGELOG.replace("### Added\n- This.\n", ""), "nothing"),
    ],
)
def test_a_release_without_a_dated_section_is_refused(changelog, said):
    with pytest.raises(SystemExit, match=said):
        release_notes().notes_of(changelog, "0.2.0")


def test_a_tag_that_is_not_the_version_is_refused():
    command = [sys.executable, ROOT / "deploy" / "release_notes.py", "v99.0.0"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "the tag is v99.0.0" in run.stderr
    assert run.stdout == ""


def test_the_changelog_has_a_section_for_the_version_of_the_source():
    version = release_notes().version_of((ROOT / "src" / "modeltoll" / "_version.py").read_text())
    assert f"\n## [{version}] - " in (ROOT / "CHANGELOG.md").read_text()


def before(jobs, name):
    """All jobs that must have passed before one runs."""
    needed = jobs[name].get("needs", [])
    needed = [needed] if isinstance(needed, str) else needed
    return set(needed).union(*(before(jobs, other) for other in needed))


def test_nothing_is_published_before_version_tests_and_wheels_are_right():
    jobs = workflow("release")["jobs"]
    for name in ("pypi", "github"):
        assert {"version", "test", "wheels", "sbom", "attest"} <= before(jobs, name)


def test_only_the_jobs_that_publish_may_write():
    """Each job names what it may do, and those that run the project's code may read alone."""
    allowed = {
        ("release", "attest"): {"id-token", "attestations"},
        ("release", "pypi"): {"id-token"},
        ("release", "github"): {"contents"},
        ("docs", "deploy"): {"pages", "id-token"},
    }
    for path in sorted(WORKFLOWS.glob("*.yml")):
        document = workflow(path.stem)
        assert document["permissions"] == {}, path.name
        for name, job in document["jobs"].items():
            writes = {scope for scope, access in job["permissions"].items() if access == "write"}
            assert writes == allowed.get((path.stem, name), set()), f"{path.name}: {name}"
            runs = " ".join(step.get("run", "") for step in job.get("steps", ()))
            assert not (writes and re.search(r"\b(make|python|pip|npm)\b", runs)), f"{path.name}: {name}"


def test_one_version_of_an_action_is_used_everywhere():
    """And it is pinned to a commit, with its version beside it."""
    used = {}
    for path in WORKFLOWS.glob("*.yml"):
        for action, rest in re.findall(r"uses: ([\w./-]+)@(.*)", path.read_text()):
            assert re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", rest), f"{path.name}: {action}"
            used.setdefault(action, set()).add(rest)
    assert used
    assert {action: pins for action, pins in used.items() if len(pins) > 1} == {}


def test_the_kernels_are_required_in_the_wheels_that_a_release_uploads():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    for platform in ("linux", "macos"):
        assert settings[platform]["environment"]["MODELTOLL_KERNEL"] == "required"
    assert "check_wheel.py" in settings["test-command"]
