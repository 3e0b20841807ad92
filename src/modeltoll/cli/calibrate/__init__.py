"""The verb ``calibrate``."""

from modeltoll.cli.calibrate.command import verbs

__all__ = ["verbs"]
