"""The bench's report, which ``modeltoll bench report`` has written to ``build/report`` before the site is built."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["REPORT", "chart", "charts", "report"]

REPORT = Path(__file__).resolve().parents[2] / "build" / "report"
_PICTURE = re.compile(r'<picture><source srcset="(?P<name>[\w-]+)-dark\.svg".*?alt="(?P<alt>[^"]*)"></picture>')


def charts() -> list[Path]:
    """All charts, light and dark.

    Raises:
        FileNotFoundError: there is no report; ``make docs`` makes it.
    """
    found = sorted(REPORT.glob("*.svg"))
    if not found:
        raise FileNotFoundError(f"{REPORT} holds no charts; run: modeltoll bench report results/bench -o build/report")
    return found


def chart(name: str, alt: str) -> str:
    """A chart in Markdown, for a page one folder below the top: the light one and the dark one."""
    return "\n".join(f"![{alt}](../report/{name}-{shade}.svg#only-{shade})" for shade in ("light", "dark"))


def report() -> str:
    """The report in Markdown, without its title."""
    _, _, text = (REPORT / "report.md").read_text(encoding="utf-8").partition("\n")
    return _PICTURE.sub(lambda found: chart(found["name"], found["alt"]), text)
