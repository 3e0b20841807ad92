"""Makes frozen dataclasses with slots in about half the time.

A request makes some fifty records. The ``__init__`` of a frozen dataclass sets each field by ``object.__setattr__``, which looks
up the slot by its name each time. Here each slot is set by its own descriptor, which was looked up once.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, TypeVar

__all__ = ["quick_init"]

R = TypeVar("R")


def quick_init(record: type[R]) -> type[R]:
    """Class decorator, above ``@dataclass(frozen=True, slots=True)``: the same ``__init__``, but faster.

    Raises:
        TypeError: the class has a field without a slot, a default factory or ``__post_init__``, which this does not know.
    """
    plain, slots = record.__init__, getattr(record, "__slots__", ())
    names = [one.name for one in fields(record) if one.init]  # type: ignore[arg-type]  # every record is a dataclass
    factories = [one.name for one in fields(record) if one.default_factory is not MISSING]  # type: ignore[arg-type]
    if tuple(names) != tuple(slots) or factories or hasattr(record, "__post_init__"):
        raise TypeError(f"{record.__name__} is no plain frozen dataclass with slots")
    setters: dict[str, Any] = {f"set_{name}": getattr(record, name).__set__ for name in names}
    lines = "".join([f"\n    set_{name}(self, {name})" for name in names])
    exec(f"def __init__(self, {', '.join(names)}):{lines}", setters)  # noqa: S102  as dataclasses do; the names are fields
    init = setters["__init__"]
    for attribute in ("__defaults__", "__kwdefaults__", "__annotations__", "__qualname__", "__module__"):
        setattr(init, attribute, getattr(plain, attribute))
    record.__init__ = init  # type: ignore[method-assign]
    return record
