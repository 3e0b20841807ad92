"""The command line."""

from modeltoll.cli.main import app, main

__all__ = ["app", "main"]
