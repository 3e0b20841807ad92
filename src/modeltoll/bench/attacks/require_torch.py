"""The check of attacks whose students must be networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from modeltoll.bench.students.networks import NetworkCloneFactory
    from modeltoll.bench.students.student import StudentFactory

__all__ = ["require_network_factory"]


def require_network_factory(student_factory: StudentFactory) -> NetworkCloneFactory:
    """The same factory, if its students are networks.

    Raises:
        SettingsError: they are not networks, or torch is not installed.
    """
    try:
        from modeltoll.bench.students.networks import NetworkCloneFactory  # noqa: PLC0415  torch is optional
    except ModuleNotFoundError as error:
        raise SettingsError(["attacks: this attack needs torch: pip install 'modeltoll[bench]'"]) from error
    if not isinstance(student_factory, NetworkCloneFactory):
        raise SettingsError(["attacks: the students of this attack must be networks: choose mnistnet or residual"])
    return student_factory
