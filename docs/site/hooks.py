"""MkDocs' events: pages and files that are made when the site is built.

A page may hold ``<!-- made: NAME ARGUMENTS -->``, which the function of that name in ``MAKERS`` replaces by what it makes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from command_line import command_line
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from notebooks import notebook
from outside import COPIED, PAGES, ROOT, linked_files, rewrite
from python_api import plug_in_protocols, suites
from report import chart, charts, report
from settings_reference import settings_tables

MAKERS: Mapping[str, Callable[..., str]] = {
    "settings": settings_tables,
    "command-line": command_line,
    "plug-in-protocols": plug_in_protocols,
    "suites": suites,
    "report": report,
    "chart": lambda name, *alt: chart(name, " ".join(alt)),
}
_FOREIGN = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*(?:src|href|srcset)=["']?(?:https?:)?//[^>]*>""")
_MARKER = re.compile(r"<!-- made: (?P<name>\S+)(?P<arguments>[^>]*?) -->")


def on_files(files: Files, *, config: Any) -> Files:
    """Add pages from elsewhere in the repository, the report's charts, and the files that pages link to."""

    def add(uri: str, path: Path) -> None:
        files.append(File.generated(config, uri, abs_src_path=str(path)))

    for source, page in PAGES.items():
        if source.endswith(".ipynb"):
            files.append(File.generated(config, page, content=notebook(ROOT / source)))
        else:
            add(page, ROOT / source)
    for path in charts():
        add(f"report/{path.name}", path)
    pages = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for target in sorted(linked_files(pages, pages.__getitem__)):
        add(f"{COPIED}/{target}", ROOT / target)
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Rewrite links of the repository's documents, then insert generated parts, whose links are the site's already."""
    linked = rewrite(page.file.src_uri, markdown)
    return _MARKER.sub(lambda found: MAKERS[found["name"]](*found["arguments"].split()), linked)


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """A page that would load anything from another host is an error: the site is complete by itself."""
    if found := _FOREIGN.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another host: {found[0]}")
    return output
