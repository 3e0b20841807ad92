"""The verb ``calibrate``."""

from modeltoll.cli.calibrate.verb import verbs

__all__ = ["verbs"]
