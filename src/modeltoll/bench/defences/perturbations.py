"""Defences that change what is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["Misinformation", "ReverseSigmoid", "Rounding", "TopOne", "Unchanged"]

_EDGE = 1e-7


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Nothing is changed."""

    name: str = "none"

    def answer(self, scores: Floats) -> Floats:
        """The true scores."""
        return scores


@dataclass(frozen=True, slots=True)
class TopOne:
    """Only the label is told: 1 for the most probable class."""

    name: str = "top-1"

    def answer(self, scores: Floats) -> Floats:
        """One-hot rows."""
        told: Floats = np.eye(scores.shape[1])[scores.argmax(axis=1)]
        return told


@dataclass(frozen=True, slots=True)
class Rounding:
    """Scores are rounded to so many decimals (Tramèr et al. 2016), then made to sum to 1 again.

    A row of which nothing is left tells its most probable class.
    """

    decimals: int = 1
    name: str = "rounding"

    def answer(self, scores: Floats) -> Floats:
        """Rounded rows."""
        rounded = np.round(scores, self.decimals)
        empty = rounded.sum(axis=1) == 0.0
        rounded[empty] = TopOne().answer(scores[empty])
        told: Floats = rounded / rounded.sum(axis=1, keepdims=True)
        return told


@dataclass(frozen=True, slots=True)
class ReverseSigmoid:
    """y - beta (s(gamma s^-1(y)) - 1/2), cut at 0 and made to sum to 1: Lee et al. 2019, *Defending against neural
    network model stealing attacks using deceptive perturbations*, with their beta and gamma."""

    beta: float = 0.9
    gamma: float = 0.2
    name: str = "reverse sigmoid"

    def answer(self, scores: Floats) -> Floats:
        """Perturbed rows."""
        edged = np.clip(scores, _EDGE, 1.0 - _EDGE)
        perturbed = np.maximum(scores - self.beta * (expit(self.gamma * logit(edged)) - 0.5), _EDGE)
        told: Floats = perturbed / perturbed.sum(axis=1, keepdims=True)
        return told


@dataclass(frozen=True, slots=True)
class Misinformation:
    """(1 - a) y + a y', where a = 1 / (1 + exp(nu (max y - tau))): Kariyappa and Qureshi 2020, *Defending against model
    stealing attacks with adaptive misinformation*.

    Rows of which the victim is less sure than ``threshold`` (tau) are answered with y'. Their y' comes from a network
    trained to be wrong; here it is the scores with the order of the classes reversed, which is as wrong and needs none.
    """

    threshold: float
    steepness: float = 1000.0
    name: str = "misinformation"

    def answer(self, scores: Floats) -> Floats:
        """Mixed rows."""
        share = expit(-self.steepness * (scores.max(axis=1, keepdims=True) - self.threshold))
        order = scores.argsort(axis=1, kind="stable")
        wrong = np.empty_like(scores)
        np.put_along_axis(wrong, order, np.take_along_axis(scores, order[:, ::-1], axis=1), axis=1)
        told: Floats = (1.0 - share) * scores + share * wrong
        return told
