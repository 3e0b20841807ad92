"""From a name to a school. A new kind of student is one file and one line in ``SCHOOLS``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from modeltoll.bench.students.kernel import KernelSchool
from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from modeltoll.bench.students.student import School

__all__ = ["SCHOOLS", "enrol"]


def _networks(architecture: str) -> Callable[[int], School]:
    def school(classes: int) -> School:
        try:
            from modeltoll.bench.students.networks import NetworkSchool  # noqa: PLC0415  torch is optional
        except ModuleNotFoundError as error:
            raise SettingsError([f"students: {architecture} needs torch: pip install 'modeltoll[bench]'"]) from error
        return NetworkSchool(architecture, classes)

    return school


SCHOOLS: dict[str, Callable[[int], School]] = {
    "kernel": KernelSchool,
    "mnistnet": _networks("mnistnet"),
    "residual": _networks("residual"),
}


def enrol(name: str, classes: int) -> School:
    """The school of that name in ``SCHOOLS``: ``kernel`` for small images, or the architecture of a network.

    Raises:
        SettingsError: there is no such school, or it needs torch, which is not installed.
    """
    if name not in SCHOOLS:
        raise SettingsError([f"students: there are no {name!r}; known: {', '.join(sorted(SCHOOLS))}"])
    return SCHOOLS[name](classes)
