"""Build hook: compiles the native kernels of SHA-256 and Argon2id if there is a C compiler; otherwise the wheel is pure Python.

The environment variable ``MODELTOLL_KERNEL`` is ``optional`` (default), ``none`` to leave the kernels out, or
``required`` to fail the build without them (for released wheels). ``CC`` names the compiler.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

FOLDER = Path("src/modeltoll/puzzle")
SOURCES = ("kernel.c", "argon2id_kernel.c")
LIBRARY = "_kernel.so"
FLAGS = ("-O3", "-std=c11", "-shared", "-fPIC", "-fvisibility=hidden")
TIMEOUT_SECONDS = 120  # of the compiler


class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the library of kernels to a wheel; for an editable install it is put beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling; ``version`` is ``standard`` or ``editable``.

        Raises:
            RuntimeError: the kernels are required and cannot be compiled.
        """
        mode = os.environ.get("MODELTOLL_KERNEL", "optional")
        if self.target_name != "wheel" or mode == "none":
            return
        home = Path(self.root) / FOLDER
        folder = home if version == "editable" else Path(tempfile.mkdtemp(prefix="modeltoll-"))
        problem = build([home / name for name in SOURCES], folder / LIBRARY)
        if problem:
            if mode == "required":
                raise RuntimeError(problem)
            self.app.display_info(f"native kernels left out ({problem}): the solver uses hashlib and argon2-cffi")
            return
        if version != "editable":
            build_data["force_include"][str(folder / LIBRARY)] = f"modeltoll/puzzle/{LIBRARY}"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform()}"  # ctypes loads the library, so any Python version works


def build(sources: Sequence[Path], target: Path) -> str:
    """Compile ``sources`` to ``target``; returns the problem, or an empty string."""
    found = [command for name in (os.environ.get("CC"), "cc", "gcc", "clang") if (command := compiler(name))]
    if not found:
        return "no C compiler found"
    part = target.with_suffix(f".{os.getpid()}")  # a running program may use the old file
    try:
        subprocess.run(  # noqa: S603  the user's own compiler
            [*found[0], *FLAGS, "-o", str(part), *map(str, sources)],
            check=True,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
        )
        part.replace(target)
    except (OSError, subprocess.SubprocessError) as error:
        part.unlink(missing_ok=True)
        return f"{found[0][0]} failed: {error}"
    return ""


def compiler(name: str | None) -> list[str]:
    """The command of a compiler as a list, empty if it is not installed."""
    command = shlex.split(name or "")
    return command if command and shutil.which(command[0]) else []


def platform() -> str:
    """This machine's plain platform tag, for example ``linux_x86_64``, without a manylinux guarantee."""
    tags = (tag.platform for tag in sys_tags())
    return next(tag for tag in tags if "manylinux" not in tag and "musllinux" not in tag)
