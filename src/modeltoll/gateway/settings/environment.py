"""Settings in the environment, as shells, containers and Kubernetes set them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_settings import EnvSettingsSource

from modeltoll.errors import SettingsError
from modeltoll.files import clean_text, read_text_file
from modeltoll.gateway.settings.secret_text import MOST_TEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NESTED", "PREFIX", "Environment", "EnvironmentSource", "read_environment"]

PREFIX, NESTED = "MODELTOLL_", "__"
_FILE = "_FILE"  # NAME_FILE names a file that holds the value of NAME
_OF_COMMANDS = frozenset({"MODELTOLL_DATA", "MODELTOLL_KEY"})  # read by other commands
_LISTS = frozenset({"MODELTOLL_SECRETS"})  # may be written without JSON, with blanks between the values
# What Kubernetes sets in every container for a Service whose name begins with "modeltoll".
_SERVICE_LINK = re.compile(r"MODELTOLL(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_PORT, _SERVICE_ADDRESS = re.compile(r"MODELTOLL(_\w+)?_PORT"), re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Environment:
    """``values`` of variables of settings, by their names; ``warnings`` for the operator, one sentence each."""

    values: Mapping[str, str]
    warnings: tuple[str, ...]


def read_environment(variables: Mapping[str, str], settings: type[BaseModel]) -> Environment:
    """The variables that set something, as ``settings`` has it.

    Byte order marks and ends of lines around values are taken away, empty variables count as not set, and the value of
    ``NAME_FILE`` is the content of that file. Variables of Kubernetes' service links are left out.

    Raises:
        SettingsError: a file cannot be read, or a variable is given both ways.
    """
    values: dict[str, str] = {}
    warnings: list[str] = []
    faults: list[str] = []
    links = sorted(name for name, value in variables.items() if _is_service_link(name.upper(), value))
    for name in sorted(variables.keys() - {*links}):
        upper, value = name.upper(), clean_text(variables[name])
        if not upper.startswith(PREFIX) or upper in _OF_COMMANDS:
            continue
        target = upper.removesuffix(_FILE)
        if not value:
            warnings.append(f"{name} is empty, and counts as not set")
        elif target != upper and not _reaches(upper, settings) and _reaches(target, settings):
            _read_file(name, target, variables, values, faults)
        elif upper.removeprefix(PREFIX).lower().split(NESTED)[0] in settings.model_fields:
            values[upper] = value  # an unknown member of a section is refused with the settings
        else:
            warnings.append(f"{name} is not a setting, and is ignored{_suggestion(upper, settings)}")
    if faults:
        raise SettingsError(faults)
    if links:
        more = f" and {len(links) - 1} more" if len(links) > 1 else ""
        warnings.append(
            f"{links[0]}{more}: variables of Kubernetes' service links are ignored; enableServiceLinks: false in the "
            "pod's spec leaves them out"
        )
    return Environment({name: _listed(name, value) for name, value in values.items()}, tuple(warnings))


def _read_file(name: str, target: str, variables: Mapping[str, str], values: dict[str, str], faults: list[str]) -> None:
    """Read the value of ``target`` from the file that the variable ``name`` names, into ``values``."""
    if variables.get(target):
        faults.append(f"{target} and {name} are both set; leave one out")
        return
    try:
        values[target] = read_text_file(Path(clean_text(variables[name])), MOST_TEXT_BYTES)
    except ValueError as error:
        faults.append(f"{name}: {error}")


class EnvironmentSource(EnvSettingsSource):
    """The environment as ``read_environment`` reads it."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        found = read_environment(os.environ, self.settings_cls)
        return {name.lower(): value for name, value in found.values.items()}


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_PORT.fullmatch(name):
        return _SERVICE_ADDRESS.match(value) is not None
    return _SERVICE_LINK.fullmatch(name) is not None


def _listed(name: str, value: str) -> str:
    return json.dumps(value.replace(",", " ").split()) if name in _LISTS and not value.startswith("[") else value


def _reaches(name: str, settings: type[BaseModel]) -> bool:
    """Whether there is a setting of the variable's name, or one of any name within it, such as a model."""
    section: type[BaseModel] | None = settings
    for step in name.removeprefix(PREFIX).lower().split(NESTED):
        if section is None:
            return True
        if step not in section.model_fields:
            return False
        section = _section(section.model_fields[step].annotation)
    return True


def _section(annotation: Any) -> type[BaseModel] | None:
    """The class of a section of the settings; None of any other setting."""
    found = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((each for each in found if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _names(settings: type[BaseModel], prefix: str = PREFIX) -> Iterator[str]:
    for name, field in settings.model_fields.items():
        section = _section(field.annotation)
        yield prefix + name.upper()
        if section is not None:
            yield from _names(section, f"{prefix}{name.upper()}{NESTED}")


def _suggestion(name: str, settings: type[BaseModel]) -> str:
    similar = get_close_matches(name, list(_names(settings)), 1, 0.8)
    return f"; perhaps you mean {similar[0]}" if similar else ""
