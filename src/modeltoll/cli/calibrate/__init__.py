"""The command ``calibrate``."""

from modeltoll.cli.calibrate.command import commands

__all__ = ["commands"]
