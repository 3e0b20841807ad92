"""The model of file types in the package ``magika``: its ONNX file alone, without what the package does with its scores."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from modeltoll.bench.datasets.file_rows import CodeRows
    from modeltoll.records import Floats

__all__ = ["CODES", "FileTypeModel", "FileTypeVictim", "load_file_type_model"]

CODES = 256  # the largest code; a row of codes divided by it is an image of 0..1
_INSTALL = "pip install 'modeltoll[bench]'"


@dataclass(frozen=True, slots=True, eq=False)
class FileTypeModel:
    """The scores of file types, with the interface of a scikit-learn classifier.

    ``classes_``: the names of the types. ``endings``: the class of each ending of names, with its dot, that only one type has.
    ``digest``: of the model's file.
    """

    session: Any
    name: str
    classes_: tuple[str, ...]
    endings: Mapping[str, int]
    n_features_in_: int
    digest: str

    def predict_proba(self, rows: CodeRows) -> Floats:
        """Scores (n, classes) of rows (n, 2048) of codes.

        One row a call: in a batch the model's scores depend on the other rows, by up to 0.006, and a batch takes no less time.
        """
        parts = [
            self.session.run(["target_label"], {"bytes": np.ascontiguousarray(row[None], np.int32)})[0] for row in rows
        ]
        return np.concatenate([np.empty((0, len(self.classes_))), *parts])


def load_file_type_model() -> FileTypeModel:
    """The model of the installed package, on one thread.

    Raises:
        SettingsError: ``magika`` or ``onnxruntime`` is not installed, or the package holds no such model.
    """
    found = importlib.util.find_spec("magika")
    if found is None or found.origin is None:
        raise SettingsError([f"the model of file types needs the package magika: {_INSTALL}"])
    try:
        import onnxruntime  # noqa: PLC0415  an extra
    except ModuleNotFoundError as error:
        raise SettingsError([f"the model of file types needs onnxruntime: {_INSTALL}"]) from error
    package = Path(found.origin).parent
    folders = sorted(file.parent for file in package.glob("models/*/model.onnx"))
    if not folders:
        raise SettingsError(["this version of magika holds no ONNX model; magika 1.0 does"])
    folder = folders[-1]
    config = json.loads((folder / "config.min.json").read_text())
    classes = tuple(config["target_labels_space"])
    types = json.loads((package / "config" / "content_types_kb.min.json").read_text())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    width = config["beg_size"] + config["end_size"]
    return FileTypeModel(session, folder.name, classes, _endings(classes, types), width, digest)


def _endings(classes: tuple[str, ...], types: Mapping[str, Any]) -> dict[str, int]:
    """The class of each ending that belongs to one class alone."""
    pairs = [
        (f".{ending.lower()}", place) for place, name in enumerate(classes) for ending in types[name]["extensions"]
    ]
    owners = Counter(ending for ending, _ in set(pairs))
    return {ending: place for ending, place in pairs if owners[ending] == 1}


@dataclass(frozen=True, slots=True, eq=False)
class FileTypeVictim:
    """The model as a victim of the bench: images (n, 1, 2048) are rows of codes, divided by ``CODES``."""

    model: FileTypeModel

    @property
    def identity(self) -> str:
        """The first 16 digits of the digest of the model's file."""
        return self.model.digest[:16]

    def scores(self, images: Floats) -> Floats:
        """Probabilities (n, classes)."""
        return self.model.predict_proba(
            np.round(images.reshape(len(images), self.model.n_features_in_) * CODES).astype(np.uint16)
        )
