"""For thieves whose students must be networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from modeltoll.bench.students.networks import NetworkCloneFactory
    from modeltoll.bench.students.student import StudentFactory

__all__ = ["networks_of"]


def networks_of(student_factory: StudentFactory) -> NetworkCloneFactory:
    """The school, if its students are networks.

    Raises:
        SettingsError: they are not, or torch is not installed.
    """
    try:
        from modeltoll.bench.students.networks import NetworkCloneFactory  # noqa: PLC0415  torch is optional
    except ModuleNotFoundError as error:
        raise SettingsError(["attacks: this one needs torch: pip install 'modeltoll[bench]'"]) from error
    if not isinstance(student_factory, NetworkCloneFactory):
        raise SettingsError(["attacks: the students of this one must be networks: enrol mnistnet or residual"])
    return student_factory
