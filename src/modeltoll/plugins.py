"""Registries of plug-ins: the built-in ones by one line each, those of other packages through entry points.

An entry point names an object of the kind's specification class, such as ``MeasureSpec``. Nothing of a plug-in is
imported before it is used, and a package whose plug-in is broken disturbs only those who use that plug-in.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from modeltoll.errors import ModeltollError, SettingsError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Factory", "Registry", "call_factory", "check_made", "load_reference", "resolve"]

Factory: TypeAlias = str | Callable[..., Any]  # a callable, or where one is: "package.module:name"


class PluginSpec(Protocol):
    """What a specification of any kind has."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which settings find the plug-in."""


Spec = TypeVar("Spec", bound=PluginSpec)


class Registry(Generic[Spec]):
    """All plug-ins of one kind. ``built_in`` are those of this package, by name, in the order of their lines."""

    def __init__(self, kind: str, group: str, spec_type: type[Spec], built_in: Iterable[Spec]) -> None:
        """``kind`` is the kind's name in messages; ``group`` that of the entry points; every spec is a ``spec_type``."""
        self.kind = kind
        self.group = group
        self.built_in: Mapping[str, Spec] = MappingProxyType({name: spec for spec in built_in for name in spec.names})
        self._spec_type = spec_type
        self._names: tuple[Mapping[str, tuple[EntryPoint, ...]], tuple[str, ...]] | None = None

    def names(self) -> tuple[str, ...]:
        """Every name: the built-in ones first, then those that installed packages offer. Nothing is imported."""
        entry_points = _entry_points(self.group)
        if self._names is None or self._names[0] is not entry_points:
            self._names = entry_points, (*self.built_in, *sorted(entry_points.keys() - self.built_in.keys()))
        return self._names[1]

    def find(self, name: str) -> Spec:
        """The specification of that name.

        Raises:
            SettingsError: there is none; several packages offer one; a package offers one under a built-in name; or
                what a package offers cannot be imported or is no specification of this kind.
        """
        offered, own = _entry_points(self.group).get(name, ()), self.built_in.get(name)
        if own is not None and not offered:
            return own
        packages = " and ".join(_package(entry) for entry in offered)
        if own is not None:
            raise SettingsError(
                [
                    f"the {self.kind} {name!r} is built in, but {packages} has one of the same name; uninstall that package"
                ]
            )
        if not offered:
            raise SettingsError([f"there is no {self.kind} {name!r}; there are: {', '.join(self.names())}"])
        if len(offered) > 1:
            raise SettingsError([f"the {self.kind} {name!r} is offered by {packages}; uninstall all but one"])
        return self._load(offered[0])

    def describe(self, name: str) -> str:
        """The kind and name of a plug-in that ``find`` has found, with its package where it is not built in."""
        entry = next(iter(_entry_points(self.group).get(name, ())), None)
        return f"{self.kind} {name}" if entry is None else f"{self.kind} {name} of {_package(entry)}"

    def others(self) -> Iterator[Spec]:
        """The usable specifications of other packages, by name; those that cannot be used are left out."""
        for name in self.names()[len(self.built_in) :]:
            try:
                yield self.find(name)
            except SettingsError:
                continue

    def _load(self, entry: EntryPoint) -> Spec:
        what = f"the {self.kind} {entry.name!r} of {_package(entry)}"
        try:
            spec = entry.load()
        except (Exception, SystemExit) as error:
            raise SettingsError([f"{what} cannot be imported: {_one_line(error)}"]) from error
        if not isinstance(spec, self._spec_type):
            raise SettingsError([f"{what} is {type(spec).__name__}, not {self._spec_type.__name__}: {entry.value}"])
        if entry.name not in spec.names:
            raise SettingsError(
                [f"{what} has the name {' or '.join(spec.names)} in its specification; use the entry point's name"]
            )
        return spec


@lru_cache(maxsize=16)
def _entry_points(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """All entry points of a group by name. It takes some 20 ms, so each group is read once in a process."""
    from importlib.metadata import entry_points  # noqa: PLC0415  a client that pays is to start without it

    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=group):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def _package(entry: EntryPoint) -> str:
    return f"the package {entry.dist.name} {entry.dist.version}" if entry.dist else "an unnamed package"


def _one_line(error: BaseException) -> str:
    """Class and message of an exception, without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def resolve(factory: Factory) -> Any:
    """What a reference names; a callable is returned as it is. Raises ``ImportError`` or ``AttributeError`` where its target does not exist."""
    if not isinstance(factory, str):
        return factory
    module, _, path = factory.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def load_reference(reference: Factory, what: str, role: str) -> Any:
    """As ``resolve``; ``what`` names the plug-in and ``role`` the reference in messages.

    Raises:
        SettingsError: the reference has no target that can be imported.
    """
    try:
        return resolve(reference)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError([f"{what}: its {role} {reference} cannot be used: {_one_line(error)}"]) from error


def call_factory(factory: Factory, arguments: Mapping[str, Any], what: str) -> Any:
    """What a factory makes of keyword arguments; ``what`` names it in messages.

    Raises:
        SettingsError: there is no such factory; it does not take these arguments, or misses one; or it fails.
        ModeltollError: the factory raises it.
    """
    make = load_reference(factory, what, "factory")
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError) as error:
        raise SettingsError([f"{what}: its factory {factory} cannot be used: {_one_line(error)}"]) from error
    try:
        signature.bind(**arguments)
    except TypeError as error:
        takes = ", ".join(signature.parameters) or "none"
        raise SettingsError([f"{what}: options do not fit: {error}; it takes: {takes}"]) from None
    try:
        return make(**arguments)
    except ModeltollError:
        raise
    except Exception as error:
        raise SettingsError([f"{what}: cannot be made; check its options: {_one_line(error)}"]) from error


def check_made(made: object, name: str, methods: Iterable[str], what: str) -> None:
    """Check that what a factory made has the name of its specification, and the methods of its kind.

    Raises:
        SettingsError: it has another name or none, or lacks a method.
    """
    found = getattr(made, "name", None)
    if found != name:
        named = f"named {found!r}" if found is not None else f"without a name: {type(made).__name__}"
        raise SettingsError([f"{what}: its factory returned an object {named}"])
    lacking = [method for method in methods if not callable(getattr(made, method, None))]
    if lacking:
        raise SettingsError([f"{what}: the object that its factory returned lacks {', '.join(lacking)}"])
