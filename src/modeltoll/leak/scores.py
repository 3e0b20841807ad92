"""The one guard of what a model answered, and the way from declared raw outputs to probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import AnswerError, SettingsError

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats

__all__ = ["OUTPUT_KINDS", "check_scores", "probabilities", "scores_of", "top_k_scores"]

OUTPUT_KINDS = ("probabilities", "logits", "labels")  # what ``output.kind`` may declare
TOLERANCE = 1e-3  # how far from 1 a row of probabilities may sum
NEGATIVE = 1e-6  # how far below 0 rounding may have brought a probability


def check_scores(scores: object, classes: int | None = None, *, partial: bool = False) -> Floats:
    """Probabilities of shape (rows, classes) as float64, each row scaled to sum to 1 (it may be 1e-3 off).

    A number between -1e-6 and 0 is taken for a rounded 0. ``partial`` answers do not show every class: what is not shown
    is 0, a row may sum to less than 1, and is left as it is.

    Raises:
        AnswerError: not numbers, not of that shape, fewer than 2 classes, NaN, infinite, negative, or not summing to 1.
    """
    values = _matrix(scores, classes)
    least = values.min(initial=0.0)
    if not least >= 0.0:
        _check_finite(values)
        if least < -NEGATIVE:
            raise AnswerError("the model's scores hold a negative number; are they logits? (output.kind)")
        values = np.maximum(values, 0.0)
    sums = values.sum(axis=1, keepdims=True)
    if not sums.max(initial=0.0) <= 1.0 + TOLERANCE:
        _check_finite(values)
        raise AnswerError("a row of the model's scores sums to more than 1; are they logits? (output.kind)")
    if partial:
        return np.asarray(values / np.maximum(sums, 1.0))
    if sums.min(initial=1.0) < 1.0 - TOLERANCE:
        raise AnswerError("a row of the model's scores does not sum to 1; are they logits? (output.kind)")
    return np.asarray(values / sums)


def scores_of(evidence: Evidence, classes: int | None = None, *, partial: bool = False) -> Floats:
    """The scores of an answer, checked as by ``check_scores``, one row per row of the request.

    Raises:
        AnswerError: there are none, or they do not pass the check.
    """
    if evidence.scores is None:
        raise AnswerError("the answer shows no scores that could be measured")
    values = check_scores(evidence.scores, classes, partial=partial)
    if len(values) != evidence.rows:
        raise AnswerError(f"the request has {evidence.rows} rows but the answer has scores for {len(values)}")
    return values


def probabilities(raw: object, kind: str, classes: int | None = None, *, partial: bool = False) -> Floats:
    """Turn raw outputs of the declared kind into probabilities of shape (rows, classes), ``partial`` as in ``check_scores``.

    ``logits`` go through a softmax. ``labels``, integers of shape (rows,) or (rows, 1), become rows with a single 1;
    such rows have entropy 0 and gap 0, so only measures that look at inputs or votes tell them apart.

    Raises:
        AnswerError: the outputs are not of that kind, or not of ``classes`` classes.
        SettingsError: no such kind, or labels without the number of classes.
    """
    if kind == "probabilities":
        return check_scores(raw, classes, partial=partial)
    if kind == "logits":
        logits = _matrix(raw, classes)
        _check_finite(logits)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    if kind != "labels":
        raise SettingsError([f"output.kind is {kind!r}; it may be {', '.join(OUTPUT_KINDS)}"])
    if classes is None or classes < 2:
        raise SettingsError(["output.classes must be given, at least 2, where output.kind is labels"])
    return _one_hot(raw, classes)


def top_k_scores(scores: Floats, most: int) -> Floats:
    """The answer of a model that shows its ``most`` largest scores only: the others are 0, shape (rows, classes).

    Of equal scores the first are shown. Measures with ``partial`` price such answers.

    Raises:
        SettingsError: ``most`` is below 1.
    """
    if most < 1:
        raise SettingsError(["an answer shows at least one score"])
    kept = np.argsort(-scores, axis=1, kind="stable")[:, :most]
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
    if values.shape[1] < 2:
        raise AnswerError("the model's scores have fewer than 2 classes")
    if classes is not None and values.shape[1] != classes:
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
