"""Validation of a model's scores, and conversion of raw outputs into probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import AnswerError, SettingsError
from modeltoll.names import SCORE_KINDS

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats

__all__ = [
    "FEW_SCORES",
    "LARGEST_TOLERANCE",
    "OUTPUT_KINDS",
    "TOLERANCE",
    "TOLERANCES",
    "check_scores",
    "needed_tolerance",
    "probabilities",
    "scores_of",
    "top_k_scores",
]

OUTPUT_KINDS = SCORE_KINDS  # values of the setting ``output.kind``
TOLERANCE = 1e-3  # largest distance of a row's sum from 1, where none is declared
LARGEST_TOLERANCE = 0.5  # that may be declared; scores further from 1 are no rounded probabilities
TOLERANCES = (TOLERANCE, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, LARGEST_TOLERANCE)  # those that are proposed
_MARGIN = 2.0  # of a proposed tolerance over the largest distance among samples: other rows are further off
_BINARY = 2  # classes of a model that may show one score alone
FEW_SCORES = 64  # of one row, which are read faster one by one than by functions of arrays
NEGATIVE = 1e-6  # a probability down to minus this counts as a rounded 0


def check_scores(
    scores: object, classes: int | None = None, *, partial: bool = False, tolerance: float = TOLERANCE
) -> Floats:
    """Validated probabilities of shape (rows, classes), as float64; each row is scaled to sum to 1.

    It may be ``tolerance`` off: probabilities of few bits or few digits are. One column is that of a binary model: the
    probability p of class 1, and 1 - p of class 0. Numbers between -1e-6 and 0 become 0. ``partial``: the answers do not
    contain every class; missing classes are 0, and a row that sums to less than 1 is not scaled.

    Raises:
        AnswerError: not numbers, not of that shape, NaN, infinite, negative, or not summing to 1.
    """
    values = _matrix(scores, classes)
    few = len(values) == 1 and 1 < values.shape[1] <= FEW_SCORES
    if few and not partial and min(values[0].tolist()) >= 0.0:  # a NaN makes the sum one
        total = float(np.add.reduce(values, axis=1)[0])  # the same bits as among other rows
        if 1.0 - tolerance <= total <= 1.0 + tolerance:
            return np.asarray(values / total)
    least = np.minimum.reduce(values, axis=None, initial=0.0)  # in half the time of the method, for a few numbers
    if not least >= 0.0:
        _check_finite(values)
        if least < -NEGATIVE:
            raise AnswerError("the model's scores hold a negative number; are they logits? (output.kind)")
        values = np.maximum(values, 0.0)
    sums = np.add.reduce(values, axis=1, keepdims=True)
    if not np.maximum.reduce(sums, axis=None, initial=0.0) <= 1.0 + tolerance:
        _check_finite(values)
        raise AnswerError("a row of the model's scores sums to more than 1; are they logits? (output.kind)")
    if values.shape[1] == 1:
        likely = np.minimum(values, 1.0)
        return np.hstack((1.0 - likely, likely))
    if partial:
        return np.asarray(values / np.maximum(sums, 1.0))
    if np.minimum.reduce(sums, axis=None, initial=1.0) < 1.0 - tolerance:
        raise AnswerError(
            "a row of the model's scores does not sum to 1; are they logits (output.kind), or rounded (output.tolerance)?"
        )
    return np.asarray(values / sums)


def needed_tolerance(scores: object) -> float:
    """The ``output.tolerance`` to propose for probabilities as a server writes them, (rows, classes); the more rows the better.

    It is the least of 0.001, 0.002, 0.005, ... that is twice the largest distance of a row's sum from 1, at most 0.5.

    Raises:
        AnswerError: not numbers, not of that shape, or further than 0.5 from 1: those are no probabilities.
    """
    values = _matrix(scores, None)
    _check_finite(values)
    if values.shape[1] == 1:
        return TOLERANCE
    distance = float(np.abs(values.sum(axis=1) - 1.0).max(initial=0.0))
    if distance > LARGEST_TOLERANCE or values.min(initial=0.0) < -NEGATIVE:
        raise AnswerError("a row of the model's scores does not sum to 1; are they logits? (output.kind)")
    return next((one for one in TOLERANCES if one >= _MARGIN * distance), LARGEST_TOLERANCE)


def scores_of(evidence: Evidence, classes: int | None = None, *, partial: bool = False) -> Floats:
    """The scores of an answer, validated by ``check_scores``, once, shape (``evidence.rows``, classes).

    All measures may get the same array, which cannot be changed.

    Raises:
        AnswerError: the scores are missing, invalid, or not as many as the request has rows.
    """
    if evidence.scores is None:
        raise AnswerError("the answer has no scores that can be measured")
    values = evidence.scores
    if not evidence.scores_checked or (classes is not None and values.shape[1] != classes):
        values = check_scores(values, classes, partial=partial)
    values.setflags(write=False)
    if len(values) != evidence.rows:
        raise AnswerError(f"the request has {evidence.rows} rows but the answer has scores for {len(values)}")
    return values


def probabilities(
    raw: object, kind: str, classes: int | None = None, *, partial: bool = False, tolerance: float = TOLERANCE
) -> Floats:
    """Convert raw outputs of the declared kind into probabilities of shape (rows, classes).

    ``logits`` pass a softmax; one column, of a binary model, passes a sigmoid. ``labels``, integers of shape (rows,) or (rows, 1), become one-hot rows; these have
    entropy 0 and gap 0, so that only measures of inputs or votes distinguish them. ``partial`` and ``tolerance`` as
    in ``check_scores``.

    Raises:
        AnswerError: the outputs are not of that kind, or not of ``classes`` classes.
        SettingsError: an unknown kind, or labels without the number of classes.
    """
    if kind == "probabilities":
        return check_scores(raw, classes, partial=partial, tolerance=tolerance)
    if kind == "logits":
        logits = _matrix(raw, classes)
        _check_finite(logits)
        if logits.shape[1] == 1:
            logits = np.hstack((np.zeros_like(logits), logits))
        with np.errstate(over="ignore"):  # a difference beyond the largest number is minus infinity, whose power is 0
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    if kind != "labels":
        raise SettingsError([f"output.kind is {kind!r}; it may be {', '.join(OUTPUT_KINDS)}"])
    if classes is None or classes < 2:
        raise SettingsError(["output.classes must be given, at least 2, where output.kind is labels"])
    return _one_hot(raw, classes)


def top_k_scores(scores: Floats, k: int) -> Floats:
    """The scores (rows, classes) with all but the k largest of each row set to 0; of equal scores the first are kept.

    Such answers are for measures with ``partial``.

    Raises:
        SettingsError: ``k`` is below 1.
    """
    if k < 1:
        raise SettingsError(["an answer needs at least one score"])
    kept = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    out = np.zeros_like(scores)
    np.put_along_axis(out, kept, np.take_along_axis(scores, kept, axis=1), axis=1)
    return out


def _numbers(raw: object) -> NDArray[Any]:
    try:
        values = np.asarray(raw)
    except (TypeError, ValueError):
        raise AnswerError("the model's outputs are not rows of one length") from None
    if values.dtype.kind not in "fiu":
        raise AnswerError("the model's outputs are not numbers")
    return values


def _matrix(raw: object, classes: int | None) -> Floats:
    values = np.asarray(_numbers(raw), dtype=np.float64)
    if values.ndim != 2:
        raise AnswerError("the model's scores are not of shape (rows, classes)")
    if values.shape[1] < 1:
        raise AnswerError("the model's scores have no classes")
    binary = values.shape[1] == 1 and classes in (None, _BINARY)
    if classes is not None and values.shape[1] != classes and not binary:
        raise AnswerError(f"the model's scores have {values.shape[1]} classes where {classes} are declared")
    return values


def _check_finite(values: Floats) -> None:
    if not np.isfinite(values).all():
        raise AnswerError("the model's scores hold a number that is not finite")


def _one_hot(raw: object, classes: int) -> Floats:
    values = _numbers(raw)
    labels = values.reshape(len(values)) if values.ndim == 2 and values.shape[1] == 1 else values
    if labels.ndim != 1:
        raise AnswerError("the model's labels are not of shape (rows,)")
    if not ((labels >= 0) & (labels < classes) & (labels == np.floor(labels))).all():
        raise AnswerError(f"the model's labels are not whole numbers from 0 to {classes - 1}")
    out = np.zeros((labels.size, classes))
    out[np.arange(labels.size), labels.astype(np.intp)] = 1.0
    return out
