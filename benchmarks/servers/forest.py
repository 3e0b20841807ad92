"""The victim of every server here: the demo's random forest, trained by the environment's own scikit-learn.

``private.npz`` in the working folder holds the rows ``x`` (rows, 64) and their labels ``y``.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestClassifier

TREES = 150


def trained() -> RandomForestClassifier:
    """The forest; it predicts on one core, as a server that carries many requests does."""
    with np.load("private.npz") as private:
        return RandomForestClassifier(TREES, random_state=0).fit(private["x"], private["y"])
