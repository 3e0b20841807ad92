"""Files: replaced in one durable step; arrays read from them without pickles, and single texts without line ends.

Importing this module needs nothing but the standard library, so that a client never reaches numpy.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any

from modeltoll.errors import ArrayFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    from modeltoll.records import Floats

__all__ = [
    "PART",
    "clean_text",
    "create_folder",
    "read_array",
    "read_arrays",
    "read_numbers",
    "read_text_file",
    "replace_atomically",
    "replacing",
    "sync_folder",
]

PART = ".part"  # ends the name of a file that is being written; before it stands the process that writes it
_BYTE_ORDER_MARK = "\ufeff"
_UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP)  # file systems whose folders cannot be synchronised


def replace_atomically(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Put ``data`` in the place of a file: a reader sees the old content or the new content, whole.

    The new content is on the disk when this returns. A file that is replaced keeps its permissions and, where that is
    allowed, its owner. A new file gets ``mode``, or the process's usual permissions (None).

    Raises:
        OSError: the file cannot be written; what was there before is untouched.
    """
    with replacing(path, mode=mode) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int | None = None) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when the block ends; nothing stays where the block fails.

    As ``replace_atomically`` for content that is written piece by piece.
    """
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.{os.getpid()}{PART}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(beside, flags, 0o666 if mode is None else mode), "w+b") as file:  # noqa: PTH123  of a descriptor
            _keep_permissions(file.fileno(), path)
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def _keep_permissions(descriptor: int, path: Path) -> None:
    """Give a new file the permissions and the owner of the file that it replaces."""
    with contextlib.suppress(FileNotFoundError):
        before = path.stat()
        os.fchmod(descriptor, before.st_mode & 0o777)
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, before.st_uid, before.st_gid)


def create_folder(path: Path) -> None:
    """Create a folder and those above it, durably; a folder that exists stays as it is."""
    if not path.is_dir():
        create_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise
    finally:
        os.close(folder)


def clean_text(text: str) -> str:
    """The text without a byte order mark at its beginning and without the ends of lines at its end."""
    return text.removeprefix(_BYTE_ORDER_MARK).rstrip("\r\n")


def read_text_file(path: Path, most_bytes: int) -> str:
    """The one text that a file of at most so many bytes holds, cleaned.

    Raises:
        ValueError: it cannot be read, is not a text, is empty or too large. The message does not show its content.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > most_bytes:
        raise ValueError(f"{path}: is too large for one value")
    try:
        text = clean_text(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text") from None
    if not text:
        raise ValueError(f"{path}: is empty")
    return text


def read_array(path: Path) -> NDArray[Any]:
    """The array of an .npy file. Pickled objects are refused.

    Raises:
        ArrayFileError: the file cannot be read, is damaged, or is an .npz archive.
    """
    with _loaded(path) as content:
        if hasattr(content, "files"):
            raise ArrayFileError(f"{path} cannot be read: it is an .npz archive, not an .npy file")
        array: NDArray[Any] = content
        return array


def read_numbers(path: Path) -> Floats:
    """The real numbers of an .npy file as float64, in any shape.

    Raises:
        ArrayFileError: as ``read_array``, and where the array holds anything but numbers.
    """
    array = read_array(path)
    if array.dtype.kind not in "fiub":
        raise ArrayFileError(f"{path} cannot be read as numbers: it holds {array.dtype}")
    numbers: Floats = array.astype("float64", copy=False)
    return numbers


def read_arrays(path: Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz archive, by name: those that are named, or all (None). Pickled objects are refused.

    Raises:
        ArrayFileError: the file cannot be read, is damaged, is a single array, or lacks one of the names.
    """
    with _loaded(path) as content:
        if not hasattr(content, "files"):
            raise ArrayFileError(f"{path} cannot be read: it is a single array (.npy), not an .npz archive")
        if missing := [name for name in names or () if name not in content.files]:
            held = ", ".join(content.files) or "nothing"
            raise ArrayFileError(f"{path} cannot be read: it lacks {', '.join(missing)} and holds {held}")
        arrays = {name: content[name] for name in (content.files if names is None else names)}
        if strange := [name for name, array in arrays.items() if isinstance(array, bytes)]:
            raise ArrayFileError(f"{path} cannot be read: it holds {', '.join(strange)}, which is not an array")
        return arrays


@contextlib.contextmanager
def _loaded(path: Path) -> Iterator[Any]:
    """What numpy loads from a file: an array, or an archive whose arrays are read when they are asked for."""
    import numpy as np  # noqa: PLC0415  a client writes files, and must not need numpy for that

    try:
        with path.open("rb") as file, contextlib.ExitStack() as stack:
            content = np.load(file, allow_pickle=False)
            yield stack.enter_context(content) if hasattr(content, "files") else content
    except ArrayFileError:
        raise
    except OSError as error:
        reason = error.strerror or "it is damaged"
        raise ArrayFileError(f"{path} cannot be read: {reason}", private=repr(error)) from error
    except MemoryError as error:
        raise ArrayFileError(f"{path} cannot be read: it is damaged, or larger than the memory") from error
    except Exception as error:  # numpy, zipfile and the decompressors share no base class of errors
        reason = "it is damaged, holds Python objects, or is no file of numpy's"
        raise ArrayFileError(f"{path} cannot be read: {reason}", private=repr(error)) from error
