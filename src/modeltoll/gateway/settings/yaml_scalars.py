"""YAML in which nothing is read as something that it does not look like.

YAML 1.1, which PyYAML reads, takes ``no`` and ``on`` for truth values, 010 for 8, 1:30 for 90 and 2024-01-01 for a date. As
a name each of these is refused with the advice to put it in quotes; so are numbers that look like others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import yaml

__all__ = ["StrictLoader", "YamlRefusal", "shown", "written_at"]

_OCTAL = re.compile(r"[-+]?0[0-9_]+")
_MOST_SHOWN = 12  # characters; secrets are longer
_STRING = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_READ_AS = {
    "bool": "a truth value",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "null": "nothing",
}


class YamlRefusal(yaml.YAMLError):
    """A value that may mean something else than it seems to."""

    def __init__(self, node: yaml.Node, fault: str) -> None:
        super().__init__(f"line {node.start_mark.line + 1}: {fault}")


class StrictLoader(yaml.SafeLoader):
    """YAML in which no setting is given twice, for the later one would silently win, and every name is a text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As the parent, once every key of the mapping is known to be a text, and there once."""
        keys = [key for key, _ in node.value if key.tag != _MERGE]
        for key in keys:
            if isinstance(key, yaml.ScalarNode) and key.tag != _STRING:
                raise YamlRefusal(key, _quotes(key))
        twice = [key for key, count in Counter(str(key.value) for key in keys).items() if count > 1]
        if twice:
            raise YamlRefusal(node, f"{twice[0]!r} is set twice")
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A whole or decimal number, written as people read it."""
        value = self.construct_scalar(node)
        written = shown(value)
        if ":" in value:
            raise YamlRefusal(
                node,
                f"YAML reads {written} as a number to the base 60; put it in quotes if it is a text, else write it in seconds",
            )
        if _OCTAL.fullmatch(value):
            plain = "it without zeros in front"
            raise YamlRefusal(
                node, f"YAML reads {written} as an octal number; write {plain}, or put it in quotes if it is a text"
            )
        whole = node.tag.endswith(":int")
        return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)

    def construct_date(self, node: yaml.ScalarNode) -> Any:
        """Refused: no setting is a date."""
        raise YamlRefusal(node, _quotes(node))


def shown(text: str) -> str:
    """The value in a message; a long one, which may be a secret, is not quoted."""
    return "a long value" if len(text) > _MOST_SHOWN else f"'{text}'"


def _quotes(node: yaml.ScalarNode) -> str:
    read_as = _READ_AS.get(node.tag.rpartition(":")[2], "no text")
    return f"YAML reads {shown(node.value)} as {read_as}; put it in quotes"


StrictLoader.add_constructor("tag:yaml.org,2002:int", StrictLoader.construct_number)
StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.construct_number)
StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", StrictLoader.construct_date)


def written_at(root: yaml.Node | None, place: Sequence[int | str]) -> str:
    """How the value at a place is written, where YAML does not read it as a text; else "". ``root``: of the document."""
    node = root
    for step in place:
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == step), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            return ""
    return str(node.value) if isinstance(node, yaml.ScalarNode) and node.tag != _STRING else ""
