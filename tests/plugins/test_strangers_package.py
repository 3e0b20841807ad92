"""A package of plug-ins is installed and used by a whole gateway, without an edit anywhere in Modeltoll."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.demo.processes import free_port
from modeltoll.testing.model_servers import serving

PACKAGE = Path(__file__).with_name("stranger")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "extending.md"
WEIGHTS = np.random.default_rng(1).normal(size=(3, 4))


def model_server():
    """A softmax model that speaks ACME's protocol, and Open Inference metadata for nobody."""

    async def infer(request):
        powers = np.exp(np.array((await request.json())["rows"]) @ WEIGHTS)
        return JSONResponse({"scores": (powers / powers.sum(axis=1, keepdims=True)).tolist()})

    async def ready(_):
        return JSONResponse({})

    async def models(_):
        return JSONResponse({"models": ["digits"]})

    return Starlette(
        routes=[
            Route("/acme/models", models),
            Route("/acme/ready", ready),
            Route("/acme/digits", infer, methods=["POST"]),
        ]
    )


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The folder that the package is installed into, without a network."""
    folder = tmp_path_factory.mktemp("stranger")
    source = shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--target", str(folder / "site"), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list((folder / "site").glob("acme_toll-*.dist-info/entry_points.txt"))
    return folder / "site"


def environment(*folders):
    """The variables of a process that also finds packages in these folders."""
    paths = [*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "400"}


def modeltoll(*arguments, folders=()):
    command = [sys.executable, "-m", "modeltoll", *map(str, arguments)]
    return subprocess.run(command, env=environment(*folders), capture_output=True, text=True, check=False, timeout=300)


def write_settings(folder, url, **model):
    """Settings of the model ``digits``, with ports of their own; gives their path."""
    document = {
        "listen": f"127.0.0.1:{free_port()}",
        "admin": f"127.0.0.1:{free_port()}",
        "upstream": {"url": url},
        "ledger": {"url": f"journal://{folder}/bills.csv"},
        "models": {
            "digits": {
                "protocol": "acme",
                "tariff": "digits.tariff.json",
                "output": {"kind": "probabilities"},
                "measures": [{"name": "gini", "options": {"sharpness": 0.5}}],
                "puzzle": {"allow": ["sha256", "blake2b"]},
            }
            | model
        },
    }
    path = folder / "modeltoll.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_packages_own_tests_call_the_conformance_suites(installed, tmp_path):
    tests = shutil.copy(PACKAGE / "tests" / "test_plugins.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tests)]
    done = subprocess.run(command, env=environment(installed), capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


@pytest.fixture(scope="session")
def gateway(installed, tmp_path_factory):
    """Settings for which a tariff was calibrated, and the URLs of the gateway and of the model server behind it."""
    folder = tmp_path_factory.mktemp("gateway")
    np.save(folder / "honest.npy", np.random.default_rng(0).random((400, 3)))
    with serving(model_server()) as url:
        path = write_settings(folder, url)
        calibrated = modeltoll("calibrate", path, "--inputs", folder / "honest.npy", folders=[installed])
        assert calibrated.returncode == 0, calibrated.stderr
        listen = yaml.safe_load(path.read_text())
        command = [sys.executable, "-m", "modeltoll", "serve", str(path)]
        process = subprocess.Popen(command, env=environment(installed), stderr=subprocess.PIPE, text=True)
        try:
            await_ready(process, f"http://{listen['admin']}/readyz")
            yield path, f"http://{listen['listen']}", url
        finally:
            process.terminate()
            process.communicate(timeout=60)


def await_ready(process, url):
    for _ in range(1200):
        assert process.poll() is None, process.stderr.read()
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)  # another process starts: there is nothing else to wait for
    raise AssertionError("the gateway does not become ready")


def test_its_measure_and_protocol_serve_a_client_that_pays(gateway):
    path, url, upstream = gateway
    tariff = json.loads((path.parent / "digits.tariff.json").read_text())
    assert tariff["measures"] == ["gini"]
    question = {"rows": [[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]]}
    toll = httpx.post(f"{url}/acme/digits", json=question)
    assert toll.status_code == 402
    purse = Purse()
    with httpx.Client(transport=TollTransport(purse=purse)) as client:
        answer = client.post(f"{url}/acme/digits", json=question, timeout=120)
    assert answer.json() == httpx.post(f"{upstream}/acme/digits", json=question).json()
    paid = [(payment.rows, payment.puzzle, payment.mode) for payment in purse.payments]
    assert paid == [(2, "sha256", "redeem"), (2, "sha256", "sealed")]  # the admission of a new account, and the answer
    wrong = httpx.post(f"{url}/acme/digits", json={"rows": [[1.0]], "more": 1})
    assert (wrong.status_code, wrong.json()) == (400, {"error": "the request must hold 'rows' and nothing else"})
    assert ",digits,2," in (path.parent / "bills.csv").read_text()


CLIENT = """
import sys, httpx
from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse

purse = Purse(puzzles=["blake2b"])
with httpx.Client(transport=TollTransport(purse=purse)) as client:
    for mode in ("sealed", "redeem"):
        accept = f"blake2b, sha256; mode={mode}; receipts"
        answer = client.post(sys.argv[1], json={"rows": [[0.5, 0.5, 0.5]]}, headers={"Toll-Accept": accept}, timeout=120)
        print(answer.status_code, purse.payments[-1].puzzle, purse.payments[-1].mode)
"""


def test_its_puzzle_serves_clients_that_have_it(gateway, installed):
    _, url, _ = gateway
    command = [sys.executable, "-c", CLIENT, f"{url}/acme/digits"]
    done = subprocess.run(command, env=environment(installed), capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.splitlines() == ["200 blake2b sealed", "200 blake2b redeem"], done.stderr
    without = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=300)
    assert "SettingsError: there is no puzzle 'blake2b'" in without.stderr


def test_check_asks_its_protocol_and_init_finds_it(gateway, installed, tmp_path):
    path, _, upstream = gateway
    np.save(tmp_path / "rows.npy", np.random.default_rng(2).random((4, 3)))
    settings = write_settings(tmp_path, upstream, tariff=str(path.parent / "digits.tariff.json"))
    done = modeltoll("check", settings, "--inputs", tmp_path / "rows.npy", "--json", "-", folders=[installed])
    assert done.returncode == 0, done.stderr
    (checked,) = json.loads(done.stdout)["models"]
    assert (checked["route"], checked["rows"], list(checked["leaks"])) == ("/acme/digits", 4, ["gini"])
    found = modeltoll("init", upstream, "--out", tmp_path / "new.yaml", folders=[installed])
    assert found.returncode == 0, found.stderr
    assert yaml.safe_load((tmp_path / "new.yaml").read_text())["models"]["digits"]["protocol"] == "acme"


OPTIONS = {
    "an option that is not known": (
        {"measures": [{"name": "gini", "options": {"sharp": 2}}]},
        "models.digits.measures.0: measure gini of the package acme-toll 1.0: options do not fit: got an unexpected keyword argument 'sharp'; it takes: sharpness",
    ),
    "an option of a built-in protocol": (
        {"protocol": "v1", "protocol_options": {"prefix": "/x"}},
        "models.digits.protocol: protocol v1: options do not fit: got an unexpected keyword argument 'prefix'; it takes: none",
    ),
    "a file that it does not take": (
        {"measures": [{"name": "gini", "file": "x.npy"}]},
        "models.digits.measures.0: gini takes no 'file'; leave it out",
    ),
    "a name that nobody has": (
        {"measures": [{"name": "ginny"}]},
        "models.digits.measures.0.name: there is no measure 'ginny'; there are: entropy, gap, novelty, pate, pknn, tokens, gini",
    ),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_and_names_that_do_not_fit_are_faults_of_their_settings(case, installed, tmp_path):
    model, fault = OPTIONS[case]
    path = write_settings(tmp_path, "http://127.0.0.1:1", mode="shadow", **model)
    done = modeltoll("check", path, folders=[installed])
    assert done.returncode == 2
    assert fault in " ".join(done.stderr.split())


BROKEN = """
[modeltoll.measures]
entropy = odd:MeasureSpec
absent = odd.absent:SPEC
raising = odd.raising:SPEC
exiting = odd.exiting:SPEC
number = odd:NUMBER
renamed = odd:RENAMED
gini = odd:GINI
[modeltoll.protocols]
exiting = odd.exiting:SPEC
searching = odd:SEARCHING
"""
FAULTS = {
    "entropy": "the measure 'entropy' is built in, but the package odd 7.0 has one of the same name; uninstall that package",
    "absent": "the measure 'absent' of the package odd 7.0 cannot be imported: ModuleNotFoundError: "
    "No module named 'odd.absent'",
    "raising": "the measure 'raising' of the package odd 7.0 cannot be imported: ZeroDivisionError: division by zero",
    "exiting": "the measure 'exiting' of the package odd 7.0 cannot be imported: SystemExit: 7",
    "number": "the measure 'number' of the package odd 7.0 is int, not MeasureSpec: odd:NUMBER",
    "renamed": "the measure 'renamed' of the package odd 7.0 has the name other in its specification; use the entry point's name",
    "gini": "the measure 'gini' is offered by the package acme-toll 1.0 and the package odd 7.0; uninstall all but one",
}


@pytest.fixture(scope="session")
def odd(tmp_path_factory):
    """A folder with an installed package whose entry points are all of no use."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd").mkdir()
    (folder / "odd" / "__init__.py").write_text(
        "from modeltoll.gateway.protocols.registry import ProtocolSpec\n"
        "from modeltoll.leak.registry import MeasureSpec\n"
        "async def search(probe, model): raise RuntimeError('lost\\non the way')\n"
        "SEARCHING = ProtocolSpec('searching', 'x:y', discover=search)\n"
        "NUMBER, RENAMED, GINI = 7, MeasureSpec('other', 'x:y'), MeasureSpec('gini', 'x:y')\n"
    )
    (folder / "odd" / "raising.py").write_text("1 / 0\n")
    (folder / "odd" / "exiting.py").write_text("raise SystemExit(7)\n")
    (folder / "odd-7.0.dist-info").mkdir()
    (folder / "odd-7.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 7.0\n")
    (folder / "odd-7.0.dist-info" / "entry_points.txt").write_text(BROKEN)
    return folder


@pytest.mark.parametrize("name", FAULTS)
def test_a_plug_in_that_cannot_be_used_is_a_fault_that_names_its_package(name, installed, odd, tmp_path):
    path = write_settings(tmp_path, "http://127.0.0.1:1", mode="shadow", measures=[{"name": name}])
    done = modeltoll("check", path, folders=[installed, odd])
    assert done.returncode == 2
    assert f"models.digits.measures.0.name: {FAULTS[name]}" in re.sub(r"\s+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    assert "at least 1 item" not in done.stderr


def test_those_who_do_not_use_it_are_not_disturbed(gateway, installed, odd, tmp_path):
    _, _, upstream = gateway
    np.save(tmp_path / "rows.npy", np.random.default_rng(2).random((4, 3)))
    path = write_settings(tmp_path, upstream, mode="shadow", measures=[{"name": "gap"}])
    done = modeltoll("check", path, "--inputs", tmp_path / "rows.npy", folders=[installed, odd])
    assert done.returncode == 0, done.stderr
    empty = Starlette(routes=[Route("/", lambda _: JSONResponse({}))])
    with serving(empty) as url:  # no protocol is found before those of the packages are asked
        done = modeltoll("init", url, "--out", tmp_path / "new.yaml", folders=[installed, odd])
    assert done.returncode != 0
    words = " ".join(done.stderr.split())
    assert "protocol searching of the package odd 7.0 is left out: RuntimeError: lost on the way" in words
    assert "names no model in a protocol that is known here" in words
    assert "Traceback" not in words


def test_an_exception_of_a_plug_in_is_a_fault_of_the_check(gateway, installed, tmp_path):
    _, _, upstream = gateway
    np.save(tmp_path / "rows.npy", np.random.default_rng(2).random((4, 3)))
    wrong = [{"name": "gini", "options": {"sharpness": "much"}}]
    path = write_settings(tmp_path, upstream, mode="shadow", measures=wrong)
    for command in ("check", "calibrate"):
        done = modeltoll(command, path, "--inputs", tmp_path / "rows.npy", folders=[installed])
        assert done.returncode != 0
        assert "measure gini of the package acme-toll 1.0 failed; check the options: " in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr


def test_the_page_shows_these_files():
    """Every file that the page shows is a file of the package, as it stands there."""
    shown = re.findall(
        r"`((?:src|tests)/\S+\.py|pyproject\.toml)`:\n\n```(?:python|toml)\n(.*?)```", PAGE.read_text(), re.DOTALL
    )
    assert {Path(name).name for name, _ in shown} >= {
        "pyproject.toml",
        "gini.py",
        "acme.py",
        "blake2b.py",
        "journal.py",
        "brightness.py",
        "softened.py",
        "test_plugins.py",
    }
    for name, text in shown:
        assert text == (PACKAGE / name).read_text(), name
