"""Says what is known against the packages of an environment; a package that cannot be looked up is a failure, too.

    python deploy/audit.py SITE-PACKAGES

pip-audit asks the package index for the page of each version. Some mirrors have none, but pages of projects, which say the same
of their newest version; where that is the one installed, it is asked for there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

from packaging.utils import canonicalize_name

PROJECT = "https://pypi.org/pypi/{name}/json"
OURS = "modeltoll"  # what is being audited for; nobody else knows anything about it
SECONDS = 30.0

Fetch = Callable[[str], dict[str, Any]]  # the page of a project; OSError or ValueError where there is none


def fetched(name: str) -> dict[str, Any]:
    """The index's page of a project."""
    with urllib.request.urlopen(PROJECT.format(name=name), timeout=SECONDS) as page:
        found: dict[str, Any] = json.load(page)
    return found


def asked(folder: str) -> list[dict[str, Any]]:
    """What pip-audit says of each package in a folder. Ends the audit where it says nothing, as without a network."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json", "--path", folder]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if not run.stdout:
        sys.exit("pip-audit could not ask the index; nothing was audited")
    found: list[dict[str, Any]] = json.loads(run.stdout)["dependencies"]
    return found


def from_project(name: str, version: str, fetch: Fetch) -> list[str] | None:
    """What the project's page knows against a version, as identifiers; None where it speaks of another or not at all."""
    try:
        page = fetch(name)
        if page["info"]["version"] != version:
            return None
        return [one["id"] for one in page["vulnerabilities"] if not one.get("withdrawn")]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def audit(packages: list[dict[str, Any]], versions: dict[str, str], fetch: Fetch) -> list[str]:
    """What is wrong with packages as pip-audit describes them, a line each. ``versions``: what is installed, by name."""
    seen = {canonicalize_name(package["name"]) for package in packages}
    wrong = [f"{name} was not looked at" for name in sorted(versions.keys() - seen - {OURS})]
    for package in packages:
        name = canonicalize_name(package["name"])
        if name == OURS:
            continue
        if "skip_reason" in package:
            known = from_project(name, versions.get(name, ""), fetch)
        else:
            known = [one["id"] for one in package["vulns"]]
        if known is None:
            wrong.append(f"{name} could not be looked up: {package['skip_reason']}")
        elif known:
            wrong.append(f"{name} {versions.get(name, '')}: {', '.join(known)}")
    return wrong


def installed(folder: str) -> dict[str, str]:
    """The versions in a folder, by canonical name."""
    command = [sys.executable, "-m", "pip", "list", "--format", "json", "--path", folder]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return {canonicalize_name(one["name"]): one["version"] for one in json.loads(run.stdout)}


def main() -> int:
    """Audit, and say what was found."""
    (folder,) = sys.argv[1:]
    versions = installed(folder)
    if not versions:
        sys.exit(f"there are no packages in {folder}")
    packages = asked(folder)
    wrong = audit(packages, versions, fetched)
    for line in wrong:
        print(line)
    print(f"{len(packages)} packages looked at, {len(wrong)} with something to say against them")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
