"""The command line ``modeltoll``."""

from modeltoll.cli.main import app, main

__all__ = ["app", "main"]
