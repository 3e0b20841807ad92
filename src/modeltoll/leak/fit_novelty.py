"""Fit layered novelty to private data: prepare the inputs, train a network with and without kinds, keep rows back."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import CalibrationError, RequestError, SettingsError
from modeltoll.leak.corruptions import Corruption, value_range
from modeltoll.leak.inputs import check_inputs
from modeltoll.leak.kind_points import NO_KIND_ROWS, CorruptedRows
from modeltoll.leak.layered_novelty import LayeredNovelty, NoveltyTerms
from modeltoll.leak.novelty_network import NoveltyNetwork
from modeltoll.names import INSTALL_TRAIN

if TYPE_CHECKING:
    from modeltoll.leak.input_transform import InputTransform
    from modeltoll.leak.kind_points import KindRows
    from modeltoll.leak.private_rows import PrivateRows
    from modeltoll.leak.teachers.network_stack import NetworkStack
    from modeltoll.records import Integers, Progress

__all__ = ["NETWORKS", "NO_NETWORK", "SMALL", "TORCH", "FittedNovelty", "NoveltyPlan", "PrivateData", "fit_novelty"]

TORCH, SMALL, NO_NETWORK = NETWORKS = ("torch", "small", "none")

_HELD_BACK, _MOST_HELD_BACK = 10, 2000  # one row in so many is kept back, but no more than these
_TRAINING_ROWS = 60_000
_STEPS, _BATCH = 1400, 128  # training steps that a network needs at least; MNIST's three epochs
_MOST_EPOCHS = 100

Stage = Callable[[str], "AbstractContextManager[Progress]"]


@dataclass(frozen=True, slots=True, eq=False)
class PrivateData:
    """The victim's training data: rows, and their labels (n,) or None."""

    rows: PrivateRows
    labels: NDArray[Any] | None


@dataclass(frozen=True, slots=True, eq=False)
class NoveltyPlan:
    """What to fit.

    ``kinds``: corruptions of private rows that honest callers send. ``rows``: rows (m, d) of further kinds, by name; they
    have no labels, so that they are points, and the network is not trained on them. ``network``: one of ``NETWORKS``;
    None: torch where it is installed, else the small one; none for rows of many codes whose rare pairs tell them apart.
    """

    kinds: tuple[Corruption, ...] = ()
    rows: KindRows = field(default_factory=lambda: NO_KIND_ROWS)
    network: str | None = None
    terms: NoveltyTerms = field(default_factory=NoveltyTerms)


@dataclass(frozen=True, slots=True, eq=False)
class FittedNovelty:
    """A fitted measure, its network, and the private rows that were kept back.

    ``classes``: the labels in the order of the network's outputs; None: no network. ``limits``: the range of the private
    values, for corruptions of few rows. ``held_rows``: rows of the plan's further kinds that are no points.
    """

    measure: LayeredNovelty
    network: NoveltyNetwork
    classes: NDArray[Any] | None
    held: PrivateData
    held_rows: KindRows
    limits: tuple[float, float]


def fit_novelty(
    data: PrivateData, plan: NoveltyPlan = NoveltyPlan(), stage: Stage = lambda _: nullcontext(_silent)
) -> FittedNovelty:
    """Fit the measure and its variant without kinds. ``stage(title)`` gives the progress callback of each step.

    One private row in ten, at most 2,000, is kept back. Half of the training rows and half of the points are private
    rows of the kinds, at most 60,000 and ``plan.terms.max_points`` in all.

    Raises:
        CalibrationError: unusable data, or rows of a kind that are of another width.
        SettingsError: a kind of images for rows that are none, or torch is asked for and not installed.
    """
    rng = np.random.default_rng(plan.terms.seed)
    data = _checked(data)
    kept, held = _split(data, rng)
    transform, rarity = kept.rows.fitted_transform(), kept.rows.fitted_rarity()
    alone = rarity is not None and rarity.suffices(data.rows.inputs.shape[1])
    name = _network_name(plan.network, data, alone=alone)
    corrupted = CorruptedRows(plan.kinds, kept.rows.inputs, kept.rows.shape)
    trained_on = _sample(kept, rng)
    network = NoveltyNetwork(transform, _trained(name, transform, trained_on, plan.terms.seed, stage), rarity)
    with stage("Fitting novelty") as progress:
        measure = LayeredNovelty(network, kept.rows.inputs, plan.terms, progress=progress)
    if plan.kinds and name != NO_NETWORK:
        trained_on = _mixture(kept, corrupted, rng)
        stack = _trained(name, transform, trained_on, plan.terms.seed, stage, " with kinds")
        network = NoveltyNetwork(transform, stack, rarity)
    rows, held_rows = _divided(plan.rows, rng)
    if points := corrupted.rows(plan.terms.max_points // 2, rng) | dict(rows):
        with stage("Fitting novelty with kinds") as progress:
            measure = LayeredNovelty(
                network, kept.rows.inputs, plan.terms, kinds=points, clean=measure, progress=progress
            )
    classes = None if network.stack is None else np.unique(np.asarray(trained_on.labels))
    return FittedNovelty(measure, network, classes, held, held_rows, value_range(data.rows.inputs))


def _mixture(private: PrivateData, corrupted: CorruptedRows, rng: np.random.Generator) -> PrivateData:
    """At most as many rows as a network is trained on: private ones, and as many of kinds."""
    assert private.labels is not None
    inputs = private.rows.inputs
    plain = rng.permutation(len(inputs))[: _TRAINING_ROWS // 2]
    share = max(1, len(plain) // len(corrupted.kinds))
    parts = [(inputs[plain], plain), *(corrupted.of(kind, share, rng) for kind in corrupted.kinds)]
    mixed, sources = (np.concatenate(same) for same in zip(*parts, strict=True))
    return PrivateData(replace(private.rows, inputs=mixed), private.labels[sources])


def _silent(done: int, total: int) -> None:
    del done, total


def _checked(data: PrivateData) -> PrivateData:
    """Inputs as float64; labels of the same number."""
    try:
        inputs = check_inputs(data.rows.inputs, missing=True)
    except RequestError as error:
        raise CalibrationError(f"the private data cannot be used: {error}") from None
    if inputs.shape[1] != np.prod(data.rows.shape):
        raise CalibrationError(f"inputs of {inputs.shape[1]} numbers are not of shape {data.rows.shape}")
    labels = None if data.labels is None else np.asarray(data.labels)
    if labels is not None and labels.shape != (len(inputs),):
        raise CalibrationError(f"there are {len(inputs)} private rows but labels of shape {labels.shape}")
    return PrivateData(replace(data.rows, inputs=inputs), labels)


def _network_name(stated: str | None, data: PrivateData, *, alone: bool) -> str:
    """The network to train: as stated; without labels, or where rare pairs are compared ``alone``, none; else torch where it is."""
    if data.labels is None:
        if stated not in (None, NO_NETWORK):
            raise SettingsError(["a network needs labels of the private data"])
        return NO_NETWORK
    if stated is None:
        if alone:
            return NO_NETWORK  # its views would dilute those of rare pairs
        return TORCH if importlib.util.find_spec("torch") else SMALL
    if stated not in NETWORKS:
        raise SettingsError([f"there is no network {stated!r}; there are {', '.join(NETWORKS)}"])
    return stated


def _split(data: PrivateData, rng: np.random.Generator) -> tuple[PrivateData, PrivateData]:
    """The rows to fit to, and those that are kept back."""
    order = rng.permutation(len(data.rows.inputs))
    count = max(1, min(_MOST_HELD_BACK, len(order) // _HELD_BACK))
    return _part(data, np.sort(order[count:])), _part(data, np.sort(order[:count]))


def _part(data: PrivateData, rows: Integers) -> PrivateData:
    labels = None if data.labels is None else data.labels[rows]
    return PrivateData(replace(data.rows, inputs=data.rows.inputs[rows]), labels)


def _sample(data: PrivateData, rng: np.random.Generator) -> PrivateData:
    """At most as many rows as a network is trained on."""
    count = len(data.rows.inputs)
    return data if count <= _TRAINING_ROWS else _part(data, rng.permutation(count)[:_TRAINING_ROWS])


def _divided(kinds: KindRows, rng: np.random.Generator) -> tuple[KindRows, KindRows]:
    """Rows of each kind that may be points, and one in ten that are kept back."""
    shuffled = {name: rows[rng.permutation(len(rows))] for name, rows in kinds.items()}
    cuts = {name: min(_MOST_HELD_BACK, len(rows) // _HELD_BACK) for name, rows in kinds.items()}
    return (
        {name: rows[cuts[name] :] for name, rows in shuffled.items()},
        {name: rows[: cuts[name]] for name, rows in shuffled.items() if cuts[name]},
    )


def _trained(
    name: str, transform: InputTransform, data: PrivateData, seed: int, stage: Stage, suffix: str = ""
) -> NetworkStack | None:
    """The network of this name, trained on transformed rows; None: no network."""
    if name == NO_NETWORK or data.labels is None:
        return None
    epochs = min(_MOST_EPOCHS, max(3, -(-_STEPS * _BATCH // len(data.rows.inputs))))
    values = transform.apply(data.rows.inputs)
    with stage(f"Training the network{suffix}") as progress:
        if name == SMALL:
            from modeltoll.leak.teachers.small_network import fit_small_network  # noqa: PLC0415  takes long to import

            return fit_small_network(values, data.labels, transform.shape, epochs, seed, progress)
        try:
            from modeltoll.leak.teachers.distil import NOVELTY_NETWORK, fit_novelty_network  # noqa: PLC0415  optional
        except ImportError:
            raise SettingsError([f"the network 'torch' needs torch: {INSTALL_TRAIN}"]) from None
        plan = replace(NOVELTY_NETWORK, seed=seed, epochs=epochs)
        return fit_novelty_network(values, data.labels, transform.shape, plan, progress)
