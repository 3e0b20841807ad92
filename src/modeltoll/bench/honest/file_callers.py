"""Honest callers of a model of file types, by the files that each sends."""

from __future__ import annotations

from collections.abc import Mapping

from modeltoll.bench.datasets.file_rows import FileKind

__all__ = ["DECLARED_CALLERS", "UNDECLARED_CALLERS"]


def _endings(*endings: str) -> FileKind:
    return FileKind(frozenset(endings))


# Those whose files an operator has seen, such as in a log of honest traffic.
DECLARED_CALLERS: Mapping[str, FileKind] = {
    ".py only": _endings(".py"),
    "images and ELF": FileKind(frozenset({".png", ".jpg", ".jpeg", ".gif", ".ico", ".webp", ".bmp"}), elf=True),
    ".h and .c": _endings(".h", ".c"),
    ".json and .yaml": _endings(".json", ".yaml", ".yml"),
    "tiny files, under 200 bytes": FileKind(below=200),
}
# Those whose files the operator knows only as a part of all traffic.
UNDECLARED_CALLERS: Mapping[str, FileKind] = {
    ".md, .rst and .txt": _endings(".md", ".rst", ".txt"),
    ".html, .js and .css": _endings(".html", ".htm", ".js", ".css"),
    ".pl, .sh and .rb": _endings(".pl", ".pm", ".sh", ".rb"),
    "gzip": _endings(".gz"),
}
