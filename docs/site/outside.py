"""What pages link to outside of the folder of documents: other documents become pages, other files are copied."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

__all__ = ["COPIED", "PAGES", "ROOT", "linked_files", "rewrite"]

ROOT = Path(__file__).resolve().parents[2]
DOCS = "docs"
# Documents that stand elsewhere in the repository, and the pages that they become.
PAGES: Mapping[str, str] = {
    "CHANGELOG.md": "changelog.md",
    "clients/js/README.md": "reference/javascript.md",
    "deploy/README.md": "how-to/deploying.md",
    "docs/notebooks/a-theft-on-the-digits.ipynb": "tutorials/a-theft-on-the-digits.md",
    "results/README.md": "reference/results.md",
}
COPIED = "files"  # the folder of the site that other files go to
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)(#[^)\s]*)?(?=\))")
_SOURCES = {page: source for source, page in PAGES.items()}


def _in_repository(page: str) -> PurePosixPath:
    """The path in the repository of a page of the site."""
    return PurePosixPath(_SOURCES.get(page, f"{DOCS}/{page}"))


def _target(page: str, link: str) -> str:
    """What a relative link of a page means, as a path in the repository."""
    return os.path.normpath(_in_repository(page).parent / link)


def _in_site(target: str) -> str:
    """Where that is in the site."""
    if target in PAGES:
        return PAGES[target]
    return target.removeprefix(f"{DOCS}/") if target.startswith(f"{DOCS}/") else f"{COPIED}/{target}"


def rewrite(page: str, markdown: str) -> str:
    """A page's Markdown with the repository's relative links made the site's."""

    def moved(found: re.Match[str]) -> str:
        link, anchor = found[1], found[2] or ""
        if ":" in link:
            return found[0]
        target = _in_site(_target(page, link))
        return os.path.relpath(target, PurePosixPath(page).parent) + anchor

    return _LINK.sub(moved, markdown)


def linked_files(pages: Iterable[str], read: Callable[[str], str]) -> set[str]:
    """The files to copy: what pages link to outside of the documents, and that is no page.

    Raises:
        FileNotFoundError: a page links to what is not there.
    """
    found = set()
    for page in pages:
        for link, _ in _LINK.findall(read(page)):
            target = _target(page, link)
            if ":" in link or target in PAGES or target.startswith(f"{DOCS}/"):
                continue
            if not (ROOT / target).is_file():
                raise FileNotFoundError(f"{page} links to {link}, and there is no file {target}")
            found.add(target)
    return found
