"""Run a module as ``python -m`` does, until the parent process ends.

    python -m modeltoll.demo.parent_watchdog MODULE ARGUMENT...

Standard input is a pipe from the parent, which never writes to it. When the pipe closes, also because the parent was
killed, even during the start of this process, the module gets a SIGTERM.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

_STDIN = 0


def _exit_with_parent() -> None:
    while os.read(_STDIN, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_exit_with_parent, name="parent-watchdog", daemon=True).start()
    module, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
