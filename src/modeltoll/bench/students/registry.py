"""The student factories by name. A new kind of student is one file and one line in ``STUDENT_FACTORIES``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from modeltoll.bench.students.byte_clones import PERCEPTRON, TREES, ByteCloneFactory
from modeltoll.bench.students.kernel import KernelCloneFactory
from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from modeltoll.bench.students.student import StudentFactory

__all__ = ["STUDENT_FACTORIES", "student_factory"]


def _networks(architecture: str) -> Callable[[int], StudentFactory]:
    def network_factory(classes: int) -> StudentFactory:
        try:
            from modeltoll.bench.students.networks import NetworkCloneFactory  # noqa: PLC0415  torch is optional
        except ModuleNotFoundError as error:
            raise SettingsError([f"students: {architecture} needs torch: pip install 'modeltoll[bench]'"]) from error
        return NetworkCloneFactory(architecture, classes)

    return network_factory


def _byte_networks(classes: int) -> StudentFactory:
    """Networks of bytes; without torch perceptrons."""
    if importlib.util.find_spec("torch") is None:
        return ByteCloneFactory(PERCEPTRON, classes)
    return _networks("bytenet")(classes)


STUDENT_FACTORIES: dict[str, Callable[[int], StudentFactory]] = {
    "kernel": KernelCloneFactory,
    "mnistnet": _networks("mnistnet"),
    "residual": _networks("residual"),
    "bytenet": _byte_networks,
    "trees": partial(ByteCloneFactory, TREES),
}


def student_factory(name: str, classes: int) -> StudentFactory:
    """The factory of that name in ``STUDENT_FACTORIES``: ``kernel`` for small images, ``trees`` for rows of bytes, or the
    architecture of a network.

    Raises:
        SettingsError: there is no such factory, or it needs torch, which is not installed.
    """
    if name not in STUDENT_FACTORIES:
        raise SettingsError([f"students: there is no {name!r}; known: {', '.join(sorted(STUDENT_FACTORIES))}"])
    return STUDENT_FACTORIES[name](classes)
