"""Bodies of the Open Inference Protocol with its binary tensor data extension.

The extension puts raw tensors behind the JSON; ``binary_data_size`` says how many bytes each takes.
"""

from __future__ import annotations

from modeltoll import wire

__all__ = ["BinaryTail", "split_body"]


class BinaryTail:
    """The raw tensors behind the JSON of a message, taken one after the other."""

    def __init__(self, raw: memoryview) -> None:
        self._raw = raw

    def take(self, size: object) -> memoryview:
        """The next so many bytes.

        Raises:
            ValueError: there are not so many, or that is no number of bytes.
        """
        if type(size) is not int or not 0 <= size <= len(self._raw):
            raise ValueError("does not hold the bytes that its 'binary_data_size' says")
        taken, self._raw = self._raw[:size], self._raw[size:]
        return taken

    def check_empty(self) -> None:
        """Raise ``ValueError`` where bytes are left that belong to no tensor."""
        if len(self._raw):
            raise ValueError("is followed by bytes that belong to no tensor")


def split_body(body: bytes, content_type: str) -> tuple[bytes, BinaryTail | None]:
    """The JSON of a message, and the raw tensors behind it; None where its type names no length of the JSON.

    Raises:
        ValueError: the message is shorter than that.
    """
    length = wire.content_headers(content_type).get(wire.BINARY_HEADER)
    if length is None:
        return body, None
    head = int(length)
    if head > len(body):
        raise ValueError(f"is shorter than its {wire.BINARY_HEADER}")
    return body[:head], BinaryTail(memoryview(body)[head:])
