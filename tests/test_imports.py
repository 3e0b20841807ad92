"""Importing has no side effects: the client imports no numpy, and no module uses files, sockets or threads."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import modeltoll

HEAVY = ("numpy", "scipy", "sklearn", "msgspec", "starlette", "pydantic", "aiohttp", "uvicorn", "typer", "rich")
NO_MODULES = {"modeltoll.__main__", "modeltoll.puzzle._kernel"}  # a program, and a library of C that ctypes opens

AUDIT_SCRIPT = """
import importlib, json, sys, threading

events = []

def record(event, args):
    if event == "open" and not str(args[0]).endswith((".py", ".pyc", ".so")):
        events.append(f"opens {args[0]}")
    elif event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.mkdir", "os.remove",
                   "os.rename"):
        events.append(f"{event} {args}")

sys.dont_write_bytecode = True
done = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)  # side effects of other packages do not count: import them once before
    except ModuleNotFoundError as error:
        done[name] = error.name
for name in [name for name in sys.modules if name.partition(".")[0] == "modeltoll"]:
    del sys.modules[name]
sys.addaudithook(record)
for name in sys.argv[1:]:
    if name not in done:
        events.clear()
        threads = threading.active_count()
        importlib.import_module(name)
        events += ["starts a thread"] * (threading.active_count() > threads)
        done[name] = list(events)
print(json.dumps(done))
"""


def fresh(code, *arguments):
    command = [sys.executable, "-c", code, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("module", ["modeltoll", "modeltoll.client.purse", "modeltoll.client.httpx"])
def test_the_client_imports_no_heavy_package(module):
    loaded = set(fresh(f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"))
    assert module in loaded
    assert loaded.isdisjoint(HEAVY)


def test_importing_any_module_does_nothing():
    """No file but source code is opened, no socket, no process, no thread."""
    package = Path(modeltoll.__file__).parent
    names = [module.name for module in pkgutil.walk_packages([str(package)], "modeltoll.")]
    names = [name for name in names if name not in NO_MODULES]
    assert len(names) > 60
    done = fresh(AUDIT_SCRIPT, *names)
    missing = {name: what for name, what in done.items() if isinstance(what, str)}
    assert not any(what.startswith("modeltoll") for what in missing.values()), missing
    assert {name: events for name, events in done.items() if events and name not in missing} == {}


def test_the_package_exports_what_all_lists():
    """In a new process, where nothing was used before: every name is there, and there is no other."""
    exported = fresh(
        "import json, modeltoll; found = {name: str(getattr(modeltoll, name)) for name in modeltoll.__all__};"
        "own = [name for name, what in vars(modeltoll).items() if name[0] != '_' and not isinstance(what, type(json))];"
        "print(json.dumps([dir(modeltoll), own, sorted(found)]))"
    )
    assert sorted(modeltoll.__all__) == modeltoll.__all__ == exported[0] == exported[2]
    assert set(exported[1]) - {"annotations", "TYPE_CHECKING"} == set(modeltoll.__all__) - {"__version__"}
    with pytest.raises(AttributeError):
        modeltoll.no_such_name  # noqa: B018


def test_the_command_line_begins_before_anything_slow_is_imported():
    """So that Ctrl-C finds a handler."""
    loaded = set(fresh("import json, sys, modeltoll.cli; print(json.dumps(list(sys.modules)))"))
    assert {name for name in loaded if name.startswith("modeltoll")} == {
        "modeltoll",
        "modeltoll.cli",
        "modeltoll.cli.interrupts",
    }
