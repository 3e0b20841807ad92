"""Importing does nothing but define: the client reaches no numpy, and no module touches files, sockets or threads."""

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

WATCHER = """
import importlib, json, sys, threading

deeds = []

def watch(event, args):
    if event == "open" and not str(args[0]).endswith((".py", ".pyc", ".so")):
        deeds.append(f"opens {args[0]}")
    elif event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.mkdir", "os.remove",
                   "os.rename"):
        deeds.append(f"{event} {args}")

sys.dont_write_bytecode = True
done = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)  # what other packages do when they are imported is theirs: once, unwatched
    except ModuleNotFoundError as error:
        done[name] = error.name
for name in [name for name in sys.modules if name.partition(".")[0] == "modeltoll"]:
    del sys.modules[name]
sys.addaudithook(watch)
for name in sys.argv[1:]:
    if name not in done:
        deeds.clear()
        threads = threading.active_count()
        importlib.import_module(name)
        deeds += ["starts a thread"] * (threading.active_count() > threads)
        done[name] = list(deeds)
print(json.dumps(done))
"""


def fresh(code, *arguments):
    command = [sys.executable, "-c", code, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("module", ["modeltoll", "modeltoll.client.purse", "modeltoll.client.httpx"])
def test_those_who_pay_load_nothing_heavy(module):
    loaded = set(fresh(f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"))
    assert module in loaded
    assert loaded.isdisjoint(HEAVY)


def test_importing_any_module_does_nothing():
    """No file but source code is opened, no socket, no process, no thread."""
    package = Path(modeltoll.__file__).parent
    names = [module.name for module in pkgutil.walk_packages([str(package)], "modeltoll.")]
    names = [name for name in names if name not in NO_MODULES]
    assert len(names) > 60
    done = fresh(WATCHER, *names)
    missing = {name: what for name, what in done.items() if isinstance(what, str)}
    assert not any(what.startswith("modeltoll") for what in missing.values()), missing
    assert {name: deeds for name, deeds in done.items() if deeds and name not in missing} == {}


def test_what_the_package_exports_is_what_it_says():
    exported = {name for name in vars(modeltoll) if not name.startswith("_")} | {"__version__"}
    modules = {name for name in exported if isinstance(getattr(modeltoll, name), type(sys))}
    assert sorted(modeltoll.__all__) == modeltoll.__all__
    assert exported - modules == set(modeltoll.__all__)
