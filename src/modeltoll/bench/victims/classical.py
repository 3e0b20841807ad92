"""Victims from scikit-learn for small images and tables; they need no torch and train in seconds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier

if TYPE_CHECKING:
    from modeltoll.bench.datasets import Images
    from modeltoll.records import Floats

__all__ = ["ForestVictim", "forest"]


@dataclass(frozen=True, slots=True, eq=False)
class ForestVictim:
    """A random forest for images (n, h, w), or for rows of a table as images (n, 1, columns)."""

    model: Any
    identity: str

    def scores(self, images: Floats) -> Floats:
        """Probabilities (n, classes)."""
        return np.asarray(self.model.predict_proba(images.reshape(len(images), -1)), np.float64)


def forest(private: Images, trees: int, seed: int) -> ForestVictim:
    """A forest trained on private images; its identity is a digest of them, the number of trees and the seed."""
    sha = hashlib.sha256(f"forest {trees} {seed}".encode())
    sha.update(np.ascontiguousarray(private.x).tobytes())
    sha.update(np.ascontiguousarray(private.y).tobytes())
    model = RandomForestClassifier(n_estimators=trees, random_state=seed)
    model.fit(private.x.reshape(len(private.x), -1), private.y)
    return ForestVictim(model, sha.hexdigest()[:16])
