"""The target of file types: real files of a machine, and the model of ``magika``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from modeltoll.bench.data_split import DataSplit, with_brightness_labels
from modeltoll.bench.datasets import Images
from modeltoll.bench.datasets.file_set import FAMILIES, OTHER_PACKAGES, foreign_files, load_file_set
from modeltoll.bench.honest.file_callers import DECLARED_CALLERS, UNDECLARED_CALLERS
from modeltoll.bench.leak_measures import NOVELTY, standard_measures
from modeltoll.bench.prepared_target import HonestCaller, PreparedTarget
from modeltoll.bench.victims.file_types import CODES, FileTypeVictim, load_file_type_model
from modeltoll.bench.victims.measure_files import layered_novelty

if TYPE_CHECKING:
    from modeltoll.bench.datasets.file_rows import CodeRows
    from modeltoll.bench.datasets.file_set import FileRows, FileSet
    from modeltoll.bench.leak_measures import Measures
    from modeltoll.bench.prepared_target import Workspace
    from modeltoll.leak.layered_novelty import LayeredNovelty
    from modeltoll.records import Evidence, Floats, Progress

__all__ = ["prepare_files"]

_CALLERS = {**DECLARED_CALLERS, **UNDECLARED_CALLERS}


@dataclass(frozen=True, slots=True, eq=False)
class _NoveltyOfCodes:
    """The novelty of codes that come as images."""

    codes: LayeredNovelty
    name: str = NOVELTY
    inputs_alone: bool = True

    def measure(self, evidence: Evidence) -> Floats:
        """As ``LeakMeasure.measure``."""
        inputs = None if evidence.inputs is None else evidence.inputs * CODES
        return self.codes.measure(replace(evidence, inputs=inputs))


@dataclass(frozen=True, slots=True, eq=False)
class _FilesAndModel:
    """The part of the target that does not depend on the thief."""

    files: FileSet
    victim: FileTypeVictim
    private: Images
    leak_measures: Measures


@lru_cache(maxsize=1)
def _files_and_model(data: Path | None, cache: Path) -> _FilesAndModel:
    model = load_file_type_model()
    files = load_file_set(data, _CALLERS, model.endings, cache)
    victim, values = FileTypeVictim(model), _values(files.private.rows)
    private = Images(values, victim.scores(values).argmax(axis=1))
    codes = Images(values * CODES, private.y)
    novelty = _NoveltyOfCodes(layered_novelty(f"files-{files.digest}", codes, cache, codes=True))
    return _FilesAndModel(files, victim, private, standard_measures(victim, private, novelty))


def prepare_files(workspace: Workspace, progress: Progress) -> PreparedTarget:
    """The machine's files, or those below the workspace's folder of data sets where one is given, with the model of ``magika``.

    The private data are files as the model labels them: those that it was trained on are not public.
    """
    del progress
    common = _files_and_model(workspace.data, workspace.cache)
    files = common.files
    foreign, unseen = _foreign(files, workspace.foreign)
    calibration, honest, own = _images(files.calibration), _images(files.honest), _values(files.own.rows)
    return PreparedTarget(
        DataSplit(common.private, calibration, honest, own, with_brightness_labels(foreign), unseen),
        common.victim,
        common.leak_measures,
        len(common.victim.model.classes_),
        lambda: {family: _values(files.known[family]) for family in FAMILIES},
        {name: _caller(files, name) for name in _CALLERS if len(files.kept_back[name].rows)},
    )


def _foreign(files: FileSet, source: str) -> tuple[Floats, Floats]:
    """The thief's rows of a family or below a folder, and others of that source that it does not have."""
    family = source or OTHER_PACKAGES
    stolen, unseen = (files.stolen[family], files.known[family]) if family in FAMILIES else foreign_files(Path(family))
    return _values(stolen), _values(unseen)


def _values(rows: CodeRows) -> Floats:
    """Rows of codes as images (n, 1, 2048) of 0..1."""
    values: Floats = rows[:, None] / CODES
    return values


def _images(part: FileRows) -> Images:
    return Images(_values(part.rows), part.classes)


def _caller(files: FileSet, name: str) -> HonestCaller:
    """A caller. They are declared if the operator is to know them and has logged any of their files."""
    rows = files.logged[name].rows
    declared = name in DECLARED_CALLERS and len(rows)
    return HonestCaller(partial(_images, files.kept_back[name]), partial(_values, rows) if declared else None)
