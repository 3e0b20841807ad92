"""Run a module as ``python -m`` would, but no longer than whoever started it lives.

    python -m modeltoll.demo.parent_watchdog MODULE ARGUMENT...

Standard input is the leash: the starter holds the other end and never writes. When that end goes, even by a kill or
while the starter was still starting this process, the module gets a SIGTERM.
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
    threading.Thread(target=_exit_with_parent, name="leash", daemon=True).start()
    module, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
