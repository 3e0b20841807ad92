"""Prints what the changelog says of a release; ends with an error where the tag is not the version of the source.

    python deploy/release_notes.py TAG

The tag is the version with a v in front, as v0.1.0. Its section of CHANGELOG.md must have a date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADING = r"^## \[{version}\] - (?P<date>.*)\n(?P<notes>(?:(?!## ).*\n)*)"


def version_of(source: str) -> str:
    """The version that a ``_version.py`` holds."""
    found = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if not found:
        sys.exit("_version.py holds no version")
    return found[1]


def notes_of(changelog: str, version: str) -> str:
    """The section of a version. Ends the program where it is missing, has no date, or is empty."""
    found = re.search(HEADING.format(version=re.escape(version)), changelog, re.MULTILINE)
    if not found:
        sys.exit(f"CHANGELOG.md has no section for {version}")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", found["date"]):
        sys.exit(f"CHANGELOG.md gives {version} no date, but {found['date']!r}")
    if not found["notes"].strip():
        sys.exit(f"CHANGELOG.md says nothing of {version}")
    return found["notes"].strip()


def main() -> None:
    """Compare, and print the notes."""
    (tag,) = sys.argv[1:]
    version = version_of((ROOT / "src" / "modeltoll" / "_version.py").read_text())
    if tag != f"v{version}":
        sys.exit(f"the tag is {tag}, but the version of the source is {version}")
    print(notes_of((ROOT / "CHANGELOG.md").read_text(), version))


if __name__ == "__main__":
    main()
