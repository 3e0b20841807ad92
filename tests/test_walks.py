"""The tutorial with three servers is what its walk runs: every part, every file, every command in its order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from walk_quickstart import Walk  # noqa: E402  a script
from walk_servers import PAGE, PARTS, part_of  # noqa: E402

ORDER = (
    "-m venv",
    "modeltoll[gateway]",
    ".py",
    "",
    "init",
    "check",
    "calibrate",
    "mode: enforce",
    "serve",
    "call",
    "call",
)


@pytest.mark.parametrize("heading", PARTS)
def test_a_part_has_the_commands_of_the_walk_and_files_that_are_programs(heading, tmp_path):
    way = Walk(tmp_path, "modeltoll", part_of(PAGE.read_text(), heading))
    for contains in ORDER:
        way.skip(contains)
    way.ended()
    files = list(tmp_path.glob("*.py"))
    assert files
    for file in files:
        compile(file.read_text(), file.name, "exec")


def test_a_part_that_the_page_does_not_have_is_an_error():
    with pytest.raises(SystemExit, match="no part"):
        part_of(PAGE.read_text(), "Triton")


def test_a_taken_port_ends_the_walk_before_it_begins(tmp_path):
    script = f"import socket, runpy, sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import walk_servers as w; "
    script += (
        "s = socket.create_server(('127.0.0.1', 0)); w.PORTS = (s.getsockname()[1],); sys.argv = ['walk']; w.main()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (ended.returncode, "is taken" in ended.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []
