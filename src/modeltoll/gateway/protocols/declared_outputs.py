"""Answers in which the declared output is a named member beside others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeltoll.errors import AnswerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.gateway.protocols.protocol import ServiceDescription

__all__ = ["declared_output", "declared_row_outputs", "only_member"]


def declared_output(outputs: Mapping[str, Any], service: ServiceDescription) -> Any:
    """The declared output among named ones.

    Raises:
        AnswerError: it is missing, or there is another output that is not measured.
    """
    if service.output not in outputs:
        raise AnswerError(f"the model server's answer does not hold the output {service.output!r}")
    if not {service.output, *service.unmeasured} >= outputs.keys():
        raise AnswerError(
            "the model server's answer holds an output that is not measured",
            private="let the model server send the measured output only, or list the others in output.unmeasured",
        )
    return outputs[service.output]


def only_member(document: object, member: str, service: ServiceDescription) -> Any:
    """The member of an answer that holds its predictions; beside it stand only ``service.unmeasured`` ones.

    Raises:
        AnswerError: it is missing, or there is another member.
    """
    if not isinstance(document, dict) or not {member, *service.unmeasured} >= document.keys() >= {member}:
        raise AnswerError(
            f"the model server's answer must hold {member!r} and nothing else",
            private="let the model server send nothing beside it, or list the other members in output.unmeasured",
        )
    return document[member]


def declared_row_outputs(rows: object, service: ServiceDescription) -> object:
    """The declared output of each row: the row itself or, where rows are objects, its member of that name.

    An object of all declared labels is one row of scores, in their order.

    Raises:
        AnswerError: as ``declared_output``.
    """
    if not isinstance(rows, list) or not any(isinstance(row, dict) for row in rows):
        return rows
    if not all(isinstance(row, dict) for row in rows):
        raise AnswerError("the model server's answer has rows of different kinds")
    if service.labels and all(row.keys() == set(service.labels) for row in rows):
        return [[row[label] for label in service.labels] for row in rows]
    return [declared_output(row, service) for row in rows]
