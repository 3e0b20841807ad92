"""A victim whose answers follow the brightness of an image's halves."""

from __future__ import annotations

import numpy as np


def halves(images):
    """A victim: the probabilities of the first two classes are proportional to the brightness of the halves."""
    up, down = (images[:, part].reshape(len(images), -1).mean(axis=1) for part in (slice(14), slice(14, None)))
    scores = np.full((len(images), 10), 0.01)
    scores[:, 0], scores[:, 1] = up, down
    return scores / scores.sum(axis=1, keepdims=True)
