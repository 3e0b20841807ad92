"""Published data sets fetched from their publishers, and checked."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from modeltoll.bench.datasets.images import DataError
from modeltoll.files import replacing

if TYPE_CHECKING:
    from modeltoll.records import Progress

__all__ = ["PUBLISHERS", "PublishedFile", "fetch"]

Opening = Callable[[str], IO[bytes]]

_CHUNK = 1 << 20
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file: where its publisher has it, its MD5 digest as published, and where it belongs in the data folder.

    An ``unpacked`` archive is taken apart there; ``path`` is then the last of its files.
    """

    url: str
    md5: str
    path: str
    unpacked: bool = False


def _idx(base: str, folder: str, digests: Mapping[str, str]) -> tuple[PublishedFile, ...]:
    return tuple(PublishedFile(f"{base}/{name}.gz", md5, f"{folder}/{name}.gz") for name, md5 in digests.items())


PUBLISHERS: Mapping[str, tuple[PublishedFile, ...]] = {
    "mnist": _idx(
        "https://ossci-datasets.s3.amazonaws.com/mnist",  # yann.lecun.com refuses programs
        "mnist",
        {
            "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion": _idx(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "fashion-mnist",
        {
            "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "cifar10": (
        PublishedFile(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            "cifar-10-batches-bin/test_batch.bin",
            unpacked=True,
        ),
    ),
    "svhn": (
        PublishedFile(
            "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
            "e26dedcc434d2e4c54c9b2d4a06d8373",
            "svhn/train_32x32.mat",
        ),
        PublishedFile(
            "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
            "eb5a983be6a315427106f1b164d9cef3",
            "svhn/test_32x32.mat",
        ),
    ),
}


def _open(url: str) -> IO[bytes]:
    opened: IO[bytes] = urllib.request.urlopen(url, timeout=_TIMEOUT)  # noqa: S310  a constant of the table above
    return opened


def fetch(wanted: PublishedFile, folder: Path, progress: Progress, opening: Opening = _open) -> bool:
    """Fetch one file into the data folder; False where it lay there already. ``opening`` opens a URL for reading.

    Raises:
        DataError: the publisher cannot be reached, or sent something else than is published.
    """
    path = folder / wanted.path
    if path.is_file() or path.with_suffix("").is_file():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    by_hand = f"put {wanted.url}{', unpacked,' if wanted.unpacked else ''} there as {path} by other means"
    try:
        if wanted.unpacked:
            with tempfile.TemporaryFile(dir=folder) as file:
                _receive(wanted, file, progress, opening)
                file.seek(0)
                with tarfile.open(fileobj=file) as archive:
                    archive.extractall(folder, filter="data")
        else:
            with replacing(path) as file:
                _receive(wanted, file, progress, opening)
    except (OSError, urllib.error.URLError) as error:
        raise DataError(f"{wanted.url} cannot be fetched ({error}); {by_hand}") from None
    except DataError as error:
        raise DataError(f"{error}; {by_hand}") from None
    return True


def _receive(wanted: PublishedFile, file: IO[bytes], progress: Progress, opening: Opening) -> None:
    """Write what the publisher sends to a file, and compare its digest with the published one."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    with opening(wanted.url) as response:
        whole = int(getattr(response, "headers", {}).get("Content-Length") or 0)
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done, whole)
    if digest.hexdigest() != wanted.md5:
        raise DataError(f"what {wanted.url} sent is not what was published: its MD5 is {digest.hexdigest()}")
