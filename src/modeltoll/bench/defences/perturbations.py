"""Defences that change the scores of answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["Misinformation", "ReverseSigmoid", "Rounding", "TopOne", "Unchanged", "one_hot"]

_MIN_SCORE = 1e-7


def one_hot(scores: Floats) -> Floats:
    """The one-hot vectors of the most probable classes, (rows, classes)."""
    labels: Floats = np.eye(scores.shape[1])[scores.argmax(axis=1)]
    return labels


@dataclass(frozen=True, slots=True)
class Unchanged:
    """No defence: the scores are unchanged."""

    name: str = "none"

    def answer(self, scores: Floats, leaks: Floats) -> Floats:  # noqa: ARG002  only the scores count
        """The scores themselves."""
        return scores


@dataclass(frozen=True, slots=True)
class TopOne:
    """Answers hold the label only: 1 for the most probable class."""

    name: str = "top-1"

    def answer(self, scores: Floats, leaks: Floats) -> Floats:  # noqa: ARG002  only the scores count
        """One-hot vectors of the most probable classes."""
        return one_hot(scores)


@dataclass(frozen=True, slots=True)
class Rounding:
    """Scores are rounded to ``decimals`` (Tramèr et al. 2016) and normalised to sum to 1.

    A row that rounds to zeros is answered with the one-hot vector of its most probable class.
    """

    decimals: int = 1
    name: str = "rounding"

    def answer(self, scores: Floats, leaks: Floats) -> Floats:  # noqa: ARG002  only the scores count
        """Rounded scores."""
        rounded = np.round(scores, self.decimals)
        empty = rounded.sum(axis=1) == 0.0
        rounded[empty] = one_hot(scores[empty])
        normalised: Floats = rounded / rounded.sum(axis=1, keepdims=True)
        return normalised


@dataclass(frozen=True, slots=True)
class ReverseSigmoid:
    """y - beta (s(gamma s^-1(y)) - 1/2), bounded below by 0 and normalised to sum to 1.

    Lee et al. 2019, *Defending against neural network model stealing attacks using deceptive perturbations*, with their
    beta and gamma.
    """

    beta: float = 0.9
    gamma: float = 0.2
    name: str = "reverse sigmoid"

    def answer(self, scores: Floats, leaks: Floats) -> Floats:  # noqa: ARG002  only the scores count
        """Perturbed scores."""
        clipped = np.clip(scores, _MIN_SCORE, 1.0 - _MIN_SCORE)
        perturbed = np.maximum(scores - self.beta * (expit(self.gamma * logit(clipped)) - 0.5), _MIN_SCORE)
        normalised: Floats = perturbed / perturbed.sum(axis=1, keepdims=True)
        return normalised


@dataclass(frozen=True, slots=True)
class Misinformation:
    """(1 - a) y + a y', where a = 1 / (1 + exp(nu (max y - tau))).

    Kariyappa and Qureshi 2020, *Defending against model stealing attacks with adaptive misinformation*. Rows whose
    highest score is below ``threshold`` (tau) are answered with y'; ``steepness`` is nu. In the paper y' comes from a
    network trained to be wrong; here it is the scores with the order of the classes reversed, which needs no network.
    """

    threshold: float
    steepness: float = 1000.0
    name: str = "misinformation"

    def answer(self, scores: Floats, leaks: Floats) -> Floats:  # noqa: ARG002  only the scores count
        """Mixtures of true and wrong scores."""
        share = expit(-self.steepness * (scores.max(axis=1, keepdims=True) - self.threshold))
        order = scores.argsort(axis=1, kind="stable")
        wrong = np.empty_like(scores)
        np.put_along_axis(wrong, order, np.take_along_axis(scores, order[:, ::-1], axis=1), axis=1)
        mixed: Floats = (1.0 - share) * scores + share * wrong
        return mixed
