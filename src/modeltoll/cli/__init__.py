"""The command line."""

from modeltoll.cli.verbs import app, main

__all__ = ["app", "main"]
