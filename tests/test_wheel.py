"""Builds of the same source give the same wheel, byte for byte, independent of place and time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("pyproject.toml", "hatch_build.py", "README.md", "CHANGELOG.md", "LICENSE", "src")


def built(folder, epoch):
    """The path of a wheel that is built from a copy of the source in a folder."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        options = {"ignore": shutil.ignore_patterns("__pycache__", "*.so")} if (ROOT / name).is_dir() else {}
        copy(ROOT / name, source / name, **options)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": epoch, "PYTHONPATH": ""}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_two_builds_in_different_folders_give_the_same_wheel(tmp_path):
    one, other = built(tmp_path / "one", "1700000000"), built(tmp_path / "a longer name", "1700000000")
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()


def test_the_wheel_contains_the_files_that_a_gateway_reads(tmp_path):
    with zipfile.ZipFile(built(tmp_path / "one", "1700000000")) as wheel:
        names = set(wheel.namelist())
    for name in ("gateway/admin/playground/files/index.html", "ledger/sql/sqlite_1.sql", "gateway/admin/api/app.py"):
        assert f"modeltoll/{name}" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


def test_the_page_on_the_index_leads_to_files_that_are_there(tmp_path):
    """Nothing lies beside it there: relative links of the README lead to the repository, and none is left."""
    with zipfile.ZipFile(built(tmp_path / "one", "1700000000")) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        page = wheel.read(name).decode().partition("\n\n")[2]
    targets = re.findall(r"\]\(([^)\s]+)\)", page) + re.findall(r'(?:src|href|srcset)="([^"]+)"', page)
    ours = re.compile(
        r"https://(?:github\.com/\S+?/blob|raw\.githubusercontent\.com/modeltoll/modeltoll)/v[\d.]+/([^#]+)"
    )
    led = [match[1] for match in map(ours.match, targets) if match]
    assert [path for path in led if path.endswith("/demo.png")]
    assert [path for path in led if not (ROOT / path).exists()] == []
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
