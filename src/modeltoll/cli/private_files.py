"""Files of private training data, as the commands ``fit-teachers`` and ``fit-novelty`` read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from modeltoll.cli.terminal import note, requires_extra
from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.files import read_array

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from modeltoll.leak.private_rows import PrivateRows

    Shape = tuple[int, int, int]

__all__ = ["array_of", "load_private", "load_rows"]


def load_private(inputs: Path, labels: Path, stated: str | None) -> tuple[NDArray[np.float64], NDArray[Any], Shape]:
    """Flat inputs (n, d), labels, and the shape of one input as (height, width, channels).

    Raises:
        CalibrationError: a file cannot be read, or the inputs are not numeric.
    """
    rows = load_rows(inputs, stated, codes=False)
    return rows.inputs, array_of(labels, "labels"), rows.shape


def load_rows(inputs: Path, stated: str | None = None, *, codes: bool | None = None) -> PrivateRows:
    """The rows of a file, with the shape that is stated or stored.

    Raises:
        CalibrationError: the file cannot be read, or holds neither rows of numbers nor texts.
    """
    from modeltoll.leak.private_rows import private_rows  # noqa: PLC0415

    array = array_of(inputs, "inputs")
    try:
        return private_rows(array, None if stated is None else _shape(stated, array.shape[1:]), codes=codes)
    except CalibrationError as error:
        raise CalibrationError(f"{inputs}: {error}") from None


def array_of(path: Path, what: str) -> NDArray[Any]:
    """The array of an .npy file, or of a file of rows: numbers, or one text or label a row.

    Raises:
        CalibrationError: the file cannot be read, or columns of texts stand beside others.
    """
    if path.suffix == ".npy":
        return read_array(path)
    with requires_extra("gateway"):
        import numpy as np  # noqa: PLC0415

        from modeltoll.gateway.setup.row_files import read_table  # noqa: PLC0415
    table = read_table(path)
    if what == "labels" or (len(table.words) == 1 and table.words[0]):
        if len(table.words) != 1:
            raise CalibrationError(f"{path} holds {len(table.words)} columns where one of {what} is needed")
        values = [table.values(row)[0] for row in range(len(table))]
        if None in values:
            raise CalibrationError(f"{table.where(values.index(None))}: a value is missing")
        return np.array(values if all(type(value) is int for value in values) else [*map(str, values)])
    if texts := [
        name or str(place) for place, name in enumerate(table.columns or [""] * len(table.words)) if table.words[place]
    ]:
        raise CalibrationError(
            f"{path}: {', '.join(texts)} hold texts; these measures read columns of numbers, or one column of texts"
        )
    if table.callers is not None:
        note.print(f"{path}: the column of callers is left out", soft_wrap=True)
    return table.numbers.reshape(len(table), *table.shape)


def _shape(stated: str, rows: tuple[int, ...]) -> Shape:
    """(height, width, channels) of one input, as stated."""
    try:
        sides = tuple(int(side) for side in stated.split("x"))
    except ValueError:
        sides = ()
    if not 2 <= len(sides) <= 3 or min(sides) < 1 or math.prod(sides) != math.prod(rows):
        raise SettingsError([f"--shape: {stated!r} is not HEIGHTxWIDTH[xCHANNELS] with {math.prod(rows)} numbers"])
    return sides[0], sides[1], sides[2] if len(sides) == 3 else 1
