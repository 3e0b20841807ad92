"""Train one small dense network with scikit-learn, where torch is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from modeltoll.leak.teachers.fit_sklearn import dense_layers
from modeltoll.leak.teachers.network_stack import Layer, NetworkStack
from modeltoll.leak.teachers.partition import check_private

if TYPE_CHECKING:
    from modeltoll.records import Floats, Progress

__all__ = ["fit_small_network"]

_UNITS = (64,)
_BATCH = 128


def fit_small_network(
    inputs: Floats,
    labels: NDArray[Any],
    shape: tuple[int, int, int],
    epochs: int,
    seed: int = 0,
    progress: Progress = lambda _done, _total: None,
) -> NetworkStack:
    """Train a classifier with 64 hidden units on private inputs (n, d) and labels (n,), as a feature extractor.

    ``shape`` is that of an input; the network ignores it. ``progress`` is called after each epoch.

    Raises:
        CalibrationError: unusable data, or a single class.
    """
    values, classes, codes = check_private(inputs, labels)
    network = MLPClassifier(_UNITS, batch_size=min(_BATCH, len(values)), learning_rate_init=2e-3, random_state=seed)
    with threadpool_limits(1):  # the products are small: threads would wait for each other
        for epoch in range(epochs):
            network.partial_fit(values, codes, classes=np.arange(classes.size))
            progress(epoch + 1, epochs)
    layers, _ = dense_layers(network, np.arange(classes.size))
    single = [(w.astype(np.float32)[None], b.astype(np.float32)[None]) for w, b in layers]
    return NetworkStack(tuple(Layer(w, b) for w, b in single), shape)
