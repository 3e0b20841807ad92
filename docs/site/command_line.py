"""The reference of the command line, made from the typer application."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Any

import typer.main

from modeltoll.cli import app

__all__ = ["command_line"]

_DIRECTIVE = re.compile(r"[|*_\[\]`]")


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """All commands that can be called, by their full names; groups give way to their members."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for verb in sorted(inner):
        yield from _commands(inner[verb], f"{name} {verb}")


def _text(words: str) -> str:
    """Plain text of a help page, so that Markdown leaves it as it is."""
    return _DIRECTIVE.sub(lambda found: f"\\{found[0]}", escape(words, quote=False))


def _section(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name)
    usage = " ".join(command.get_usage(context).removeprefix("Usage:").split())
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [f"| `{option}` | {_text(meaning)} |" for option, meaning in filter(None, records)]
    lines = [f"## `{name}` {{ #{name.replace(' ', '-')} }}", "", _text(command.help or ""), ""]
    lines += ["```console", f"$ {usage}", "```", ""]
    if command.epilog:
        lines += [f"Example: `{command.epilog.removeprefix('Example: ')}`", ""]
    return "\n".join([*lines, "| argument or option | meaning |", "| --- | --- |", *rows])


def command_line() -> str:
    """The whole reference in Markdown: a section for each verb."""
    top = typer.main.get_command(app)
    return "\n\n".join(_section(name, command) for name, command in _commands(top, "modeltoll")) + "\n"
