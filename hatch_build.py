"""Compiles the SHA-256 kernels where a C compiler is found; without one the wheel is pure Python and as complete.

``MODELTOLL_KERNEL=none`` leaves them out, ``MODELTOLL_KERNEL=required`` fails the build where they cannot be had (for
the wheels that a release uploads). ``CC`` names the compiler.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

SOURCE = Path("src/modeltoll/puzzle/kernel.c")
LIBRARY = "_kernel.so"
FLAGS = ("-O3", "-std=c11", "-shared", "-fPIC", "-fvisibility=hidden")
SECONDS = 120


class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the library to a wheel; for an editable install it lies beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """As hatchling calls it, with version ``standard`` or ``editable``."""
        wanted = os.environ.get("MODELTOLL_KERNEL", "optional")
        if self.target_name != "wheel" or wanted == "none":
            return
        source = Path(self.root) / SOURCE
        place = source.parent if version == "editable" else Path(tempfile.mkdtemp(prefix="modeltoll-"))
        fault = build(source, place / LIBRARY)
        if fault:
            if wanted == "required":
                raise RuntimeError(fault)
            self.app.display_info(f"SHA-256 kernels left out ({fault}): the solver uses plain Python")
            return
        if version != "editable":
            build_data["force_include"][str(place / LIBRARY)] = f"modeltoll/puzzle/{LIBRARY}"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform()}"  # ctypes loads it: any Python will do


def build(source: Path, target: Path) -> str:
    """Compile ``source`` to ``target``; what went wrong, or nothing."""
    found = [command for name in (os.environ.get("CC"), "cc", "gcc", "clang") if (command := compiler(name))]
    if not found:
        return "there is no C compiler"
    part = target.with_suffix(f".{os.getpid()}")  # a running program may have the old one open
    try:
        subprocess.run(  # noqa: S603  the user's own compiler
            [*found[0], *FLAGS, "-o", str(part), str(source)], check=True, capture_output=True, timeout=SECONDS
        )
        part.replace(target)
    except (OSError, subprocess.SubprocessError) as error:
        part.unlink(missing_ok=True)
        return f"{found[0][0]} failed: {error}"
    return ""


def compiler(name: str | None) -> list[str]:
    """The command of a compiler that is there, or nothing."""
    command = shlex.split(name or "")
    return command if command and shutil.which(command[0]) else []


def platform() -> str:
    """This machine's platform tag, plain (``linux_x86_64``): what a wheel made here and now can promise."""
    tags = (tag.platform for tag in sys_tags())
    return next(tag for tag in tags if "manylinux" not in tag and "musllinux" not in tag)
