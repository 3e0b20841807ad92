"""The native kernels, compiled from the current source."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from modeltoll.puzzle.native_kernels import LIBRARY

COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
SOURCES = [LIBRARY.with_name(name) for name in ("kernel.c", "argon2id_kernel.c")]
FLAGS = ("-O1", "-std=c11", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """The path of the library."""
    if COMPILER is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("kernel") / "kernel.so"
    subprocess.run([COMPILER, *FLAGS, "-o", str(library), *map(str, SOURCES)], check=True)
    return library
