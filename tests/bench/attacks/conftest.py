"""A small victim of the digits, and the resources of an attacker, for the tests of attacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

from modeltoll.bench import datasets
from modeltoll.bench.attacks.attack import AttackerResources


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A victim, the attacker's resources, and digits that neither model is trained on."""

    victim: object
    resources: AttackerResources
    evaluation_set: datasets.Images


def cost(images):
    """The brightness (n,) of images as their price."""
    return images.reshape(len(images), -1).mean(axis=1)


@pytest.fixture(scope="session")
def world():
    """The 8 x 8 digits: 700 for the victim, 700 for the attacker, the rest to evaluate clones; 600 photograph patches."""
    rng = np.random.default_rng(0)
    digits = datasets.digits()
    private, own, evaluation_set = np.split(rng.permutation(len(digits.x)), [700, 1400])
    model = MLPClassifier((64,), max_iter=2000, random_state=0).fit(
        digits.x[private].reshape(-1, 64), digits.y[private]
    )
    patches = datasets.photograph_patches(600, 8, rng)
    foreign = datasets.Images(patches, np.arange(600) % 6)

    def victim(images):
        return model.predict_proba(images.reshape(len(images), -1))

    return World(
        victim,
        AttackerResources(10, digits.x[own], foreign, cost),
        datasets.Images(digits.x[evaluation_set], digits.y[evaluation_set]),
    )
