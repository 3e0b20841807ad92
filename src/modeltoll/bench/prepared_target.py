"""A target of attacks that is ready for experiments, and the folders that it is prepared in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modeltoll.bench import datasets

if TYPE_CHECKING:
    from modeltoll.bench.data_split import DataSplit
    from modeltoll.bench.datasets import Images
    from modeltoll.bench.leak_measures import Measures
    from modeltoll.bench.victims.victim import Victim
    from modeltoll.records import Floats, Progress

__all__ = ["HonestCaller", "PreparedTarget", "Workspace"]


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of the data sets and the cache of what is trained or measured.

    ``data`` may be None for targets with embedded data. ``foreign``: the source of foreign images, see
    ``datasets.foreign_images``; empty: the target's usual one. ``times``: a file of ``bench times``, which rows are priced
    by; None: the times that were measured when a target was prepared.
    """

    data: Path | None
    cache: Path
    foreign: str = ""
    times: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder of the data sets. Raises DataError where there is none."""
        return datasets.data_folder(self.data)

    def source(self, usual: Callable[[], Images]) -> Images:
        """Foreign images in their own shape, of the usual source if no other is set."""
        return datasets.foreign_images(self.foreign, lambda: self.folder) if self.foreign else usual()


@dataclass(frozen=True, slots=True, eq=False)
class HonestCaller:
    """An honest caller of a target, who sends rows of their own.

    ``kept_back``: makes the images with which they are tested. ``logged``: makes those in the operator's log, with which their
    kind is declared; None: it is not declared.
    """

    kept_back: Callable[[], Images]
    logged: Callable[[], Floats] | None


@dataclass(frozen=True, slots=True, eq=False)
class PreparedTarget:
    """A target ready for experiments: its images, its victim, the leak measures, and the number of classes.

    ``strangers``: makes images (n, ...) of each family that the operator may know, which no attacker has. ``callers``: the
    target's own honest callers, by name; None: honest kinds are changes of the target's images. ``vote_measures``: makes
    ``leak_measures.VOTE_MEASURES``, which are not among ``leak_measures``, and trains the teachers where the cache lacks
    them; None: the target has no teachers.
    """

    data_split: DataSplit
    victim: Victim
    leak_measures: Measures
    classes: int
    strangers: Callable[[], Mapping[str, Floats]]
    callers: Mapping[str, HonestCaller] | None = None
    vote_measures: Callable[[Progress], Measures] | None = None
