"""Download published data sets from their publishers and check their digests."""

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

UrlOpener = Callable[[str], IO[bytes]]

_CHUNK = 1 << 20
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file: its publisher's URL, its published MD5 digest, and its path in the data folder.

    An ``unpacked`` archive is extracted into the data folder; ``path`` is then the last of its files.
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


def _open_url(url: str) -> IO[bytes]:
    response: IO[bytes] = urllib.request.urlopen(url, timeout=_TIMEOUT)  # noqa: S310  a constant of PUBLISHERS
    return response


def fetch(published_file: PublishedFile, folder: Path, progress: Progress, open_url: UrlOpener = _open_url) -> bool:
    """Download one file into the data folder; False if it was there already. ``open_url`` opens a URL for reading.

    Raises:
        DataError: the publisher cannot be reached, or the file's digest is not the published one.
    """
    path = folder / published_file.path
    if path.is_file() or path.with_suffix("").is_file():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    manual_download = (
        f"put {published_file.url}{', unpacked,' if published_file.unpacked else ''} there as {path} by other means"
    )
    try:
        if published_file.unpacked:
            with tempfile.TemporaryFile(dir=folder) as file:
                _download(published_file, file, progress, open_url)
                file.seek(0)
                with tarfile.open(fileobj=file) as archive:
                    archive.extractall(folder, filter="data")
        else:
            with replacing(path) as file:
                _download(published_file, file, progress, open_url)
    except (OSError, urllib.error.URLError) as error:
        raise DataError(f"{published_file.url} cannot be fetched ({error}); {manual_download}") from None
    except DataError as error:
        raise DataError(f"{error}; {manual_download}") from None
    return True


def _download(published_file: PublishedFile, file: IO[bytes], progress: Progress, open_url: UrlOpener) -> None:
    """Download into an open file and compare the digest with the published one."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    with open_url(published_file.url) as response:
        size = int(getattr(response, "headers", {}).get("Content-Length") or 0)
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done, size)
    if digest.hexdigest() != published_file.md5:
        raise DataError(f"{published_file.url} is not the published file: its MD5 is {digest.hexdigest()}")
