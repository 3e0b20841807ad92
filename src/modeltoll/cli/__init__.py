"""The command line ``modeltoll``.

Ctrl-C ends a command with the exit code 130 and without a traceback at any time, also while the commands are imported, which
takes a third of a second. So neither this module nor ``modeltoll`` imports anything slow.
"""

from __future__ import annotations

from modeltoll.cli import interrupts

TYPE_CHECKING = False  # that of typing, which is slow
if TYPE_CHECKING:
    from typing import Any

    from modeltoll.cli.commands import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    interrupts.exit_at_once()
    from modeltoll.cli.commands import app  # noqa: PLC0415  see above

    app()


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from modeltoll.cli.commands import app  # noqa: PLC0415

    return app
