"""Times of streamed chats: results/benchmarks/bench_stream.json."""

from __future__ import annotations

from modeltoll.formatting import number
from tables.form import read, table

__all__ = ["streams"]

_WAYS = {
    "direct": "the model server itself",
    "shadow": "a gateway in shadow mode",
    "enforce": "a gateway that enforces",
    "enforce, slow": "the same, one stream of 25 s",
}


def streams() -> str:
    """Milliseconds to the first and the last event, and the work of the tolls, by way."""
    result = read("benchmarks/bench_stream")
    rows = [
        [
            _WAYS[line["way"]],
            number(line["first_ms"]),
            number(line["largest_first_ms"]),
            number(line["last_ms"]),
            number(line["work_ms"]),
        ]
        for line in result["streams"]
    ]
    heads = ["way", "first event, ms", "the largest", "last event, ms", "expected work, ms"]
    note = f"`{result['command']}`, on a machine of {result['cores']} cores with a load average of {result['load_before']:g}"
    return f"{table(heads, rows)}\n{note} at the start.\n"
