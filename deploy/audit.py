"""Checks the packages of an environment for known vulnerabilities; a package that cannot be checked is a failure too.

    python deploy/audit.py SITE-PACKAGES

pip-audit reads the index page of each version. Some mirrors have only the pages of projects, which list vulnerabilities of
the newest version; if that version is installed, its project page is read.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

from packaging.utils import canonicalize_name

PROJECT_URL = "https://pypi.org/pypi/{name}/json"
OWN_PACKAGE = "modeltoll"  # not audited: the index does not have it
TIMEOUT_SECONDS = 30.0

Fetch = Callable[[str], dict[str, Any]]  # returns the page of a project; raises OSError or ValueError if there is none


def fetch_project(name: str) -> dict[str, Any]:
    """The page of a project in the index."""
    with urllib.request.urlopen(PROJECT_URL.format(name=name), timeout=TIMEOUT_SECONDS) as page:
        found: dict[str, Any] = json.load(page)
    return found


def run_pip_audit(folder: str) -> list[dict[str, Any]]:
    """pip-audit's result for each package in a folder. Exits if there is none, as without a network."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json", "--path", folder]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if not run.stdout:
        sys.exit("pip-audit could not reach the index; nothing was audited")
    found: list[dict[str, Any]] = json.loads(run.stdout)["dependencies"]
    return found


def project_vulnerabilities(name: str, version: str, fetch: Fetch) -> list[str] | None:
    """Ids of the vulnerabilities on a project's page; None if there is no page, or it is about another version."""
    try:
        page = fetch(name)
        if page["info"]["version"] != version:
            return None
        return [each["id"] for each in page["vulnerabilities"] if not each.get("withdrawn")]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def audit(packages: list[dict[str, Any]], versions: dict[str, str], fetch: Fetch) -> list[str]:
    """Problems of the packages in pip-audit's result, one line each. ``versions``: installed versions by name."""
    audited = {canonicalize_name(package["name"]) for package in packages}
    problems = [f"{name} was not audited" for name in sorted(versions.keys() - audited - {OWN_PACKAGE})]
    for package in packages:
        name = canonicalize_name(package["name"])
        if name == OWN_PACKAGE:
            continue
        if "skip_reason" in package:
            known = project_vulnerabilities(name, versions.get(name, ""), fetch)
        else:
            known = [each["id"] for each in package["vulns"]]
        if known is None:
            problems.append(f"{name} could not be audited: {package['skip_reason']}")
        elif known:
            problems.append(f"{name} {versions.get(name, '')}: {', '.join(known)}")
    return problems


def installed_versions(folder: str) -> dict[str, str]:
    """The versions of the packages in a folder, by canonical name."""
    command = [sys.executable, "-m", "pip", "list", "--format", "json", "--path", folder]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return {canonicalize_name(each["name"]): each["version"] for each in json.loads(run.stdout)}


def main() -> int:
    """Audit a folder and print the problems."""
    (folder,) = sys.argv[1:]
    versions = installed_versions(folder)
    if not versions:
        sys.exit(f"there are no packages in {folder}")
    packages = run_pip_audit(folder)
    problems = audit(packages, versions, fetch_project)
    for line in problems:
        print(line)
    print(f"{len(packages)} packages audited, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
