"""What Ctrl-C does to the command line: exit code 130, no traceback.

While modules are imported, and before and after a command, SIGINT ends the process at once: a KeyboardInterrupt there would
be printed, or swallowed by a library. In a command it raises KeyboardInterrupt, so that files are removed and servers ended;
libraries swallow it there too, so it is raised again until the command ends.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal wraps, which takes milliseconds to import
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["INTERRUPTED", "Importing", "Running", "exit_at_once"]

INTERRUPTED = 130  # exit code
_AGAIN = 2.0  # seconds after which an interrupt is raised again, where nothing is being cleared up


def _exit(number: int, frame: FrameType | None) -> None:
    del number, frame
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def exit_at_once() -> None:
    """From now on SIGINT ends the process at once, except within ``Running``.

    Where SIGINT is ignored, as in background jobs of a shell, it stays ignored.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _exit)


class _Switch:
    """While the block runs, one handler of SIGINT in the place of another; nothing where that is not in place."""

    def __init__(self, there: object, here: object) -> None:
        self._there, self._here, self._switched = there, here, False

    def __enter__(self) -> None:
        if _signal.getsignal(_signal.SIGINT) is self._there:
            self._switched = True
            _signal.signal(_signal.SIGINT, self._here)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._switched:
            _signal.signal(_signal.SIGINT, self._there)


def _clearing_up() -> bool:
    """Whether an interrupt is being handled: in blocks that end by it."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    if number != _signal.SIGINT and _clearing_up():
        return
    if hasattr(_signal, "setitimer"):
        _signal.signal(_signal.SIGALRM, _interrupt)
        _signal.setitimer(_signal.ITIMER_REAL, _AGAIN, _AGAIN)
    raise KeyboardInterrupt


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """An interrupt in a finaliser is not printed; it is raised again."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


class Running(_Switch):
    """While a command runs, SIGINT raises KeyboardInterrupt. Nothing changes where ``exit_at_once`` was not called."""

    def __init__(self) -> None:
        super().__init__(_exit, _interrupt)

    def __enter__(self) -> None:
        super().__enter__()
        if self._switched:
            sys.unraisablehook = _unraisable

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        if self._switched and hasattr(_signal, "setitimer"):
            _signal.setitimer(_signal.ITIMER_REAL, 0.0)


class Importing(_Switch):
    """While a running command imports modules, SIGINT ends the process at once. Nothing changes outside of ``Running``."""

    def __init__(self) -> None:
        super().__init__(_interrupt, _exit)
