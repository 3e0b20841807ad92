"""Run and time every command of the quickstart, in the order of the page, in an empty folder.

    python benchmarks/walk_quickstart.py [--work DIR] [--modeltoll WHAT] [--json FILE]

Commands and files are taken from ``docs/tutorials/quickstart.md``; what the page asks a reader to change by hand in the settings is
done here. ``--modeltoll`` is what pip installs where the page says modeltoll, this checkout otherwise. The ports 8000,
8080 and 9090 must be free. It ends with an error where a command fails, says something else, or was left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorials" / "quickstart.md"
MODEL_SERVER, TOLL_HOUSE = "http://127.0.0.1:8000/v2/health/ready", "http://127.0.0.1:9090/readyz"
START_SECONDS = 120.0  # seconds that a server may take to start
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+\.py)(?:: (.+))?\n")
_ASSIGNMENTS = re.compile(r"(?:[A-Z]+=\S+ )*")
_PAID = re.compile(r"paid ([\d.]+) s of")


class Walk:
    """A folder, the text of a page, and the steps so far: what was done and how many seconds it took."""

    def __init__(self, folder: Path, modeltoll: str, page: str) -> None:
        self._folder, self._modeltoll = folder, modeltoll
        self._left: list[str] = []
        self.steps: list[dict] = []
        for language, text in _BLOCK.findall(page):
            if language == "console":
                self._left += [line[2:] for line in text.splitlines() if line.startswith("$ ")]
            elif named := _FILE.match(text):
                (folder / named[1]).write_text(text)
                self._left += [named[2]] if named[2] else []
        self._left = list(dict.fromkeys(self._left))

    def _next(self, contains: str) -> str:
        """The page's next command, which must be the expected one."""
        command = self._left.pop(0)
        if contains not in command:
            raise SystemExit(f"the next command of the page is {command!r}, not the expected one")
        return command

    def skip(self, contains: str) -> str:
        """The page's next command, which is not run."""
        return self._next(contains)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        print(what, file=sys.stderr, flush=True)
        begin = time.perf_counter()
        yield
        self.steps.append({"step": what, "seconds": round(time.perf_counter() - begin, 1)})

    def run(self, contains: str, says: str = "") -> str:
        """Run one command to its end and return its output."""
        command = self._next(contains)
        with self._timed(command):
            output = self._output(command)
        if says not in output:
            raise SystemExit(f"{command} does not print {says!r} but:\n{output}")
        return output

    def _output(self, command: str) -> str:
        ours = command.replace("'modeltoll[gateway]'", f"'{self._modeltoll}'")
        done = subprocess.run(
            ["bash", "-c", ours],
            check=False,
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    @contextmanager
    def running(self, contains: str, ready: str) -> Iterator[None]:
        """Run one command in the background; the block starts when it is ready."""
        command = self._next(contains)
        assignments = _ASSIGNMENTS.match(command)[0]
        program = command.removeprefix(assignments)
        log = self._folder / f"{Path(program.split()[0]).name}.log"
        with log.open("w") as output:
            server = subprocess.Popen(
                ["bash", "-c", f"{assignments}exec {program}"], cwd=self._folder, stdout=output, stderr=output
            )
            try:
                with self._timed(f"{command} (until it is ready)"):
                    _await(server, ready, log)
                yield
            finally:
                server.terminate()
                server.wait(30)

    def by_hand(self, what: str, old: str, new: str) -> None:
        """A change in the settings that the page asks for."""
        path = self._folder / "modeltoll.yaml"
        text = path.read_text()
        if old not in text:
            raise SystemExit(f"{what}: the settings have no {old!r}:\n{text}")
        path.write_text(text.replace(old, new, 1))
        self.steps.append({"step": what, "seconds": 0.0})

    def paid(self, contains: str) -> float:
        """A call, tried again until the gateway has noticed its settings; the seconds of work that it paid."""
        command = self._next(contains)
        with self._timed(command):
            for _ in range(30):
                if found := _PAID.findall(output := self._output(command)):
                    return round(sum(map(float, found)), 3)
                time.sleep(0.5)
        raise SystemExit(f"{command} pays nothing:\n{output}")

    def ended(self) -> None:
        """Every command of the page was run."""
        if self._left:
            raise SystemExit(f"commands of the page that were not run: {self._left}")


def _await(server: subprocess.Popen, url: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"nothing answers at {url}:\n{log.read_text()}")


def walk(folder: Path, modeltoll: str) -> dict:
    """The page from its first command to its last."""
    way = Walk(folder, modeltoll, PAGE.read_text())
    with ExitStack() as servers:
        way.run("pip install mlserver")
        way.run("pip install 'modeltoll")
        way.run("train.py")
        servers.enter_context(way.running("mlserver start", MODEL_SERVER))
        way.run("modeltoll init", "found digits: oip, probabilities of 10 classes")
        way.by_hand("by hand: measure novelty, too", "# - {name: novelty", "- {name: novelty")
        way.run("modeltoll check", "digits")
        servers.enter_context(way.running("modeltoll serve", TOLL_HOUSE))
        way.run("honest.py")
        way.run("modeltoll calibrate", "digits.tariff.json")
        way.by_hand("by hand: mode: enforce", "mode: shadow", "mode: enforce")
        digit = way.paid("--data digit.json")
        noise = way.paid("--data noise.json")
        way.run("openssl rand")
    way.ended()
    if noise < 10 * digit:
        raise SystemExit(f"noise pays {noise} s, a digit {digit} s")
    seconds = round(sum(step["seconds"] for step in way.steps), 1)
    return {"steps": way.steps, "seconds": seconds, "digit_seconds": digit, "noise_seconds": noise}


def main() -> None:
    """Parse, walk, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="an empty folder; a temporary one otherwise")
    parser.add_argument("--modeltoll", default=f"{ROOT}[gateway]", help="what pip installs; this checkout otherwise")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.work or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        found = walk(folder, given.modeltoll)
    document = {
        "command": "python benchmarks/walk_quickstart.py",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load_average": round(os.getloadavg()[2], 1),
        **found,
    }
    text = json.dumps(document, indent=2) + "\n"
    print(text, end="")
    if given.json:
        given.json.write_text(text)


if __name__ == "__main__":
    main()
