"""The targets of attacks: a data set with its victim, the split of the images, and the leak measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench import datasets
from modeltoll.bench.data_split import DataSplit, SplitSizes, mirrored, shifted, split_images, with_brightness_labels
from modeltoll.bench.datasets import DataError, Images
from modeltoll.bench.datasets.file_set import OTHER_PACKAGES
from modeltoll.bench.datasets.foreign import NOISE
from modeltoll.bench.identity import digest
from modeltoll.bench.leak_measures import VOTE_MEASURES, Teachers, standard_measures, vote_measures
from modeltoll.bench.paper import TABLE_5
from modeltoll.bench.prepared_target import PreparedTarget, Workspace
from modeltoll.bench.victims.file_types import CODES
from modeltoll.bench.vote_cache import CachedVoters
from modeltoll.leak.corruptions import NO_KINDS, PHOTO_KINDS, TABLE_KINDS

if TYPE_CHECKING:
    from modeltoll.bench.leak_measures import Measures
    from modeltoll.records import Floats, Progress

__all__ = ["MAGIKA", "TARGETS", "Target"]


_SEED = 20260101  # of the split of images; the same in every experiment
MAGIKA = "magika"
TINY_IMAGENET, PATCHES, SHUFFLED = "tiny-imagenet", "photograph patches", "shuffled columns"
_FAMILIES = (TINY_IMAGENET, "emnist", "mnist", "fashion", "cifar10", NOISE)  # of strangers
_TREES = 150


@dataclass(frozen=True, slots=True)
class Target:
    """How to prepare a target, and what is known before.

    ``undefended`` are seconds per row without a gateway (None: measured on this machine); ``source`` states where the
    number is from; ``estimators``: the seconds per row of measures, by name, that it gives, too. ``queries`` is the default
    budget of attacks. ``architecture``: the students of attacks, a name in ``students.registry``. ``levels``: the grey
    levels of a pixel. ``kinds``: those that the operator declares, as ``leak.corruptions.parse_kinds`` reads them.
    ``foreign``: the usual source of foreign images, a family of strangers. ``teachers``: digits that
    stand for the recipe of the teachers whose votes the prepared target measures; None: it has none.
    """

    name: str
    queries: int
    undefended: float | None
    source: str
    architecture: str
    levels: int
    prepare: Callable[[Workspace, Progress], PreparedTarget]
    kinds: str = PHOTO_KINDS
    foreign: str = TINY_IMAGENET
    estimators: Mapping[str, float] = field(default_factory=dict)
    teachers: Callable[[], str] | None = None


def _split_foreign(
    images: Images, shape: tuple[int, ...], unseen_foreign: int, rng: np.random.Generator
) -> tuple[Images, Floats]:
    """Foreign images of the victim's shape for the attacker, and ``unseen_foreign`` others."""
    order = rng.permutation(len(images.x))
    attacker, unseen = order[unseen_foreign:], order[:unseen_foreign]
    attacker_images = Images(datasets.resize_to(images.x[attacker], shape), images.y[attacker])
    return attacker_images, datasets.resize_to(images.x[unseen], shape)


def _strangers(
    families: Sequence[str], folder: Callable[[], Path], shape: tuple[int, ...], count: int, rng: np.random.Generator
) -> dict[str, Floats]:
    """``count`` images of each family, which ``_split_foreign`` with a generator in the same state keeps from the attacker."""
    found = {}
    for family in families:
        images = datasets.foreign_images(family, folder).x
        unseen = deepcopy(rng).permutation(len(images))[:count]
        found[family] = datasets.resize_to(images[unseen], shape)
    return found


def _published(name: str, augment: Callable[[Floats], Floats]) -> Callable[[Workspace, Progress], PreparedTarget]:
    """A published data set with its network victim, and Tiny-ImageNet as the usual foreign source."""

    def prepare(workspace: Workspace, progress: Progress) -> PreparedTarget:
        from modeltoll.bench.victims import registry  # noqa: PLC0415  torch is an extra
        from modeltoll.bench.victims.measure_files import layered_novelty  # noqa: PLC0415

        folder, rng, sizes = workspace.folder, np.random.default_rng(_SEED), SplitSizes(3500, 4000, 1000)
        victim = registry.load_victim(name, folder, workspace.cache, progress)
        load = registry.VICTIMS[name].load
        private = load(folder, train=True)
        calibration, own, honest = split_images(load(folder, train=False), sizes, rng)
        shape, before = private.x.shape[1:], deepcopy(rng)
        foreign, unseen_foreign = _split_foreign(
            workspace.source(lambda: datasets.tiny_imagenet(folder)), shape, sizes.unseen_foreign, rng
        )
        novelty = layered_novelty(name, private, workspace.cache) if private.x.ndim == 3 else None
        leak_measures = standard_measures(victim, private, novelty)
        data_split = DataSplit(private, calibration, honest, augment(own.x), foreign, unseen_foreign)
        families = [family for family in _FAMILIES if family != name.partition("-")[0]]
        strangers = partial(_strangers, families, lambda: folder, shape, sizes.unseen_foreign, before)
        classes = int(private.y.max()) + 1
        votes = partial(_vote_measures, name, private, workspace.cache)
        return PreparedTarget(data_split, victim, leak_measures, classes, strangers, vote_measures=votes)

    return prepare


def _vote_measures(name: str, private: Images, cache: Path, progress: Progress) -> Measures:
    """The measures of the votes of a network victim's teachers, which are trained if they are not in the cache."""
    from modeltoll.bench.victims.teachers import TEACHERS, load_teachers  # noqa: PLC0415  torch is an extra

    recipe, trained = TEACHERS[name], load_teachers(name, private, cache, progress)
    votes = CachedVoters(trained.votes, cache / f"votes-{name}-{trained.identity}")
    return vote_measures(Teachers(votes, recipe.count, recipe.sigma, recipe.delta))


def _recipe_of_teachers(name: str) -> str:
    """Digits that stand for the recipe of a network victim's teachers."""
    from modeltoll.bench.victims.teachers import TEACHERS  # noqa: PLC0415  torch is an extra

    return digest(asdict(TEACHERS[name]), 12)


def _digits(workspace: Workspace, progress: Progress) -> PreparedTarget:
    """The 8 x 8 digits of scikit-learn with a random forest; foreign images are patches of its two photographs."""
    del progress
    rng = np.random.default_rng(_SEED)
    images = datasets.digits()
    private, unseen = np.split(rng.permutation(len(images.x)), [700])
    calibration, own, honest = split_images(Images(images.x[unseen], images.y[unseen]), SplitSizes(450, 400, 200), rng)
    usual = lambda: with_brightness_labels(datasets.photograph_patches(2200, images.x.shape[1], rng))  # noqa: E731
    shape = images.x.shape[1:]
    noise = _strangers((NOISE,), lambda: workspace.folder, shape, 200, rng)
    source = workspace.source(usual)
    foreign, unseen_foreign = _split_foreign(source, shape, 200, rng)
    known = Images(images.x[private], images.y[private])
    data_split = DataSplit(known, calibration, honest, own.x, foreign, unseen_foreign)
    return _forest_target(data_split, {PATCHES: unseen_foreign, **noise})


def _cells(workspace: Workspace, progress: Progress) -> PreparedTarget:
    """A table: scikit-learn's breast cancer data, columns scaled to 0..1; foreign rows draw each column independently."""
    del progress
    rng = np.random.default_rng(_SEED)
    table = datasets.cells()
    private, unseen = np.split(rng.permutation(len(table.x)), [150])
    calibration, own, honest = split_images(Images(table.x[unseen], table.y[unseen]), SplitSizes(250, 80, 200), rng)
    known = Images(table.x[private], table.y[private])
    if workspace.foreign:
        raise DataError("cells: a table has no other source of foreign rows; leave out --foreign")
    mixed = with_brightness_labels(np.stack([rng.choice(column, 1200) for column in known.x[:, 0].T], axis=1)[:, None])
    foreign, unseen_foreign = _split_foreign(mixed, known.x.shape[1:], 200, rng)
    data_split = DataSplit(known, calibration, honest, own.x, foreign, unseen_foreign)
    return _forest_target(data_split, {SHUFFLED: unseen_foreign, NOISE: rng.random(unseen_foreign.shape)})


def _forest_target(data_split: DataSplit, strangers: Mapping[str, Floats]) -> PreparedTarget:
    from modeltoll.bench.victims.classical import forest  # noqa: PLC0415  scikit-learn is slow to import

    victim = forest(data_split.private, _TREES, seed=0)
    leak_measures = standard_measures(victim, data_split.private, None)
    return PreparedTarget(data_split, victim, leak_measures, int(data_split.private.y.max()) + 1, lambda: strangers)


def _files(workspace: Workspace, progress: Progress) -> PreparedTarget:
    """Files of the machine with the model of ``magika``."""
    from modeltoll.bench.file_target import prepare_files  # noqa: PLC0415  magika and onnxruntime are of an extra

    return prepare_files(workspace, progress)


_SOURCE = "Dziedzic et al. 2022, Table 5, 64 queries"


def _of_the_paper(name: str, queries: int, architecture: str, victim: str = "", note: str = "") -> Target:
    """A target whose times of a row are those of the paper's Table 5; ``victim``: its name if it has another victim."""
    times, augment = TABLE_5[name], mirrored if name == "cifar10" else shifted
    return Target(
        victim or name,
        queries,
        times.inference,
        _SOURCE + note,
        architecture,
        255,
        _published(victim or name, augment),
        estimators=dict.fromkeys(VOTE_MEASURES, times.pate - times.inference),
        teachers=partial(_recipe_of_teachers, victim or name),
    )


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target("digits", 300, None, "measured on this machine", "kernel", 16, _digits, foreign=PATCHES),
        Target("cells", 80, None, "measured on this machine", "kernel", 255, _cells, TABLE_KINDS, SHUFFLED),
        Target(
            MAGIKA, 3000, None, "measured on this machine", "bytenet", CODES, _files, NO_KINDS, foreign=OTHER_PACKAGES
        ),
        _of_the_paper("mnist", 10_000, "mnistnet"),
        _of_the_paper("fashion", 10_000, "mnistnet", note=" (MNIST's)"),
        _of_the_paper("cifar10", 9_000, "residual"),
        _of_the_paper("cifar10", 9_000, "residual", "cifar10-resnet34"),
        _of_the_paper("svhn", 10_000, "residual"),
    )
}
