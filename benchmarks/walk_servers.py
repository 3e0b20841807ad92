"""Run and time every command of the tutorial with three servers, each part in an empty folder of its own.

    python benchmarks/walk_servers.py [--work DIR] [--modeltoll WHAT] [--venvs DIR] [--only PART...] [--json FILE]

Commands and files are taken from ``docs/tutorials/three-servers.md`` and nothing is done by hand. ``--modeltoll`` is what pip
installs where the page says modeltoll, this checkout otherwise. ``--venvs`` has the page's environments ready, by their names, and
nothing is installed then. The ports 8000, 8080 to 8082 and 9090 must be free. With ``--only``, the
other parts of a result that is there stay in it. It ends with an error where a command fails, a call pays
nothing, a command was left out, or a part takes more than ten minutes although the machine has no other work. ``processor_seconds``
are those of all commands and servers of a part, which other work hardly changes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

from walk_quickstart import ROOT, TOLL_HOUSE, Walk

PAGE = ROOT / "docs" / "tutorials" / "three-servers.md"
PORTS = (8000, 8080, 8081, 8082, 9090)  # two of them are MLServer's, beside its 8000
MOST_SECONDS = 600.0  # that a part may take, as the page says
_VENV = re.compile(r"python3 -m venv (\S+)")
PARTS = {  # heading: what starts the model server, and where it says that it is ready
    "MLServer with a runtime of your own": ("mlserver start", "http://127.0.0.1:8000/v2/health/ready"),
    "MLflow, with categories and missing values": ("mlflow models serve", "http://127.0.0.1:8000/ping"),
    "FastAPI, a classifier of texts": ("uvicorn", "http://127.0.0.1:8000/health"),
}


def part_of(page: str, heading: str) -> str:
    """The text under a heading of the page. Raises SystemExit where it is missing."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit(f"the page has no part {heading!r}")
    return found[1]


def install(way: Walk, folder: Path, venvs: Path | None, contains: str) -> None:
    """The page's next environment, or the one that is ready."""
    if venvs is None:
        way.run(contains)
        return
    name = _VENV.match(way.skip(contains))[1]
    (folder / name).symlink_to(venvs.resolve() / name)


def processor_seconds() -> float:
    """Of all processes that this one started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def walk(folder: Path, modeltoll: str, heading: str, venvs: Path | None) -> dict:
    """One part from its first command to its last."""
    server, ready = PARTS[heading]
    way, before = Walk(folder, modeltoll, part_of(PAGE.read_text(), heading)), processor_seconds()
    with ExitStack() as servers:
        install(way, folder, venvs, "pip install")
        install(way, folder, venvs, "pip install 'modeltoll")
        way.run(".py")
        servers.enter_context(way.running(server, ready))
        way.run("modeltoll init", "found ")
        way.run("modeltoll check", "All checks passed")
        said = way.run("modeltoll calibrate", ".tariff.json")
        way.run("mode: enforce")
        servers.enter_context(way.running("modeltoll serve", TOLL_HOUSE))
        paid = [way.paid("--data one.json"), way.paid("--data odd.json")]
    way.ended()
    seconds = round(sum(step["seconds"] for step in way.steps), 1)
    if seconds > MOST_SECONDS and os.getloadavg()[2] <= os.cpu_count():
        raise SystemExit(f"{heading}: {seconds} s")
    sending = re.search(r"Sending rows: ([\d.]+) s", said)
    return {
        "part": heading,
        "seconds": seconds,
        "processor_seconds": round(processor_seconds() - before, 1),
        "load_average": round(os.getloadavg()[1], 1),
        "sending_seconds": float(sending[1]) if sending else None,
        "paid_seconds": paid,
        "steps": way.steps,
    }


def check_free() -> None:
    """Raises SystemExit where a port of the page is taken: the walk would talk to somebody else's server."""
    for port in PORTS:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            raise SystemExit(f"port {port} is taken: {error.strerror}") from None


def earlier(path: Path) -> dict[str, dict]:
    """The parts in a result of an earlier run, which stay where they are not run again."""
    return {part["part"]: part for part in json.loads(path.read_text())["parts"]} if path.exists() else {}


def main() -> None:
    """Parse, walk, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="an empty folder; a temporary one otherwise")
    parser.add_argument("--modeltoll", default=f"{ROOT}[gateway]", help="what pip installs; this checkout otherwise")
    parser.add_argument("--venvs", type=Path, help="a folder with the page's environments, which are not made then")
    parser.add_argument("--only", nargs="+", choices=range(1, len(PARTS) + 1), type=int, help="numbers of parts")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    chosen = [heading for number, heading in enumerate(PARTS, 1) if given.only is None or number in given.only]
    check_free()
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        for heading in chosen:
            folder = (given.work or Path(temporary)).resolve() / heading.partition(" ")[0].strip(",").lower()
            folder.mkdir(parents=True)
            found[heading] = walk(folder, given.modeltoll, heading, given.venvs)
    if given.only and given.json:
        found = earlier(given.json) | found
    document = {
        "command": "python benchmarks/walk_servers.py",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "installed": given.venvs is None,
        "load_average": round(os.getloadavg()[2], 1),
        "parts": [found[heading] for heading in PARTS if heading in found],
    }
    text = json.dumps(document, indent=2) + "\n"
    print(text, end="")
    if given.json:
        given.json.write_text(text)


if __name__ == "__main__":
    main()
