"""What a caller of the Responses API gets to see of log-probabilities: those that they asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeltoll.gateway.protocols.response_answers import part_logprobs
from modeltoll.gateway.protocols.token_tables import cut_alternatives

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.response_requests import ResponseNote

__all__ = ["show_logprobs", "show_setting"]


def show_logprobs(holder: dict[str, Any], asked: int | None) -> None:
    """Leave of a part's or an event's log-probabilities those that the caller asked for; None: none at all."""
    if holder.get("logprobs") is None:
        return
    if asked is None:
        holder["logprobs"] = []
    cut_alternatives(part_logprobs(holder), asked)


def show_setting(document: dict[str, Any], note: ResponseNote) -> None:
    """Repeat the number of log-probabilities that the caller asked for, not the gateway's."""
    if type(document.get("top_logprobs")) is int:
        document["top_logprobs"] = note.top_logprobs if type(note.top_logprobs) is int else 0
